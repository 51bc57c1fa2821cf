"""Looks at what was synthesised: how far from the normal images, how varied, how like a copy."""
