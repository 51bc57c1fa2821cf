"""Metrics, evaluation on test images, and the page that shows the results."""
