"""What all trainings share: batches, checkpoints, logs, budgets."""
