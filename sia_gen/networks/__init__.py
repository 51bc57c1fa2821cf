"""The UNets of diffusion models and the classifier of noisy images."""
