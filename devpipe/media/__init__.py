"""What do the bytes hold? Pictures, the containers they come in, and the provenance written into
them.
"""
