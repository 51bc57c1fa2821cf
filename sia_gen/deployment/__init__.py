"""Detectors for other runtimes: formats, preprocessing in the graph, and what files say."""
