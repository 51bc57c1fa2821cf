"""How a photograph differs from those that a model learnt from.

A camera that moved, or other light, looks like a thousand defects. A photograph is doubted if a
measurement is beyond what one in a thousand normal photographs reaches, or if its file is of
another size or kind.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from sia_gen.realnet.normal import Look, NormalImages
from sia_gen.realnet.selection import threshold_for

# Share of normal photographs that are doubted without need, of each measurement.
RARE = 0.001
# Fewer photographs do not tell how much normal ones differ.
FEWEST = 5

# What differs, `size`, `kind`, `brightness` or `look`, and how.
Doubts = dict[str, str]


@dataclass(frozen=True)
class Expectation:
    """What a photograph should be like; the default is that nothing is known."""

    sizes: tuple[tuple[int, int], ...] = ()  # longer and shorter side; one between them fits too
    kinds: tuple[str, ...] = ()
    median: float = 1.0  # highest
    brightness: tuple[float, float] = (0.0, 1.0)  # lowest and highest

    @classmethod
    def of(cls, normal: NormalImages | None) -> Self:
        """Returns what follows from normal photographs."""
        if normal is None:
            return cls()
        sizes, kinds = tuple(normal.sizes), tuple(normal.kinds)
        if len(normal.scores) < FEWEST:
            return cls(sizes, kinds)
        median = threshold_for(normal.medians, RARE).threshold
        lowest = 1 - threshold_for([1 - one for one in normal.brightness], RARE).threshold
        highest = threshold_for(normal.brightness, RARE).threshold
        return cls(sizes, kinds, median, (lowest, highest))

    def doubts(self, look: Look, size: tuple[int, int], kind: str) -> Doubts:
        """Returns how a photograph of some width, height and kind differs."""
        found, (lowest, highest) = Doubts(), self.brightness
        if self.sizes and not self._fits(size):
            ends = dict.fromkeys([min(self.sizes), max(self.sizes)])
            known = " to ".join(f"{longer} x {shorter}" for longer, shorter in ends)
            found["size"] = f"{size[0]} x {size[1]} pixels instead of {known}"
        if self.kinds and kind not in self.kinds:
            found["kind"] = f"{kind} instead of {' or '.join(self.kinds)}"
        if not lowest <= look.brightness <= highest:
            known_range = f"{lowest:.3f} to {highest:.3f}"
            found["brightness"] = f"{look.brightness:.3f} instead of {known_range}"
        if look.median > self.median:
            found["look"] = (
                f"the median of its anomaly map is {look.median:.3f}, that of normal photographs "
                f"at most {self.median:.3f}"
            )
        return found

    def _fits(self, size: tuple[int, int]) -> bool:
        sides = (max(size), min(size))
        return all(
            min(known) <= side <= max(known)
            for side, known in zip(sides, zip(*self.sizes, strict=True), strict=True)
        )


class DoubtCounts:
    """Counts doubts over many photographs, to say them in one line."""

    def __init__(self) -> None:
        self.photographs = self.doubted = 0
        self.counts: Counter[str] = Counter()
        self.first: dict[str, str] = {}

    def add(self, name: str, doubts: Mapping[str, str]) -> None:
        """Counts a photograph."""
        self.photographs += 1
        self.doubted += bool(doubts)
        self.counts.update(doubts.keys())
        for what, how in doubts.items():
            self.first.setdefault(what, f"the first, {name}: {how}")

    def line(self) -> str:
        """Returns the line."""
        each = [f"{self.counts[what]} in {what} ({how})" for what, how in self.first.items()]
        return (
            f"warning: {self.doubted} of {self.photographs} photographs differ from those that the "
            f"model learnt from: {'; '.join(each)}. Look at the camera and the light: what is new "
            "everywhere looks like defects."
        )
