"""Runs commands in this process, in an empty folder."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from sia_gen.cli import app
from sia_gen.config.recipe import Recipe
from sia_gen.diffusion import preview


class Result(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs sia-gen in an empty folder: `run("verify", "corpus")`."""
    monkeypatch.chdir(tmp_path)
    # Previews need not be good here.
    monkeypatch.setattr(preview, "INVERSION_STEPS", 2)
    # Nor need plans be exact.
    monkeypatch.setattr("sia_gen.run.speed.TURNS", 1)

    def call(*arguments: str | Path) -> Result:
        monkeypatch.setattr(sys, "argv", ["sia-gen", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            app.main()
        return Result(int(stopped.value.code or 0), *capfd.readouterr())

    return call


@pytest.fixture
def refuse(run: Run, tmp_path: Path) -> Callable[..., str]:
    """Runs a command that must fail with one line and change no file; returns the line."""

    def snapshot() -> dict[Path, bytes | None]:
        return {path: path.read_bytes() if path.is_file() else None for path in tmp_path.rglob("*")}

    def call(*arguments: str | Path) -> str:
        before = snapshot()
        result = run(*arguments)
        assert result.code == 2, result
        assert result.err.startswith("error: ")
        assert result.err.count("\n") == 1
        assert result.err.endswith("\n")
        assert result.out == ""
        assert snapshot() == before
        return result.err

    return call


Refuse = Callable[..., str]


@pytest.fixture
def parts(tmp_path: Path, recipe: Recipe) -> Path:
    path = tmp_path / "parts.yaml"
    path.write_text(recipe.to_yaml())
    return path


@pytest.fixture
def images(tmp_path: Path, photographs: Path) -> Path:
    return shutil.copytree(photographs, tmp_path / "images")
