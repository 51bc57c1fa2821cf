"""The commands that make, check and use corpora, and their errors."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import pytest
import yaml

from sia_gen.config.recipe import Recipe, all_categories
from sia_gen.corpus.generate import synthesize
from sia_gen.runtime.device import Runtime
from tests.corpus.conftest import save_model

if TYPE_CHECKING:
    from tests.cli.conftest import Refuse, Run

DISC = "runs/parts/corpus/data/parts/disc"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, small: Recipe) -> Path:
    """A model of every category and a corpus of them, to be copied."""
    folder = tmp_path_factory.mktemp("made")
    for seed, category in enumerate(small.categories):
        save_model(folder / "diffusion" / category, seed)
    everything = all_categories(small)
    synthesize(small, everything, folder / "diffusion", folder / "corpus", Runtime("fp32", "cpu"))
    return folder


@pytest.fixture
def options(parts: Path, tmp_path: Path, made: Path) -> list[str]:
    """Options of `synthesize`, with a model of every category."""
    shutil.copytree(made / "diffusion", tmp_path / "runs/parts/diffusion")
    return ["--recipe", str(parts), "--device", "cpu", "--precision", "fp32"]


@pytest.fixture
def corpus(run: Run, options: list[str], tmp_path: Path, made: Path) -> Path:
    """A corpus in the default folder."""
    return shutil.copytree(made / "corpus", tmp_path / "runs/parts/corpus")


def test_corpus_is_made_in_parts_verified_and_repaired(
    run: Run, options: list[str], tmp_path: Path
) -> None:
    assert run("synthesize", *options, "--shards", "0:3").code == 0
    first = run("verify", "runs/parts/corpus")
    assert first.code == 2
    assert "train-00001-of-00002.tar: not made yet. Run 'sia-gen synthesize' again" in first.err
    assert run("synthesize", *options, "--shards", "3:4").code == 0
    intact = "runs/parts/corpus is intact: 10 samples in 4 shards.\n"
    assert run("verify", "runs/parts/corpus").out == intact
    shard = tmp_path / DISC / "train-00000-of-00002.tar"
    content = shard.read_bytes()
    shard.write_bytes(content[:700] + b"?" + content[701:])
    damaged = run("verify", "runs/parts/corpus")
    assert (damaged.code, damaged.out) == (2, "")
    assert "checksum differs from the manifest" in damaged.err
    assert "sia-gen verify --repair" in damaged.err
    assert "Shards of runs/parts/corpus to make again: 1. Run" in (
        run("verify", "runs/parts/corpus", "--repair").out
    )
    assert run("synthesize", *options).code == 0
    assert shard.read_bytes() == content
    assert run("verify", "runs/parts/corpus").out == intact


def test_one_sample_is_made_again(run: Run, options: list[str], corpus: Path) -> None:
    recipe = ["--recipe", f"{corpus}/recipe.yaml", *options[2:]]
    result = run("synthesize", *recipe, "--only", "parts_plate_00000004")
    files = [Path(line) for line in result.out.splitlines()]
    assert files == [
        Path(f"runs/parts/samples/parts_plate_00000004.{name}") for name in ("png", "json")
    ]
    assert json.loads(files[1].read_text())["index"] == 4


def test_plan_is_printed_and_nothing_written(run: Run, options: list[str], tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    result = run("synthesize", *options, "--plan")
    assert result.code == 0
    assert "samples        10" in result.out
    assert sorted(tmp_path.rglob("*")) == before


def test_corpus_at_a_url_is_made_verified_and_inspected(
    run: Run, options: list[str], images: Path, tmp_path: Path, corpus: Path
) -> None:
    url = f"memory://{tmp_path.name}/corpus"
    made = run("synthesize", *options, "--out", url)
    assert made.out == f"The corpus is in {url}. Next: sia-gen verify {url}\n"
    assert run("verify", url).out == f"{url} is intact: 10 samples in 4 shards.\n"
    assert run("synthesize", *options, "--out", url).code == 0
    assert run("inspect", url, "--data", images, "--device", "cpu").code == 0
    composed = run("compose", *options[:2], "--data", images, "--corpus", url, "--out", f"{url}-2")
    assert composed.out == f"The triplets are in {url}-2.\n"
    assert run("verify", f"{url}-2").code == 0
    fit = [*options, "--category", "disc", "--data", images, "--corpus", url]
    assert run("fit-realnet", *fit).code == 0
    assert run("verify", f"file://{corpus}").out.startswith(f"{corpus} is intact")


def test_collection_is_made_from_the_models_of_its_data_sets(
    run: Run, options: list[str], parts: Path, tmp_path: Path
) -> None:
    content = yaml.safe_load(parts.read_text())
    others = content | {"name": "other-parts"}
    several = {"name": "all", "title": "All", "members": [content, others]}
    synthesis = content["synthesis"] | {"images": 2}
    (tmp_path / "all.yaml").write_text(json.dumps(several | {"synthesis": synthesis}))
    shutil.copytree(tmp_path / "runs/parts", tmp_path / "runs/other-parts")
    whole = ["--recipe", "all.yaml", *options[2:]]
    assert run("synthesize", *whole).code == 0
    assert run("verify", "runs/all/corpus").out.startswith("runs/all/corpus is intact: 8 samples")
    assert (tmp_path / "runs/all/corpus/data/other_parts/disc/train-00000-of-00001.tar").is_file()
    again = run("synthesize", *whole, "--only", "other_parts_disc_00000001")
    assert "runs/all/samples/other_parts_disc_00000001.png" in again.out
    assert run("inspect", "runs/all/corpus", "--device", "cpu").code == 0


def test_calibrated_recipe_is_needed_for_automatic_strength(
    run: Run, refuse: Refuse, options: list[str], parts: Path
) -> None:
    error = refuse("synthesize", *options, "--strength", "auto")
    assert "strength is 'auto', but 'disc' is not calibrated for the perturbation white." in error
    content = yaml.safe_load(parts.read_text())
    content["synthesis"]["calibrated"] = {"disc": {"white": "0.1:0.2"}, "plate": {"white": "0.3"}}
    parts.write_text(yaml.safe_dump(content))
    assert run("synthesize", *options, "--strength", "auto").code == 0
    shards = json.loads(Path("runs/parts/corpus/manifest.json").read_text())["shards"]
    assert [shard["strengths"]["white"] for shard in shards] == [
        "0.1:0.2",
        "0.1:0.2",
        "0.3",
        "0.3",
    ]
    assert "| strength | 0.1:0.2, 0.3 " in Path("runs/parts/corpus/README.md").read_text()
    content["synthesis"]["calibrated"]["disc"] = {"white": "0.2:0.3"}
    parts.write_text(yaml.safe_dump(content))
    error = refuse("synthesize", *options, "--strength", "auto")
    assert "samples of 'disc' by another strength (0.1:0.2, not 0.2:0.3)" in error


def test_classifier_is_looked_for_where_it_was_trained(
    refuse: Refuse, options: list[str], parts: Path, images: Path
) -> None:
    content = yaml.safe_load(parts.read_text())
    content["synthesis"]["guidance_scale"] = 1.0
    parts.write_text(yaml.safe_dump(content))
    calibrate = ["calibrate", *options, "--data", images]
    for command in (["synthesize", *options], calibrate):
        for given, place in ([], "runs/parts/classifier/model"), (["--classifier", "own"], "own"):
            error = refuse(*command, *given)
            assert f"there is no classifier in {place} " in error
            assert "sia-gen train-classifier" in error


@pytest.mark.parametrize("span", ["4:5", "0:5", "2:2", "3:1", "x", "-1:2", "1"])
def test_shards_out_of_bounds_are_one_line(refuse: Refuse, options: list[str], span: str) -> None:
    error = refuse("synthesize", *options, f"--shards={span}")
    assert f"--shards {span}: the option takes A:B with 0 <= A < B <= 4." in error


def test_unknown_key_is_one_line(refuse: Refuse, options: list[str]) -> None:
    error = refuse("synthesize", *options, "--only", "parts_disc_00000005")
    assert "has no sample 'parts_disc_00000005'" in error


@pytest.mark.parametrize("other", ["--shards 0:1", "--category disc", "--plan"])
def test_option_that_does_not_apply_to_one_sample_is_one_line(
    refuse: Refuse, options: list[str], other: str
) -> None:
    error = refuse("synthesize", *options, "--only", "parts_disc_00000001", *other.split())
    name = other.split()[0]
    assert f"--only makes a single sample, so {name} does not apply. Leave out {name}" in error


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (["--strength", "0.3"], "another strength (0:0.5, not 0.3)"),
        (["--images", "6"], "another images (5, not 6)"),
        (["--seed", "3"], "another seed (0, not 3)"),
    ],
)
def test_other_recipe_over_a_corpus_is_one_line(
    refuse: Refuse, options: list[str], corpus: Path, change: list[str], difference: str
) -> None:
    error = refuse("synthesize", *options, *change)
    assert f"already holds a corpus with {difference}" in error
    assert "--out" in error


def test_other_model_over_a_corpus_is_one_line(
    refuse: Refuse, options: list[str], corpus: Path, tmp_path: Path
) -> None:
    save_model(tmp_path / "runs/parts/diffusion/plate", 9)
    assert "holds samples of 'plate' by another model" in refuse("synthesize", *options)


@pytest.mark.parametrize("command", ["synthesize", "verify", "inspect", "compose"])
def test_damaged_or_newer_manifest_is_one_line(
    refuse: Refuse, options: list[str], corpus: Path, images: Path, command: str
) -> None:
    arguments = {
        "synthesize": options,
        "compose": [*options[:2], "--data", str(images)],
    }.get(command, [str(corpus)])
    path = corpus / "manifest.json"
    content = path.read_text()
    path.write_text(content[:-20])
    assert "manifest.json cannot be read" in refuse(command, *arguments)
    path.write_text(content.replace('"manifest_version": 2', '"manifest_version": 3'))
    assert "has version 3; this sia-gen reads version 2. Update" in refuse(command, *arguments)


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.EACCES, "Permission denied. Make it readable, then"),
        (errno.EIO, "Input/output error. Check the disk, then"),
    ],
)
@pytest.mark.parametrize(
    "name", ["manifest.json", "data--parts--disc--train-00000-of-00002.tar.json"]
)
def test_manifest_and_records_that_cannot_be_read_are_one_line(
    run: Run, corpus: Path, monkeypatch: pytest.MonkeyPatch, name: str, number: int, message: str
) -> None:
    def refused(path: Path, *arguments: Any, **options: Any) -> IO[Any]:
        if path.name == name:
            raise OSError(number, os.strerror(number), str(path))
        return opened(path, *arguments, **options)

    opened = Path.open
    monkeypatch.setattr(Path, "open", refused)
    result = run("verify", corpus)
    assert (result.code, result.out, result.err.count("\n")) == (2, "", 1)
    assert result.err.startswith("error: cannot read ")
    assert f"{name}: {message}" in result.err


def test_damaged_manifest_is_made_again_from_the_records(
    run: Run, options: list[str], corpus: Path
) -> None:
    content = (corpus / "manifest.json").read_bytes()
    (corpus / "manifest.json").unlink()
    assert run("synthesize", *options).code == 0
    assert (corpus / "manifest.json").read_bytes() == content


def test_foreign_shard_is_one_line_and_stays(refuse: Refuse, corpus: Path) -> None:
    foreign = corpus / "data/parts/disc/train-00002-of-00002.tar"
    foreign.write_bytes(b"mine")
    for repair in ([], ["--repair"]):
        with pytest.MonkeyPatch.context() as patch:
            # Besides the error it prints every problem.
            patch.setattr("sia_gen.corpus.verify.print", lambda *_, **__: None, raising=False)
            patch.setattr("sia_gen.runtime.progress.Progress._print_line", lambda _: None)
            error = refuse("verify", str(corpus), *repair)
        assert "train-00002-of-00002.tar: not in the manifest. Move data/parts/disc" in error


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_folder_is_one_line(refuse: Refuse, options: list[str], tmp_path: Path) -> None:
    (tmp_path / "runs/parts/corpus").mkdir(mode=0o500)
    assert "corpus is read-only" in refuse("synthesize", *options)


def test_unwritable_place_is_one_line(refuse: Refuse, options: list[str]) -> None:
    error = refuse("synthesize", *options, "--out", "/proc/corpus")
    assert "cannot make the output folder /proc/corpus" in error


def test_url_that_nothing_can_reach_is_one_line(refuse: Refuse, options: list[str]) -> None:
    error = refuse("synthesize", *options, "--out", "s4://bucket/corpus")
    assert "cannot reach s4://bucket/corpus" in error
