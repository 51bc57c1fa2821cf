"""The command line: options in, one call into a room, nothing else."""

from sia_gen.cli.app import main

__all__ = ["main"]
