"""Every code block of a card runs, as somebody who found it on the Hub would run it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from huggingface_hub import DatasetCard, ModelCard

from sia_gen import SDASPipeline
from sia_gen.composition.compose import compose
from sia_gen.config.recipe import Recipe, choose_categories
from sia_gen.corpus.generate import synthesize
from sia_gen.hub.push import push_to_hub
from sia_gen.networks.classifier import NoisyClassifier
from sia_gen.runtime.device import Runtime
from tests.conftest import photograph
from tests.corpus.conftest import save_model
from tests.documents import Reader, code_blocks
from tests.hub.test_push import visible_files, without_attributes

if TYPE_CHECKING:
    from tests.hub.server import Hub

CPU = Runtime("fp32", "cpu")


@pytest.fixture
def made(recipe: Recipe, tmp_path: Path) -> Path:
    """A corpus that can be made again, of two categories."""
    for category in recipe.categories:
        save_model(tmp_path / "models" / category, seed=0, size=16)
    categories = choose_categories(recipe, None)
    synthesize(recipe, categories, tmp_path / "models", tmp_path / "corpus", CPU)
    return tmp_path / "corpus"


def test_blocks_of_a_corpus_run_and_make_it_again(
    hub: Hub, made: Path, name: str, photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push_to_hub(made, name)
    reader = Reader(made.parent / "reader", monkeypatch)
    Path("IMAGES").symlink_to(photographs)
    Path("MODELS").symlink_to(made.parent / "models")
    blocks = code_blocks(DatasetCard.load(name).text)
    assert [block.language for block in blocks] == ["python", "python", "sh", "sh", "bibtex"]
    for block in blocks[:-1]:
        reader.run(block)
    shards = {path: content for path, content in visible_files(made).items() if "data" in path}
    again = visible_files(Path("again/corpus"))
    assert {path: again[path] for path in shards} == shards
    assert Path("runs/parts/realnet/disc/model.safetensors").is_file()


def test_blocks_of_a_corpus_on_the_disk_run(
    made: Path, photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = Reader(made.parent, monkeypatch)
    Path("IMAGES").symlink_to(photographs)
    Path("MODELS").symlink_to("models")
    Path("CORPUS").symlink_to("corpus")
    for block in code_blocks((made / "README.md").read_text())[:-1]:
        reader.run(block)
    shards = sorted(Path("again/corpus").glob("data/*/*/*.tar"))
    assert len(shards) == 4
    assert all(path.read_bytes() == Path("corpus", *path.parts[2:]).read_bytes() for path in shards)


def test_blocks_of_triplets_run(
    hub: Hub,
    made: Path,
    recipe: Recipe,
    name: str,
    photographs: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    triplets = made.parent / "triplets"
    compose(recipe, ["disc"], photographs, made, triplets, "shards", None)
    push_to_hub(triplets, name)
    card = DatasetCard.load(name)
    card.validate(repo_type="dataset")
    assert card.data.task_categories == ["image-segmentation"]
    reader = Reader(made.parent / "reader", monkeypatch)
    blocks = code_blocks(card.text)
    assert [block.language for block in blocks] == ["python", "python", "sh", "bibtex"]
    for block in blocks[:-1]:
        reader.run(block)


def test_blocks_of_a_pipeline_run(
    hub: Hub, pipeline_folder: Path, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push_to_hub(pipeline_folder, name)
    reader = Reader(tmp_path / "reader", monkeypatch)
    for block in code_blocks(ModelCard.load(name).text):
        reader.run(block)
    assert Path("runs/parts/corpus/data/parts/disc/train-00000-of-00002.tar").is_file()


def test_blocks_of_a_guided_pipeline_run(
    hub: Hub, pipeline_folder: Path, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = SDASPipeline.from_pretrained(pipeline_folder)
    classifier = NoisyClassifier(
        sample_size=32,
        in_channels=1,
        num_classes=1,
        block_out_channels=(8, 8),
        down_block_types=("ResnetDownsampleBlock2D", "AttnDownBlock2D"),
        attention_head_dim=8,
        norm_num_groups=4,
    )
    guided = SDASPipeline(pipeline.unet, pipeline.scheduler, classifier, {"0": "disc"})
    guided.save_pretrained(pipeline_folder)
    push_to_hub(pipeline_folder, name)
    reader = Reader(tmp_path / "reader", monkeypatch)
    text = ModelCard.load(name).text
    assert 'class_labels="disc", guidance_scale=1.0' in text
    assert "and a classifier that guides" in text
    assert without_attributes(hub.read("model", name)) == visible_files(pipeline_folder)
    for block in code_blocks(text):
        reader.run(block)


def test_blocks_of_a_detector_run(
    hub: Hub, realnet_folder: Path, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push_to_hub(realnet_folder, name)
    reader = Reader(tmp_path / "reader", monkeypatch)
    Path("photos").mkdir()
    photograph(1).save("photos/part.png")
    for block in code_blocks(ModelCard.load(name).text):
        reader.run(block)
    assert Path("predictions/predictions.csv").is_file()
    shutil.rmtree("realnet")
