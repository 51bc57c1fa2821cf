"""Strength: how far a sample leaves the normal images (the paper's s, section 3.1)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sia_gen.errors import OptionError

# Stands for the calibrated range of each category.
AUTO = "auto"
FIX = "Give one number >= 0, e.g. 0.15, or a range LOW:HIGH, e.g. 0.1:0.2."


@dataclass(frozen=True)
class Strength:
    """A range of strengths, from which samples are drawn uniformly; one value if low == high."""

    low: float
    high: float

    @classmethod
    def parse(cls, text: str | float) -> Strength:
        """Reads `0.15` or `0.1:0.2`.

        Raises:
            OptionError: If it is not a number or range, negative, not finite, or reversed.
        """
        parts = str(text).split(":")
        try:
            values = [float(part) for part in parts]
        except ValueError:
            raise OptionError(problem=f"strength '{text}' is not a number.", fix=FIX) from None
        if len(values) > 2:
            raise OptionError(problem=f"strength '{text}' has {len(values)} numbers.", fix=FIX)
        if not all(math.isfinite(value) for value in values):
            raise OptionError(problem=f"strength '{text}' is not finite.", fix=FIX)
        if min(values) < 0:
            raise OptionError(problem=f"strength '{text}' is negative.", fix=FIX)
        if values[0] > values[-1]:
            raise OptionError(
                problem=f"strength '{text}' is reversed: {values[0]} > {values[1]}.", fix=FIX
            )
        return cls(values[0], values[-1])

    def at(self, fraction: float) -> float:
        """The strength at `fraction` in [0, 1) of the way from low to high."""
        return self.low + (self.high - self.low) * fraction

    def __str__(self) -> str:
        return str(self.low) if self.low == self.high else f"{self.low}:{self.high}"
