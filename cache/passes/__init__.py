"""Rewrites of a graph, one noun per file; each takes a Graph and returns a Graph with the same results."""
