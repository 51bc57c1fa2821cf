"""Tiles of samples that are whole photographs, for whoever takes samples of one size."""

import numpy as np

from sia_gen.corpus.parsing import Sample
from sia_gen.corpus.schema import MASK, SampleForm


def tile_of(sample: Sample, form: SampleForm, turn: int = 0) -> Sample:
    """Returns a tile of a whole photograph that shows some of its anomaly, another in each turn.

    Other samples are returned as they are.
    """
    if form.tile is None:
        return sample
    metadata, images = sample
    rng = np.random.default_rng((metadata["seed"], turn))
    marks = np.asarray(images[MASK]) > 0
    marked = np.argwhere(marks if marks.any() else ~marks)
    centre = marked[rng.integers(len(marked))]
    top, left = (
        int(np.clip(place - rng.integers(form.tile), 0, length - form.tile))
        for place, length in zip(centre, marks.shape, strict=True)
    )
    box = left, top, left + form.tile, top + form.tile
    return metadata, {name: image.crop(box) for name, image in images.items()}
