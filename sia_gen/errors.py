"""Errors that the user can fix. Each says what is wrong, where, and what to do about it."""

import difflib
from collections.abc import Iterable
from functools import partial
from typing import Any


class UserError(Exception):
    """The base of all errors that the user's input causes; the command line exits with code 2.

    Args:
        problem: What is wrong and where, a full sentence.
        fix: What to do about it, a full sentence in the imperative.
    """

    def __init__(self, *, problem: str, fix: str) -> None:
        super().__init__(f"{problem} {fix}")
        self.problem = problem
        self.fix = fix

    def __reduce__(self) -> tuple[Any, tuple[()]]:
        # Pickle would pass the arguments by position.
        return partial(type(self), problem=self.problem, fix=self.fix), ()


class RecipeError(UserError):
    """A recipe does not exist, cannot be read, or has a wrong field."""


class ImageError(UserError):
    """Images are missing, unreadable or of the wrong shape."""


class OutputError(UserError):
    """An output folder cannot be used."""


class ModelError(UserError):
    """Weights or a model folder are missing or do not fit."""


class TrainingError(UserError):
    """A training cannot go on; its last checkpoint is complete."""


class CorpusError(UserError):
    """A corpus is missing, incomplete or damaged."""


class HubError(UserError):
    """The Hub cannot be reached, refuses a request, or holds something unexpected."""


class OptionError(UserError):
    """A value on the command line, or an argument in Python, is not possible."""


def one_line(text: str) -> str:
    """Returns a text without line breaks and without characters that control a terminal."""
    return " ".join("".join(one if one.isprintable() else " " for one in text).split())


def first_line(error: BaseException) -> str:
    """Returns the first line of an error's message, or its type if the message is empty."""
    return (str(error) or type(error).__name__).splitlines()[0]


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """Returns " (did you mean 'x'?)" with the choice closest to `word`; empty if none is close."""
    matches = difflib.get_close_matches(word, list(choices), n=1)
    return f" (did you mean '{matches[0]}'?)" if matches else ""
