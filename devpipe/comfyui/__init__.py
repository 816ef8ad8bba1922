"""What is somebody's graph? Its links, its server, what it needs, and how it becomes an output
config.
"""
