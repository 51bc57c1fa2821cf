"""What a user can get wrong. Every error says what is wrong, where, and how to mend it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from functools import partial
from typing import Any


class UserError(Exception):
    """The base of all errors that the user's input causes; the command line exits with 2.

    Args:
        problem: What is wrong and where, a full sentence.
        fix: How to mend it, a full sentence.
    """

    def __init__(self, *, problem: str, fix: str) -> None:
        super().__init__(f"{problem} {fix}")
        self.problem = problem
        self.fix = fix

    def __reduce__(self) -> tuple[Any, tuple[()]]:
        # On its way from one process to another it is made anew.
        return partial(type(self), problem=self.problem, fix=self.fix), ()


class RecipeError(UserError):
    """A recipe that does not exist, cannot be read, or has a wrong field."""


class ImageError(UserError):
    """Images that are missing, unreadable, or of the wrong shape."""


class OutputError(UserError):
    """An output folder that cannot be used."""


class ModelError(UserError):
    """Weights or a model folder that are missing or do not fit."""


class TrainingError(UserError):
    """A training that cannot go on; its last checkpoint is whole."""


class CorpusError(UserError):
    """A corpus that is missing, incomplete or damaged."""


class HubError(UserError):
    """The Hub cannot be reached, refuses, or holds something else."""


class OptionError(UserError):
    """A value on the command line, or an argument in Python, that makes no sense."""


def one_line(text: str) -> str:
    """A text without line breaks, and without what would steer a terminal."""
    return " ".join("".join(one if one.isprintable() else " " for one in text).split())


def first_line(error: BaseException) -> str:
    """The first line of what an error says; its type if it says nothing."""
    return (str(error) or type(error).__name__).splitlines()[0]


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """Asks for the choice closest to `word`: " (did you mean 'x'?)"; empty if none is close."""
    matches = difflib.get_close_matches(word, list(choices), n=1)
    return f" (did you mean '{matches[0]}'?)" if matches else ""
