"""What the page of a corpus shows of each category."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_erosion

from sia_gen.corpus.parsing import Sample
from sia_gen.corpus.schema import MASK, NO_EDIT
from sia_gen.diffusion.readiness import noise_level
from sia_gen.images.loading import Pixels, to_picture
from sia_gen.inspection.distance import NormalBank, NormalImages, enlarge, nearest
from sia_gen.inspection.survey import THUMBNAIL, Survey, evenly_spaced
from sia_gen.report.page import Bars, Chart, Figure, Level, Section
from sia_gen.runtime.progress import in_percent

ROWS, COLUMNS = 4, 8
BINS = 16
# Quantiles between which the band of a chart lies.
SPREAD = (0.1, 0.9)
# More samples than this share are not near real images by chance.
COPIES_BY_CHANCE = 0.05
SHOWN_PAIRS = 6
SHOWN_TWINS, TWINS_PER_ROW = 20, 2
AREA_BINS = 5
# Visible on grey and on most colours.
OUTLINE = (255, 40, 40)

Numbers = NDArray[np.float64]


def category_sections(
    name: str, survey: Survey, normal: NormalImages | None, bank: NormalBank | None
) -> list[Section]:
    """Describes the samples of a category, and compares them with the normal images if given."""
    parts = _by_title(name, survey)
    sections = [_samples_section(title, part) for title, part in parts.items()]
    if normal is None or bank is None:
        table = [["", "samples"], *map(list, sample_statistics(survey.pixels).items())]
        hint = "Distances and copies need the normal images: give their folder with --data."
        text = f"{hint} {_duplicates_text(survey)}"
        return [*sections, Section(title=f"{name}: statistics", text=text, table=table)]
    size = normal.reference.shape[-1]
    for title, part in parts.items():
        large = enlarge([to_picture(image) for image in part.pixels], size)
        sections.append(_distance_section(title, part, large, normal, bank))
    large = enlarge([to_picture(image) for image in survey.pixels], size)
    return [*sections, _copies_section(name, survey, large, normal, bank)]


def twins_sections(name: str, survey: Survey, useful_areas: tuple[float, float]) -> list[Section]:
    """Shows the twins of a category by perturbation; see `_twins_section`."""
    parts = _by_title(name, survey)
    return [_twins_section(title, part, useful_areas) for title, part in parts.items()]


def _by_title(name: str, survey: Survey) -> dict[str, Survey]:
    """Returns the samples of each perturbation, by a title that tells them apart."""
    parts = survey.by_perturbation()
    return {f"{name}, {kind}" if len(parts) > 1 else name: part for kind, part in parts.items()}


def _twins_section(name: str, survey: Survey, useful_areas: tuple[float, float]) -> Section:
    """Shows twins of a category with the outlines of their masks, and the areas of all masks.

    Masks are useful if they cover a share of the pixels between `useful_areas`.
    """
    low, high = useful_areas
    figures = [
        _twin_figures(survey.examined[place], survey)
        for place in evenly_spaced(SHOWN_TWINS, len(survey.examined))
    ]
    table = [["masks", "twins", "mean area"]]
    for label, areas in (*_areas_by_use(survey.areas, low, high), *_areas_by_strength(survey)):
        table.append([label, str(len(areas)), in_percent(areas.mean(), 2) if len(areas) else ""])
    return Section(
        title=f"{name}: twins",
        text=(
            "Three pictures each: the normal image, the abnormal one, and the outline of its mask. "
            f"Masks that cover less than {in_percent(low, 2)} or more than {in_percent(high)} of "
            "the image are of no use: 'fit-realnet' and 'compose' leave their twins out."
        ),
        figures=[
            [figure for twins in figures[start : start + TWINS_PER_ROW] for figure in twins]
            for start in range(0, len(figures), TWINS_PER_ROW)
        ],
        table=table,
    )


def sample_statistics(images: Pixels) -> dict[str, str]:
    """Returns figures of images (N, C, H, W), 0 to 255, by their names in words."""
    # One after another, because in floating point all of them need many times the memory.
    per_image = [
        (one.mean(), one.std(), noise_level(one[None])) for one in (image / 255 for image in images)
    ]
    brightness, contrast, noise = np.transpose(per_image)
    return {
        "mean brightness, 0 to 1": f"{brightness.mean():.3f}",
        "its spread between images": f"{brightness.std():.3f}",
        "contrast within an image": f"{contrast.mean():.3f}",
        "noise of the finest detail": f"{np.median(noise):.4f}",
    }


def distance_chart(
    strengths: Sequence[float],
    distances: Sequence[Any],
    levels: list[Level],
    chosen: tuple[float, float] | None = None,
) -> Chart:
    """Draws the median distance at each strength, and the band that holds eight in ten samples."""
    low, middle, high = (
        [float(np.quantile(found, quantile)) for found in distances]
        for quantile in (SPREAD[0], 0.5, SPREAD[1])
    )
    return Chart(
        x=list(strengths),
        low=low,
        middle=middle,
        high=high,
        levels=levels,
        chosen=chosen,
        x_label="strength",
        y_label="Distance from normal images: the median, and where eight in ten lie",
    )


def outlined(image: Image.Image, mask: Image.Image) -> Image.Image:
    """Draws the border of a mask on an image of the same size; mode RGB."""
    pixels, marked = np.array(image.convert("RGB")), np.asarray(mask) > 0
    pixels[marked & ~binary_erosion(marked)] = OUTLINE
    return Image.fromarray(pixels)


def _samples_section(name: str, survey: Survey) -> Section:
    """Shows samples in rows of growing strength, and a histogram of the strengths."""
    strengths = survey.examined_strengths
    # Rows are full before there is another.
    count = min(ROWS, -(-len(strengths) // COLUMNS))
    parts = np.array_split(np.arange(len(strengths)), count)
    rows = [part[evenly_spaced(COLUMNS, len(part))] for part in parts]
    bars = None
    if survey.strengths.min() < survey.strengths.max():
        counts, edges = np.histogram(survey.strengths, bins=BINS)
        bars = Bars(counts.tolist(), float(edges[0]), float(edges[-1]), "samples by strength")
    return Section(
        title=name,
        text=f"{len(survey.strengths)} samples, each with its strength below.",
        figures=[
            [_thumbnail(survey.pixels[place], f"{strengths[place]:.3g}") for place in row]
            for row in rows
        ],
        bars=bars,
    )


def _distance_section(
    name: str, survey: Survey, large: Pixels, normal: NormalImages, bank: NormalBank
) -> Section:
    """Compares distances from the normal images, and pixels."""
    distances, apart = bank.distances(large), bank.distances(normal.apart)
    samples, real = sample_statistics(survey.pixels), sample_statistics(normal.small)
    samples["distance from normal images"] = f"{np.median(distances):.2f}"
    real["distance from normal images"] = f"{np.median(apart):.2f}"
    strengths, charts = survey.examined_strengths, []
    if strengths[0] < strengths[-1]:
        parts = np.array_split(np.arange(len(strengths)), min(BINS // 2, len(strengths)))
        level = Level(float(np.quantile(apart, 0.95)), "95 % of normal images are below")
        means = [float(np.mean(strengths[part])) for part in parts]
        charts = [distance_chart(means, [distances[part] for part in parts], [level])]
    return Section(
        title=f"{name}: distance from the normal images",
        text=f"Measured on {len(distances)} samples and {len(apart)} normal images kept apart.",
        table=[["", "samples", "normal images"]]
        + [[label, value, real[label]] for label, value in samples.items()],
        charts=charts,
    )


def _copies_section(
    name: str, survey: Survey, large: Pixels, normal: NormalImages, bank: NormalBank
) -> Section:
    """Shows the samples that are nearest to a real image, and counts those that are too near."""
    real = bank.summaries(np.concatenate([normal.reference, normal.apart]))
    numbers, distances = nearest(bank.summaries(large), real)
    _, between = nearest(real, real, others=True)
    limit = float(np.quantile(between, 0.01))
    near = int((distances < limit).sum())
    verdict = "as it happens by chance"
    if near > COPIES_BY_CHANCE * len(distances):
        verdict = "more than happen by chance: the model may repeat its training images"
    pairs: list[Figure] = []
    for place in np.argsort(distances)[:SHOWN_PAIRS]:
        key, number = survey.examined[place][0]["key"], numbers[place]
        pairs += [
            _thumbnail(survey.pixels[place], f"{key}: {distances[place]:.2f}"),
            _thumbnail(normal.small[number], normal.paths[number].name),
        ]
    return Section(
        title=f"{name}: copies",
        text=(
            f"{near} of {len(distances)} samples are nearer to a real image than all but one in a "
            f"hundred normal images are to another ({limit:.2f}), {verdict}. The pairs are the "
            f"samples nearest to a real image, each before that image. {_duplicates_text(survey)}"
        ),
        figures=[pairs[start : start + SHOWN_PAIRS] for start in range(0, len(pairs), SHOWN_PAIRS)],
    )


def _duplicates_text(survey: Survey) -> str:
    if not survey.duplicates:
        return f"No two of all {len(survey.strengths)} samples are equal."
    groups = "; ".join(" = ".join(keys) for keys in survey.duplicates[:5])
    return f"{len(survey.duplicates)} groups of samples are equal pixel by pixel: {groups}."


def _thumbnail(pixels: Pixels, caption: str) -> Figure:
    return Figure.small(to_picture(pixels), caption, THUMBNAIL)


def _twin_figures(sample: Sample, survey: Survey) -> list[Figure]:
    """Shows the normal image, the abnormal one, and this with the outline of the mask."""
    metadata, images = sample
    normal, abnormal = images[f"normal.{survey.form.format}"], images[survey.form.picture]
    return [
        Figure(normal, "normal"),
        Figure(abnormal, _cause(metadata)),
        Figure(outlined(abnormal, images[MASK]), f"mask of {in_percent(metadata['mask_area'], 1)}"),
    ]


def _cause(metadata: dict[str, Any]) -> str:
    """Describes what makes a twin abnormal."""
    strength = f"strength {metadata['strength']:.3g}"
    return strength if metadata["edit"] == NO_EDIT else f"{metadata['edit']}, {strength}"


def _areas_by_use(areas: Numbers, low: float, high: float) -> Iterator[tuple[str, Numbers]]:
    yield "all", areas
    yield "empty", areas[areas == 0]
    yield f"not empty, below {in_percent(low, 2)}", areas[(areas > 0) & (areas < low)]
    yield f"above {in_percent(high)}", areas[areas > high]


def _areas_by_strength(survey: Survey) -> Iterator[tuple[str, Numbers]]:
    """Yields areas in ranges of strength with as many samples each; none if all are equal."""
    if survey.strengths.min() == survey.strengths.max():
        return
    order = np.argsort(survey.strengths, kind="stable")
    for part in np.array_split(order, min(AREA_BINS, len(order))):
        low, high = survey.strengths[part[0]], survey.strengths[part[-1]]
        yield f"strength {low:.3g} to {high:.3g}", survey.areas[part]
