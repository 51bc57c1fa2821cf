"""How a photograph differs from those that a model learnt from.

A camera that moved, or other light, looks like a thousand defects. A photograph is doubted if a
measurement is beyond what one in a thousand normal photographs reaches, or if its file is of
another size or kind.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from scipy.stats import binomtest

from sia_gen.realnet.normal import Look, NormalImages
from sia_gen.realnet.selection import threshold_for
from sia_gen.runtime.progress import in_percent

# Share of normal photographs that are doubted without need, of each measurement.
RARE = 0.001
# Share of them that look unusual.
UNUSUAL = 0.05
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
    usual: float = 1.0  # the median that `UNUSUAL` exceed
    brightness: tuple[float, float] = (0.0, 1.0)  # lowest and highest

    @classmethod
    def of(cls, normal: NormalImages | None) -> Self:
        """Returns what follows from normal photographs."""
        if normal is None:
            return cls()
        sizes, kinds = tuple(normal.sizes), tuple(normal.kinds)
        if len(normal.scores) < FEWEST:
            return cls(sizes, kinds)
        median, usual = (threshold_for(normal.medians, aim).threshold for aim in (RARE, UNUSUAL))
        lowest = 1 - threshold_for([1 - one for one in normal.brightness], RARE).threshold
        highest = threshold_for(normal.brightness, RARE).threshold
        return cls(sizes, kinds, median, usual, (lowest, highest))

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
    """Counts doubts over many photographs, to say them in one line.

    Together photographs may differ where each of them might be normal: if more of them look unusual
    than chance explains.
    """

    def __init__(self, expected: Expectation) -> None:
        self.expected = expected
        self.photographs = self.doubted = self.unusual = 0
        self.counts: Counter[str] = Counter()
        self.first: dict[str, str] = {}

    def add(self, name: str, look: Look, doubts: Mapping[str, str]) -> None:
        """Counts a photograph."""
        self.photographs += 1
        self.doubted += bool(doubts)
        self.unusual += look.median > self.expected.usual
        self.counts.update(doubts.keys())
        for what, how in doubts.items():
            self.first.setdefault(what, f"the first, {name}: {how}")

    def line(self) -> str | None:
        """Returns the line; None without doubts."""
        each = [f"{self.counts[what]} in {what} ({how})" for what, how in self.first.items()]
        together = self.photographs >= FEWEST and self._together()
        if together:
            each.append(f"{self.unusual} look unusual, of normal ones {in_percent(UNUSUAL)} do")
        if not each:
            return None
        count = max(self.doubted, self.unusual if together else 0)
        return (
            f"warning: {count} of {self.photographs} photographs differ from those that the model "
            f"learnt from: {'; '.join(each)}. Unless they are defective all over, look at the "
            "camera and the light."
        )

    def _together(self) -> bool:
        """Whether chance does not explain how many photographs look unusual."""
        found = binomtest(self.unusual, self.photographs, UNUSUAL, alternative="greater")
        return bool(found.pvalue < RARE)
