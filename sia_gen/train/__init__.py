"""What all trainings share: the loop over models, batches, checkpoints, logs and time limits."""
