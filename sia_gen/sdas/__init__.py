"""SDAS, Strength-controllable Diffusion Anomaly Synthesis: the scheduler and the pipeline."""
