"""Device, precision, processes, compilation and progress of a run."""
