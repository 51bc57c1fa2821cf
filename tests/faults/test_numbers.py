"""Numbers that nobody can compute with, and data sets that hardly are any."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from sia_gen.config.recipe import Recipe
from sia_gen.realnet.pretrained import weights_path
from tests.conftest import SIZE, photograph
from tests.corpus.conftest import save_model
from tests.faults.conftest import ALL, Tried, few
from tests.faults.storage import as_always, contents
from tests.processes import Running, Told, ranks

SETTINGS = {
    "data.images.mask": "{category}/ground_truth/{defect}/{stem}.png",
    "diffusion.image_size": 8,
    "diffusion.init": "models/disc",
    "diffusion.max_steps": 2,
    "diffusion.preview_every": 100,
    "classifier.max_steps": 2,
    "realnet.max_steps": 2,
    "realnet.afs_batches": 1,
}
CPU = ["--device", "cpu", "--precision", "fp32"]
DISC = ["--data", "images", "--category", "disc"]
READING = {
    "train-diffusion": [*DISC, *CPU],
    "train-classifier": ["--data", "images", *CPU],
    "calibrate": [*DISC, "--model", "models", *CPU],
    "compose": [*DISC, "--corpus", "corpus"],
    "fit-realnet": [*DISC, "--corpus", "corpus", *CPU],
    "evaluate": [*DISC, "--model", "realnet", *CPU],
}
TRAINING = ["train-diffusion", "train-classifier", "fit-realnet"]
MASK = np.zeros((SIZE, SIZE), np.uint8)
MASK[12:15, 4:28] = 255
OUTS = ("alone", "together")
REFUSED = "one line, exit code 2; nothing is written"
# Weights that are numbers, and whose products with anything are not.
LARGE = 1e36


class Place:
    """A folder with a recipe and images, and what is made of them by its name."""

    def __init__(self, folder: Path, recipe: Recipe, inputs: Path | None = None) -> None:
        self.folder = folder
        self.recipe = recipe.override(SETTINGS)
        for path in inputs.iterdir() if inputs else ():
            (folder / path.name).symlink_to(path)
        self.change({})

    def change(self, settings: dict[str, object]) -> None:
        """From now on the recipe has these settings too."""
        self.recipe = self.recipe.override(settings)
        path = self.folder / "parts.yaml"
        path.unlink(missing_ok=True)
        path.write_text(self.recipe.to_yaml())

    def own(self, name: str) -> Path:
        """The input of a name, as a copy that is free to change."""
        path = self.folder / name
        original = path.resolve()
        path.unlink()
        return Path(shutil.copytree(original, path))

    def run(self, command: str, *options: str, out: str = "out") -> Told:
        arguments = [command, "--recipe", "parts.yaml", *options, "--out", out]
        return self.run_any(*arguments)

    def run_any(self, *arguments: str) -> Told:
        told = self.folder / "told.txt"
        return Running(arguments, self.folder, told, condition=as_always).end()

    def done(self, command: str, *options: str, out: str = "out") -> dict[str, str]:
        """Runs a command to its good end; the hashes of what it has made."""
        told = self.run(command, *options, out=out)
        assert told.code == 0, told.text
        return contents(self.folder / out)


def check_refused(told: Told, *reasons: str) -> None:
    """Whether a command ended with one line that gives the reason."""
    lines = [line for line in told.text.splitlines() if line.startswith("error: ")]
    assert (told.code, len(lines)) == (2, 1), told.text
    assert any(reason in lines[0] for reason in reasons), told.text
    assert "Traceback" not in told.text


def save_images(folder: Path, images: Sequence[Image.Image]) -> None:
    folder.mkdir(parents=True)
    for number, image in enumerate(images):
        image.save(folder / f"{number:03d}.png")


def save_category(root: Path, normal: int, test: int, picture: Callable[..., Image.Image]) -> None:
    """A category of so many images to learn from, and of so many good and bad ones to test."""
    save_images(root / "train/good", [picture(number) for number in range(normal)])
    save_images(root / "test/good", [picture(100 + number) for number in range(test)])
    bad = [picture(200 + number, defect=True) for number in range(test)]
    save_images(root / "test/scratch", bad)
    save_images(root / "ground_truth/scratch", [Image.fromarray(MASK)] * test)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory, small: Recipe) -> Path:
    """Images, models that nothing has trained, a corpus and a detector."""
    place = Place(tmp_path_factory.mktemp("numbers"), small)
    for seed, category in enumerate(place.recipe.categories):
        save_category(place.folder / "images" / category, 6, 2, photograph)
        save_model(place.folder / "models" / category, seed)
    place.done("synthesize", "--model", "models", *CPU, out="corpus")
    place.done("fit-realnet", *READING["fit-realnet"], out="realnet")
    return place.folder


@pytest.fixture
def place(inputs: Path, tmp_path: Path, small: Recipe) -> Place:
    return Place(tmp_path, small, inputs)


def rates(rate: float, steps: int) -> dict[str, object]:
    """Settings of all trainings at once."""
    sections = ("diffusion", "classifier", "realnet")
    return {
        f"{section}.{name}": value
        for section in sections
        for name, value in {"learning_rate": rate, "max_steps": steps}.items()
    }


@pytest.mark.parametrize("command", few(TRAINING, 0))
def test_loss_that_is_no_number_ends_a_training_and_spoils_nothing(
    place: Place, command: str, tried: Tried
) -> None:
    before = place.done(command, *READING[command])
    place.change(rates(1e30, 4))
    check_refused(place.run(command, *READING[command]), "NaN")
    after = contents(place.folder / "out")
    assert {name: after[name] for name in before if name != "recipe.yaml"}.items() <= before.items()
    if ALL:
        place.change(rates(1e-4, 4))
        place.done(command, *READING[command])
    tried("a loss of NaN", 1, "one line, exit code 2; continues at a lower learning rate", 4)


@pytest.mark.parametrize("command", few(TRAINING, 1))
def test_last_step_that_spoils_a_model_does_not_publish_it(
    place: Place, command: str, tried: Tried
) -> None:
    place.change(rates(1e30, 1))
    check_refused(place.run(command, *READING[command]), "NaN")
    assert not any((place.folder / "out").glob("*/config.json"))
    assert not any((place.folder / "out").glob("*/model_index.json"))
    if ALL:
        place.change(rates(1e-4, 1))
        place.done(command, *READING[command], "--no-resume")
    tried("weights made NaN by the last step", 1, "one line, exit code 2; nothing is published", 2)


@pytest.mark.parametrize("standardise", [True, False] if ALL else [False])
@pytest.mark.parametrize("command", few(["fit-realnet", "calibrate", "inspect"]))
def test_features_that_are_no_numbers(
    place: Place, command: str, standardise: bool, tried: Tried
) -> None:
    source = place.recipe.realnet.weights
    assert source is not None
    weights = load_file(weights_path(source))
    large = {name: one * LARGE if one.ndim == 4 else one for name, one in weights.items()}
    save_file(large, place.folder / "large.safetensors")
    place.change({"realnet.weights": "large.safetensors", "realnet.standardise": standardise})
    if command == "inspect":
        options = ["--data", "images", "--weights", "large.safetensors", "--device", "cpu"]
        told = place.run_any("inspect", "corpus", *options, "--out", "out")
    else:
        told = place.run(command, *READING[command])
    check_refused(told, "the features of the backbone are NaN")
    assert not any((place.folder / "out").rglob("*.safetensors"))
    tried("features of NaN", 1, REFUSED, 1)


@pytest.mark.parametrize("command", few(["predict", "evaluate", "export"]))
def test_scores_that_are_no_numbers(place: Place, command: str, tried: Tried) -> None:
    path = place.own("realnet") / "disc/model.safetensors"
    weights = load_file(path)
    last = weights["rrs.decoder.fine.2.weight"]
    weights["rrs.decoder.fine.2.weight"] = torch.full_like(last, 3e38)
    save_file(weights, path, metadata={"format": "pt"})
    commands = {
        "predict": ["predict", "realnet/disc", "images/disc/test", *CPU, "--out", "out"],
        "evaluate": ["evaluate", "--recipe", "parts.yaml", *READING["evaluate"], "--out", "out"],
        "export": ["export", "realnet/disc", "--out", "out.pt2"],
    }
    check_refused(place.run_any(*commands[command]), "the scores of the model are NaN")
    written = [one.suffix for one in place.folder.glob("out*/**/*") if one.is_file()]
    if command == "predict":
        # A table of no photographs.
        assert (place.folder / "out/predictions.jsonl").read_text() == ""
        written = [suffix for suffix in written if suffix not in (".csv", ".json")]
    assert not {".csv", ".pt2", ".json", ".png"} & {*written}
    tried("scores of NaN", 1, REFUSED, 3)


@pytest.mark.parametrize("command", few(["synthesize", "synthesize --only", "calibrate"], 1))
def test_samples_that_are_no_numbers(place: Place, command: str, tried: Tried) -> None:
    path = place.own("models") / "disc/unet/diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    for name in ("conv_norm_out.weight", "conv_out.weight"):
        weights[name] = torch.full_like(weights[name], 3e38)
    save_file(weights, path, metadata={"format": "pt"})
    options = {
        "synthesize": ["synthesize", "--category", "disc", "--model", "models", *CPU],
        "synthesize --only": ["synthesize", "--only", "parts_disc_00000001", "--model", "models"],
        "calibrate": ["calibrate", *READING["calibrate"]],
    }
    check_refused(place.run(*options[command]), "the samples of the model are NaN")
    written = [one.suffix for one in (place.folder / "out").rglob("*") if one.is_file()]
    assert not {".tar", ".png", ".html"} & {*written}
    tried("samples of NaN", 1, REFUSED, 2)


@pytest.mark.parametrize("command", few(READING, 4))
def test_categories_of_few_images(place: Place, command: str, tried: Tried) -> None:
    """Whatever is a batch is larger than all of them."""
    images = place.own("images")
    shutil.rmtree(images / "disc")
    save_category(images / "disc", 1, 1, photograph)
    if command != "evaluate":
        check_refused(place.run(command, *READING[command]), "'disc' has too few normal images")
        tried("a category with a single normal image", 1, REFUSED)
    shutil.rmtree(images / "disc")
    save_category(images / "disc", 2, 1, photograph)
    sizes = {f"{name}.batch_size": 50 for name in ("diffusion", "classifier", "realnet")}
    place.change(sizes)
    place.done(command, *READING[command], out="large")
    tried("two normal images, one good and one bad test image, larger batches", 1, "completes")


def test_batches_larger_than_a_shard(place: Place, tried: Tried) -> None:
    small = place.done("synthesize", "--model", "models", *CPU, out="small")
    place.change({"synthesis.batch_size": 50})
    large = place.done("synthesize", "--model", "models", *CPU, out="large")
    assert {name for name in small if name.endswith(".tar")} <= large.keys()
    tried("batches larger than a shard", 1, "completes, the same shards")


def no_copies(root: Path) -> None:
    """Makes the files of equal images differ; copies count once."""
    for number, path in enumerate(root.rglob("*.png")):
        path.write_bytes(path.read_bytes() + b"%d" % number)


@pytest.mark.parametrize("rule", [None, "otsu", "triangle"] if ALL else ["otsu"])
@pytest.mark.parametrize("level", [0, 100, 255] if ALL else [0])
def test_images_of_one_colour(place: Place, level: int, rule: str | None, tried: Tried) -> None:
    images = place.own("images")
    shutil.rmtree(images / "disc")
    colour = Image.new("L", (SIZE, SIZE), level)
    save_category(images / "disc", 4, 2, lambda *_, **__: colour)
    no_copies(images / "disc")
    foreground = {"method": rule, "close": 6, "open": 6}
    place.change({"foreground": {"disc": foreground} if rule else {}})
    for command in ("compose", "fit-realnet", *(() if rule else ("train-diffusion", "calibrate"))):
        place.done(command, *READING[command], out=command)
    place.done("evaluate", *DISC, "--model", "fit-realnet", *CPU)
    metrics = json.loads((place.folder / "out/metrics.json").read_text())["mean"]
    assert metrics["image_auroc"] == 0.5
    tried("black, white and grey images, with and without a foreground rule", 5, "completes")


def test_samples_and_images_that_are_all_black(place: Place, tried: Tried) -> None:
    images = place.own("images")
    shutil.rmtree(images / "disc")
    save_category(images / "disc", 4, 2, lambda *_, **__: Image.new("L", (SIZE, SIZE)))
    no_copies(images / "disc")
    path = place.own("models") / "disc/unet/diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    # So much noise is found that nothing is left.
    weights["conv_out.bias"] = torch.full_like(weights["conv_out.bias"], 1e6)
    save_file(weights, path, metadata={"format": "pt"})
    place.done("synthesize", "--category", "disc", "--model", "models", *CPU, out="black")
    inspect = ["inspect", "black", "--data", "images", "--device", "cpu", "--out", "out"]
    assert place.run_any(*inspect).code == 0
    fit = [*DISC, "--corpus", "black", *CPU]
    place.done("fit-realnet", *fit, out="fit")
    tried("black images and a black corpus", 3, "completes")


@pytest.mark.parametrize("empty", few([["dent"], ["dent", "scratch"], ["scratch"]], 1))
def test_masks_that_mark_nothing(place: Place, empty: list[str], tried: Tried) -> None:
    root = place.own("images") / "disc"
    save_images(root / "test/dent", [photograph(300, defect=True)])
    save_images(root / "ground_truth/dent", [Image.fromarray(MASK)])
    for defect in empty:
        for path in (root / "ground_truth" / defect).iterdir():
            Image.new("L", (SIZE, SIZE)).save(path)
    told = place.run("evaluate", *READING["evaluate"])
    assert told.code == 0, told.text
    count = 1 * ("dent" in empty) + 2 * ("scratch" in empty)
    assert f"warning: disc: the masks of {count} anomalous images mark nothing" in told.text
    metrics = json.loads((place.folder / "out/metrics.json").read_text())
    assert (metrics["mean"]["pixel_pro"] is not None) == (len(empty) < 2)
    defects = metrics["defects"]["disc"]
    with_pixels = {name for name, one in defects.items() if one["pixel_pro"] is not None}
    assert with_pixels == {"dent", "scratch"} - {*empty}
    place.change({"realnet.select_on": "test"})
    place.done("fit-realnet", *READING["fit-realnet"], out="selected")
    tried("empty masks", 2, "a warning, and no pixel metrics", 3)


@pytest.mark.parametrize("command", few(["synthesize", "evaluate", "fit-realnet"]))
def test_one_process_more_than_there_is_work_for(place: Place, command: str, tried: Tried) -> None:
    """Two shards, two test images, one batch of AFS."""
    root = place.own("images") / "disc"
    for path in ("test/good/001.png", "test/scratch/001.png", "ground_truth/scratch/001.png"):
        (root / path).unlink()
    options = {"synthesize": ["--category", "disc", "--model", "models", *CPU]} | READING
    alone = place.done(command, *options[command], out=OUTS[0])
    count = 2 if command == "fit-realnet" else 3
    arguments = [command, "--recipe", "parts.yaml", *options[command], "--out", OUTS[1]]
    for running in ranks(count, arguments, place.folder, "rank"):
        running.done()
    together = contents(place.folder / OUTS[1])
    # A checkpoint has the random states of every process.
    extra = {name for name in together.keys() ^ alone.keys() if "random_states" not in name}
    assert extra == set()
    if command == "synthesize":
        assert together == alone
    if command == "evaluate":
        # Other batches round differently.
        found = [json.loads((place.folder / out / "metrics.json").read_text()) for out in OUTS]
        assert found[1]["mean"] == pytest.approx(found[0]["mean"], abs=1e-3)
    tried("more processes than shards, test images or batches", 1, "completes, same files")
