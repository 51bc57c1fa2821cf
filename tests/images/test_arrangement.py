"""The arrangements in docs/own-images.md, as folders on disk: every image has the right purpose."""

from __future__ import annotations

from pathlib import Path

import pytest

from sia_gen.config.recipe import Recipe
from sia_gen.images.listing import split_images
from sia_gen.images.recognition import recipe_for_folder
from tests.images.trees import mvtec_ad, visa_table, write_images

# What serves which purpose: normal ones, set apart to validate, to test, and defects by name.
Purposes = tuple[list[str], list[str], list[str], dict[str, list[str]]]


def purposes(root: Path) -> Purposes:
    """What a folder's recipe, saved and read again, takes its images for."""
    made = recipe_for_folder(root)
    (root.parent / "recipe.yaml").write_text(made.to_yaml())
    recipe = Recipe.load(root.parent / "recipe.yaml")
    assert recipe == made
    images = split_images(recipe, root, recipe.categories[0])

    def below(paths: list[Path]) -> list[str]:
        return sorted(path.relative_to(root).as_posix() for path in paths)

    defects: dict[str, list[str]] = {}
    for test in images.test_anomalous:
        defects.setdefault(test.defect, []).append(test.path.relative_to(root).as_posix())
    if recipe.data.images.validation is None:
        return below(images.fit + images.validation), [], below(images.test_normal), defects
    return below(images.fit), below(images.validation), below(images.test_normal), defects


GOOD = [f"good/{number}.png" for number in range(4)]
CASES: dict[str, tuple[list[str], Purposes]] = {
    "flat": (["0.png", "1.png"], (["0.png", "1.png"], [], [], {})),
    "images of a folder named so": (
        ["images/0.png", "images/1.png"],
        (["images/0.png", "images/1.png"], [], [], {}),
    ),
    "good and stray ones": ([*GOOD, "overview.png"], (GOOD, [], [], {})),
    "train/good and stray ones": (
        ["train/good/0.png", "train/good/1.png", "overview.png", "train/overview.png"],
        (["train/good/0.png", "train/good/1.png"], [], [], {}),
    ),
    "test/ok": (
        ["train/ok/0.png", "test/ok/1.png", "test/ng/2.png"],
        (["train/ok/0.png"], [], ["test/ok/1.png"], {"ng": ["test/ng/2.png"]}),
    ),
    "numbers beside good ones to test": (
        ["train/good/0.png", "test/good/1.png", "test/01/2.png", "test/2/3.png"],
        (
            ["train/good/0.png"],
            [],
            ["test/good/1.png"],
            {"01": ["test/01/2.png"], "2": ["test/2/3.png"]},
        ),
    ),
    "masks beside, in German": (
        [*GOOD, "Ausschuß/Öl 1/2024/0.png", "Ausschuß/Öl 1/2024/0_Maske.jpg"],
        (
            ["good/0.png", "good/2.png"],
            [],
            ["good/1.png", "good/3.png"],
            {"Öl 1": ["Ausschuß/Öl 1/2024/0.png"]},
        ),
    ),
    "capitals": (
        ["Train/OK/0.png", "TEST/Ok/1.png", "TEST/NG/2.png", "TEST/NG/3.JPG"],
        (
            ["Train/OK/0.png"],
            [],
            ["TEST/Ok/1.png"],
            {"NG": ["TEST/NG/2.png", "TEST/NG/3.JPG"]},
        ),
    ),
    "German": (
        ["Gutteile/0.png", "test/i.O./1.png", "test/n.i.O./2.png", "test/Kratzer/3.png"],
        (
            ["Gutteile/0.png"],
            [],
            ["test/i.O./1.png"],
            {"n.i.O.": ["test/n.i.O./2.png"], "Kratzer": ["test/Kratzer/3.png"]},
        ),
    ),
    "kinds of any name under test": (
        ["train/good/0.png", "test/good/1.png", "test/typ_a/2.png", "test/猫/3.png"],
        (
            ["train/good/0.png"],
            [],
            ["test/good/1.png"],
            {"typ_a": ["test/typ_a/2.png"], "猫": ["test/猫/3.png"]},
        ),
    ),
    "days within kinds": (
        ["good/day1/0.png", "good/day2/0.png", "test/good/0.png", "test/dent/day1/a/0.png"],
        (
            ["good/day1/0.png", "good/day2/0.png"],
            [],
            ["test/good/0.png"],
            {"dent": ["test/dent/day1/a/0.png"]},
        ),
    ),
    "dates around good and bad": (
        [
            "2024-05-13/OK/0.png",
            "2024-05-14/OK/1.png",
            "13.05.2024/test/OK/2.png",
            "2024/05/13/test/NG/3.png",
            "Lot 7/test/Scratch/4.png",
        ],
        (
            ["2024-05-13/OK/0.png", "2024-05-14/OK/1.png"],
            [],
            ["13.05.2024/test/OK/2.png"],
            {"NG": ["2024/05/13/test/NG/3.png"], "Scratch": ["Lot 7/test/Scratch/4.png"]},
        ),
    ),
    "views beside good and bad": (
        [
            "train/ok_front/0.png",
            "train/def_front/1.png",
            "test/ok_front/2.png",
            "test/def_top/3.png",
        ],
        (
            ["train/ok_front/0.png"],
            [],
            ["test/ok_front/2.png"],
            {"def_top": ["test/def_top/3.png"]},
        ),
    ),
    "folders of storage and systems": (
        [
            "good/0.png",
            "good/1.png",
            "good/@eaDir/0.png/SYNOPHOTO_THUMB_M.jpg",
            "good/Thumbnails/0.jpg",
            "__MACOSX/good/0.png",
            "$RECYCLE.BIN/2.png",
        ],
        (["good/0.png", "good/1.png"], [], [], {}),
    ),
    "previews and heat maps": (
        [
            "good/0.png",
            "good/preview/0.png",
            "test/good/1.png",
            "test/heatmaps/2.png",
            "test/bad/2.png",
            "test/bad/overlay/2.png",
        ],
        (["good/0.png"], [], ["test/good/1.png"], {"bad": ["test/bad/2.png"]}),
    ),
    "channels of depth": (
        [
            *(
                f"{place}/{channel}/0.png"
                for place in ("train/good", "test/good", "test/hole")
                for channel in ("rgb", "xyz")
            ),
        ],
        (["train/good/rgb/0.png"], [], ["test/good/rgb/0.png"], {"hole": ["test/hole/rgb/0.png"]}),
    ),
    "negations": (
        [
            "No crack/0.png",
            "test/uncracked/1.png",
            "test/senza difetti/2.png",
            "test/cracked/3.png",
        ],
        (
            ["No crack/0.png"],
            [],
            ["test/senza difetti/2.png", "test/uncracked/1.png"],
            {"cracked": ["test/cracked/3.png"]},
        ),
    ),
    "names that say what the folder says already": (
        ["good/NG_0.png", "test/good/ng 1.png", "test/bad/ok 2.png"],
        (["good/NG_0.png"], [], ["test/good/ng 1.png"], {"bad": ["test/bad/ok 2.png"]}),
    ),
    "parts that are called as a defect": (
        ["chip_01.png", "chip_02.png"],
        (["chip_01.png", "chip_02.png"], [], [], {}),
    ),
    "kinds within bad": (
        ["good/0.png", "test/good/1.png", "test/bad/2.png", "test/bad/cut/3.png"],
        (
            ["good/0.png"],
            [],
            ["test/good/1.png"],
            {"bad": ["test/bad/2.png"], "cut": ["test/bad/cut/3.png"]},
        ),
    ),
    "images directly in train": (
        ["train/0.png", "train/1.png", "test/good/0.png", "test/hole/1.png"],
        (["train/0.png", "train/1.png"], [], ["test/good/0.png"], {"hole": ["test/hole/1.png"]}),
    ),
    "validation": (
        ["training/good/0.png", "validation/good/1.png", "test/good/2.png", "test/ko/3.png"],
        (
            ["training/good/0.png"],
            ["validation/good/1.png"],
            ["test/good/2.png"],
            {"ko": ["test/ko/3.png"]},
        ),
    ),
    "validation without folders of good ones": (
        ["train/0.png", "val/1.png", "test/good/2.png", "test/bad/3.png"],
        (["train/0.png"], ["val/1.png"], ["test/good/2.png"], {"bad": ["test/bad/3.png"]}),
    ),
    "defects in validation": (
        ["train/good/0.png", "val/bad/1.png", "test/good/2.png", "test/bad/3.png"],
        (["train/good/0.png"], [], ["test/good/2.png"], {"bad": ["test/bad/3.png"]}),
    ),
    "defects among those to learn from": (
        ["train/good/0.png", "train/bad/1.png", "test/good/2.png", "test/bad/3.png"],
        (["train/good/0.png"], [], ["test/good/2.png"], {"bad": ["test/bad/3.png"]}),
    ),
    "splits and verdicts in one name": (
        ["train_good/0.png", "test_good/1.png", "test_bad/2.png", "Crack_Test/3.png", "old/4.png"],
        (
            ["train_good/0.png"],
            [],
            ["test_good/1.png"],
            {"test_bad": ["test_bad/2.png"], "Crack_Test": ["Crack_Test/3.png"]},
        ),
    ),
    "split within good and bad": (
        ["good/train/0.png", "good/test/1.png", "bad/test/2.png", "bad/test/x/3.png"],
        (
            ["good/train/0.png"],
            [],
            ["good/test/1.png"],
            {"bad": ["bad/test/2.png", "bad/test/x/3.png"]},
        ),
    ),
    "two names for good": (["good/0.png", "OK/1.png"], (["OK/1.png", "good/0.png"], [], [], {})),
    "folders around": (
        ["data/images/good/0.png", "data/images/good/1.png"],
        (["data/images/good/0.png", "data/images/good/1.png"], [], [], {}),
    ),
    "many formats": (
        [f"good/0.{one}" for one in ("bmp", "gif", "jp2", "jpeg", "pgm", "tif", "webp")],
        (
            [f"good/0.{one}" for one in ("bmp", "gif", "jp2", "jpeg", "pgm", "tif", "webp")],
            [],
            [],
            {},
        ),
    ),
    "special characters": (
        ["good/[1] {x}/0.png", "test/100 % [a]{b}/1.png", "test/good/2.png"],
        (
            ["good/[1] {x}/0.png"],
            [],
            ["test/good/2.png"],
            {"100 % [a]{b}": ["test/100 % [a]{b}/1.png"]},
        ),
    ),
    "empty folders": (
        ["0.png", "1.png", "bad/", "good/", "test/good/"],
        (["0.png", "1.png"], [], [], {}),
    ),
    "one image": (["good/0.png"], (["good/0.png"], [], [], {})),
    "masks of images that are not there": (
        ["good/0.png", "good/1.png", "bad/2.png", "bad/2_mask.png", "bad/3_mask.png", "4_mask.png"],
        (["good/0.png"], [], ["good/1.png"], {"bad": ["bad/2.png"]}),
    ),
    "hidden files": (
        ["good/0.png", "good/._0.png", "good/.ipynb_checkpoints/0.png", "test/.x/1.png"],
        (["good/0.png"], [], [], {}),
    ),
}


def make(root: Path, names: list[str]) -> Path:
    write_images(root, *(name for name in names if not name.endswith("/")))
    for name in names:
        if name.endswith("/"):
            (root / name).mkdir(parents=True, exist_ok=True)
    return root


@pytest.mark.parametrize("case", CASES)
def test_every_image_serves_its_purpose(case: str, tmp_path: Path) -> None:
    names, expected = CASES[case]
    assert purposes(make(tmp_path / "photos", names)) == expected


def test_category_of_a_known_data_set_alone(tmp_path: Path) -> None:
    root = visa_table(tmp_path / "visa", ["candle"]) / "candle"
    normal, _, tested, defects = purposes(root)
    assert len(normal + tested) == 5
    assert defects == {"Anomaly": ["Data/Images/Anomaly/000.JPG"]}
    root = mvtec_ad(tmp_path / "mvtec", ["bottle"]) / "bottle"
    assert purposes(root)[3].keys() == {"broken_large", "contamination"}


def test_links_to_images_and_folders_are_followed(tmp_path: Path) -> None:
    write_images(tmp_path, "disk/a/0.png", "disk/b/1.png", "disk/2.png", "photos/test/good/0.png")
    root = tmp_path / "photos"
    (root / "good").symlink_to(tmp_path / "disk/a")
    (root / "test/bad").symlink_to(tmp_path / "disk/b")
    (root / "test/good/2.png").symlink_to(tmp_path / "disk/2.png")
    (root / "test/again").symlink_to("..")
    assert purposes(root) == (
        ["good/0.png"],
        [],
        ["test/good/0.png", "test/good/2.png"],
        {"bad": ["test/bad/1.png"]},
    )


def test_recipe_of_plain_folders_stays_as_short_as_it_was(tmp_path: Path) -> None:
    mvtec_ad(tmp_path, ["gear"])
    images = recipe_for_folder(tmp_path / "gear").data.images
    assert images.model_dump(exclude_defaults=True) == {
        "normal": "train/good/*",
        "test_normal": "test/good/*",
        "test_anomalous": "test/*/*",
        "mask": "ground_truth/{defect}/{stem}_mask.*",
    }
