from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sia_gen.config.recipe import Recipe
from sia_gen.diffusion.dataset import DiffusionImages, NoiseBatch, NoiseBatches
from sia_gen.images.listing import list_images
from sia_gen.train.batches import BatchOrder

IMAGES = np.random.default_rng(0).integers(0, 256, (7, 1, 8, 8), dtype=np.uint8)
LABELS = np.arange(7)


def batches(
    *, batch_size: int = 3, rank: int = 0, processes: int = 1, seed: int = 0, flip: bool = False
) -> NoiseBatches:
    order = BatchOrder(seed, len(IMAGES), batch_size, rank, processes)
    return NoiseBatches(IMAGES, LABELS, order, 1000, horizontal_flip=flip, vertical_flip=flip)


def parts(batch: NoiseBatch) -> list[torch.Tensor]:
    return [batch.images, batch.noise, batch.timesteps, batch.labels]


def test_images_are_scaled_to_plus_and_minus_one_and_keep_their_label() -> None:
    batch = batches()[0]
    expected = torch.from_numpy(IMAGES[batch.labels.numpy()]).float() / 127.5 - 1
    torch.testing.assert_close(batch.images, expected)
    assert batch.images.dtype == batch.noise.dtype == torch.float32
    assert batch.timesteps.dtype == batch.labels.dtype == torch.int64


def test_two_processes_see_what_one_with_twice_the_batch_sees() -> None:
    for step in range(5):
        whole = parts(batches(batch_size=6)[step])
        halves = [parts(batches(rank=rank, processes=2)[step]) for rank in (0, 1)]
        for expected, first, second in zip(whole, *halves, strict=True):
            assert torch.equal(expected, torch.cat([first, second]))


def test_two_passes_see_what_one_with_twice_the_batch_sees() -> None:
    whole = parts(batches(batch_size=6)[4])
    passes = [parts(batches()[number]) for number in (8, 9)]
    for expected, first, second in zip(whole, *passes, strict=True):
        assert torch.equal(expected, torch.cat([first, second]))


def test_every_epoch_has_every_image_once_with_other_noise() -> None:
    stream = batches(batch_size=7)
    first, second = stream[0], stream[1]
    assert sorted(first.labels.tolist()) == sorted(second.labels.tolist()) == list(range(7))
    again = second.noise[second.labels.argsort()]
    assert not torch.isclose(first.noise[first.labels.argsort()], again).any()


def test_seed_changes_order_noise_and_timesteps() -> None:
    for one, other in zip(parts(batches()[0]), parts(batches(seed=1)[0]), strict=True):
        assert not torch.equal(one, other)


def test_noise_is_standard_normal_and_timesteps_uniform() -> None:
    stream = batches(batch_size=7)
    drawn = [stream[number] for number in range(300)]
    noise = torch.cat([batch.noise for batch in drawn])
    timesteps = torch.cat([batch.timesteps for batch in drawn]).double()
    assert abs(noise.mean()) < 4 / noise.numel() ** 0.5
    assert abs(noise.var() - 1) < 4 * (2 / noise.numel()) ** 0.5
    assert timesteps.min() >= 0
    assert timesteps.max() <= 999
    assert abs(timesteps.mean() - 499.5) < 4 * 288.7 / len(timesteps) ** 0.5
    assert abs(timesteps.std() - 288.7) < 12


@pytest.mark.parametrize("flip", [False, True])
def test_images_are_flipped_only_when_allowed(flip: bool) -> None:
    stream = batches(batch_size=7, flip=flip)
    flipped = 0
    for number in range(20):
        batch = stream[number]
        images = torch.from_numpy(IMAGES[batch.labels.numpy()]).float() / 127.5 - 1
        for found, plain in zip(batch.images, images, strict=True):
            variants = [plain, plain.flip(-1), plain.flip(-2), plain.flip(-1, -2)]
            assert any(torch.equal(found, variant) for variant in variants)
            flipped += not torch.equal(found, plain)
    # Three of four are, on average 105.
    assert 80 < flipped < 130 if flip else flipped == 0


def test_categories_are_joined_with_their_labels(photographs: Path, recipe: Recipe) -> None:
    discs, plates = (list_images(recipe, photographs, name) for name in ("disc", "plate"))
    images = DiffusionImages.of(recipe, [discs, plates])
    assert images.labels.tolist() == [0] * 9 + [1] * 9
    assert images.held_out_labels.tolist() == [0] * 3 + [1] * 3
    assert images.fit.shape == (18, 1, 32, 32)
    with Image.open(plates.fit[0]) as file:
        assert np.array_equal(images.fit[9, 0], np.asarray(file))


def test_tiles_are_drawn_anew_in_every_epoch(photographs: Path, recipe: Recipe) -> None:
    tiled = recipe.override({"data.tile.size": 16, "diffusion.image_size": 16})
    discs, plates = (list_images(tiled, photographs, name) for name in ("disc", "plate"))
    images = DiffusionImages.of(tiled, [discs, plates])
    # Four tiles of each photograph, with the label of its category.
    assert images.labels.tolist() == [0] * 36 + [1] * 36
    assert images.held_out_labels.tolist() == [0] * 12 + [1] * 12
    order = BatchOrder(0, len(images.fit), 1)
    stream = NoiseBatches(images.fit, images.labels, order, 1000)
    numbers = [step for step in range(144) if order.positions(step)[0][1] == 5]
    first, second = (stream[step].images[0, 0] for step in numbers)
    assert not torch.equal(first, second)
    assert torch.equal(first, stream[numbers[0]].images[0, 0])
    with Image.open(discs.fit[1]) as file:
        whole = torch.from_numpy(np.array(file)).float() / 127.5 - 1
    windows = whole.unfold(0, 16, 1).unfold(1, 16, 1)
    for tile in (first, second):
        assert (windows == tile).all(dim=3).all(dim=2).any()
