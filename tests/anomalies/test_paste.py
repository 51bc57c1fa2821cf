from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sia_gen.anomalies.paste import AnomalyBatches, LocalAnomalies, blend
from sia_gen.train.batches import BatchOrder
from tests.anomalies.conftest import ArraySource

RNG = np.random.default_rng(0)
NORMAL = RNG.integers(100, 120, (6, 1, 32, 32), dtype=np.uint8)
SOURCES = RNG.integers(200, 220, (4, 1, 32, 32), dtype=np.uint8)


def anomalies(fraction: float = 1.0, flips: bool = False) -> LocalAnomalies:
    return LocalAnomalies(
        normal=NORMAL,
        sources=[ArraySource(SOURCES)],
        anomalous_fraction=fraction,
        horizontal_flip=flips,
        vertical_flip=flips,
    )


def test_blend_is_the_formula_pixel_by_pixel() -> None:
    normal, pasted = (RNG.random((3, 8, 8), dtype=np.float32) for _ in range(2))
    mask = (RNG.random((1, 8, 8)) > 0.5).astype(np.float32)
    found = blend(normal, pasted, mask, np.float32(0.7))
    for place in np.ndindex(3, 8, 8):
        m, n, p = mask[0, place[1], place[2]], float(normal[place]), float(pasted[place])
        assert found[place] == pytest.approx(m * (0.7 * p + 0.3 * n) + (1 - m) * n, abs=1e-6)


def test_outside_the_mask_nothing_changes_and_inside_opacity_is_in_range() -> None:
    opacities = []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        made, normal, mask = replace(anomalies(), sources=[ArraySource(SOURCES[:1])]).sample(
            seed % 6, rng, 0
        )
        inside = mask[0] > 0
        assert inside.any()
        assert np.array_equal(normal, NORMAL[seed % 6] / np.float32(255))
        assert np.array_equal(made[:, ~inside], normal[:, ~inside])
        opacity = (made - normal)[0, inside] / (SOURCES[0] / 255 - normal)[0, inside]
        assert np.ptp(opacity) < 1e-4
        opacities.append(opacity.mean())
    assert 0.5 <= min(opacities) < 0.55
    assert 0.95 < max(opacities) <= 1.0


def test_the_given_share_of_samples_is_anomalous() -> None:
    drawn = [
        anomalies(0.5).sample(0, np.random.default_rng(seed), 0)[2].any() for seed in range(400)
    ]
    assert 150 < sum(drawn) < 250


def test_normal_samples_are_the_image_itself() -> None:
    made, normal, mask = anomalies(1e-9).sample(2, np.random.default_rng(0), 0)
    assert np.array_equal(made, normal)
    assert not mask.any()


def test_image_and_mask_are_of_one_flip() -> None:
    for seed in range(30):
        _, normal, _ = anomalies(flips=True).sample(1, np.random.default_rng(seed), 0)
        image = NORMAL[1] / np.float32(255)
        variants = [image, image[..., ::-1], image[..., ::-1, :], image[..., ::-1, ::-1]]
        assert any(np.array_equal(normal, variant) for variant in variants)


def test_batches_depend_on_seed_epoch_and_index_alone() -> None:
    whole = AnomalyBatches(anomalies(), BatchOrder(3, 6, 4))
    halves = [AnomalyBatches(anomalies(), BatchOrder(3, 6, 2, rank, 2)) for rank in (0, 1)]
    for step in range(3):
        batch = whole[step]
        assert batch.anomalous.shape == (4, 1, 32, 32)
        assert batch.mask.shape == (4, 1, 32, 32)
        parts = [half[step] for half in halves]
        for name in ("anomalous", "normal", "mask"):
            joined = np.concatenate([getattr(part, name).numpy() for part in parts])
            assert np.array_equal(getattr(batch, name).numpy(), joined)


def test_every_sample_of_the_training_takes_the_next_image_of_the_source() -> None:
    source = ArraySource(SOURCES)
    parts = [
        AnomalyBatches(replace(anomalies(), sources=[source]), BatchOrder(3, 6, 2, r, 2))
        for r in (0, 1)
    ]
    for step in range(3):
        for part in parts:
            part[step]
    assert source.drawn == list(range(12))
