"""Can an eye tell twins from real defects? Twenty of each, mixed, for a person to sort.

    python benchmarks/blind.py TWINS --recipe demo --category mono

TWINS is a corpus of twins. `blind.png` shows them with as many real defects, at the same size and
in random order, 8 in a row; `blind.json` says which of them, row by row, are real. `forty.png`
shows the next forty twins above their masks.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

from sia_gen.config.recipe import Recipe
from sia_gen.corpus.reading import SampleReader
from sia_gen.corpus.schema import MASK
from sia_gen.images.listing import data_root, list_labelled_images
from sia_gen.images.loading import ImageSpec, load_image, to_picture
from sia_gen.report.pictures import contact_sheet

EACH, SHOWN, COLUMNS = 20, 40, 8


def main() -> None:
    """Writes the pictures and the answers into the current folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("twins", type=Path)
    parser.add_argument("--recipe", default="demo")
    parser.add_argument("--category", default="mono")
    options = parser.parse_args()
    recipe, rng = Recipe.load(options.recipe), random.SystemRandom()
    reader = SampleReader(options.twins, recipe.dataset, options.category)
    spec = ImageSpec.of(recipe, reader.form.image_size)
    tests = list_labelled_images(recipe, data_root(recipe, None), options.category)
    real = rng.sample([test.path for test in tests if test.label], EACH)
    twins = [reader.read(number)[1] for number in range(EACH + SHOWN)]
    mixed = [(True, to_picture(load_image(path, spec))) for path in real]
    mixed += [(False, images[reader.form.picture]) for images in twins[:EACH]]
    rng.shuffle(mixed)
    pictures = [picture for _, picture in mixed]
    rows = [pictures[first : first + COLUMNS] for first in range(0, len(pictures), COLUMNS)]
    contact_sheet(rows).save("blind.png")
    Path("blind.json").write_text(json.dumps([is_real for is_real, _ in mixed]))
    rows = []
    for first in range(EACH, EACH + SHOWN, COLUMNS):
        some = twins[first : first + COLUMNS]
        rows += [[images[name] for images in some] for name in (reader.form.picture, MASK)]
    contact_sheet(rows).save("forty.png")


if __name__ == "__main__":
    main()
