"""Twins: anomalies with the normal image of the same noise, and a mask of where the two differ."""
