"""Pages, charts and pictures that show results."""
