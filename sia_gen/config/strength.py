"""Strength: how far a sample leaves the normal images (the paper's s, section 3.1)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator


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


# A strength as it is written, validated by pydantic.
StrengthText = Annotated[str, AfterValidator(_require_strength)]
