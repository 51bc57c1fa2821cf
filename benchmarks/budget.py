"""What `sia-gen run` makes of the minutes that a person gives it, from photographs to the page.

    python benchmarks/budget.py elpv/mono screw commutator --minutes 10

Each of the data is a folder of own images with a test set, or a recipe and a category, whose images
are laid into a folder of own images first. On a machine with other work, give the run cores of its
own (`taskset -c 1 python ...`): its plan follows from the speed that it measures at the start.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from measuring import save, show

from sia_gen.config.recipe import Recipe
from sia_gen.images.listing import data_root, split_images

LIMIT = "the minutes that were given, and 10 % more"


def own_images(data: str, out: Path) -> Path:
    """The folder of a set, or one of links to the images of a category."""
    if Path(data).is_dir():
        return Path(data)
    name, category = data.split("/")
    folder, recipe = out / f"{name}-{category}", Recipe.load(name)
    found = split_images(recipe, data_root(recipe, None), category)
    groups = {"train/good": [*found.fit, *found.validation], "test/good": found.test_normal}
    for test in found.test_anomalous:
        # Images of several kinds of defects may have the same names.
        groups.setdefault(f"test/{test.defect}", []).append(test.path)
    for group, paths in groups.items():
        (folder / group).mkdir(parents=True, exist_ok=True)
        for path in paths:
            link = folder / group / path.name
            link.unlink(missing_ok=True)
            link.symlink_to(path.resolve())
    return folder


def run(data: Path, minutes: int, out: Path) -> list[Any]:
    """Runs from nothing to the page; returns the minutes that took, and what came of it."""
    shutil.rmtree(out, ignore_errors=True)
    started = time.perf_counter()
    command = [sys.executable, "-m", "sia_gen", "run", "--data", data, "--out", out]
    subprocess.run([*command, "--minutes", str(minutes)], check=True)
    took = (time.perf_counter() - started) / 60
    metrics = json.loads((out / "evaluation/metrics.json").read_text())["mean"]
    steps = {
        step: f"{one['seconds']:.0f} s ({one['planned']:.0f})"
        for step, one in json.loads((out / "times.json").read_text()).items()
    }
    figures = [metrics.get(name) for name in ("image_auroc", "pixel_average_precision")]
    return [f"{took:.1f}", f"{100 * (took / minutes - 1):+.0f} %", *figures, steps]


def main() -> None:
    """Prints a table, and writes `budget.json` into the current folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="+")
    parser.add_argument("--minutes", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path("budget"))
    options = parser.parse_args()
    rows = list[list[Any]]()
    for data in options.data:
        folder = own_images(data, options.out)
        out = options.out / f"{folder.name}-{options.minutes}-minutes"
        rows.append([folder.name, *run(folder, options.minutes, out)])
        print(*rows[-1], flush=True)
    columns = ["data", "minutes", "of the budget", "image AUROC", "pixel AP", "seconds (planned)"]
    show(f"{options.minutes} minutes", columns, rows)
    save("budget", "cpu", LIMIT, vars(options) | {"columns": columns, "rows": rows})


if __name__ == "__main__":
    main()
