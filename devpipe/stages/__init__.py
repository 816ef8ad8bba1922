"""What are the four acts? Each takes values, asks backends through its context, returns values;
events tell the rest.
"""
