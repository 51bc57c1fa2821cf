from __future__ import annotations

import json
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sia_gen.train.logs import LOG, TrainingLog


def steps(folder: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (folder / LOG).read_text().splitlines()]


def test_figures_are_lines_of_json_and_curves_of_tensorboard(tmp_path: Path) -> None:
    with TrainingLog(tmp_path, 0) as log:
        log.write(10, {"loss": 0.5, "learning_rate": 1e-4})
        log.write(20, {"loss": 0.25, "learning_rate": 1e-4})
    lines = [json.loads(line) for line in (tmp_path / LOG).read_text().splitlines()]
    assert lines == [
        {"step": 10, "loss": 0.5, "learning_rate": 1e-4},
        {"step": 20, "loss": 0.25, "learning_rate": 1e-4},
    ]
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    curve = events.Scalars("loss")
    assert [(point.step, point.value) for point in curve] == [(10, 0.5), (20, 0.25)]


def test_steps_that_are_done_again_are_logged_once(tmp_path: Path) -> None:
    with TrainingLog(tmp_path, 0) as log:
        for step in (10, 20, 30):
            log.write(step, {"loss": 1.0})
    with TrainingLog(tmp_path, 20) as log:
        log.write(30, {"loss": 2.0})
    assert steps(tmp_path) == [10, 20, 30]
    assert json.loads((tmp_path / LOG).read_text().splitlines()[-1])["loss"] == 2.0


def test_what_follows_the_last_checkpoint_is_logged_once(tmp_path: Path) -> None:
    with TrainingLog(tmp_path, 0) as log:
        log.write(20, {"loss": 1.0})
        log.write(20, {"noise": 0.1})
    # Killed before the model was saved, so the preview after the last step is made again.
    with TrainingLog(tmp_path, 20) as log:
        log.write(20, {"noise": 0.1})
        log.write(20, {"distance": 2.0})
    lines = [json.loads(line) for line in (tmp_path / LOG).read_text().splitlines()]
    assert lines == [
        {"step": 20, "loss": 1.0},
        {"step": 20, "noise": 0.1},
        {"step": 20, "distance": 2.0},
    ]


def test_a_line_cut_off_by_a_kill_is_dropped(tmp_path: Path) -> None:
    (tmp_path / LOG).write_text('{"step": 10, "loss": 1.0}\n{"step": 20, "lo')
    with TrainingLog(tmp_path, 20):
        pass
    assert steps(tmp_path) == [10]


def test_other_processes_log_nothing(tmp_path: Path) -> None:
    with TrainingLog(None, 0) as log:
        log.write(10, {"loss": 1.0})
    assert not list(tmp_path.iterdir())


def test_what_is_no_line_of_a_log_is_dropped(tmp_path: Path) -> None:
    with TrainingLog(tmp_path, 0) as log:
        log.write(10, {"loss": 1.0})
    with (tmp_path / LOG).open("ab") as file:
        file.write(b'{"loss": 1}\n{"step": "x"}\n[1]\n\x00\xff}\n' + b"[" * 100_000 + b"\n")
    with TrainingLog(tmp_path, 10) as log:
        log.write(20, {"loss": 2.0})
    assert steps(tmp_path) == [10, 20]


def test_norms_that_overflowed_stay_in_the_log(tmp_path: Path) -> None:
    for start in (0, 10):
        with TrainingLog(tmp_path, start) as log:
            log.write(start + 10, {"gradient_norm": float("inf")})
    assert steps(tmp_path) == [10, 20]
