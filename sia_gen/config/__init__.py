"""Recipes: every setting of a run, validated at once."""
