from __future__ import annotations

import io
import json
import shutil
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from sia_gen.config.recipe import Recipe, all_categories, choose_categories
from sia_gen.corpus.generate import Pipelines, synthesize
from sia_gen.diffusion import preview
from sia_gen.diffusion.classifier_training import train_classifier
from sia_gen.diffusion.training import train_diffusion
from sia_gen.errors import ModelError
from sia_gen.runtime.device import Precision, Runtime

CPU = Runtime("fp32", "cpu")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, photographs: Path, small: Recipe) -> Path:
    """A joint model of both categories and a classifier, to be copied."""
    folder = tmp_path_factory.mktemp("trained")
    changed = small.override(
        {"diffusion.joint": True, "diffusion.max_steps": 2, "classifier.max_steps": 2}
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preview, "INVERSION_STEPS", 2)
        train_diffusion(changed, changed.categories, photographs, folder / "models", CPU)
    train_classifier(changed, photographs, folder / "classifier", CPU)
    return folder


@pytest.fixture
def joint(trained: Path, tmp_path: Path) -> Path:
    """A folder of models with a joint one of both categories; beside it is a classifier."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    return tmp_path / "models"


def samples(corpus: Path, category: str) -> dict[str, tuple[dict[str, object], bytes]]:
    """Metadata and picture of every sample, by key."""
    members: dict[str, bytes] = {}
    for shard in sorted((corpus / "data/parts" / category).glob("*.tar")):
        with tarfile.open(shard) as tar:
            members |= {member.name: tar.extractfile(member).read() for member in tar}
    keys = [Path(name).stem for name in members if name.endswith(".json")]
    return {key: (json.loads(members[f"{key}.json"]), members[f"{key}.png"]) for key in keys}


def test_joint_model_makes_every_category_and_warns_that_it_is_not_ready(
    joint: Path, tmp_path: Path, recipe: Recipe, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = tmp_path / "corpus"
    synthesize(recipe, all_categories(recipe), joint, corpus, CPU)
    warnings = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert len(warnings) == 1
    assert "is not ready, it needs more training: samples of" in warnings[0]
    disc, plate = (samples(corpus, category) for category in recipe.categories)
    assert (len(disc), len(plate)) == (5, 5)
    for metadata, picture in [*disc.values(), *plate.values()]:
        assert metadata["guidance_scale"] == 0.0
        with Image.open(io.BytesIO(picture)) as image:
            assert image.size == (32, 32)


def test_guidance_changes_the_samples_and_is_recorded(
    joint: Path, tmp_path: Path, recipe: Recipe
) -> None:
    plain, guided = tmp_path / "plain", tmp_path / "guided"
    synthesize(recipe, choose_categories(recipe, ["disc"]), joint, plain, CPU)
    strong = recipe.override({"synthesis.guidance_scale": 1e6})
    classifier = tmp_path / "classifier/model"
    synthesize(
        strong, choose_categories(recipe, ["disc"]), joint, guided, CPU, classifier=classifier
    )
    before, after = samples(plain, "disc"), samples(guided, "disc")
    assert before.keys() == after.keys()
    assert {metadata["guidance_scale"] for metadata, _ in after.values()} == {1e6}
    assert all(before[key][1] != after[key][1] for key in before)
    models = [next(iter(found.values()))[0]["model"] for found in (before, after)]
    assert models[0] != models[1]


def test_own_model_of_a_category_comes_before_the_joint_one(joint: Path, recipe: Recipe) -> None:
    pipelines = Pipelines(recipe, all_categories(recipe), joint)
    disc, plate = all_categories(recipe)
    assert pipelines.folder(disc) == joint / "_joint"
    assert pipelines.load(disc) is pipelines.load(plate)
    shutil.copytree(joint / "_joint", joint / "disc")
    assert pipelines.folder(disc) == joint / "disc"


def test_category_the_joint_model_does_not_know_is_named(joint: Path, recipe: Recipe) -> None:
    other = recipe.override({"categories": ["disc", "plat"]})
    with pytest.raises(ModelError, match=r"knows no category 'plat'.*plate"):
        Pipelines(other, all_categories(other), joint)


def test_guidance_without_a_classifier_is_refused(
    joint: Path, tmp_path: Path, recipe: Recipe
) -> None:
    guided = recipe.override({"synthesis.guidance_scale": 1.0})
    for classifier in (None, tmp_path / "nowhere"):
        with pytest.raises(ModelError, match="train-classifier"):
            synthesize(
                guided,
                choose_categories(guided, ["disc"]),
                joint,
                tmp_path / "out",
                CPU,
                classifier=classifier,
            )
    assert not (tmp_path / "out").exists()


def test_classifier_of_other_categories_is_refused(
    joint: Path, tmp_path: Path, recipe: Recipe
) -> None:
    report = tmp_path / "classifier/model/training.json"
    content = json.loads(report.read_text())
    report.write_text(json.dumps(content | {"categories": ["disc", "ring"]}))
    guided = recipe.override({"synthesis.guidance_scale": 1.0})
    with pytest.raises(ModelError, match=r"does not fit the model .* categories"):
        synthesize(
            guided,
            choose_categories(guided, ["disc"]),
            joint,
            tmp_path / "out",
            CPU,
            classifier=report.parent,
        )


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_network_of_a_category_is_gone_before_the_next_is_loaded(
    models: Path, tmp_path: Path, recipe: Recipe, in_memory: list[int], precision: Precision
) -> None:
    runtime = Runtime(precision, "cpu")
    synthesize(recipe, all_categories(recipe), models, tmp_path / "corpus", runtime)
    assert in_memory == [0, 0]
