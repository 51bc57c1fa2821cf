"""Publishing: what goes, what does not go again, and where it goes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from huggingface_hub import DatasetCard, ModelCard

from sia_gen.errors import HubError, OptionError
from sia_gen.hub.push import push_to_hub
from sia_gen.sdas.loading import HashCache
from tests.corpus.conftest import HandmadeCorpus, save_model
from tests.hub.server import Fault, Hub

if TYPE_CHECKING:
    from tests.hub.conftest import MakeCorpus

Manifest = dict[str, Any]


def visible_files(folder: Path) -> dict[str, bytes]:
    """What is to be published of a folder: all but hidden files."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.relative_to(folder).parts[0].startswith(".")
    }


def without_attributes(files: dict[str, bytes]) -> dict[str, bytes]:
    return {path: content for path, content in files.items() if path != ".gitattributes"}


def test_corpus_arrives_whole_and_without_hidden_files(
    hub: Hub, corpus: HandmadeCorpus, name: str
) -> None:
    told = push_to_hub(corpus.folder, name)
    assert told == f"Published: {hub.url}/datasets/{name}"
    assert without_attributes(hub.read("dataset", name)) == visible_files(corpus.folder)
    assert (corpus.folder / ".records").is_dir()


def test_second_push_sends_nothing(hub: Hub, corpus: HandmadeCorpus, name: str) -> None:
    push_to_hub(corpus.folder, name)
    before, titles = hub.received, list(hub.repositories["dataset", name].titles)
    assert "complete" in push_to_hub(corpus.folder, name)
    assert hub.received == before
    assert hub.repositories["dataset", name].titles == titles


def test_manifest_of_missing_shards_goes_first_and_the_true_one_last(
    hub: Hub, corpus: HandmadeCorpus, name: str
) -> None:
    push_to_hub(corpus.folder, name)
    repository = hub.repositories["dataset", name]
    states = []
    for files in list(repository.commits.values())[1:]:
        manifest = json.loads(hub.content(files["manifest.json"]))
        shards = {shard["path"]: shard["state"] for shard in manifest["shards"]}
        states.append(set(shards.values()))
        if states[-1] == {"complete"}:
            assert shards.keys() <= files.keys()
    assert states[0] == {"missing"}
    assert states[-1] == {"complete"}


def test_more_categories_join_those_that_are_there(
    hub: Hub, make_corpus: MakeCorpus, name: str
) -> None:
    push_to_hub(make_corpus("one", ("disc",)).folder, name)
    before = hub.received
    more = make_corpus("two", ("disc", "plate")).folder
    push_to_hub(more, name)
    added = sum(path.stat().st_size for path in (more / "data/parts/plate").glob("*.tar"))
    picture = (more / "samples.png").stat().st_size
    assert hub.received - before == added + picture
    assert without_attributes(hub.read("dataset", name)) == visible_files(more)


def test_dry_run_lists_what_would_go_and_sends_nothing(
    hub: Hub, corpus: HandmadeCorpus, name: str
) -> None:
    listing = push_to_hub(corpus.folder, name, dry_run=True)
    assert ("dataset", name) not in hub.repositories
    assert f"{name}, which would be created" in listing
    push_to_hub(corpus.folder, name)
    for path, content in visible_files(corpus.folder).items():
        assert f"{len(content):,} bytes  {path}\n" in listing
    listing = push_to_hub(corpus.folder, name, dry_run=True)
    assert listing.endswith("0 bytes in 0 files; 12 are there already.")


@pytest.mark.parametrize("kind", ["corpus", "pipeline_folder", "realnet_folder"])
def test_dry_run_changes_nothing_here(
    hub: Hub, name: str, kind: str, request: pytest.FixtureRequest
) -> None:
    found = request.getfixturevalue(kind)
    folder: Path = found.folder if isinstance(found, HandmadeCorpus) else found
    (folder / "README.md").write_text("Mine.")
    (folder / "samples.png").unlink(missing_ok=True)
    before = visible_files(folder)
    listing = push_to_hub(folder, name, dry_run=True)
    assert "bytes  README.md" in listing
    assert "    5 bytes  README.md" not in listing
    assert visible_files(folder) == before


def test_dry_run_leaves_a_manifest_that_is_behind_and_lists_the_true_one(
    hub: Hub, corpus: HandmadeCorpus, name: str
) -> None:
    path = corpus.folder / "manifest.json"
    whole = path.read_bytes()
    manifest = json.loads(whole)
    manifest["shards"] = manifest["shards"][:1]
    path.write_text(json.dumps(manifest))
    listing = push_to_hub(corpus.folder, name, dry_run=True)
    assert json.loads(path.read_text()) == manifest
    assert f"{len(whole):,} bytes  manifest.json" in listing


def test_private_repository_is_private(hub: Hub, corpus: HandmadeCorpus, name: str) -> None:
    push_to_hub(corpus.folder, name, private=True)
    assert hub.repositories["dataset", name].private
    push_to_hub(corpus.folder, name, private=True)


def test_private_push_to_a_public_repository_is_refused(
    hub: Hub, corpus: HandmadeCorpus, name: str
) -> None:
    hub.create("dataset", name)
    with pytest.raises(HubError, match="is public already"):
        push_to_hub(corpus.folder, name, private=True)
    assert hub.read("dataset", name).keys() == {".gitattributes"}


def test_branch_is_made_and_the_main_one_left_alone(
    hub: Hub, corpus: HandmadeCorpus, name: str
) -> None:
    push_to_hub(corpus.folder, name, revision="v2")
    assert hub.read("dataset", name).keys() == {".gitattributes"}
    assert without_attributes(hub.read("dataset", name, "v2")) == visible_files(corpus.folder)


def test_branch_of_a_corpus_that_is_there_needs_no_second_upload(
    hub: Hub, corpus: HandmadeCorpus, name: str
) -> None:
    push_to_hub(corpus.folder, name)
    before = hub.received
    assert "complete" in push_to_hub(corpus.folder, name, revision="v2")
    assert hub.received == before
    assert without_attributes(hub.read("dataset", name, "v2")) == visible_files(corpus.folder)


def test_pull_request_to_nothing_makes_nothing(hub: Hub, corpus: HandmadeCorpus, name: str) -> None:
    with pytest.raises(HubError, match="no such revision"):
        push_to_hub(corpus.folder, name, revision="refs/pr/1")
    assert ("dataset", name) not in hub.repositories


def test_pull_request_holds_everything_and_is_gone_on_with(
    hub: Hub, corpus: HandmadeCorpus, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    told = push_to_hub(corpus.folder, name, create_pr=True)
    assert told == f"Published: {hub.url}/datasets/{name}/discussions/1"
    assert "--revision refs/pr/1" in capsys.readouterr().out
    assert hub.read("dataset", name).keys() == {".gitattributes"}
    written = hub.read("dataset", name, "refs/pr/1")
    assert without_attributes(written) == visible_files(corpus.folder)
    assert "complete" in push_to_hub(corpus.folder, name, revision="refs/pr/1")
    with pytest.raises(HubError, match="no such revision"):
        push_to_hub(corpus.folder, name, revision="refs/pr/7")
    with pytest.raises(OptionError, match="main branch"):
        push_to_hub(corpus.folder, name, revision="v2", create_pr=True)


def test_name_without_an_owner_is_the_users(hub: Hub, corpus: HandmadeCorpus, name: str) -> None:
    push_to_hub(corpus.folder, name.removeprefix("ada/"))
    assert ("dataset", name) in hub.repositories


def test_card_of_a_pushed_corpus_is_valid_and_has_its_facts(
    hub: Hub, corpus: HandmadeCorpus, name: str
) -> None:
    push_to_hub(corpus.folder, name)
    card = DatasetCard.load(name)
    assert card.data.license == "cc0-1.0"
    assert card.data.size_categories == ["n<1K"]
    card.validate(repo_type="dataset")
    assert "(samples.png)" in card.text
    assert f'"{name}", "parts.disc", split="train"' in card.text
    assert f"hf://datasets/{name}/data/parts/disc/train-{{00000..00001}}-of-00002.tar" in card.text
    shards = list((corpus.folder / "data/parts/disc").iterdir())
    mebibytes = sum(path.stat().st_size for path in shards) / 2**20
    strengths = sorted(
        metadata.strength
        for shard in corpus.plan
        if shard.category == "disc"
        for metadata, _ in corpus.samples(shard)
    )
    shown = ", ".join(f"{strength:.3g}" for strength in strengths)
    assert f"| parts.disc | 5 | {mebibytes:.1f} | `{'0' * 16}` | {shown} |" in card.text


def test_token_is_nowhere(
    hub: Hub, corpus: HandmadeCorpus, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    push_to_hub(corpus.folder, name)
    hub.faults.append(Fault("POST .*/preupload/", 403))
    (corpus.folder / "recipe.yaml").write_text((corpus.folder / "recipe.yaml").read_text() + "\n")
    with pytest.raises(HubError) as refused:
        push_to_hub(corpus.folder, name)
    texts = [*capfd.readouterr(), str(refused.value)]
    texts += [content.decode(errors="replace") for content in hub.read("dataset", name).values()]
    texts += [
        path.read_text(errors="replace") for path in corpus.folder.rglob("*") if path.is_file()
    ]
    assert not any("hf_of_ada" in text for text in texts)


def test_pipeline_arrives_with_its_card(hub: Hub, pipeline_folder: Path, name: str) -> None:
    told = push_to_hub(pipeline_folder, name)
    assert told == f"Published: {hub.url}/{name}"
    assert without_attributes(hub.read("model", name)) == visible_files(pipeline_folder)
    card = ModelCard.load(name)
    card.validate(repo_type="model")
    assert card.data.license == "cc0-1.0"
    assert f'from_pretrained("{name}")' in card.text
    assert "no: train it longer" in card.text
    assert "those of\nGenerated parts (the tests)." in card.text
    assert f"| weights and configs | `{HashCache().model_hash(pipeline_folder)}`" in card.text
    assert "complete" in push_to_hub(pipeline_folder, name)


def test_realnet_arrives_with_its_card(hub: Hub, realnet_folder: Path, name: str) -> None:
    push_to_hub(realnet_folder, name)
    assert without_attributes(hub.read("model", name)) == visible_files(realnet_folder)
    card = ModelCard.load(name)
    card.validate(repo_type="model")
    threshold = json.loads((realnet_folder / "fit.json").read_text())["threshold"]
    assert f"| threshold of the score | {threshold} |" in card.text


def test_names_are_no_patterns_and_hidden_files_stay_here(
    hub: Hub, pipeline_folder: Path, name: str
) -> None:
    weights = pipeline_folder / "unet/diffusion_pytorch_model.safetensors"
    shutil.copy(weights, pipeline_folder / "unet/older [1].safetensors")
    (pipeline_folder / "unet/.DS_Store").write_bytes(b"0")
    push_to_hub(pipeline_folder, name)
    there = without_attributes(hub.read("model", name))
    assert there.keys() == visible_files(pipeline_folder).keys() - {"unet/.DS_Store"}


def test_better_model_takes_the_place_of_an_older_one(
    hub: Hub, pipeline_folder: Path, name: str
) -> None:
    push_to_hub(pipeline_folder, name)
    save_model(pipeline_folder, seed=1, size=32)
    push_to_hub(pipeline_folder, name)
    assert without_attributes(hub.read("model", name)) == visible_files(pipeline_folder)
