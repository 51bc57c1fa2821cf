"""Shards that are damaged, or that someone made to do harm.

Each is read by every command that reads corpora: it names the shard and the sample, writes nothing
outside of its folders, and never takes what is wrong for a sample.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from upath import UPath

from sia_gen.config.recipe import Recipe, choose_categories
from sia_gen.corpus.generate import synthesize
from sia_gen.corpus.reading import SampleReader
from sia_gen.corpus.verify import find_problems
from sia_gen.errors import CorpusError
from sia_gen.runtime.device import Runtime
from tests.cli.conftest import Result, Run
from tests.corpus.conftest import save_model
from tests.faults.conftest import ALL, Tried, few, pairs, times
from tests.faults.hostile_shards import HOSTILE, METADATA, ORDER, PICTURES, members_of, packed

SHARD = "data/parts/disc/train-00000-of-00002.tar"
BLOCK = 512
CPU = ["--device", "cpu", "--precision", "fp32"]
DISC = ["--recipe", "parts.yaml", "--data", "images", "--category", "disc"]
# Every command that reads a corpus, with what it may write to.
COMMANDS = {
    "verify": ["verify", "CORPUS"],
    "verify --repair": ["verify", "CORPUS", "--repair"],
    "inspect": ["inspect", "CORPUS", "--device", "cpu", "--out", "out"],
    "compose": ["compose", *DISC, "--corpus", "CORPUS", "--out", "out"],
    "compose --format folder": [
        *("compose", *DISC, "--corpus", "CORPUS", "--out", "out", "--format", "folder"),
    ],
    "fit-realnet": ["fit-realnet", *DISC, *CPU, "--corpus", "CORPUS", "--out", "out"],
    "push-to-hub": ["push-to-hub", "CORPUS", "ada/hostile"],
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, photographs: Path, small: Recipe) -> Path:
    """A folder with a recipe, models, images, and a corpus of 5 samples of `disc`."""
    folder = tmp_path_factory.mktemp("whole")
    recipe = small.override({"categories": ["disc"]})
    (folder / "parts.yaml").write_text(recipe.to_yaml())
    save_model(folder / "models/disc", 0)
    shutil.copytree(photographs, folder / "images")
    (folder / "canary").write_text("I live")
    disc = choose_categories(recipe, ["disc"])
    synthesize(recipe, disc, folder / "models", folder / "corpus", Runtime("fp32", "cpu"))
    return folder


@pytest.fixture
def place(whole: Path, tmp_path: Path) -> Path:
    """The same, to be spoilt."""
    return shutil.copytree(whole, tmp_path, dirs_exist_ok=True)


def plant(corpus: Path, content: bytes) -> None:
    """Puts a shard in the place of the first, and makes all that is known of it fit."""
    (corpus / SHARD).write_bytes(content)
    fitting = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    record = corpus / ".records" / (SHARD.replace("/", "--") + ".json")
    record.write_text(json.dumps(json.loads(record.read_text()) | fitting))
    manifest = json.loads((corpus / "manifest.json").read_text())
    manifest["shards"][0] |= fitting
    (corpus / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")


def spoilt(place: Path, name: str) -> None:
    members = members_of((place / "corpus" / SHARD).read_bytes())
    plant(place / "corpus", HOSTILE[name].spoil(members))


def outside(place: Path) -> dict[Path, bytes]:
    """What no command may touch."""
    files = [path for path in place.rglob("*") if path.is_file()]
    mine = ("corpus", "out")
    return {
        path: path.read_bytes() for path in files if path.relative_to(place).parts[0] not in mine
    }


def read_all(corpus: Any) -> list[Any]:
    reader = SampleReader(corpus, "parts", "disc")
    samples = [reader[number] for number in range(reader.total)]
    return [(metadata, np.asarray(image).tobytes()) for metadata, image in samples]


def check_refusal(result: Result, told: str) -> None:
    """One line names shard and sample; `verify` prints all problems before it."""
    lines = [line for line in result.err.splitlines() if not line.startswith(("verifying", "\r"))]
    assert result.code == 2, result
    assert lines[-1].startswith("error: "), result
    assert "Traceback" not in result.err
    assert SHARD in result.err
    assert told in result.err
    assert "parts_disc_0000000" in result.err
    assert result.err.isascii()


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_shard_is_refused_by_every_reader(place: Path, name: str, tried: Tried) -> None:
    before = outside(place)
    spoilt(place, name)
    with pytest.raises(CorpusError, match="is damaged") as error:
        read_all(place / "corpus")
    problems = [str(problem) for problem in find_problems(place / "corpus")]
    for text in (str(error.value), *problems):
        assert SHARD in text
        assert "parts_disc_0000000" in text
        assert HOSTILE[name].told in text
    assert problems
    assert outside(place) == before
    tried("malicious members: paths, links, devices, JSON, images", 1, TOLD, fixed=3)


TOLD = "one line that names shard and sample; nothing is executed or written elsewhere"
EXAMPLES = list(HOSTILE) if ALL else ["a path with ..", "a symbolic link upwards", "NaN", "a bomb"]


@pytest.mark.parametrize(("command", "name"), pairs(COMMANDS, EXAMPLES))
def test_every_command_refuses_a_hostile_shard(
    run: Run, place: Path, hub: object, command: str, name: str, tried: Tried
) -> None:
    before = outside(place)
    spoilt(place, name)
    words = ["corpus" if word == "CORPUS" else word for word in COMMANDS[command]]
    result = run(*words)
    if command == "verify --repair":
        assert result.code == 0, result
        assert HOSTILE[name].told in result.err
        assert not (place / "corpus" / SHARD).exists()
    else:
        check_refusal(result, HOSTILE[name].told)
    assert outside(place) == before
    tried("malicious members, read by every command", 1, TOLD)


@pytest.mark.parametrize("name", few(EXAMPLES))
def test_hostile_shard_at_a_url_is_refused(run: Run, place: Path, name: str, tried: Tried) -> None:
    spoilt(place, name)
    url = f"memory://{place.name}/corpus"
    for path in (place / "corpus").rglob("*"):
        if path.is_file():
            there = UPath(url) / path.relative_to(place / "corpus").as_posix()
            there.parent.mkdir(parents=True, exist_ok=True)
            there.write_bytes(path.read_bytes())
    check_refusal(run("verify", url), HOSTILE[name].told)
    fit = ["fit-realnet", *DISC, *CPU, "--corpus", url, "--out", "out"]
    check_refusal(run(*fit), HOSTILE[name].told)
    tried("malicious members, in a corpus at a URL", 2, TOLD)


def test_repair_and_synthesize_make_a_hostile_shard_good(
    run: Run, place: Path, tried: Tried
) -> None:
    content = (place / "corpus" / SHARD).read_bytes()
    again = ["synthesize", "--recipe", "parts.yaml", "--model", "models", *CPU, "--out", "corpus"]
    for name in few([*ORDER, *PICTURES, *METADATA]):
        spoilt(place, name)
        assert run("verify", "corpus", "--repair").code == 0
        assert run(*again).code == 0
        assert (place / "corpus" / SHARD).read_bytes() == content
        assert run("verify", "corpus").code == 0
        tried("`verify --repair`, then `synthesize`", 1, "the shard has the same bytes again")


def test_cut_shard_is_refused(place: Path, tried: Tried) -> None:
    content = (place / "corpus" / SHARD).read_bytes()
    inside = random.Random(0).sample(range(len(content)), times(20, 1000))
    # All that follows the last sample are zeros, and the checksum tells that they are missing.
    for keep in sorted({*range(0, len(content), BLOCK), *inside}):
        (place / "corpus" / SHARD).write_bytes(content[:keep])
        with pytest.raises(CorpusError, match=r"train-00000-of-00002\.tar is damaged"):
            read_all(place / "corpus")
        assert find_problems(place / "corpus")[0].path == SHARD
        tried("shards truncated at and inside members", 1, "detected by every reader", fixed=1)


@pytest.mark.parametrize("form", ["png", "webp", "jpg"])
def test_flipped_bit_is_noticed(place: Path, photographs: Path, form: str, tried: Tried) -> None:
    recipe = Recipe.load(place / "parts.yaml").override({"synthesis.format": form})
    corpus = place / form
    synthesize(
        recipe, choose_categories(recipe, None), place / "models", corpus, Runtime("fp32", "cpu")
    )
    content = (corpus / SHARD).read_bytes()
    rng = random.Random(form)
    for _ in range(times(30, 1000)):
        damaged = bytearray(content)
        for _ in range(rng.choice((1, 1, 1, 8))):
            damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        (corpus / SHARD).write_bytes(damaged)
        # Samples are read alone: that of which each part still fits is a sample.
        with suppress(CorpusError):
            read_all(corpus)
        assert find_problems(corpus)[0].path == SHARD
        tried("bits flipped in shards of PNG, WebP and JPEG", 1, NOTICED, fixed=1)


NOTICED = "detected by `verify`, and by other readers if a sample is inconsistent"


def test_shard_of_random_bytes_never_ends_in_a_traceback(place: Path, tried: Tried) -> None:
    corpus, rng = place / "corpus", random.Random(1)
    members = members_of((corpus / SHARD).read_bytes())
    for _ in range(times(50, 1000)):
        damaged = bytearray(packed(members))
        start = BLOCK * rng.randrange(len(damaged) // BLOCK - 4)
        for _ in range(rng.choice((1, 4, 64))):
            damaged[start + rng.randrange(BLOCK)] = rng.randrange(256)
        plant(corpus, with_checksum(damaged, start))
        # What fits its checksum and decodes is a sample.
        for problem in find_problems(corpus):
            assert problem.path in (SHARD, SHARD.replace(".tar", ".index.json"))
        tried("random headers with correct checksums", 1, "one line, or harmless")


def with_checksum(shard: bytearray, start: int) -> bytes:
    """The shard with the checksum right of the header at a place, if there is one."""
    shard[start + 148 : start + 156] = b" " * 8
    shard[start + 148 : start + 156] = b"%06o\0 " % sum(shard[start : start + BLOCK])
    return bytes(shard)
