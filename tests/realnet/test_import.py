"""Imported checkpoints of the authors' RealNet give the same anomaly maps."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file

from sia_gen.config.recipe import Recipe
from sia_gen.errors import ModelError, OutputError, UserError
from sia_gen.realnet.inference import load_realnet
from sia_gen.realnet.original.importing import import_realnet
from tests.realnet.original_realnet import Block, Trained, realnet_yaml, save_training

LIMIT = 1e-5
INDEPENDENT: list[Block] = [
    (4, {"layer1": 64}),
    (8, {"layer2": 64}),
    (16, {"layer3": 128}),
    (32, {"layer4": 64}),
]
# The paper's architecture C.
NEIGHBOURS: list[Block] = [
    (4, {"layer1": 64, "layer2": 64}),
    (16, {"layer3": 128, "layer4": 64}),
]
# Blocks and layers in any order, a layer in two blocks, blocks that are coarser than their layers.
MIXED: list[Block] = [
    (16, {"layer4": 64, "layer1": 64, "layer2": 64}),
    (8, {"layer3": 64, "layer2": 128}),
]
OTHER_NETWORKS = {
    "residual_layers": 1,
    "num_res_blocks": 1,
    "hide_channels_ratio": 1.0,
    "channel_mult": [0.5, 1],
    "attention_mult": [1],
}
STRUCTURES: dict[str, dict[str, Any]] = {
    "independent": {"blocks": INDEPENDENT, "numbers": (40, 24), "size": 128},
    "neighbour-aligned": {"blocks": NEIGHBOURS, "numbers": (40, 24)},
    "any order": {"blocks": MIXED, "numbers": (50, 100)},
    "max": {"modes": ["max"], "numbers": [20]},
    "mean": {"modes": ["mean"], "numbers": [20]},
    "mean before max": {"modes": ["mean", "max"]},
    "other networks": {"blocks": [(8, {"layer2": 128})], **OTHER_NETWORKS},
}


def images(side: int) -> torch.Tensor:
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1))


def import_(training: Trained) -> str:
    out = training.checkpoint.parent / "out"
    return import_realnet(training.checkpoint, training.settings, out)


def require_same_maps(training: Trained) -> None:
    """Requires that the imported model gives the maps of the network it comes from."""
    model = load_realnet(training.checkpoint.parent / "out").model.double()
    side = model.image_size
    expected = training.maps(images(side))
    with torch.no_grad():
        found = model(images(side).double()).anomaly_map
    assert found.shape == expected.shape == (2, 1, side, side)
    assert float((found - expected).abs().max()) < LIMIT
    # Else any network would do.
    assert float(expected.max() - expected.min()) > 0.1


@pytest.mark.parametrize("structure", STRUCTURES)
def test_maps_are_those_of_the_authors_network(tmp_path: Path, structure: str) -> None:
    training = save_training(tmp_path, realnet_yaml(**STRUCTURES[structure]))
    import_(training)
    require_same_maps(training)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A training to read only."""
    return save_training(tmp_path_factory.mktemp("small"), realnet_yaml())


@pytest.fixture
def training(small: Trained, tmp_path: Path) -> Trained:
    """The same, to be spoilt."""
    checkpoint, settings = tmp_path / "ckpt_best.pth.tar", tmp_path / "realnet.yaml"
    checkpoint.symlink_to(small.checkpoint)
    settings.write_text(small.settings.read_text())
    return small._replace(checkpoint=checkpoint, settings=settings)


def test_score_is_that_of_their_evaluation(training: Trained) -> None:
    import_(training)
    model = load_realnet(training.checkpoint.parent / "out").model
    pooled = torch.nn.functional.avg_pool2d(training.maps(images(64)), 16, stride=1)
    with torch.no_grad():
        scores = model(images(64)).score
    assert torch.allclose(scores.double(), pooled.amax(dim=(1, 2, 3)), atol=LIMIT)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_weights_alone_are_enough(training: Trained, prefix: str) -> None:
    state = {prefix + name: value for name, value in training.network.state_dict().items()}
    training = training._replace(checkpoint=training.checkpoint.with_name("x.safetensors"))
    save_file(state, training.checkpoint)
    import_(training)
    require_same_maps(training)


def test_folder_says_where_the_model_comes_from(training: Trained) -> None:
    kind = import_(training)
    assert kind == "RealNet (resnet18, 64 pixels, layer2)"
    out = training.checkpoint.parent / "out"
    report = json.loads((out / "fit.json").read_text())
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in training[2:]]
    assert [report["sha256"], report["settings_sha256"]] == digests
    assert (report["file"], report["settings"]) == ("ckpt_best.pth.tar", "realnet.yaml")
    assert report["threshold"] == 0.5
    # Their training keeps what is best on the test images.
    assert "TEST IMAGES" in report["selected_on"]
    recipe = Recipe.load(out / "recipe.yaml")
    assert (recipe.name, recipe.mode, recipe.data.non_square) == ("mvtec-ad", "RGB", "stretch")
    assert (recipe.realnet.backbone, recipe.realnet.image_size) == ("resnet18", 64)


def test_same_import_may_be_repeated(training: Trained) -> None:
    out = training.checkpoint.parent / "out"
    import_(training)
    first = {path.name: path.read_bytes() for path in out.iterdir()}
    import_(training)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == first


def refused(training: Trained, message: str, error: type[UserError] = ModelError) -> None:
    """Expects an error of one line, and that it leaves everything as it was."""
    before = sorted(training.checkpoint.parent.rglob("*"))
    with pytest.raises(error, match=message) as raised:
        import_(training)
    assert "\n" not in str(raised.value)
    assert sorted(training.checkpoint.parent.rglob("*")) == before


def test_another_import_is_not_overwritten(training: Trained) -> None:
    import_(training)
    training.settings.write_text(training.settings.read_text() + "more: 1\n")
    refused(training, "already holds something else", OutputError)


Content = dict[str, Any]


def delete(*keys: str | int) -> Callable[[Content], None]:
    def change(content: Any) -> None:
        for key in keys[:-1]:
            content = content[key]
        del content[keys[-1]]

    return change


def put(value: object, *keys: str | int) -> Callable[[Content], None]:
    def change(content: Any) -> None:
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value

    return change


def enlarge(content: Content) -> None:
    """Asks for a network that no address space could hold."""
    layer = {"idx": "layer2", "planes": 128}
    content["structure"][0]["layers"] = [layer.copy() for _ in range(1000)]
    content["net"][2]["kwargs"] |= {"hide_channels_ratio": 64, "channel_mult": [64]}


NEEDED: list[tuple[str | int, ...]] = [
    ("structure",),
    ("structure", 0, "stride"),
    ("structure", 0, "layers", 0, "planes"),
    ("net",),
    ("net", 0, "kwargs", "backbone"),
    ("net", 1, "name"),
    ("net", 2, "type"),
    ("net", 2, "kwargs", "channel_mult"),
    ("net", 3, "kwargs"),
    ("net", 3, "kwargs", "mode_numbers"),
    ("dataset",),
    ("dataset", "type"),
    ("dataset", "input_size"),
    ("dataset", "pixel_mean"),
    ("dataset", "pixel_std"),
    ("dataset", "image_reader", "kwargs", "color_mode"),
    ("evaluator",),
]


@pytest.mark.parametrize("keys", NEEDED, ids=lambda keys: ".".join(map(str, keys)))
def test_settings_without_what_is_needed_are_refused(
    training: Trained, keys: tuple[str | int, ...]
) -> None:
    content = copy.deepcopy(training.content)
    delete(*keys)(content)
    training.settings.write_text(yaml.safe_dump(content))
    place = r"\.".join(map(str, keys))
    refused(training, rf"realnet\.yaml: .*'{place}.*is missing")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("models.recon.SimpleReconstructionLayer", "net", 2, "type"), "has models.recon.Simp"),
        (put("models.afs.AFS", "net", 0, "type"), "can be imported"),
        (put("vgg16", "net", 0, "kwargs", "backbone"), "the backbone 'vgg16' is not one of resnet"),
        (put("layer5", "structure", 0, "layers", 0, "idx"), "'structure' has 'layer5'"),
        (put(-1, "structure", 0, "layers", 0, "planes"), "planes"),
        (put([], "structure"), "structure"),
        (put(128, "structure", 0, "stride"), "the stride of 'block1' leaves nothing of 64 pixels"),
        (put([1e9, 1], "net", 2, "kwargs", "channel_mult"), "channel_mult"),
        (put("block1", "net", 1, "name"), "there is no place|is missing"),
        (put("recon", "net", 1, "name"), "'recon' is there twice"),
        (put(["max", "max"], "net", 3, "kwargs", "modes"), "'max' is there twice"),
        (put(["max", "min"], "net", 3, "kwargs", "modes"), "modes"),
        (put([8], "net", 3, "kwargs", "mode_numbers"), "one number for every one of 'modes'"),
        (put([100, 8], "net", 3, "kwargs", "mode_numbers"), "cannot take 100 of the 64 channels"),
        (put([64] * 16, "net", 2, "kwargs", "channel_mult"), r"is missing \(and"),
        (enlarge, "the settings are impossible: Storage size calculation overflowed"),
        (put(0.4, "net", 2, "kwargs", "hide_channels_ratio"), "must be divisible"),
        (put([64, 96], "dataset", "input_size"), "64 x 96 is not square"),
        (put([64, 64, 64], "dataset", "input_size"), "dataset.input_size"),
        (put([0.2, 0.2, 0.0], "dataset", "pixel_std"), "dataset.pixel_std"),
        (put("BGR", "dataset", "image_reader", "kwargs", "color_mode"), "color_mode"),
        (put("tiles", "dataset", "type"), "dataset.type"),
        (put([{"name": "pixel"}], "evaluator", "metrics", "auc"), "no metric 'image'"),
    ],
)
def test_settings_of_another_kind_are_refused(
    training: Trained, change: Callable[[Content], None], message: str
) -> None:
    content = copy.deepcopy(training.content)
    change(content)
    training.settings.write_text(yaml.safe_dump(content))
    # Without what the checkpoint says, nothing but the settings can be at fault.
    state = training.network.state_dict()
    training = training._replace(checkpoint=training.checkpoint.with_name("x.safetensors"))
    save_file(state, training.checkpoint)
    refused(training, message)


@pytest.mark.parametrize("content", ["", "[]", "a: [", "a: !!python/object:os.system x", "net: 3"])
def test_file_that_holds_no_settings_is_refused(training: Trained, content: str) -> None:
    training.settings.write_text(content)
    refused(training, r"realnet\.yaml.* (no settings|line 1|list)")


def test_settings_of_another_training_are_refused(training: Trained) -> None:
    content = copy.deepcopy(training.content)
    # Nothing else tells which channels come first.
    content["net"][3]["kwargs"] |= {"modes": ["mean", "max"], "mode_numbers": [8, 16]}
    training.settings.write_text(yaml.safe_dump(content))
    refused(training, r"ckpt_best\.pth\.tar: it was trained with another 'modes'")


State = dict[str, torch.Tensor]
FIRST = "recon.block1_recon.input_blocks.0.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop(FIRST), f"the tensor '{FIRST}' is missing"),
        (
            lambda state: state.update(more=torch.zeros(1)),
            "there is no place for the tensor 'more'",
        ),
        (lambda state: state.update({FIRST: torch.zeros(3)}), r"needs floats \(32, 64, 3, 3\)"),
        (lambda state: state[FIRST].fill_(torch.nan), "values that are not finite"),
        (
            lambda state: state["afs.indexes.block1_layer2"].fill_(128),
            "AFS keeps channels that do not exist",
        ),
        (
            lambda state: state.update({"afs.indexes.block1_layer2": torch.zeros(64)}),
            r"needs integers \(64,\)",
        ),
        (
            lambda state: state.update({"rrs.bn_idx.running_mean": torch.zeros(64).int()}),
            r"needs floats \(64,\)",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_refused(
    training: Trained, change: Callable[[State], object], message: str
) -> None:
    state = {name: value.clone() for name, value in training.network.state_dict().items()}
    change(state)
    training = training._replace(checkpoint=training.checkpoint.with_name("x.pth"))
    torch.save({"state_dict": state}, training.checkpoint)
    refused(training, rf"x\.pth: .*{message}")


@pytest.mark.parametrize("arch", [None, "x", [], [{"name": "unet"}], {"unet": {}}])
def test_checkpoint_of_another_network_is_refused(training: Trained, arch: object) -> None:
    training = training._replace(checkpoint=training.checkpoint.with_name("x.pth"))
    content = {"state_dict": training.network.state_dict(), "arch": arch}
    torch.save(content, training.checkpoint)
    refused(training, r"x\.pth: its 'arch'")
