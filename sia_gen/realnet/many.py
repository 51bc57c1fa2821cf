"""Scores many images: while a model scores some, threads load the next."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np
from accelerate import Accelerator

from sia_gen.config.data import Tile
from sia_gen.errors import ImageError
from sia_gen.images.counted import Scope
from sia_gen.images.ground_truth import load_mask
from sia_gen.images.layouts import TestImage
from sia_gen.images.loading import ImageSpec
from sia_gen.images.squares import Area
from sia_gen.images.strips import Picture, open_scored
from sia_gen.io.files import batches_ahead, worker_threads
from sia_gen.io.refusals import explained_out_of_memory
from sia_gen.realnet.inference import BATCH_SIZE, AnomalyMap, Mask, predict_images
from sia_gen.realnet.model import RealNet
from sia_gen.realnet.photographs import help_to_predict, predict_photograph
from sia_gen.realnet.tiling import resized_map
from sia_gen.train.batches import batches_of

Item = TypeVar("Item")
Extra = TypeVar("Extra")
# Whatever `load` returned beside an image, the score of that, and its map.
Found = tuple[Extra | ImageError, float, AnomalyMap]


def predict_ahead(
    model: RealNet,
    items: Sequence[Item],
    load: Callable[[Item], tuple[Picture, Scope, Extra]],
    accelerator: Accelerator,
    tile: Tile | None = None,
    *,
    owner: Callable[[int], int] | None = None,
) -> Iterator[tuple[Item, Extra | ImageError, float, AnomalyMap]]:
    """Yields each item, whatever else `load` returns of it, its score and map (H, W).

    Args:
        model: The model.
        items: What to score.
        load: Returns an image and what counts in it, as `load_scored` does, and something else.
        accelerator: What to run on.
        tile: How images are cut, if they are photographs.
        owner: If given, all processes score the same photographs together; each, by its place among
            the items, is yielded by this one.

    Yields:
        The map is without padding. If a photograph that is read in strips turns out to be damaged,
        an error takes the place of what `load` returned.
    """
    # Photographs are large, and their tiles make a batch.
    together = BATCH_SIZE if tile is None else 1
    batches = [[items[index] for index in some] for some in batches_of(len(items), together)]
    with worker_threads() as pool:
        loading = batches_ahead(pool, load, batches)
        for number, (batch, futures) in enumerate(zip(batches, loading, strict=True)):
            loaded = [future.result() for future in futures]
            with explained_out_of_memory(
                f"out of memory, scoring {BATCH_SIZE} images of {model.image_size} pixels at a "
                "time.",
                "Use --precision bf16 or --device cpu, or close other programs that use memory.",
            ):
                if tile is None:
                    found = _predict_squares(model, loaded, accelerator)
                else:
                    mine = None if owner is None else owner(number) == accelerator.process_index
                    found = _predict_photograph(model, loaded[0], accelerator, tile, mine)
            for item, one in zip(batch, found, strict=False):
                yield item, *one


def _predict_squares(
    model: RealNet, loaded: Sequence[tuple[Picture, Scope, Extra]], accelerator: Accelerator
) -> list[Found[Extra]]:
    """Returns what is found in square images."""
    images, scopes, extras = zip(*loaded, strict=True)
    whole = Area.whole(model.image_size)
    some = any(area != whole or counted is not None for area, counted in scopes)
    found = predict_images(model, np.stack(images), accelerator, scopes=scopes if some else None)
    return [
        (extra, float(score), area.cut(anomaly_map))
        for extra, (area, _), score, anomaly_map in zip(extras, scopes, *found, strict=True)
    ]


def _predict_photograph(
    model: RealNet,
    loaded: tuple[Picture, Scope, Extra],
    accelerator: Accelerator,
    tile: Tile,
    mine: bool | None,
) -> list[Found[Extra]]:
    """Returns what is found in a photograph; nothing if it is shared, and another process's."""
    photograph, scope, extra = loaded
    try:
        if mine is False:
            help_to_predict(model, photograph, tile, accelerator)
            return []
        score, anomaly_map = predict_photograph(
            model,
            photograph,
            tile,
            accelerator,
            counted=scope.counted,
            shared=mine is not None,
        )
    except ImageError as error:
        if mine is False:
            return []
        # What kept this process from reading it says more than that others have read it.
        known = extra if isinstance(extra, ImageError) else error
        return [(known, np.nan, np.zeros((0, 0), np.float32))]
    return [(extra, score, anomaly_map)]


def predict_tests(
    model: RealNet,
    tests: Sequence[TestImage],
    spec: ImageSpec,
    accelerator: Accelerator,
    *,
    owner: Callable[[int], int] | None = None,
) -> Iterator[tuple[TestImage, Mask, float, AnomalyMap]]:
    """Yields each test image, its mask (H, W), score and anomaly map (H, W).

    If photographs are cut into tiles, mask and map have the photograph's own resolution. See
    `predict_ahead` for their `owner`.
    """

    def load(test: TestImage) -> tuple[Picture, Scope, Mask]:
        image, scope = open_scored(test.path, spec)
        mask = load_mask(test, spec)
        # A photograph that is cut into tiles has its mask in its own size.
        return image, scope, mask if spec.tile else scope.area.cut(mask)

    for test, mask, score, anomaly_map in predict_ahead(
        model, tests, load, accelerator, spec.tile, owner=owner
    ):
        if isinstance(mask, ImageError):
            raise mask
        yield test, mask, score, resized_map(anomaly_map, mask.shape)
