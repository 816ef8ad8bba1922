"""What is in a text, and what do we say to people? Cleaning, language, a model's chatter."""
