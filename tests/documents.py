"""Runs the code blocks of documents as a reader would, in a folder."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from accelerate.state import AcceleratorState

from sia_gen.cli import app

FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Hours of training become a few steps, and the network of a checkpoint is small.
STEPS = ["--max-steps", "2"]
SMALLER = {
    "train-diffusion": STEPS,
    "train-classifier": STEPS,
    "fit-realnet": STEPS,
    "import-adm": ["--image-size", "16"],
}


class Block(NamedTuple):
    """A code block with its language."""

    language: str
    code: str


def code_blocks(text: str) -> list[Block]:
    """Returns the code blocks of a document that name a language."""
    return [Block(*match.groups()) for match in FENCE.finditer(text)]


def commands_in(block: Block) -> Iterator[list[str]]:
    """Yields the words of each command in a block; none if it is not of commands."""
    if block.language == "sh":
        for line in block.code.replace("\\\n", " ").splitlines():
            if words := shlex.split(line, comments=True):
                yield words


class Reader:
    """Runs the code blocks of a document in a folder, as a reader would."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch
        folder.mkdir(parents=True, exist_ok=True)
        monkeypatch.chdir(folder)

    def run(self, block: Block) -> None:
        """Runs a block of commands or of Python."""
        if block.language == "python":
            exec(compile(block.code, "document", "exec"), {"__name__": "document"})
            return
        for words in commands_in(block):
            if words[0] == "sia-gen":
                self.command(words)
            else:
                self.other(words)

    def command(self, words: list[str]) -> None:
        """Runs a command of sia-gen in this process."""
        AcceleratorState._reset_state(reset_partial_state=True)
        self.monkeypatch.setattr(sys, "argv", [*words, *SMALLER.get(words[1], [])])
        with pytest.raises(SystemExit) as stopped:
            app.main()
        assert stopped.value.code == 0, words

    def other(self, words: list[str]) -> None:
        """Runs another program, from the same environment as this one."""
        beside = Path(sys.executable).parent / words[0]
        search = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
        subprocess.run(
            [str(beside if beside.exists() else words[0]), *words[1:]],
            check=True,
            env=os.environ | {"PYTHONPATH": search},
            capture_output=True,
        )
