"""May this text be shown or made? Rules may block, a judge decides, and whatever goes wrong
blocks.
"""
