from __future__ import annotations

import numpy as np
from PIL import Image

from sia_gen.report.pictures import CELL, GAP, TITLE_WIDTH, contact_sheet

BLACK, GREY = Image.new("L", (200, 200), 0), Image.new("RGB", (200, 200), (90, 90, 90))


def test_pictures_of_any_mode_stand_in_rows_on_white() -> None:
    pixels = np.asarray(contact_sheet([[BLACK, GREY], [GREY]]))
    assert pixels.shape == (2 * CELL + GAP, 2 * CELL + GAP, 3)
    assert (pixels[:CELL, :CELL] == 0).all()
    assert (pixels[:CELL, CELL + GAP :] == 90).all()
    assert (pixels[CELL + GAP :, :CELL] == 90).all()
    for white in (pixels[CELL : CELL + GAP], pixels[CELL:, CELL:], pixels[:, CELL : CELL + GAP]):
        assert (white == 255).all()


def test_titles_stand_on_the_left_of_their_rows() -> None:
    plain = np.asarray(contact_sheet([[BLACK], [BLACK]]))
    titled = np.asarray(contact_sheet([[BLACK], [BLACK]], ["", "strength 0.2"]))
    assert np.array_equal(titled[:, TITLE_WIDTH:], plain)
    assert (titled[:CELL, :TITLE_WIDTH] == 255).all()
    assert (titled[CELL + GAP :, :TITLE_WIDTH] < 128).any()


def test_pixels_of_small_pictures_stay_visible() -> None:
    small = Image.fromarray(np.arange(4, dtype=np.uint8).reshape(2, 2) * 60)
    sheet = contact_sheet([[small]], side=8)
    assert np.array_equal(np.asarray(sheet)[::4, ::4, 0], np.asarray(small))
