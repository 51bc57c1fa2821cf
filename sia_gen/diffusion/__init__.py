"""The diffusion model: its network and its training."""
