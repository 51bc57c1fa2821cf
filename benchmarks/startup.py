"""How long a command takes that only prints.

    python benchmarks/startup.py --rounds 10

`sia-gen --help`, and the same of a command, each as a process of its own; a Python that does
nothing is the limit.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

from measuring import in_turns, median, save, show

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "sia-gen --help": ["-m", "sia_gen", "--help"],
    "sia-gen synthesize --help": ["-m", "sia_gen", "synthesize", "--help"],
    "sia-gen recipes": ["-m", "sia_gen", "recipes"],
}


def main() -> None:
    """Prints a table, and writes `startup.json` into the current folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    runs = {
        name: lambda command=command: subprocess.run(
            [sys.executable, *command], check=True, stdout=subprocess.DEVNULL
        )
        for name, command in COMMANDS.items()
    }
    rounds = in_turns(runs, options.rounds)
    rows = [[name, median(rounds, name)] for name in runs]
    show("Starting up", ["", "seconds"], rows)
    save("startup", "cpu", "a Python that does nothing", {"rows": rows})


if __name__ == "__main__":
    main()
