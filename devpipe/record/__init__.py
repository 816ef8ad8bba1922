"""What happened? Events, the recorder that writes them, the reader, and the fold from events to a
summary.
"""
