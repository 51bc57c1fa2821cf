"""Contact sheets: pictures of any size in rows, to be looked at together."""

from collections.abc import Sequence

from PIL import Image, ImageDraw

CELL, GAP, TITLE_WIDTH = 96, 4, 110


def contact_sheet(
    rows: Sequence[Sequence[Image.Image]], titles: Sequence[str] = (), *, side: int = CELL
) -> Image.Image:
    """Returns pictures as squares of `side` pixels in rows on white, mode RGB.

    Pictures that fit a whole number of times are enlarged without smoothing, so that their pixels
    stay visible. If there are titles, one per row, they stand on the left.
    """
    left, step = TITLE_WIDTH if titles else 0, side + GAP
    width = left + max(len(row) for row in rows) * step - GAP
    sheet = Image.new("RGB", (width, len(rows) * step - GAP), "white")
    for row, pictures in enumerate(rows):
        for column, picture in enumerate(pictures):
            fits = side % max(picture.size) == 0
            resampling = Image.Resampling.NEAREST if fits else Image.Resampling.LANCZOS
            cell = picture.convert("RGB").resize((side, side), resampling)
            sheet.paste(cell, (left + column * step, row * step))
    draw = ImageDraw.Draw(sheet)
    for row, title in enumerate(titles):
        draw.text((GAP, row * step + side / 2), title, fill="black", anchor="lm")
    return sheet
