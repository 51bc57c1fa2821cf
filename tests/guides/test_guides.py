"""Every code block of the README and the guides runs, on small data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from sia_gen.cli import app
from tests.documents import Block, code_blocks, commands_in

if TYPE_CHECKING:
    from tests.guides.conftest import GuideReader

TOP = Path(__file__).parents[2]
TRAIN = "sia-gen train-diffusion --recipe elpv --category mono"
SYNTHESIZE = "sia-gen synthesize --recipe elpv --category mono"
FIT = "sia-gen fit-realnet --recipe elpv --category mono"
# What a guide starts from.
BEFORE = {
    "corpora": [TRAIN],
    "twins": [TRAIN],
    "detector": [TRAIN, SYNTHESIZE],
    "hub": [TRAIN, SYNTHESIZE, FIT],
    "python": [TRAIN, SYNTHESIZE, FIT],
    "deploy": [TRAIN, SYNTHESIZE, FIT],
}
# Some of the files that it leaves.
MADE = {
    "README": ["runs/photos/index.html", "runs/elpv/evaluation/index.html"],
    "own-images": [
        "runs/photos/index.html",
        "steps/evaluation/index.html",
        "sorted/bad/1.png",
        "runs/gears/diffusion/gear",
    ],
    "training": ["runs/mvtec-ad/diffusion/bottle", "guided/manifest.json"],
    "corpora": [
        "runs/elpv/inspection/index.html",
        "runs/sia-360k/corpus/data/btad/01/train-00000-of-00020.tar",
        "triplets/manifest.json",
        "folders/mono",
    ],
    "twins": [
        "twins/mono/normal/synthetic",
        "runs/elpv/realnet-twins/mono/model.safetensors",
    ],
    "detector": [
        "mixed/mono/fit.json",
        "imported/bottle/model.safetensors",
        "theirs/index.html",
        "predictions/predictions.csv",
        "mono.onnx",
    ],
    "tiles": [
        "predictions/heatmaps/0.png",
        "ignoring/boards/fit.json",
        "runs/boards/corpus/manifest.json",
    ],
    "deploy": ["mono.json"],
    "hub": ["refitted/mono/model.safetensors"],
    "several-gpus": ["runs/elpv/evaluation/index.html"],
}
DOCUMENTS = {path.stem: path for path in [TOP / "README.md", *sorted(TOP.glob("docs/*.md"))]}
# These take longest, and run what other tests run too.
LONG = ("corpora", "deploy", "detector", "hub", "several-gpus", "training", "twins")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_and_option_exists(document: str) -> None:
    group = get_command(app.app)
    assert isinstance(group, TyperGroup)
    for block in code_blocks(DOCUMENTS[document].read_text(encoding="utf-8")):
        for words in commands_in(block):
            if words[:1] == ["sia-gen"] and words[1:] != ["--help"]:
                command = group.commands[words[1]]
                context = command.context_class(command, info_name=words[1])
                command.make_parser(context).parse_args(words[2:])


@pytest.mark.parametrize(
    "document",
    [pytest.param(name, marks=[pytest.mark.slow] * (name in LONG)) for name in DOCUMENTS],
)
def test_every_block_runs(reader: GuideReader, document: str) -> None:
    for command in BEFORE.get(document, []):
        reader.run(Block("sh", command))
    reader.read(str(DOCUMENTS[document].relative_to(TOP)))
    for made in MADE.get(document, []):
        assert Path(made).exists(), made


def test_every_guide_is_known() -> None:
    assert {*BEFORE, *MADE} <= DOCUMENTS.keys()
