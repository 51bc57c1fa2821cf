"""Commands on a machine without a network."""

from __future__ import annotations

from tests.conditions import no_network
from tests.end_to_end.conftest import CommandLine
from tests.faults.conftest import Tried
from tests.processes import Running


def test_no_command_needs_a_network(line: CommandLine, tried: Tried) -> None:
    """With weights from a package; a connection would end the process at once."""
    cpu = ["--device", "cpu", "--precision", "fp32"]
    disc = ["--recipe", "parts.yaml", "--category", "disc"]
    data = ["--data", str(line.data)]
    commands = [
        ["train-diffusion", *disc, *data, *cpu, "--out", "models"],
        ["synthesize", *disc, *cpu, "--model", "models", "--out", "corpus"],
        ["verify", "corpus"],
        ["fit-realnet", *disc, *data, *cpu, "--corpus", "corpus", "--out", "realnet"],
        ["evaluate", *disc, *data, *cpu, "--model", "realnet", "--out", "evaluation"],
        ["predict", "realnet/disc", *data[1:], *cpu, "--out", "predictions"],
    ]
    for command in commands:
        told = line.folder / "told.txt"
        Running(command, line.folder, told, condition=no_network).done()
    tried("commands without a network", len(commands), "complete, and connect to nothing")
