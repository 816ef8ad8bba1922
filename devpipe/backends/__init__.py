"""What makes text and media? One file per backend, a registry, and wrappers that are backends
themselves.
"""
