"""Tiny copies of data sets, with the folders and names of the real ones."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from PIL import Image

from sia_gen.config.recipe import Recipe

Tree = Callable[[Path, Iterable[str]], Path]


def write_images(root: Path, *names: str) -> None:
    """Small images of whatever format each name asks for; a mask is an image too.

    All look alike, but none is a copy of another: the name is behind the pixels.
    """
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (16, 12), 100).save(path)
        with path.open("ab") as file:
            file.write(os.fsencode(name))


def mvtec_ad(root: Path, categories: Iterable[str]) -> Path:
    for category in categories:
        write_images(
            root / category,
            *(f"train/good/{number:03d}.png" for number in range(4)),
            "test/good/000.png",
            "test/broken_large/000.png",
            "test/broken_large/001.png",
            "test/contamination/000.png",
            "ground_truth/broken_large/000_mask.png",
            "ground_truth/broken_large/001_mask.png",
            "ground_truth/contamination/000_mask.png",
        )
        (root / category / "license.txt").write_text("CC BY-NC-SA 4.0")
        (root / category / "readme.txt").write_text("MVTec AD")
    return root


def mpdd(root: Path, categories: Iterable[str]) -> Path:
    for category in categories:
        write_images(
            root / category,
            *(f"train/good/{number:03d}.png" for number in range(4)),
            "test/good/030.png",
            "test/scratches/000.png",
            "ground_truth/scratches/000_mask.png",
        )
    return root


def visa_table(root: Path, categories: Iterable[str]) -> Path:
    """What is in VisA.tar."""
    lines = ["object,split,label,image,mask"]
    for category in categories:
        images, masks = f"{category}/Data/Images", f"{category}/Data/Masks/Anomaly"
        normal = [f"{images}/Normal/{number:04d}.JPG" for number in range(5)]
        write_images(root, *normal, f"{images}/Anomaly/000.JPG", f"{masks}/000.png")
        (root / category / "image_anno.csv").write_text("image,label,mask\n")
        splits = ["train", "train", "test", "train", "train"]
        lines += [
            f"{category},{split},normal,{path}," for split, path in zip(splits, normal, strict=True)
        ]
        lines.append(f"{category},test,anomaly,{images}/Anomaly/000.JPG,{masks}/000.png")
    (root / "split_csv").mkdir(exist_ok=True)
    (root / "split_csv" / "1cls.csv").write_text("\n".join(lines) + "\n")
    return root


def visa_folders(root: Path, categories: Iterable[str]) -> Path:
    """What VisA's own script makes of it for one class."""
    for category in categories:
        write_images(
            root / category,
            *(f"train/good/{number:04d}.JPG" for number in (0, 1, 3, 4)),
            "test/good/0002.JPG",
            "test/bad/000.JPG",
            "ground_truth/bad/000.png",
        )
    return root


def visa_ok_ko(root: Path, categories: Iterable[str]) -> Path:
    """As RealNet's authors distribute it."""
    for category in categories:
        write_images(
            root / category,
            *(f"train/ok/{number:03d}.JPG" for number in (0, 1, 3, 4)),
            "test/ok/002.JPG",
            "test/ko/000.JPG",
            "ground_truth/ko/000.png",
        )
    return root


def btad(root: Path, categories: Iterable[str]) -> Path:
    extensions = {"01": ("bmp", "png"), "02": ("png", "png"), "03": ("bmp", "bmp")}
    for category in categories:
        image, mask = extensions[category]
        write_images(
            root / category,
            *(f"train/ok/{number:04d}.{image}" for number in range(4)),
            f"test/ok/0000.{image}",
            f"test/ko/0000.{image}",
            f"test/ko/0001.{image}",
            f"ground_truth/ko/0000.{mask}",
            f"ground_truth/ko/0001.{mask}",
        )
    return root


TREES: dict[str, list[Tree]] = {
    "mvtec-ad": [mvtec_ad],
    "visa": [visa_table, visa_folders, visa_ok_ko],
    "mpdd": [mpdd],
    "btad": [btad],
}


def whole(name: str, tree: Tree, root: Path) -> tuple[Recipe, Path]:
    """A shipped recipe and a tree of all its categories."""
    recipe = Recipe.load(name)
    return recipe, tree(root, recipe.categories)


def parts_table(recipe: Recipe, photographs: Path, root: Path, way: str) -> Recipe:
    """Lists the generated photographs in a table, root/lists/parts.csv.

    Args:
        recipe: That of the photographs.
        photographs: Where they lie.
        root: Of the table.
        way: How it names them and their masks: `absolute`, `dots` from the folder of the table,
            or `windows`, relative to it and with backslashes.

    Returns:
        The recipe that reads it.
    """
    (root / "lists").mkdir(parents=True)
    if way == "windows":
        photographs = Path(shutil.copytree(photographs, root / "lists/photographs"))

    def named(path: Path) -> str:
        if not path.exists():
            return ""
        name = str(path) if way == "absolute" else os.path.relpath(path, root / "lists")
        return name.replace("/", "\\") if way == "windows" else name

    rows = []
    for path in sorted(photographs.glob("*/t*/*/*.png")):
        category, split, group = path.relative_to(photographs).parts[:3]
        mask = photographs / category / "ground_truth" / group / f"{path.stem}_mask.png"
        label = group if group == "good" else "bad/scratch"
        rows.append(f"{named(path)},{category},{label},{split},{named(mask)}\n")
    (root / "lists/parts.csv").write_text("".join(rows))
    layout = {
        "layout": "table",
        "table": "lists/parts.csv",
        "columns": ["image", "category", "label", "split", "mask"],
        "image": "image",
        "category": "category",
        "label": "label",
        "split": "split",
        "mask": "mask",
        "normal": "good",
        "anomalous": "bad/scratch",
    }
    content = recipe.model_dump()
    return Recipe.parse(content | {"data": content["data"] | {"images": layout}}, where="test")
