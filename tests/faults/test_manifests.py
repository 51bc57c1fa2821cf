"""Manifests and records that someone made to do harm, read by every command that reads corpora."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sia_gen.config.recipe import Recipe
from tests.cli.conftest import Run
from tests.corpus.conftest import HandmadeCorpus, save_model
from tests.faults.conftest import Tried, few

CPU = ["--device", "cpu", "--precision", "fp32"]
DISC = ["--recipe", "parts.yaml", "--data", "images", "--category", "disc"]
COMMANDS = {
    "verify": ["verify", "corpus"],
    "verify --repair": ["verify", "corpus", "--repair"],
    "inspect": ["inspect", "corpus", "--device", "cpu", "--out", "out"],
    "compose": ["compose", *DISC, "--corpus", "corpus", "--out", "out"],
    "fit-realnet": ["fit-realnet", *DISC, *CPU, "--corpus", "corpus", "--out", "out"],
    "push-to-hub": ["push-to-hub", "corpus", "ada/hostile-manifest"],
    "synthesize": [
        *("synthesize", "--recipe", "parts.yaml", "--model", "models", *CPU, "--out", "corpus"),
    ],
}


def shard(**fields: Any) -> Callable[[dict[str, Any]], str]:
    """The manifest with other fields of its first shard."""
    return lambda manifest: json.dumps(
        manifest | {"shards": [manifest["shards"][0] | fields, *manifest["shards"][1:]]}
    )


def text(old: str, new: str) -> Callable[[dict[str, Any]], str]:
    return lambda manifest: json.dumps(manifest).replace(old, new, 1)


HOSTILE: dict[str, Callable[[dict[str, Any]], str]] = {
    "a path with ..": shard(path="../canary"),
    "a path with .. further on": shard(path="data/parts/disc/../../../../canary"),
    "an absolute path": shard(path="/etc/passwd"),
    "a URL": shard(path="file:///etc/passwd"),
    "a path of a million characters": shard(path="a" * 1_000_000),
    "a path that steers terminals": shard(path="\x1b[2J\n"),
    "a category with ..": shard(category="..", path="data/parts/../train-00000-of-00002.tar"),
    "a number for a text": shard(path=3),
    "true for a number": shard(samples=True),
    "too many samples": shard(samples=10**30),
    "negative samples": shard(samples=-3),
    "no proper checksum": shard(sha256="../../x"),
    "a strength that is none": shard(strengths={"white": "much"}),
    "a state that is none": shard(state="perhaps"),
    "NaN": text('"guidance_scale": 0.0', '"guidance_scale": NaN'),
    "Infinity": text('"guidance_scale": 0.0', '"guidance_scale": 1e999'),
    "a number of 5,000 digits": text('"seed": 0', '"seed": ' + "9" * 5000),
    "a size of images without end": text('"image_size": 8', '"image_size": 1000000000'),
    "a format that is none": text('"format": "png"', '"format": "eps"'),
    "half a character": text('"name": "parts"', r'"name": "\ud800"'),
    "deep JSON": lambda _: '{"a":' * 100_000,
    "a list": lambda manifest: json.dumps([manifest]),
    "huge JSON that is none": lambda _: "[" + "1," * 5_000_000,
}
TOLD = "one line that names the manifest; nothing outside is read, written or deleted"


@pytest.fixture
def place(tmp_path: Path, photographs: Path, small: Recipe) -> Path:
    recipe = small.override({"categories": ["disc"]})
    (tmp_path / "parts.yaml").write_text(recipe.to_yaml())
    shutil.copytree(photographs, tmp_path / "images")
    save_model(tmp_path / "models/disc", 0)
    HandmadeCorpus(tmp_path / "corpus")
    (tmp_path / "corpus/recipe.yaml").write_text(recipe.to_yaml())
    (tmp_path / "canary").write_text("I live")
    return tmp_path


def everything(place: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_manifest_is_one_line(
    run: Run, place: Path, hub: object, name: str, tried: Tried
) -> None:
    path = place / "corpus/manifest.json"
    path.write_text(HOSTILE[name](json.loads(path.read_text())))
    before = everything(place)
    for command in few(COMMANDS, list(HOSTILE).index(name)):
        result = run(*COMMANDS[command])
        lines = result.err.splitlines()
        assert (result.code, len(lines)) == (2, 1), result
        assert lines[0].startswith("error: corpus/manifest.json cannot be read ("), lines[0][:200]
        assert len(lines[0]) < 500
        assert everything(place) == before
        tried("malicious manifests, read by every command", 1, TOLD, fixed=2)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_record_is_none(run: Run, place: Path, name: str, tried: Tried) -> None:
    for record in (place / "corpus/.records").iterdir():
        content = {"shards": [json.loads(record.read_text())], "guidance_scale": 0.0, "seed": 0}
        record.write_text(HOSTILE[name](content | {"image_size": 8, "format": "png"}))
    before = everything(place)
    assert run("verify", "corpus").code == 0
    assert everything(place) == before
    tried("malicious shard records", 1, "ignored")
