"""What only some operating systems have is not needed to import the package."""

from __future__ import annotations

import subprocess
import sys

from tests.processes import ROOT

EVERYTHING = """
import importlib, pkgutil, sys
import psutil  # has a part for each system, of which that for Linux needs some of them
for name in ("fcntl", "grp", "pwd", "resource", "termios"):
    sys.modules[name] = None
import sia_gen
names = [module.name for module in pkgutil.walk_packages(sia_gen.__path__, "sia_gen.")]
for name in names:
    if not name.endswith("__main__"):
        importlib.import_module(name)
print(len(names))
"""


def test_every_module_is_imported_without_modules_of_posix() -> None:
    command = [sys.executable, "-c", EVERYTHING]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    assert int(process.stdout) > 100
