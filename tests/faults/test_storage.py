"""Storage that is full, read-only, slow, taken away, shared or foreign, under every command."""

from __future__ import annotations

import errno
import itertools
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sia_gen.config.recipe import Recipe
from tests.corpus.conftest import save_model
from tests.diffusion.original_adm import small_unet
from tests.faults import storage
from tests.faults.conftest import ALL, Tried, times
from tests.faults.storage import COMMANDS, Story
from tests.hub.server import Hub
from tests.processes import apart
from tests.realnet.original_realnet import realnet_yaml, save_training

SETTINGS = {
    "data.images.mask": "{category}/ground_truth/{defect}/{stem}.png",
    "diffusion.init": "models/disc",
    "diffusion.image_size": 8,
    "diffusion.max_steps": 2,
    "diffusion.checkpoint_every": 1,
    "diffusion.preview_every": 1,
    "classifier.max_steps": 2,
    "classifier.checkpoint_every": 1,
    "realnet.max_steps": 2,
    "realnet.validate_every": 1,
    "realnet.afs_batches": 1,
}
GOES_ON = "one line, exit code 2; rerunning completes it, same bytes"
# Those that take least, for a quick look; exports take a minute.
QUICK = ["train-diffusion", "synthesize", "predict", "compose --format folder", "import-adm"]
TURNS = itertools.cycle(QUICK)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, photographs: Path, small: Recipe) -> Path:
    """A folder with all that commands read."""
    folder = tmp_path_factory.mktemp("storage")
    recipe = small.override(SETTINGS)
    (folder / "parts.yaml").write_text(recipe.to_yaml())
    for seed, category in enumerate(recipe.categories):
        save_model(folder / "models" / category, seed)
        (folder / "images" / category).mkdir(parents=True)
        for part in ("train", "test"):
            (folder / "images" / category / part).symlink_to(photographs / category / part)
        masks = folder / "images" / category / "ground_truth/scratch"
        masks.mkdir(parents=True)
        for path in (photographs / category / "test/scratch").iterdir():
            mask = np.zeros((32, 32), np.uint8)
            mask[12:15, 4:28] = 255
            Image.fromarray(mask).save(masks / path.name)
    torch.save(small_unet().state_dict(), folder / "adm.pt")
    save_training(folder, realnet_yaml())
    (folder / "whole").mkdir()
    for told in apart(storage.make_inputs, folder):
        assert told.code == 0, told
    return folder


class Case:
    """A command, what it makes when nothing gets in the way, and folders to run it in.

    Attributes:
        name: Of the command.
        files: What it makes: the hashes of its files by path.
        size: What these take, in KiB.
        syncs: How often it waits for the disk.
    """

    def __init__(self, name: str, place: Path, folder: Path) -> None:
        self.name, self.place, self.folder = name, place, folder
        self.number = 0
        self.whole = place / "whole" / name
        if not self.whole.exists():
            told = self.tell(storage.whole)
            assert told.code == 0, told
        self.files = storage.contents(self.whole)
        self.bytes = sum((self.whole / path).stat().st_size for path in self.files)
        self.size = self.bytes // 1024
        self.chance = random.Random(name)

    def tell(self, story: Callable[..., Any], *arguments: Any) -> Any:
        """Runs a story of the command in a folder of its own."""
        self.number += 1
        folder = self.folder / str(self.number)
        folder.mkdir()
        for path in self.place.iterdir():
            (folder / path.name).symlink_to(path)
        return apart(story, self.name, folder, *arguments)

    def check(self, story: Story, reason: str | None = None) -> None:
        """The first ended in a line that gives a reason, or was done; the second completed it."""
        self.check_first(story, reason)
        assert story.left == []
        assert story.second.code == 0, story
        assert story.files == self.files, story

    def check_removed(self, story: Story) -> None:
        """The same, but what is removed is not always to be had again."""
        self.check_first(story)
        if self.name == "push-to-hub":
            # It reads the folder.
            assert story.first.code == 0 or story.second.code == 2, story
            return
        # Pictures of earlier steps.
        lost = {path for path in self.files if "/previews/" in path} - story.files.keys()
        restored = story.files | {path: self.files[path] for path in lost}
        self.check(story._replace(files=restored))

    def check_first(self, story: Story, reason: str | None = None) -> None:
        """It ended in a line that gives a reason, or was done."""
        told = story.first
        if told.code != 0 or reason is not None:
            assert told.code == 2, told
            error = told.lines[-1]
            assert error.startswith("error: "), told
            assert reason is None or reason in error, told
            assert sum(line.startswith("error: ") for line in told.lines) == 1
        assert not any("Traceback" in line or "Exception" in line for line in told.lines), told


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every fault under every command; for a quick look under one, each under another."""
    chosen = metafunc.definition.get_closest_marker("parametrize")
    if "case" in metafunc.fixturenames and not chosen:
        names = list(COMMANDS) if ALL else [next(TURNS)]
        metafunc.parametrize("case", names, indirect=True)


@pytest.fixture
def case(request: pytest.FixtureRequest, place: Path, tmp_path: Path, hub: Hub) -> Case:
    return Case(request.param, place, tmp_path)


def test_full_disk(case: Case, tried: Tried) -> None:
    for number in range(times(1, 8)):
        room, inodes = case.chance.randrange(4, case.size + 8), 100_000
        if number % 4 == 3:
            room, inodes = 1 << 20, case.chance.randrange(1, len(case.files) + 6)
        case.check(case.tell(storage.full_disk, room, inodes))
    tried("disk full at any write", times(1, 8), GOES_ON, 6)


@pytest.mark.parametrize("case", ["synthesize"], indirect=True)
def test_full_disk_is_said_so(case: Case) -> None:
    story = case.tell(storage.full_disk, case.size // 2, 100_000)
    case.check(story, "No space left on device. Free some room, then run the same command again")
    assert story.first.lines[-1].startswith("error: cannot write ")


def test_read_only_folder(case: Case, tried: Tried) -> None:
    case.check(case.tell(storage.read_only), "ead-only")
    tried("read-only output disk", 1, GOES_ON)


def test_folder_is_removed_under_way(case: Case, tried: Tried) -> None:
    count = times(1, 4)
    for number in range(count):
        moment = storage.at_file if number % 2 else storage.at_sync
        removal = partial(moment, case.chance.randrange(1, 60), storage.remove)
        case.check_removed(case.tell(storage.condition, removal))
    tried("output folder deleted during the run", count, GOES_ON)


def test_disk_fails_while_it_is_waited_for(case: Case, tried: Tried) -> None:
    reasons = [errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.ESTALE][: times(1, 4)]
    for reason in reasons:
        failure = partial(
            storage.at_sync, case.chance.randrange(1, 20), partial(storage.refuse, reason)
        )
        case.check(case.tell(storage.condition, failure))
    tried("fsync fails (EIO, ENOSPC, EDQUOT, ESTALE)", len(reasons), GOES_ON)


def test_files_of_limited_size(case: Case, tried: Tried) -> None:
    count = times(1, 2)
    for _ in range(count):
        smallest = min(1000, case.bytes // 2)
        limit = partial(storage.small_files, case.chance.randrange(smallest, case.bytes))
        case.check(case.tell(storage.condition, limit))
    tried("file size limit (RLIMIT_FSIZE)", count, GOES_ON)


def test_second_process_is_refused_until_the_first_ends(case: Case, tried: Tried) -> None:
    if case.name == "push-to-hub":
        pytest.skip("the Hub takes one commit after another")
    second, killed, last = case.tell(storage.second_process)
    assert (second.code, killed) == (2, -9), second
    assert "another process is at work on" in second.lines[-1]
    case.check(last)
    tried(
        "a second process on the same output",
        1,
        "one line, exit code 2; starts at once after the first is killed",
        fixed=1,
    )


def test_file_system_without_links_locks_and_synced_folders(case: Case, tried: Tried) -> None:
    story = case.tell(storage.condition, storage.foreign_file_system)
    case.check(story)
    assert story.first.code == 0, story.first
    tried("a file system without links, locks and folder sync", 1, "completes, with a warning")


def test_slow_disk(case: Case, tried: Tried) -> None:
    story = case.tell(storage.condition, partial(storage.slow_disk, 0.2))
    case.check(story)
    assert story.first.code == 0, story.first
    tried("a slow disk", 1, "completes, same bytes")
