"""Weights that would run code, are damaged, or belong to another network.

Each is put in every place from which weights are read; the command ends with one line, and nothing
of what is in the file has been run.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import pytest

from sia_gen.config.recipe import Recipe
from tests.cli.conftest import Run
from tests.faults.conftest import ALL, Tried, few, pairs
from tests.faults.weights import (
    ADM,
    BACKBONE,
    BROKEN,
    CLASSIFIER,
    COMMANDS,
    CONTENTS,
    CPU,
    DISC,
    FIT,
    ORIGINAL,
    PARTS,
    REALNET,
    UNET,
    add_tensor,
    legacy,
    make_models,
    plain,
    zipped,
)
from tests.hostile import Evil

CASES = [(file, name) for file, commands in COMMANDS.items() for name in few(commands)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, photographs: Path, small: Recipe) -> Path:
    """A folder with a model of every kind, small and untrained."""
    folder = tmp_path_factory.mktemp("whole")
    make_models(folder, photographs, small)
    return folder


@pytest.fixture
def place(whole: Path, tmp_path: Path) -> Path:
    """The same, to be spoilt."""
    return shutil.copytree(whole, tmp_path, dirs_exist_ok=True)


def refused(run: Run, place: Path, command: list[str], file: str) -> str:
    """The line with which a command refuses a file; nothing has been run or made."""
    result = run(*command)
    assert result.code == 2, result
    line = result.err.splitlines()[-1]
    assert line.startswith("error: "), result
    assert Path(file).parts[0].partition(".")[0] in line
    assert "Traceback" not in result.err
    assert not (place / "canary").exists()
    assert not list((place / "out").rglob("*.safetensors"))
    return line


KINDS: list[Callable[[Evil, Path], None]] = [zipped, legacy, plain] if ALL else [zipped]
SUFFIXES = [".pt", ".pth", ".bin", ".ckpt"] if ALL else [".pt"]
# What loaders take in its place when there is no safetensors file.
OTHERS = {UNET: ["diffusion_pytorch_model.bin"], CLASSIFIER: ["diffusion_pytorch_model.bin"]}
OTHERS[REALNET] = ["pytorch_model.bin", "model.pt", "model.ckpt"]
PICKLED = "pickles instead of every weight file, read by every command"
REFUSED = "one line; no code is executed"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("file", "command"), CASES)
def test_pickle_named_safetensors_is_refused(
    run: Run,
    place: Path,
    hub: object,
    file: str,
    command: str,
    kind: Callable[..., None],
    tried: Tried,
) -> None:
    kind(Evil(place / "canary"), place / file)
    refused(run, place, COMMANDS[file][command], file)
    tried(PICKLED, 1, REFUSED)


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("file", OTHERS)
def test_pickle_beside_or_for_the_weights_is_not_read(
    run: Run, place: Path, hub: object, file: str, keep: bool, tried: Tried
) -> None:
    for other in OTHERS[file]:
        zipped(Evil(place / "canary"), (place / file).with_name(other))
    for name, command in COMMANDS[file].items():
        if not keep:
            (place / file).unlink(missing_ok=True)
            refused(run, place, command, file)
        elif name in ("predict", "synthesize"):
            assert run(*command).code == 0
            assert not (place / "canary").exists()
        tried(PICKLED, 1, REFUSED)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("file", [BACKBONE, ADM, ORIGINAL])
def test_pickle_of_any_name_is_refused(
    run: Run, place: Path, file: str, suffix: str, kind: Callable[..., None], tried: Tried
) -> None:
    path = (place / file).with_suffix(suffix)
    kind(Evil(place / "canary"), path)
    for command in COMMANDS[file].values():
        words = [path.name if word == file else word for word in command]
        if path.name in words:
            line = refused(run, place, words, path.name)
            assert "weights_only" not in line
            tried(PICKLED, 1, REFUSED)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_safetensors_of_another_name_are_refused(
    run: Run, place: Path, suffix: str, tried: Tried
) -> None:
    path = (place / ADM).with_suffix(suffix)
    (place / ADM).rename(path)
    line = refused(run, place, ["import-adm", path.name, "--out", "out"], path.name)
    assert "Give a PyTorch checkpoint or a .safetensors file." in line
    tried("safetensors files with the extension of pickles", 1, "one line")


@pytest.mark.parametrize(("file", "broken"), pairs(COMMANDS, [*BROKEN, "a tensor too many"]))
def test_broken_weights_are_one_line(
    run: Run, place: Path, hub: object, file: str, broken: str, tried: Tried
) -> None:
    if broken == "a tensor too many" and file == BACKBONE:
        return
    BROKEN.get(broken, add_tensor)(place / file)
    for command in few(COMMANDS[file].values(), len(broken)):
        refused(run, place, command, file)
        tried(
            "weights that are truncated, NaN, or of other shapes, types or names",
            1,
            "one line",
            fixed=3,
        )


CONFIGS = {
    UNET: ["models/disc/model_index.json", "models/disc/unet/config.json"],
    CLASSIFIER: ["classifier/config.json"],
    REALNET: ["realnet/disc/config.json", "realnet/disc/fit.json"],
}


@pytest.mark.parametrize(("config", "content"), pairs(chain(*CONFIGS.values()), CONTENTS))
def test_hostile_config_is_one_line(
    run: Run, place: Path, hub: object, config: str, content: str, tried: Tried
) -> None:
    file = next(file for file, configs in CONFIGS.items() if config in configs)
    path = place / config
    path.write_text(CONTENTS[content](json.loads(path.read_text())))
    (path.parent / "evil.py").write_text(f"import os\nos.mkdir({str(place / 'canary')!r})\n")
    for command in few(COMMANDS[file].values(), len(content)):
        refused(run, place, command, file)
        tried(
            "configs with other classes, versions, types and sizes",
            1,
            "one line; no code is executed",
        )


RESUMED = {
    "train-diffusion": (["train-diffusion", *DISC, *CPU, "--out", "run"], "checkpoints/disc"),
    "train-classifier": (["train-classifier", *PARTS, *CPU, "--out", "run"], "checkpoints"),
    "fit-realnet": ([*FIT[:-1], "run"], "checkpoints/disc"),
}


@pytest.mark.parametrize("command", few(RESUMED))
def test_checkpoint_that_would_run_code_is_refused(
    run: Run, place: Path, command: str, tried: Tried
) -> None:
    words, checkpoints = RESUMED[command]
    changes = {"classifier.max_steps": 2, "classifier.checkpoint_every": 1}
    changes |= {"diffusion.max_steps": 2, "realnet.max_steps": 2}
    recipe = Recipe.load(place / "parts.yaml").override(changes)
    (place / "parts.yaml").write_text(recipe.to_yaml())
    assert run(*words).code == 0
    last = max((place / "run" / checkpoints).glob("step-*"))
    files = [path for path in last.iterdir() if path.suffix in (".bin", ".pkl")]
    assert len(files) >= 2
    for file in [*files, last / "model.safetensors"]:
        content = file.read_bytes()
        for kind in KINDS:
            kind(Evil(place / "canary"), file)
            assert str(last.relative_to(place)) in refused(run, place, words, "run")
            tried("resuming from checkpoints with pickles for files", 1, REFUSED, fixed=2)
        file.write_bytes(content)
    assert run(*words).code == 0
