"""Triplets: pieces of synthetic images in normal ones, with their masks."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import load_dataset
from PIL import Image

from sia_gen.composition.compose import Composer, compose
from sia_gen.config.outputs import claim_output
from sia_gen.config.recipe import Recipe
from sia_gen.corpus.manifest import MANIFEST, read_manifest
from sia_gen.corpus.verify import verify
from sia_gen.errors import CorpusError, OutputError
from sia_gen.images.listing import list_images
from sia_gen.io.files import location
from tests.corpus.conftest import HandmadeCorpus
from tests.images.trees import parts_table

SIZE = 64


@pytest.fixture
def corpus(tmp_path: Path) -> HandmadeCorpus:
    return HandmadeCorpus(tmp_path / "corpus", categories=("disc", "plate"))


@pytest.fixture
def run(recipe: Recipe, photographs: Path, corpus: HandmadeCorpus, tmp_path: Path) -> Any:
    """Composes into a folder: `run(name, form=, images=, categories=, changes=)`."""

    def call(
        name: str = "out", form: str = "shards", images: int | None = None, **more: Any
    ) -> Path:
        changed = recipe.override(more.pop("changes", {}))
        categories = more.pop("categories", ["disc", "plate"])
        compose(changed, categories, photographs, corpus.folder, tmp_path / name, form, images)
        return tmp_path / name

    return call


def triplets(folder: Path, category: str = "disc") -> dict[str, dict[str, Any]]:
    """The members of every sample by key; images as arrays."""
    found: dict[str, dict[str, Any]] = {}
    for shard in sorted((folder / "data/parts" / category).glob("*.tar")):
        with tarfile.open(shard) as tar:
            for member in tar:
                key, _, extension = member.name.partition(".")
                content = tar.extractfile(member).read()
                value = (
                    json.loads(content)
                    if extension == "json"
                    else np.asarray(Image.open(io.BytesIO(content)))
                )
                found.setdefault(key, {})[extension] = value
    return found


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_triplet_differs_from_its_normal_image_under_the_mask_alone(run: Any) -> None:
    for triplet in triplets(run(images=12)).values():
        image, mask, normal = (triplet[f"{name}.png"] for name in ("image", "mask", "normal"))
        assert image.shape == mask.shape == normal.shape == (SIZE, SIZE)
        assert set(np.unique(mask)) == {0, 255}
        assert np.array_equal(image[mask == 0], normal[mask == 0])
        assert (image != normal)[mask > 0].mean() > 0.9
        assert triplet["json"]["mask_area"] == pytest.approx((mask > 0).mean())


def test_every_triplet_names_what_it_was_made_from(
    run: Any, recipe: Recipe, photographs: Path, corpus: HandmadeCorpus
) -> None:
    found = triplets(run(images=7))
    learnt_from = {
        path.relative_to(photographs).as_posix()
        for path in list_images(recipe, photographs, "disc").fit
    }
    made = {m.key: (m, image) for shard in corpus.plan for m, image in corpus.samples(shard)}
    for index, (key, triplet) in enumerate(found.items()):
        metadata = triplet["json"]
        assert key == metadata["key"] == f"parts_disc_{index:08d}"
        # Each takes the next sample; after the last of the five comes the first again.
        assert metadata["source"] == f"parts_disc_{index % 5:08d}"
        source, pasted = made[metadata["source"]]
        assert metadata["strength"] == source.strength
        assert metadata["normal"] in learnt_from
        large = np.asarray(pasted.resize((SIZE, SIZE), Image.Resampling.BICUBIC), dtype=float)
        normal, image = triplet["normal.png"].astype(float), triplet["image.png"]
        blended = metadata["opacity"] * large + (1 - metadata["opacity"]) * normal
        inside = triplet["mask.png"] > 0
        assert np.abs(blended - image)[inside].max() <= 1
    assert len({triplet["json"]["normal"] for triplet in found.values()}) > 1


def test_shards_verify_and_resume_to_the_same_bytes(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run("whole")
    assert verify(whole) == f"{whole} is intact: 10 samples in 4 shards."
    original = Composer.triplet

    def interrupted(self: Composer, index: int, *rest: Any) -> Any:
        if (self.category, index) == ("plate", 1):
            raise KeyboardInterrupt
        return original(self, index, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Composer, "triplet", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run("broken")
    states = [shard.state for shard in read_manifest(whole.with_name("broken")).shards]
    assert states == ["complete", "complete", "missing", "missing"]
    assert files(run("broken")) == files(whole)


def test_datasets_reads_the_declared_features(run: Any, tmp_path: Path) -> None:
    folder = run(images=4)
    for streaming in (False, True):
        loaded = load_dataset(
            str(folder),
            "parts.disc",
            split="train",
            streaming=streaming,
            cache_dir=str(tmp_path / "cache"),
        )
        rows = list(loaded)
        assert len(rows) == 4
        for row, triplet in zip(rows, triplets(folder).values(), strict=True):
            assert row["json"] == triplet["json"]
            for name in ("image.png", "mask.png", "normal.png"):
                assert np.array_equal(np.asarray(row[name].convert("L")), triplet[name])


def test_folder_has_the_layout_of_mvtec(run: Any, photographs: Path, recipe: Recipe) -> None:
    folder = run("tree", form="folder", images=6)
    shards = triplets(run("shards", images=6))
    listed = list_images(recipe, photographs, "disc")
    assert len(list((folder / "disc/train/good").iterdir())) == len(listed.fit)
    assert len(list((folder / "disc/test/good").iterdir())) == len(listed.validation)
    anomalous = sorted((folder / "disc/test/synthetic").iterdir())
    masks = sorted((folder / "disc/ground_truth/synthetic").iterdir())
    assert [path.stem for path in anomalous] == list(shards)
    assert [path.name for path in masks] == [f"{key}_mask.png" for key in shards]
    for image, mask, triplet in zip(anomalous, masks, shards.values(), strict=True):
        assert np.array_equal(np.asarray(Image.open(image)), triplet["image.png"])
        assert np.array_equal(np.asarray(Image.open(mask)), triplet["mask.png"])
    lines = (folder / "disc/triplets.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [t["json"] for t in shards.values()]


def test_our_own_reader_takes_the_folder_for_a_data_set(run: Any, recipe: Recipe) -> None:
    folder = run("tree", form="folder", images=3)
    content = recipe.model_dump()
    content["data"]["images"]["mask"] = "{category}/ground_truth/{defect}/{stem}_mask.png"
    listed = list_images(Recipe.parse(content, where="test"), folder, "disc")
    assert len(listed.test_anomalous) == 3
    assert all(image.defect == "synthetic" for image in listed.test_anomalous)
    assert all(image.mask is not None and image.mask.is_file() for image in listed.test_anomalous)


def test_folder_that_broke_off_is_completed(run: Any) -> None:
    whole = files(run("whole", form="folder", images=4))
    broken = run("broken", form="folder", images=4)
    for name in ("disc/test/synthetic/parts_disc_00000002.png", "plate/triplets.jsonl"):
        (broken / name).unlink()
    shutil.rmtree(broken / "plate/train")
    assert files(run("broken", form="folder", images=4)) == whole


def test_pictures_wait_little_for_the_disk(run: Any, synced: list[int]) -> None:
    folder = run(form="folder", images=20, categories=["disc"])
    pictures = len(list((folder / "disc").rglob("*.png")))
    assert pictures == 12 + 2 * 20
    assert len(synced) < pictures + 20


def test_folder_that_was_interrupted_has_whole_pictures_and_is_completed(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = files(run("whole", form="folder", images=6))
    original = Composer.triplet

    def interrupted(self: Composer, index: int) -> Any:
        if (self.category, index) == ("plate", 3):
            raise KeyboardInterrupt
        return original(self, index)

    with monkeypatch.context() as patch:
        patch.setattr(Composer, "triplet", interrupted)
        patch.setattr("sia_gen.io.files.GROUP", 4)
        with pytest.raises(KeyboardInterrupt):
            run("broken", form="folder", images=6)
    there = files(tmp_path / "broken")
    assert len(there) > 20
    assert there.items() <= whole.items()
    assert files(run("broken", form="folder", images=6)) == whole


@pytest.mark.parametrize("form", ["shards", "folder"])
def test_images_of_one_category_are_in_memory_at_a_time(
    form: str, run: Any, images_in_memory: list[int]
) -> None:
    run(form=form)
    assert images_in_memory == [0, 0]


@pytest.mark.parametrize("form", ["shards", "folder"])
@pytest.mark.parametrize("way", ["absolute", "dots", "windows"])
def test_images_in_a_table_have_names_that_say_nothing_of_the_machine(
    way: str,
    form: str,
    recipe: Recipe,
    photographs: Path,
    corpus: HandmadeCorpus,
    tmp_path: Path,
) -> None:
    listed = parts_table(recipe, photographs, tmp_path / "root", way)
    out = tmp_path / "out"
    compose(listed, ["disc"], tmp_path / "root", corpus.folder, out, form, 40)
    if form == "shards":
        names = [one["json"]["normal"] for one in triplets(out).values()]
    else:
        lines = (out / "disc/triplets.jsonl").read_text().splitlines()
        names = [json.loads(line)["normal"] for line in lines]
    parts = {Path(name).parts for name in names}
    assert len(parts) == len(list_images(listed, tmp_path / "root", "disc").fit) == 9
    if way == "windows":
        assert all(part[:-1] == ("lists", "photographs", "disc", "train", "good") for part in parts)
    else:
        # Nothing of where they lie but a hash.
        assert all(part[0] == "outside" and len(part) == 3 for part in parts)
    assert {part[-1] for part in parts} < {f"{number:03d}.png" for number in range(12)}


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"realnet.opacity": [0.1, 0.2]}, {"realnet.image_size": 32}]
)
def test_other_triplets_in_the_same_folder_are_refused(run: Any, change: dict[str, Any]) -> None:
    before = files(run())
    with pytest.raises(OutputError, match="already holds"):
        run(changes=change)
    assert files(run()) == before


def rename_model(corpus: HandmadeCorpus, old: str, new: str) -> None:
    for record in (corpus.folder / ".records").iterdir():
        record.write_text(record.read_text().replace(64 * old, 64 * new))


def test_samples_of_another_model_are_refused(run: Any, corpus: HandmadeCorpus) -> None:
    run()
    rename_model(corpus, "0", "2")
    with pytest.raises(OutputError, match="samples of 'disc' by another model"):
        run()


@pytest.mark.parametrize("different", ["images", "model"])
def test_other_triplets_that_are_made_meanwhile_are_refused(
    run: Any, corpus: HandmadeCorpus, monkeypatch: pytest.MonkeyPatch, different: str
) -> None:
    """Between the first look at the folder and the claim on it."""
    made = []

    def claim_late(*arguments: Any, **options: Any) -> Any:
        monkeypatch.undo()
        rename_model(corpus, "2", "0")
        made.append(run(images=2 if different == "images" else None) / MANIFEST)
        made.append(made[0].read_bytes())
        return claim_output(*arguments, **options)

    monkeypatch.setattr("sia_gen.corpus.output.claim_output", claim_late)
    if different == "model":
        rename_model(corpus, "0", "2")
    with pytest.raises(OutputError, match=f"another {different}"):
        run()
    assert made[0].read_bytes() == made[1]


def test_triplets_of_triplets_are_refused(
    run: Any, recipe: Recipe, photographs: Path, tmp_path: Path
) -> None:
    folder = run()
    with pytest.raises(CorpusError, match="holds triplets, not synthetic images"):
        compose(recipe, ["disc"], photographs, folder, tmp_path / "more", "shards", None)


def test_folder_at_a_url_is_refused(
    recipe: Recipe, photographs: Path, corpus: HandmadeCorpus
) -> None:
    out = location("memory://bucket/tree")
    with pytest.raises(OutputError, match="is not a folder of this machine"):
        compose(recipe, ["disc"], photographs, corpus.folder, out, "folder", 2)


def test_folders_show_the_whole_photographs_of_tiles(
    run: Any, recipe: Recipe, photographs: Path
) -> None:
    changes = {"data.tile.size": 16, "realnet.image_size": 32, "realnet.horizontal_flip": True}
    out = run(form="folder", images=6, categories=["disc"], changes=changes)
    lines = [json.loads(line) for line in (out / "disc/triplets.jsonl").read_text().splitlines()]
    assert len(lines) == 6
    for line in lines:
        image = np.asarray(Image.open(out / f"disc/test/synthetic/{line['key']}.png"))
        mask = np.asarray(Image.open(out / f"disc/ground_truth/synthetic/{line['key']}_mask.png"))
        whole = np.asarray(Image.open(photographs / line["normal"]))
        assert image.shape == mask.shape == (line["height"], line["width"]) == whole.shape
        assert line["mask_area"] == pytest.approx((mask > 0).mean())
        rows, columns = np.nonzero(image != whole)
        # The change is in one of four tiles, and the mask is where it is plain to see.
        for places in (rows, columns):
            assert places.min() // 16 == places.max() // 16
        assert (image != whole)[mask > 0].mean() > 0.8
    first = sorted((out / "disc/train/good").iterdir())[0]
    normal = list_images(recipe, photographs, "disc").fit[0]
    assert np.array_equal(np.asarray(Image.open(first)), np.asarray(Image.open(normal)))


def test_shards_hold_tiles(run: Any) -> None:
    found = triplets(run(images=5, categories=["disc"], changes={"data.tile.size": 16}))
    for triplet in found.values():
        assert triplet["image.png"].shape == (SIZE, SIZE)
        assert triplet["json"]["normal"].startswith("disc/train/good/")
