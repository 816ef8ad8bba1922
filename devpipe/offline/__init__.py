"""What works without any model? The paint box: procedures for texts, drawings for pictures, films
and sounds.
"""
