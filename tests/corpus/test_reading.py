"""Reading the synthetic images of a corpus back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from sia_gen.corpus.reading import load_corpus_images
from sia_gen.errors import CorpusError

if TYPE_CHECKING:
    from tests.corpus.conftest import HandmadeCorpus

TAR_BLOCK = 512


def test_images_come_in_order_and_unchanged(corpus: HandmadeCorpus) -> None:
    images = load_corpus_images(corpus.folder, "parts", "disc", "L", 8)
    made = [np.asarray(image) for shard in corpus.plan for _, image in corpus.samples(shard)]
    assert np.array_equal(images[:, 0], made)


def test_images_are_brought_to_mode_and_size(corpus: HandmadeCorpus) -> None:
    assert load_corpus_images(corpus.folder, "parts", "disc", "RGB", 16).shape == (5, 3, 16, 16)


def test_unknown_category_is_refused(corpus: HandmadeCorpus) -> None:
    with pytest.raises(CorpusError, match="has no category 'plate'"):
        load_corpus_images(corpus.folder, "parts", "plate", "L", 8)


def test_missing_shard_is_named(corpus: HandmadeCorpus) -> None:
    corpus.path(1).unlink()
    with pytest.raises(CorpusError, match=r"train-00001-of-00002\.tar is missing"):
        load_corpus_images(corpus.folder, "parts", "disc", "L", 8)


def test_folder_without_a_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="is not a corpus"):
        load_corpus_images(tmp_path, "parts", "disc", "L", 8)


def test_shard_cut_between_members_is_refused(corpus: HandmadeCorpus) -> None:
    content = corpus.path(0).read_bytes()
    second_sample = content.index(b"parts_disc_00000001.json")
    assert second_sample % TAR_BLOCK == 0
    corpus.path(0).write_bytes(content[:second_sample])
    with pytest.raises(CorpusError, match=r"00000-of-00002\.tar is damaged \(1 samples, not 3\)"):
        load_corpus_images(corpus.folder, "parts", "disc", "L", 8)


@pytest.mark.parametrize("keep", [0, 100, 700, 1300])
def test_shard_cut_anywhere_is_refused(corpus: HandmadeCorpus, keep: int) -> None:
    corpus.path(0).write_bytes(corpus.path(0).read_bytes()[:keep])
    with pytest.raises(CorpusError, match=r"00000-of-00002\.tar is damaged"):
        load_corpus_images(corpus.folder, "parts", "disc", "L", 8)


@pytest.mark.parametrize("chunk", [b"\x89PNG", b"IHDR", b"IDAT"])
def test_damaged_image_is_refused(corpus: HandmadeCorpus, chunk: bytes) -> None:
    content = corpus.path(0).read_bytes()
    corpus.path(0).write_bytes(content.replace(chunk, b"\xff\xfe\xfd\xfc", 1))
    with pytest.raises(CorpusError, match=r"00000-of-00002\.tar is damaged"):
        load_corpus_images(corpus.folder, "parts", "disc", "L", 8)
