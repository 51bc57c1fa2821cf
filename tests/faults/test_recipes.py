"""Recipes with any field wrong, and files that are no recipes at all: one line, every time."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic.fields import FieldInfo

from sia_gen.config.recipe import load_corpus_recipe
from sia_gen.config.strength import Strength
from sia_gen.errors import RecipeError
from tests.cli import conftest as cli
from tests.faults.conftest import Tried, pairs, times
from tests.faults.hostile_yaml import UNREADABLE, YAML_LIKE, damaged, mutants
from tests.faults.recipes import (
    KINDS,
    Path_,
    everything,
    holder,
    out_of_range,
    walk,
    with_value,
    wrong_types,
)

run, refuse = cli.run, cli.refuse
LINE = "one line that names the field"


class Files:
    """Recipes in files, which are refused."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "mine.yaml"
        self.refused = 0

    def load(self, content: Any) -> Any:
        text = content if isinstance(content, bytes) else yaml.safe_dump(content).encode()
        self.path.write_bytes(text)
        return load_corpus_recipe(self.path)

    def refuse(self, content: Any) -> str:
        """What is said of a recipe that is wrong."""
        with pytest.raises(RecipeError) as caught:
            self.load(content)
        self.refused += 1
        return check_line(str(caught.value))


def check_line(line: str) -> str:
    assert line.isprintable(), line
    assert "mine.yaml" in line
    assert len(line) < 1000
    return line


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("recipes"))


@pytest.fixture(params=KINDS)
def example(request: pytest.FixtureRequest) -> tuple[list[tuple[Path_, Any]], Any]:
    """The fields of a kind of recipe, and one with something in all of them."""
    kind, make = KINDS[request.param]
    content = make()
    return list(walk(kind, content))[1:], content


def names_it(line: str, path: Path_, value: Any) -> bool:
    """Whether a line names a field; of one that is true, the section and the key."""
    if value is not True:
        return re.search(rf"'{re.escape('.'.join(map(str, path)))}['.]", line) is not None
    return f"'{next(step for step in reversed(path) if isinstance(step, str))}" in line.replace(
        ".", "'"
    )


def test_examples_are_right(files: Files) -> None:
    for _, make in KINDS.values():
        assert files.load(make())


def test_every_field_of_a_wrong_type(example: Any, files: Files, tried: Tried) -> None:
    fields, content = example
    cases = [(path, value) for path, kind in fields for value in wrong_types(kind)]
    cases = cases[:: times(10, 1)]
    for path, value in cases:
        line = files.refuse(with_value(content, path, value))
        assert names_it(line, path, value), (path, value, line)
    tried("wrong type in every field of recipes and collections", len(cases), LINE, fixed=1)


def test_every_field_out_of_range(example: Any, files: Files, tried: Tried) -> None:
    fields, content = example
    cases = [(path, value) for path, kind in fields for value in out_of_range(kind)]
    cases = cases[:: times(3, 1)]
    for path, value in cases:
        line = files.refuse(with_value(content, path, value))
        assert names_it(line, path, value), (path, value, line)
    tried("out-of-range value in every field", len(cases), LINE, fixed=4)


def test_every_key_misspelt(example: Any, files: Files, tried: Tried) -> None:
    fields, content = example
    cases = 0
    for path, _ in fields[:: times(10, 1)]:
        *section, key = path
        if path == ("members",) or key == "layout" or not is_key(content, path):
            continue
        for wrong in {f"{key}x", f"{key[:1]}_{key[1:]}", key.upper()} - {key}:
            changed = copy.deepcopy(content)
            inside = holder(changed, path)
            inside[wrong] = inside.pop(key)
            line = files.refuse(changed)
            where = ".".join(map(str, [*section, wrong]))
            assert f"unknown key '{where}'" in line, line
            assert wrong == key.upper() or f"(did you mean '{key}'?)" in line, line
            cases += 1
    tried("misspelling of every key", cases, f"{LINE}, with the right one", fixed=2)


def is_key(content: Any, path: Path_) -> bool:
    """Whether a path ends in a key that is there, of a section and not of names to choose."""
    free = ("names", "foreground", "calibrated")
    inside = holder(content, path)
    # The names of perturbations below a category have a message of their own.
    named = path[-2:-1] in [(one,) for one in free] or path[-3:-2] == ("calibrated",)
    return isinstance(inside, dict) and path[-1] in inside and not named


def test_every_key_left_out(example: Any, files: Files, tried: Tried) -> None:
    fields, content = example
    required = [
        path
        for path, kind in fields
        if path[-1] == "layout"
        or any(isinstance(one, FieldInfo) and one.is_required() for one in get_args(kind)[1:])
    ]
    cases = [path for path in required if isinstance(path[-1], str) and path != ("members",)]
    for path in cases:
        changed = copy.deepcopy(content)
        del holder(changed, path)[path[-1]]
        assert f"'{'.'.join(map(str, path))}' is missing" in files.refuse(changed)
    tried("every required key missing", len(cases), LINE, fixed=1)


@pytest.mark.parametrize("strength", ["0:0.5", "0:1.5", "1:2.0", "010", "1e-1"])
def test_numbers_are_what_they_look_like(strength: str, files: Files, tried: Tried) -> None:
    content = with_value(everything(), ("synthesis", "strength"), "STRENGTH")
    recipe = files.load(yaml.safe_dump(content).replace("STRENGTH", strength).encode())
    assert Strength.parse(recipe.synthesis.strength) == Strength.parse(strength)
    what = "numbers that YAML 1.1 misreads, such as `0:0.5`"
    tried(what, 1, "read as written", fixed=1)


@pytest.mark.parametrize("what", UNREADABLE)
def test_files_that_are_no_recipes(
    what: str, refuse: cli.Refuse, tmp_path: Path, tried: Tried
) -> None:
    content = UNREADABLE[what]
    path = tmp_path / "mine.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    line = refuse("recipes", "mine.yaml").removesuffix("\n")
    check_line(line)
    kinds = "bombs, tags, depth, size, encodings, duplicate keys"
    tried(f"files that are not recipes: {kinds}", 1, "one line", fixed=12)


COMMANDS = {
    "recipes": ["mine.yaml"],
    "train-diffusion": ["--recipe", "mine.yaml", "--data", "."],
    "train-classifier": ["--recipe", "mine.yaml", "--data", "."],
    "synthesize": ["--recipe", "mine.yaml"],
    "calibrate": ["--recipe", "mine.yaml", "--data", "."],
    "compose": ["--recipe", "mine.yaml", "--data", "."],
    "fit-realnet": ["--recipe", "mine.yaml", "--data", "."],
    "evaluate": ["--recipe", "mine.yaml", "--data", "."],
}


@pytest.mark.parametrize(
    ("command", "what"),
    pairs(COMMANDS, ["billion laughs, of lists", "what steers a terminal", "UTF-16"]),
)
def test_every_command_refuses_them(
    command: str, what: str, refuse: cli.Refuse, tmp_path: Path, tried: Tried
) -> None:
    content = UNREADABLE[what]
    path = tmp_path / "mine.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    check_line(refuse(command, *COMMANDS[command]).removesuffix("\n"))
    tried("a file that is not a recipe, given to every command", 1, "one line, exit code 2")


@pytest.mark.parametrize("name", ["x" * 5000, f"{'x' * 300}/y", "a\nb", "", ".", "/", "\x1b[2J"])
def test_names_of_recipes(name: str, refuse: cli.Refuse, tried: Tried) -> None:
    line = refuse("recipes", name)
    assert line.removesuffix("\n").isprintable()
    tried("unknown recipe names, up to 5,000 letters", 1, "one line", fixed=1)


FUZZED = {
    "bytes": (st.binary(max_size=300), (300, 20_000)),
    "YAML syntax": (YAML_LIKE.map(str.encode), (300, 20_000)),
    "shipped recipes, bytes damaged": (damaged(), (60, 3000)),
    "shipped recipes, values changed": (mutants(), (60, 3000)),
}


@pytest.mark.parametrize("what", FUZZED)
def test_fuzzed(what: str, files: Files, tried: Tried) -> None:
    """Whatever is in a file: a recipe that is saved as it is, or one line."""
    contents, (few, many) = FUZZED[what]

    @settings(
        max_examples=times(few, many),
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(contents)
    def try_one(content: Any) -> None:
        try:
            recipe = files.load(content)
        except RecipeError as error:
            check_line(str(error))
        else:
            again = files.load(recipe.to_yaml().encode())
            assert (again, again.hash()) == (recipe, recipe.hash())

    try_one()
    tried(
        f"fuzzed: {what}",
        times(few, many),
        "one line, or a recipe that survives saving and loading",
    )


def test_fuzzed_on_the_command_line(run: cli.Run, tmp_path: Path, tried: Tried) -> None:
    tries = times(20, 1000)

    @settings(
        max_examples=tries,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(mutants())
    def try_one(content: Any) -> None:
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content))
        for arguments in (
            ["recipes", "mine.yaml"],
            ["synthesize", "--recipe", "mine.yaml", "--plan"],
        ):
            code, _, err = run(*arguments)
            assert code == 0 or (code == 2 and re.fullmatch(r"error: [^\n]*\n", err)), err

    try_one()
    tried(
        "fuzzed recipes given to `recipes` and `synthesize --plan`", 2 * tries, "done, or one line"
    )
