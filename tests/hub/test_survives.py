"""A push that is broken off anywhere is completed by the next, and little is sent twice."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sia_gen.errors import HubError
from sia_gen.hub.push import push_to_hub
from tests.hub.server import Fault, Hub
from tests.hub.test_push import visible_files, without_attributes
from tests.processes import Running

if TYPE_CHECKING:
    from tests.hub.conftest import MakeCorpus

CATEGORIES = tuple(f"part{number}" for number in range(40))
BREAKS = 10
KILLS = 3


@pytest.fixture
def folder(make_corpus: MakeCorpus) -> Path:
    """A corpus of 80 shards."""
    return make_corpus(categories=CATEGORIES).folder


SHARDS = 80 * 10240


def test_broken_off_ten_times_it_ends_complete_and_identical(
    hub: Hub, folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Only the waiting between attempts is left out.
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    points = random.Random(0)
    for _ in range(BREAKS - KILLS):
        hub.down_from = hub.received + int(points.uniform(0.02, 0.12) * SHARDS)
        with pytest.raises(HubError, match="cannot reach the Hub"):
            push_to_hub(folder, name)
        hub.down_from = None
    for _ in range(KILLS):
        kill_in_the_middle(hub, folder, name, points.uniform(0.02, 0.12) * SHARDS)
    push_to_hub(folder, name)
    assert without_attributes(hub.read("dataset", name)) == visible_files(folder)
    picture = (folder / "samples.png").stat().st_size
    assert hub.received - picture < 1.3 * SHARDS


def kill_in_the_middle(hub: Hub, folder: Path, name: str, more: float) -> None:
    """Runs a push in a process of its own, and kills it once so many more bytes have come in."""
    wanted = hub.received + more
    place = folder.parent
    running = Running(["push-to-hub", str(folder), name], place, place / "told.txt")
    # Not `time.sleep`, which does nothing in this test.
    while hub.received < wanted and not running.ends_within(0.001):
        pass
    running.kill()


@pytest.mark.parametrize(
    "fault",
    [
        Fault("PUT", after=3000),
        Fault("PUT", status=500),
        Fault("PUT", status=429, headers=(("Retry-After", "1"),)),
        Fault("POST .*/preupload/", status=503),
        Fault("POST .*/objects/batch"),
    ],
    ids=["dropped", "500", "429", "503", "no answer"],
)
def test_passing_trouble_is_not_noticed(
    hub: Hub, make_corpus: MakeCorpus, name: str, fault: Fault
) -> None:
    folder = make_corpus().folder
    hub.faults.append(fault)
    push_to_hub(folder, name)
    assert fault.times == 0
    assert without_attributes(hub.read("dataset", name)) == visible_files(folder)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault("POST .*/commit/", status=409), "somebody else is changing"),
        (Fault("POST .*/commit/", status=500), r"the Hub fails \(status 500\)"),
        (Fault("POST .*/commit/", status=400), r"refuses \(400: .*told to fail"),
        (Fault("POST .*/commit/"), "cannot reach the Hub"),
        (Fault("PUT", status=403), "gives no right"),
        (Fault("whoami", status=429), "too many requests"),
    ],
)
def test_lasting_trouble_is_one_line_and_the_next_push_completes(
    hub: Hub, make_corpus: MakeCorpus, name: str, fault: Fault, said: str
) -> None:
    folder = make_corpus().folder
    hub.faults.append(fault)
    with pytest.raises(HubError, match=said):
        push_to_hub(folder, name)
    push_to_hub(folder, name)
    assert without_attributes(hub.read("dataset", name)) == visible_files(folder)
