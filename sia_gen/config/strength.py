"""Strength: how far a sample leaves the normal images (the paper's s, section 3.1).

The perturbation says by what kind of noise; see `sia_gen.sdas.perturbation`. An edit of the
photograph that a sample starts from is the other way to an anomaly; see `sia_gen.twins.edits`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from sia_gen.errors import did_you_mean

WHITE = "white"
PERTURBATIONS = (WHITE, "pink", "blobs", "streaks", "cracks")
EDITS = ("shift", "mirror", "erase", "swap")


@dataclass(frozen=True)
class Strength:
    """A range of strengths, from which samples are drawn uniformly; one value if low == high."""

    low: float
    high: float

    @classmethod
    def parse(cls, text: str | float) -> Strength:
        """Reads `0.15` or `0.1:0.2`.

        Raises:
            ValueError: If it is not a number or range, negative, not finite, or reversed.
        """
        try:
            values = [float(part) for part in str(text).split(":")]
        except ValueError:
            msg = f"strength '{text}' is not a number such as 0.15 or a range such as 0.1:0.2"
            raise ValueError(msg) from None
        problems = {
            f"has {len(values)} numbers": len(values) > 2,
            "is not finite": not all(map(math.isfinite, values)),
            "is negative": min(values) < 0,
            f"is reversed: {values[0]} > {values[-1]}": values[0] > values[-1],
        }
        for problem, found in problems.items():
            if found:
                msg = f"strength '{text}' {problem}"
                raise ValueError(msg)
        return cls(values[0], values[-1])

    def at(self, fraction: float) -> float:
        """Returns the strength at `fraction` in [0, 1) of the way from low to high."""
        return self.low + (self.high - self.low) * fraction

    def __str__(self) -> str:
        return str(self.low) if self.low == self.high else f"{self.low}:{self.high}"


def _require_strength(text: str) -> str:
    Strength.parse(text)
    return text


def require_perturbation(kind: str) -> str:
    """Raises `ValueError` if there is no such kind of perturbation."""
    return _require_known("perturbation", kind, PERTURBATIONS)


def _require_edit(edit: str) -> str:
    return _require_known("edit", edit, EDITS)


def _require_known(what: str, name: str, known: Sequence[str]) -> str:
    if name not in known:
        hint = did_you_mean(name, known) or f", use one of {', '.join(known)}"
        msg = f"unknown {what} '{name}'{hint}"
        raise ValueError(msg)
    return name


def _split(names: Any) -> Any:
    return [name.strip() for name in names.split(",")] if isinstance(names, str) else names


def _require_distinct(names: list[str]) -> list[str]:
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        msg = f"'{twice}' is given twice"
        raise ValueError(msg)
    return names


# A strength as it is written, validated by pydantic.
StrengthText = Annotated[str, AfterValidator(_require_strength)]
Perturbation = Annotated[str, AfterValidator(require_perturbation)]
# One or several, as a list or separated by commas.
Perturbations = Annotated[
    list[Perturbation],
    Field(min_length=1),
    BeforeValidator(_split),
    AfterValidator(_require_distinct),
]
Edits = Annotated[
    list[Annotated[str, AfterValidator(_require_edit)]],
    BeforeValidator(_split),
    AfterValidator(_require_distinct),
]
