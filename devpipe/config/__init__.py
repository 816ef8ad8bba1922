"""What do the files say? Pipelines, output configs, this machine's settings and the workspace they
stand in.
"""
