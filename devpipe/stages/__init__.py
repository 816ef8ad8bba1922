"""What are the four acts? Each takes values, asks by its services, returns values; events tell."""
