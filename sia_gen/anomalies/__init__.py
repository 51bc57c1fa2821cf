"""Synthetic anomalies to learn from: what is pasted, where, and how."""
