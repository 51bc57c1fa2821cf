"""The order of training: every image once per epoch, for any number of processes."""

from __future__ import annotations

import errno
import os
import signal
from collections import Counter
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch.utils.data import Dataset

from sia_gen.config.recipe import Recipe
from sia_gen.config.settings import Training
from sia_gen.diffusion.classifier_training import train_classifier
from sia_gen.diffusion.training import train_diffusion
from sia_gen.errors import CorpusError, TrainingError
from sia_gen.io.refusals import ReadError
from sia_gen.realnet.fitting import fit_realnet
from sia_gen.runtime.device import Runtime
from sia_gen.train.batches import BatchOrder, load_batches, random_flips
from sia_gen.train.loop import learning_rate
from tests.corpus.conftest import HandmadeCorpus

small = st.integers(1, 7)


class Squares(Dataset[torch.Tensor]):
    def __getitem__(self, step: int) -> torch.Tensor:
        return torch.tensor(step**2)


@given(seed=st.integers(0, 2**31), population=st.integers(1, 30), epoch=st.integers(0, 3))
def test_every_epoch_has_every_image_once(seed: int, population: int, epoch: int) -> None:
    order = BatchOrder(seed, population, batch_size=1)
    numbers = range(epoch * population, (epoch + 1) * population)
    positions = [order.position(number) for number in numbers]
    assert sorted(positions) == [(epoch, index) for index in range(population)]


@given(population=st.integers(1, 30), batch_size=small, processes=small, step=st.integers(0, 20))
def test_processes_share_the_batch_that_one_process_would_take(
    population: int, batch_size: int, processes: int, step: int
) -> None:
    parts = [
        BatchOrder(3, population, batch_size, rank, processes).positions(step)
        for rank in range(processes)
    ]
    whole = BatchOrder(3, population, batch_size * processes).positions(step)
    assert list(chain.from_iterable(parts)) == whole


def test_steps_follow_each_other_without_gaps() -> None:
    order = BatchOrder(seed=0, population=10, batch_size=4)
    positions = chain.from_iterable(order.positions(step) for step in range(5))
    assert set(Counter(positions).values()) == {1}


def test_epochs_and_seeds_have_their_own_order() -> None:
    def epoch(seed: int, number: int) -> list[int]:
        order = BatchOrder(seed, population=50, batch_size=50)
        return [index for _, index in order.positions(number)]

    assert epoch(0, 0) == epoch(0, 0)
    assert epoch(0, 0) != epoch(0, 1)
    assert epoch(0, 0) != epoch(1, 0)


def test_randomness_of_a_sample_follows_from_seed_epoch_and_index() -> None:
    def draw(seed: int, epoch: int, index: int) -> float:
        return BatchOrder(seed, 10, 2).rng(epoch, index).random()

    places = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    assert len({draw(*place) for place in places}) == len(places)
    assert draw(5, 6, 7) == draw(5, 6, 7)


def test_flips_mirror_only_the_allowed_axes_and_half_of_the_time() -> None:
    image = np.arange(6).reshape(1, 2, 3)
    rng = np.random.default_rng(0)

    def share(horizontal: bool, vertical: bool) -> Counter[bytes]:
        return Counter(random_flips(image, rng, horizontal, vertical).tobytes() for _ in range(400))

    mirrored = {
        (False, False): [image],
        (True, False): [image, image[..., ::-1]],
        (False, True): [image, image[..., ::-1, :]],
        (True, True): [image, image[..., ::-1], image[..., ::-1, :], image[..., ::-1, ::-1]],
    }
    for allowed, expected in mirrored.items():
        counts = share(*allowed)
        assert set(counts) == {variant.tobytes() for variant in expected}
        assert min(counts.values()) > 0.7 * 400 / len(expected)


class Spoilt(Dataset[int]):
    """Its third item cannot be made."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __len__(self) -> int:
        return 8

    def __getitem__(self, number: int) -> int:
        if number == 2:
            raise self.error
        return number


@pytest.fixture(params=[0, 2])
def each_number_of_workers(request: pytest.FixtureRequest, workers: Callable[[int], None]) -> None:
    """How many processes prepare batches."""
    workers(request.param)


@pytest.mark.usefixtures("each_number_of_workers")
def test_batches_arrive_in_order_from_the_step_asked_for() -> None:
    loaded = load_batches(Squares(), 3, 7, Accelerator(cpu=True))
    assert [int(batch) for batch in loaded] == [9, 16, 25, 36]


@pytest.mark.usefixtures("each_number_of_workers")
def test_loading_leaves_the_randomness_of_training_alone() -> None:
    before = torch.get_rng_state()
    list(load_batches(Squares(), 0, 3, Accelerator(cpu=True)))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.usefixtures("each_number_of_workers")
@pytest.mark.parametrize(
    "error",
    [
        CorpusError(problem="the shard is damaged.", fix="Delete it."),
        ReadError(errno.EACCES, "Permission denied", "shard.tar"),
    ],
)
def test_error_of_a_worker_is_the_same_error(error: Exception) -> None:
    loaded = load_batches(Spoilt(error), 0, 8, Accelerator(cpu=True))
    assert [next(loaded), next(loaded)] == [0, 1]
    with pytest.raises(type(error)) as caught:
        next(loaded)
    assert str(caught.value) == str(error)
    assert vars(caught.value) == vars(error)


class Fatal(Squares):
    """Its worker is killed, as when memory runs out."""

    def __getitem__(self, number: int) -> int:
        os.kill(os.getpid(), signal.SIGKILL)
        return number


def test_killed_worker_is_one_line(workers: Callable[[int], None]) -> None:
    workers(1)
    with pytest.raises(TrainingError, match="process that prepares batches ended"):
        next(load_batches(Fatal(), 0, 8, Accelerator(cpu=True)))


@given(
    max_steps=st.integers(1, 500),
    warmup=st.integers(0, 50),
    decay_from=st.floats(0, 1),
    fraction=st.floats(0, 1, exclude_max=True),
)
def test_learning_rate_stays_above_zero_and_at_most_the_base(
    max_steps: int, warmup: int, decay_from: float, fraction: float
) -> None:
    training = Training(
        learning_rate=1e-3, max_steps=max_steps, warmup_steps=warmup, decay_from=decay_from
    )
    assert 0 < learning_rate(training, int(fraction * max_steps)) <= 1e-3


def test_learning_rate_warms_up_stays_and_decays() -> None:
    training = Training(learning_rate=1.0, max_steps=10, warmup_steps=3, decay_from=0.5)
    rates = [learning_rate(training, step) for step in range(10)]
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1, 0.8, 0.6, 0.4, 0.2])


CPU = Runtime("fp32", "cpu")
Train = Callable[[Recipe, Path, Path], Path]


def diffusion(recipe: Recipe, photographs: Path, out: Path) -> Path:
    train_diffusion(recipe, ["disc"], photographs, out, CPU)
    return out / "disc/unet/diffusion_pytorch_model.safetensors"


def classifier(recipe: Recipe, photographs: Path, out: Path) -> Path:
    train_classifier(recipe.override({"classifier.max_steps": 3}), photographs, out, CPU)
    return out / "model/diffusion_pytorch_model.safetensors"


def realnet(recipe: Recipe, photographs: Path, out: Path) -> Path:
    corpus = HandmadeCorpus(out.with_name(f"{out.name}-corpus")).folder
    fit_realnet(recipe, ["disc"], photographs, corpus, out, CPU)
    return out / "disc/model.safetensors"


@pytest.mark.parametrize("train", [diffusion, classifier, realnet])
def test_training_with_two_workers_is_the_same(
    train: Train, recipe: Recipe, photographs: Path, tmp_path: Path, workers: Callable[[int], None]
) -> None:
    alone = load_file(train(recipe, photographs, tmp_path / "alone"))
    workers(2)
    helped = load_file(train(recipe, photographs, tmp_path / "helped"))
    assert alone.keys() == helped.keys()
    assert all(torch.equal(helped[name], value) for name, value in alone.items())


def test_damaged_sample_is_one_line_from_a_worker_too(
    recipe: Recipe, photographs: Path, tmp_path: Path, workers: Callable[[int], None]
) -> None:
    corpus = HandmadeCorpus(tmp_path / "corpus")
    content = corpus.path(0).read_bytes()
    corpus.path(0).write_bytes(content.replace(b"IDAT", b"XDAT", 1))
    workers(2)
    with pytest.raises(CorpusError, match=r"train-00000-of-00002\.tar is damaged"):
        fit_realnet(recipe, ["disc"], photographs, corpus.folder, tmp_path / "out", CPU)
