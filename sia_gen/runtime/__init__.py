"""What a run executes on: device, precision, processes, compilation, progress."""
