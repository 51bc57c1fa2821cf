"""More processes than cores on one corpus, and more images than fit into memory."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from sia_gen.config.recipe import Recipe
from sia_gen.io.locks import LOCKS
from tests.corpus.conftest import save_model
from tests.end_to_end.conftest import CommandLine
from tests.faults.conftest import Tried, times
from tests.processes import Running, ranks
from tests.small_networks import save_detector

PROCESSES = times(2, 4)
CPU = ["--device", "cpu", "--precision", "fp32"]
SYNTHESIZE = ["synthesize", "--recipe", "parts.yaml", "--model", "models", *CPU]
FIT = ["fit-realnet", "--recipe", "parts.yaml", "--corpus", "one", "--category", "disc", *CPU]
IMAGES = times(320, 10_000)
MIB = 1 << 20
GROWTH = 30 * MIB


@pytest.fixture(scope="module")
def place(
    tmp_path_factory: pytest.TempPathFactory, photographs: Path, small: Recipe
) -> CommandLine:
    """A folder with a recipe, models, and the corpus `one` of 16 shards, made by one process."""
    settings = {"synthesis.images": 24, "synthesis.steps": 4, "realnet.max_steps": 2}
    recipe = small.override(settings)
    line = CommandLine(tmp_path_factory.mktemp("load"), photographs, recipe)
    for seed, category in enumerate(recipe.categories):
        save_model(line.folder / "models" / category, seed)
    start(line, "one", *SYNTHESIZE, "--out", "one").done()
    return line


def start(line: CommandLine, name: str, *arguments: str) -> Running:
    return Running(arguments, line.folder, line.folder / f"{name}.txt")


def files(folder: Path) -> dict[str, bytes]:
    """All files of a folder, except the locks, and the hashes of the models that made it."""
    paths = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    return {
        path.as_posix(): (folder / path).read_bytes()
        for path in paths
        if path.parts[0] != LOCKS and path.name != "weights.json"
    }


def test_processes_of_one_run_make_the_same_corpus(place: CommandLine, tried: Tried) -> None:
    for running in ranks(PROCESSES, [*SYNTHESIZE, "--out", "together"], place.folder, "together"):
        running.done()
    assert files(place.folder / "together") == files(place.folder / "one")
    tried(f"one `synthesize` with {PROCESSES} processes", 1, "the same bytes as with one process")


def test_runs_side_by_side_make_the_same_corpus(place: CommandLine, tried: Tried) -> None:
    parts = [f"{first}:{first + 16 // PROCESSES}" for first in range(0, 16, 16 // PROCESSES)]
    arguments = [*SYNTHESIZE, "--out", "parts", "--shards"]
    for running in [start(place, f"part-{part}", *arguments, part) for part in parts]:
        running.done()
    assert files(place.folder / "parts") == files(place.folder / "one")
    what = f"{PROCESSES} `synthesize` at once, with some shards each"
    tried(what, 1, "the same bytes as with one process")


def test_many_processes_read_one_corpus_at_once(place: CommandLine, tried: Tried) -> None:
    before = files(place.folder / "one")
    outputs = [f"fit-{number}" for number in range(PROCESSES)]
    fit = [*FIT, "--data", str(place.data), "--out"]
    runs = [start(place, out, *fit, out) for out in outputs]
    runs += [start(place, f"verify-{number}", "verify", "one") for number in range(PROCESSES)]
    for running in runs:
        running.done()
    models = [files(place.folder / out / "disc") for out in outputs]
    assert all(model == models[0] for model in models)
    assert files(place.folder / "one") == before
    what = f"{PROCESSES} `fit-realnet` and {PROCESSES} `verify` at once on one corpus"
    tried(what, 1, "the same model from each; the corpus is unchanged")


@pytest.fixture
def model(tmp_path: Path, recipe: Recipe) -> Path:
    """A RealNet that nothing has fitted."""
    folder = tmp_path / "model"
    save_detector(folder)
    (folder / "recipe.yaml").write_text(recipe.to_yaml())
    return folder


def test_memory_stays_flat_however_many_images_there_are(
    model: Path, photographs: Path, tmp_path: Path, tried: Tried
) -> None:
    originals = sorted(photographs.rglob("*.png"))
    # All of one name, as a glob such as parts/*/top.png finds them.
    images = [tmp_path / str(number) / "top.png" for number in range(IMAGES)]
    for number, image in enumerate(images):
        image.parent.mkdir()
        os.link(originals[number % len(originals)], image)
    given = [str(image.relative_to(tmp_path)) for image in images]
    running = Running(["predict", model.name, *given, *CPU], tmp_path, tmp_path / "output.txt")
    process, used = psutil.Process(running.process.pid), dict[int, int]()
    while not running.ends_within(0.1):
        with suppress(psutil.NoSuchProcess):  # it may end in between
            used[heatmaps(tmp_path)] = process.memory_info().rss
    running.done()
    assert len((tmp_path / "predictions/predictions.csv").read_text().splitlines()) == 1 + IMAGES
    assert heatmaps(tmp_path) == IMAGES
    steady = [size for done, size in used.items() if IMAGES / 10 < done < IMAGES]
    growth = max(steady) - steady[0]
    assert growth < GROWTH
    what_happens = f"all are scored, memory grows by {growth / MIB:.0f} MiB"
    tried(f"`predict` of {IMAGES:,} images with the same name", 1, what_happens, fixed=1)


def heatmaps(folder: Path) -> int:
    """How many images have been scored."""
    return sum(1 for _ in (folder / "predictions/heatmaps").glob("*.png"))
