"""What the page of a corpus shows of each category."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sia_gen.diffusion.readiness import noise_level
from sia_gen.images.loading import to_picture
from sia_gen.inspection.distance import NormalBank, Pixels, nearest
from sia_gen.inspection.normal import NormalImages, enlarge
from sia_gen.inspection.strength_page import distance_chart
from sia_gen.inspection.survey import THUMBNAIL, Survey
from sia_gen.report.page import Bars, Chart, Figure, Level, Section

ROWS, COLUMNS = 4, 8
BINS = 16
# Fewer than this share of the samples are as near as copies by chance.
COPIES_BY_CHANCE = 0.05
SHOWN_PAIRS = 6


def without_normal(name: str, survey: Survey) -> list[Section]:
    """What can be shown without the normal images."""
    figures = sample_statistics(survey.examined)
    table = [["", "samples"], *([label, value] for label, value in figures.items())]
    hint = "Distances and copies need the normal images: give their folder with --data."
    return [
        contact_sheet(name, survey),
        Section(title=f"{name}: statistics", text=f"{hint} {duplicates_text(survey)}", table=table),
    ]


def category_sections(
    name: str, survey: Survey, normal: NormalImages, bank: NormalBank
) -> list[Section]:
    """What there is to see of a category."""
    size = normal.reference.shape[-1]
    large = enlarge([to_picture(image) for image in survey.examined], size)
    return [
        contact_sheet(name, survey),
        distance_section(name, survey, large, normal, bank),
        copies_section(name, survey, large, normal, bank),
    ]


def contact_sheet(name: str, survey: Survey) -> Section:
    """Samples in rows of growing strength, and how many there are of which strength."""
    rows = [
        part[np.linspace(0, len(part) - 1, min(COLUMNS, len(part))).round().astype(int)]
        for part in np.array_split(np.arange(len(survey.keys)), ROWS)
        if len(part)
    ]
    counts, edges = np.histogram(survey.strengths, bins=BINS)
    constant = survey.strengths.min() == survey.strengths.max()
    return Section(
        title=name,
        text=f"{len(survey.strengths)} samples; below each its strength.",
        figures=[
            [
                thumbnail(survey.examined[place], f"{survey.examined_strengths[place]:.3f}")
                for place in row
            ]
            for row in rows
        ],
        bars=None
        if constant
        else Bars(counts.tolist(), float(edges[0]), float(edges[-1]), "samples by strength"),
    )


def distance_section(
    name: str, survey: Survey, large: Pixels, normal: NormalImages, bank: NormalBank
) -> Section:
    """How far samples are from the normal images, and how their pixels compare."""
    distances, apart = bank.distances(large), bank.distances(normal.apart)
    samples, real = sample_statistics(survey.examined), sample_statistics(normal.small)
    samples["distance from normal images"] = f"{np.median(distances):.2f}"
    real["distance from normal images"] = f"{np.median(apart):.2f}"
    level = Level(float(np.quantile(apart, 0.95)), "95 % of normal images are below")
    return Section(
        title=f"{name}: distance from the normal images",
        text=f"Measured on {len(distances)} samples and {len(apart)} normal images kept apart.",
        table=[["", "samples", "normal images"]]
        + [[label, value, real[label]] for label, value in samples.items()],
        charts=binned_chart(survey.examined_strengths, distances, level),
    )


def binned_chart(
    strengths: NDArray[np.float64], distances: NDArray[np.float64], level: Level
) -> list[Chart]:
    """The chart of distances by strength; none if all strengths are equal."""
    if strengths[0] == strengths[-1]:
        return []
    parts = [part for part in np.array_split(np.arange(len(strengths)), BINS // 2) if len(part)]
    middles = [float(np.mean(strengths[part])) for part in parts]
    return [distance_chart(middles, [distances[part] for part in parts], [level])]


def copies_section(
    name: str, survey: Survey, large: Pixels, normal: NormalImages, bank: NormalBank
) -> Section:
    """The samples that are most like a real image, beside it, and those that are equal."""
    real = bank.summaries(np.concatenate([normal.reference, normal.apart]))
    which, how_far = nearest(bank.summaries(large), real)
    _, between = nearest(real, real, others=True)
    limit = float(np.quantile(between, 0.01))
    near = int((how_far < limit).sum())
    verdict = "as it happens by chance"
    if near > COPIES_BY_CHANCE * len(how_far):
        verdict = "more than chance would have it: the model may repeat its training images"
    pairs = [
        figure
        for place in np.argsort(how_far)[:SHOWN_PAIRS]
        for figure in (
            thumbnail(survey.examined[place], f"{survey.keys[place]}: {how_far[place]:.2f}"),
            thumbnail(normal.small[which[place]], normal.paths[which[place]].name),
        )
    ]
    return Section(
        title=f"{name}: copies",
        text=(
            f"{near} of {len(how_far)} samples are nearer to a real image than all but one in a "
            f"hundred normal images are to another ({limit:.2f}), {verdict}. The pairs are the "
            f"samples most like a real image, each before that image. {duplicates_text(survey)}"
        ),
        figures=[pairs[start : start + SHOWN_PAIRS] for start in range(0, len(pairs), SHOWN_PAIRS)],
    )


def sample_statistics(images: Pixels) -> dict[str, str]:
    """Figures of images (N, C, H, W), 0 to 255, in words."""
    # One after another: all of them in floating point are many times as large as their pixels.
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


def duplicates_text(survey: Survey) -> str:
    """Which samples are equal."""
    if not survey.duplicates:
        return f"No two of all {len(survey.strengths)} samples are equal."
    groups = "; ".join(" = ".join(keys) for keys in survey.duplicates[:5])
    return f"{len(survey.duplicates)} groups of samples are equal pixel by pixel: {groups}."


def thumbnail(pixels: Pixels, caption: str) -> Figure:
    """An image (C, H, W), made small."""
    picture = to_picture(pixels)
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    return Figure(picture, caption)
