"""Scores whole photographs tile by tile, however large they are."""

from collections.abc import Iterator

import numpy as np
import torch
from accelerate import Accelerator

from sia_gen.config.data import Tile
from sia_gen.images.loading import Pixels
from sia_gen.images.strips import Picture
from sia_gen.io.arrays import joined_rows
from sia_gen.realnet.inference import BATCH_SIZE, AnomalyMap, Mask, output_of, require_numbers
from sia_gen.realnet.model import EVEN_ODDS, RealNet
from sia_gen.realnet.tiling import HighestMean, blended_rows


def predict_photograph(
    model: RealNet,
    photograph: Picture,
    tile: Tile,
    accelerator: Accelerator,
    *,
    number: int | None = None,
    counted: Mask | None = None,
    shared: bool = False,
) -> tuple[float, AnomalyMap]:
    """Scores a photograph (C, H, W), 0 to 255, tile by tile; returns its score and map (H, W).

    The maps of tiles are blended where these overlap, and the score is that of the whole map. A
    large map is one of a file; see `joined_rows`.

    Args:
        model: The model.
        photograph: The photograph.
        tile: How it is cut.
        accelerator: What to run on.
        number: That of the photograph, if a memory holds it and is to leave it out.
        counted: Which pixels count, (H, W), if not all do; the score is that of those, and the map
            is 0 elsewhere.
        shared: Whether the other processes call `help_to_predict` with the same photograph.

    Raises:
        ImageError: If it is read in strips, and its file is damaged.
    """
    shape = photograph.shape[-2], photograph.shape[-1]
    # The window has its size in pixels that the model sees.
    highest = HighestMean(max(1, round(model.score_window * tile.size / model.image_size)), shape)

    def probabilities() -> Iterator[AnomalyMap]:
        top = 0
        averaged = averaged_rows(model, photograph, tile, accelerator, number, shared=shared)
        if model.places is not None:
            placed = model.places.placed(joined_rows(averaged, shape), counted)
            averaged = (rows - np.float32(EVEN_ODDS) for rows in placed)
        for rows in averaged:
            require_numbers(rows)
            values = torch.from_numpy(rows)
            here = None if counted is None else counted[top : top + len(rows)]
            highest.add(rows, here)
            found = model.probability(values).numpy()
            if here is not None:
                found[~here] = 0
            yield found
            top += len(rows)

    anomaly_map = joined_rows(probabilities(), shape)
    return float(model.probability(torch.tensor(highest.finish()))), anomaly_map


def help_to_predict(
    model: RealNet, photograph: Picture, tile: Tile, accelerator: Accelerator
) -> None:
    """Does the share of this process in a photograph that another one predicts."""
    for _ in averaged_rows(model, photograph, tile, accelerator, shared=True):
        pass


@torch.no_grad()
def averaged_rows(
    model: RealNet,
    photograph: Picture,
    tile: Tile,
    accelerator: Accelerator,
    number: int | None = None,
    *,
    shared: bool = False,
) -> Iterator[AnomalyMap]:
    """Yields the rows (h, W) of what the score of a photograph is a mean of, from the top on.

    They are blended from its tiles; see `predict_photograph` for the arguments.
    """

    def averaged(tiles: Pixels) -> AnomalyMap:
        numbers = None if number is None else np.full(len(tiles), number)
        output = output_of(model, tiles, numbers, accelerator, BATCH_SIZE)
        values = model.averaged_map(output.logits)[: len(tiles), 0].float()
        found: AnomalyMap = values.cpu().numpy()
        return found

    was_training = model.training
    model.eval()
    try:
        sharing = accelerator if shared else None
        yield from blended_rows(photograph, tile, model.image_size, averaged, BATCH_SIZE, sharing)
    finally:
        model.train(was_training)
