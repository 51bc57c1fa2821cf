"""Runs the command line: `python -m sia_gen`, `accelerate launch -m sia_gen`."""

from sia_gen.cli import main

if __name__ == "__main__":
    main()
