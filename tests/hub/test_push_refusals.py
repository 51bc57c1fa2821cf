"""What a push to the Hub refuses, and leaves as it was."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from huggingface_hub import HfApi

from sia_gen.errors import CorpusError, HubError, ModelError, OptionError
from sia_gen.hub.push import push_to_hub
from tests.corpus.conftest import HandmadeCorpus
from tests.hub.server import Hub

if TYPE_CHECKING:
    from tests.hub.conftest import MakeCorpus

Manifest = dict[str, Any]


def test_folder_of_models_is_refused_with_one_of_them_named(
    hub: Hub, pipeline_folder: Path, name: str
) -> None:
    with pytest.raises(OptionError, match=rf"such as {pipeline_folder}\."):
        push_to_hub(pipeline_folder.parent, name)


def test_repository_with_another_model_is_refused(
    hub: Hub, pipeline_folder: Path, realnet_folder: Path, corpus: HandmadeCorpus, name: str
) -> None:
    push_to_hub(pipeline_folder, name)
    with pytest.raises(HubError, match=f"{name} holds something else: an SDAS pipeline"):
        push_to_hub(realnet_folder, name)
    with pytest.raises(HubError, match=f"{name} is a model repository"):
        push_to_hub(corpus.folder, name)
    report = json.loads((pipeline_folder / "training.json").read_text())
    (pipeline_folder / "training.json").write_text(json.dumps(report | {"categories": ["plate"]}))
    with pytest.raises(HubError, match="a model of disc of parts"):
        push_to_hub(pipeline_folder, name)


def test_repository_with_other_files_is_refused(
    hub: Hub, corpus: HandmadeCorpus, pipeline_folder: Path, name: str
) -> None:
    HfApi().create_repo(name, repo_type="dataset")
    HfApi().upload_file(
        path_or_fileobj=b"a,b", path_in_repo="table.csv", repo_id=name, repo_type="dataset"
    )
    with pytest.raises(HubError, match=f"datasets/{name} holds something else: table.csv"):
        push_to_hub(corpus.folder, name)
    HfApi().create_repo(f"{name}-model")
    HfApi().upload_file(
        path_or_fileobj=b"{}", path_in_repo="tokenizer.json", repo_id=f"{name}-model"
    )
    with pytest.raises(HubError, match=r"holds something else: tokenizer\.json"):
        push_to_hub(pipeline_folder, f"{name}-model")


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("seed", 1, r"another seed \(1, not 0\)"),
        ("strength", "0.2:0.3", r"another strength"),
        ("image_size", 64, r"another image_size"),
    ],
)
def test_repository_with_another_corpus_is_refused(
    hub: Hub, make_corpus: MakeCorpus, name: str, field: str, value: object, said: str
) -> None:
    push_to_hub(make_corpus().folder, name)
    change_remote(hub, name, lambda manifest: manifest | {field: value})
    with pytest.raises(HubError, match=f"{name} holds something else: a corpus with {said}"):
        push_to_hub(make_corpus().folder, name)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": "2" * 64}, "samples of disc by another model"),
        ({"strengths": {"white": "0.7"}}, "samples of disc by another strength"),
        ({"path": "data/parts/disc/train-00007-of-00008.tar"}, "which this one lacks"),
        ({"path": "../evil.tar"}, "cannot be read"),
    ],
)
def test_repository_with_other_shards_is_refused(
    hub: Hub, corpus: HandmadeCorpus, name: str, change: dict[str, str], said: str
) -> None:
    push_to_hub(corpus.folder, name)

    def changed(manifest: Manifest) -> Manifest:
        first, *others = manifest["shards"]
        return manifest | {"shards": [first | change, *others]}

    change_remote(hub, name, changed)
    with pytest.raises(HubError, match=said):
        push_to_hub(corpus.folder, name)


def test_repository_with_a_foreign_shard_is_refused(
    hub: Hub, corpus: HandmadeCorpus, name: str
) -> None:
    push_to_hub(corpus.folder, name)
    extra = "data/parts/disc/train-00009-of-00010.tar"
    HfApi().upload_file(
        path_or_fileobj=b"x" * 10240, path_in_repo=extra, repo_id=name, repo_type="dataset"
    )
    with pytest.raises(HubError, match=f"{extra}, which does not belong to this corpus"):
        push_to_hub(corpus.folder, name)


def change_remote(hub: Hub, name: str, change) -> None:
    """Changes the manifest in a repository."""
    manifest = json.loads(hub.read("dataset", name)["manifest.json"])
    HfApi().upload_file(
        path_or_fileobj=json.dumps(change(manifest)).encode(),
        path_in_repo="manifest.json",
        repo_id=name,
        repo_type="dataset",
    )


def test_model_without_a_recipe_is_refused(hub: Hub, pipeline_folder: Path, name: str) -> None:
    (pipeline_folder / "recipe.yaml").unlink()
    with pytest.raises(ModelError, match="its licence is not known"):
        push_to_hub(pipeline_folder, name)


def test_empty_folder_is_refused(hub: Hub, tmp_path: Path, name: str) -> None:
    with pytest.raises(OptionError, match="no corpus, SDAS pipeline or RealNet"):
        push_to_hub(tmp_path, name)


def test_shard_that_went_missing_is_refused(hub: Hub, corpus: HandmadeCorpus, name: str) -> None:
    shutil.rmtree(corpus.folder / "data/parts/plate")
    with pytest.raises(CorpusError, match="not finished: 2 of 4 shards are missing, such as data"):
        push_to_hub(corpus.folder, name)
    assert ("dataset", name) not in hub.repositories


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"categories": [1]}', "[" * 100_000])
def test_model_with_a_damaged_report_is_one_line(
    hub: Hub, name: str, pipeline_folder: Path, content: str
) -> None:
    (pipeline_folder / "training.json").write_text(content)
    with pytest.raises(ModelError, match=r"training\.json, is missing or damaged"):
        push_to_hub(pipeline_folder, name)
    assert not hub.repositories
