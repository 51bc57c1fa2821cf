"""A RealNet that takes photographs as they are: resizing becomes a part of the graph.

Each axis is resized by a product with a matrix of weights, which the graph computes from the size
of the photograph. That is Pillow's own formula, and needs nothing but arithmetic of a runtime; the
operators for resizing differ from runtime to runtime, or lack antialiasing.

Pillow takes the width first and rounds in between, and so does this. From version 13 on, Pillow
begins with the height of some tall photographs, which then differ a little.
"""

from typing import NamedTuple

import torch
from torch import nn

from sia_gen.config.data import NonSquare
from sia_gen.realnet.model import RealNet

# Pillow's; OpenCV takes -0.75.
CUBIC_COEFFICIENT = -0.5


class Axis(NamedTuple):
    """How one axis of a photograph lies in a square; all are whole numbers, int64 scalars.

    `length` of its pixels are used, from half of `doubled_start` on, and fill `side` pixels of the
    square from `offset` on.
    """

    doubled_start: torch.Tensor
    length: torch.Tensor
    offset: torch.Tensor
    side: torch.Tensor

    def distances(self, square: torch.Tensor, photograph: torch.Tensor) -> torch.Tensor:
        """Returns how far pixels of the square (S,) and of the photograph (N,) are apart, (S, N).

        The unit is the larger of the two kinds of pixels.
        """
        # Whole numbers as long as possible, because float32 is too coarse for large photographs.
        here = (2 * (square - self.offset) + 1)[:, None] * self.length
        there = (2 * photograph + 1 - self.doubled_start)[None] * self.side
        return (there - here).float() / (2 * torch.maximum(self.length, self.side))

    def holds(self, square: torch.Tensor) -> torch.Tensor:
        """Tells which pixels of the square show the photograph."""
        return (square >= self.offset) & (square < self.offset + self.side)

    def uses(self, photograph: torch.Tensor) -> torch.Tensor:
        """Tells which pixels of the photograph the square shows."""
        middle = 2 * photograph + 1 - self.doubled_start
        return (middle > 0) & (middle < 2 * self.length)


def axes(
    height: torch.Tensor, width: torch.Tensor, size: int, rule: NonSquare | None
) -> tuple[Axis, Axis]:
    """Returns both axes of a photograph, as `sia_gen.images.squares.to_square` takes them."""
    zero = torch.zeros_like(height)
    whole = zero + size
    if rule == "crop":
        side = torch.minimum(height, width)
        rows, columns = (Axis(one - side, side, zero, whole) for one in (height, width))
        return rows, columns
    if rule == "pad":
        longer = torch.maximum(height, width)
        sides = [_rounded(size * one, longer).clamp(min=1) for one in (height, width)]
        rows, columns = (
            Axis(zero, one, (size - side) // 2, side)
            for one, side in zip((height, width), sides, strict=True)
        )
        return rows, columns
    return Axis(zero, height, zero, whole), Axis(zero, width, zero, whole)


class Photographs(nn.Module):
    """A RealNet that takes photographs (B, H, W, C) of any size, uint8, C = 1 or 3.

    Args:
        model: The RealNet.
        rule: How photographs become square.
    """

    def __init__(self, model: RealNet, rule: NonSquare | None) -> None:
        super().__init__()
        self.model = model
        self.rule = rule

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns anomaly maps (B, 1, H, W) and scores (B,).

        What a rule cuts off is 0 in the maps.
        """
        height, width = images.shape[1:3]
        rows, columns = axes(
            torch.scalar_tensor(height, dtype=torch.int64),
            torch.scalar_tensor(width, dtype=torch.int64),
            self.model.image_size,
            self.rule,
        )
        square = torch.arange(self.model.image_size)
        vertical = rows.distances(square, torch.arange(height))
        horizontal = columns.distances(square, torch.arange(width))
        inside = rows.holds(square)[:, None] & columns.holds(square)
        squares = _resized(images.permute(0, 3, 1, 2).float(), vertical, horizontal)
        if self.rule == "pad":
            squares = torch.where(inside, squares, _beside(squares, rows, columns, inside))
        output = self.model(squares / 255)
        score = output.score
        if self.rule == "pad":
            maps = self.model.averaged_map(output.logits)
            score = self.model.probability(
                _highest_mean(maps, rows, columns, self.model.score_window)
            )
        return self._enlarged(output.anomaly_map, rows, columns, vertical, horizontal), score

    def _enlarged(
        self,
        maps: torch.Tensor,
        rows: Axis,
        columns: Axis,
        vertical: torch.Tensor,
        horizontal: torch.Tensor,
    ) -> torch.Tensor:
        """Returns maps (B, 1, S, S) in the size of the photograph, resized bilinearly."""
        square = torch.arange(maps.shape[-1])
        back = [
            _normalised(_triangle(distances) * axis.holds(square)[:, None], dim=0)
            for distances, axis in ((vertical, rows), (horizontal, columns))
        ]
        enlarged = back[0].T @ maps @ back[1]
        if self.rule != "crop":
            return enlarged
        height, width = (torch.arange(one.shape[1]) for one in back)
        return enlarged * (rows.uses(height)[:, None] & columns.uses(width))


def _rounded(numerator: torch.Tensor, denominator: torch.Tensor) -> torch.Tensor:
    """Returns a quotient of whole numbers, rounded to the nearest, halves to even as by `round`."""
    doubled = 2 * numerator + denominator
    quotient = doubled // (2 * denominator)
    is_half = doubled - quotient * 2 * denominator == 0
    return quotient - (is_half & (quotient % 2 == 1)).long()


def _cubic(distances: torch.Tensor) -> torch.Tensor:
    """Keys' cubic kernel, which is 0 from 2 on."""
    a, x = CUBIC_COEFFICIENT, distances.abs()
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))


def _triangle(distances: torch.Tensor) -> torch.Tensor:
    return (1 - distances.abs()).clamp(min=0)


def _normalised(weights: torch.Tensor, dim: int) -> torch.Tensor:
    """Scales weights to a sum of 1; where there are none they stay 0."""
    return weights / weights.sum(dim=dim, keepdim=True).clamp(min=1e-6)


def _resized(
    images: torch.Tensor, vertical: torch.Tensor, horizontal: torch.Tensor
) -> torch.Tensor:
    """Resizes images (B, C, H, W) to squares as Pillow does: first in width, whole values each."""
    narrow = _whole(images @ _normalised(_cubic(horizontal), dim=1).T)
    return _whole(_normalised(_cubic(vertical), dim=1) @ narrow)


def _whole(values: torch.Tensor) -> torch.Tensor:
    return (values + 0.5).floor().clamp(0, 255)


def _beside(squares: torch.Tensor, rows: Axis, columns: Axis, inside: torch.Tensor) -> torch.Tensor:
    """Returns the mean colour (B, C, 1, 1) of the two edges that padding lies beside."""
    square = torch.arange(inside.shape[0])
    top_and_bottom, left_and_right = (
        (square == axis.offset) | (square == axis.offset + axis.side - 1)
        for axis in (rows, columns)
    )
    wide = columns.side > rows.side
    # ONNX Runtime cannot choose between two tensors of truth values.
    edges = inside & ((wide & top_and_bottom[:, None]) | (~wide & left_and_right))
    total = (squares * edges).sum(dim=(2, 3), keepdim=True)
    return (total / edges.sum()).round()


def _highest_mean(maps: torch.Tensor, rows: Axis, columns: Axis, window: int) -> torch.Tensor:
    """Returns the highest mean (B,) of a square of maps (B, 1, S, S) that lies in the pictures."""
    place = torch.arange(maps.shape[-1])
    shorter = torch.minimum(rows.side, columns.side).clamp(max=window)
    within = place[:, None] <= place, place < place[:, None] + shorter
    mean = (within[0] & within[1]).float() / shorter
    means = mean @ maps @ mean.T
    begins = [axis.holds(place) & axis.holds(place + shorter - 1) for axis in (rows, columns)]
    possible = begins[0][:, None] & begins[1]
    return torch.where(possible, means, -torch.inf).amax(dim=(1, 2, 3))
