"""The transport that the client prefers, with its real engine and a store on the disk."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.conditions import with_xet
from tests.corpus.conftest import HandmadeCorpus
from tests.hub.server import Hub
from tests.processes import Running

pytest.importorskip("hf_xet")


def test_corpus_goes_through_xet_and_not_twice(
    hub: Hub, corpus: HandmadeCorpus, name: str, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    store.mkdir()
    token = {"casUrl": f"local://{store}", "accessToken": "x", "exp": int(time.time()) + 3600}
    hub.xet_token = token
    for _ in range(2):
        push(corpus.folder, name)
        there = hub.repositories["dataset", name].files()
        sent = {path: entry for path, entry in there.items() if path.endswith(".tar")}
        manifest = {shard.path: corpus.folder / shard.path for shard in corpus.plan}
        assert {path: entry.size for path, entry in sent.items()} == {
            path: file.stat().st_size for path, file in manifest.items()
        }
    assert hub.received == 0
    assert len(hub.repositories["dataset", name].titles) == 4


def push(folder: Path, name: str) -> None:
    told = folder.parent / "told.txt"
    command = ["push-to-hub", str(folder), name]
    Running(command, folder.parent, told, condition=with_xet).done()
