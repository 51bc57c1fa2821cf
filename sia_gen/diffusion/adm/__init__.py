"""Imports ADM checkpoints as diffusers models."""
