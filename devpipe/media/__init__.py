"""What do the bytes hold? Pictures, the containers they come in, the provenance written into them;
and tables of texts.
"""
