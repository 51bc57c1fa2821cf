"""The section of a recipe that says where images are, and its rules for the foreground."""

from __future__ import annotations

from pathlib import Path
from string import Formatter
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Fraction = Annotated[float, Field(gt=0, lt=1)]
KernelSide = Annotated[int, Field(ge=0, le=128)]


class Section(BaseModel):
    """A part of a recipe: unknown keys are errors, and nothing changes after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _truth_is_no_number(cls, content: Any) -> Any:
        # Pydantic takes true for 1.
        for key, value in content.items() if isinstance(content, dict) else ():
            values = value if isinstance(value, list | tuple) else [value]
            field = cls.model_fields.get(key)
            misplaced = field is not None and field.annotation is not bool
            if misplaced and any(isinstance(one, bool) for one in values):
                msg = f"'{key}' should not be true or false"
                raise ValueError(msg)
        return content


class FolderLayout(Section):
    """Images sorted into folders; each entry is a glob below the root, with `{category}` in it.

    Attributes:
        normal: Normal images to learn from.
        test_normal: Normal images of the test. Without them a part of the normal images is held
            out, if there are anomalous ones to hold them against.
        test_anomalous: Anomalous images of the test; the folder each lies in names its defect.
        mask: The ground truth of an anomalous image, with `{defect}` and `{stem}`, its name
            without the extension, in it.
    """

    layout: Literal["folder"] = "folder"
    normal: str
    test_normal: str | None = None
    test_anomalous: str | None = None
    mask: str | None = None

    @model_validator(mode="after")
    def _patterns_work(self) -> Self:
        for pattern in (self.normal, self.test_normal, self.test_anomalous):
            if pattern is not None:
                require_glob(pattern, category="x")
        if self.mask is not None:
            require_glob(self.mask, category="x", defect="x", stem="x")
        return self


def require_glob(pattern: str, **names: str) -> None:
    """Raises ValueError unless the pattern, with these names filled in, is a relative glob."""
    try:
        require_plain(pattern)
        # Below a file there is nothing, so that only the pattern itself can go wrong.
        any(Path(__file__).glob(pattern.format(**names)))
    except (LookupError, AttributeError, ValueError, NotImplementedError) as error:
        known = ", ".join(f"{{{name}}}" for name in names)
        msg = f"'{pattern}' is no pattern below the data root with {known} in it ({error})"
        raise ValueError(msg) from error


def require_plain(pattern: str) -> None:
    """Raises ValueError if names in a pattern are to be formatted: to a billion letters, say."""
    for _, _, how, conversion in Formatter().parse(pattern):
        if how or conversion:
            msg = "names stand alone in their braces"
            raise ValueError(msg)


class TableLayout(Section):
    """Images listed in a text file, one per line, with their label and category.

    Attributes:
        table: The file, below the root.
        header: Whether its first line names the columns.
        columns: Their names; commas or blanks stand between them.
        folder: What the paths in it are relative to, below the root; the file's folder if None.
        image: The column of the images' paths.
        category: The column of the category.
        label: The column that tells normal images from anomalous ones, and names the defect.
        normal: Its value for normal images.
        anomalous: Its value for anomalous images.
        mask: The column of the ground truth's paths.
        split: The column that tells whether an image is for training or for the test.
        train: Its value for training.
        test: Its value for the test.
    """

    layout: Literal["table"]
    table: str
    header: bool = False
    columns: list[str]
    folder: str | None = None
    image: str
    category: str
    label: str
    normal: str
    anomalous: str
    mask: str | None = None
    split: str | None = None
    train: str = "train"
    test: str = "test"

    @model_validator(mode="after")
    def _columns_exist(self) -> Self:
        for column in (self.image, self.category, self.label, self.mask, self.split):
            if column is not None and column not in self.columns:
                msg = f"column '{column}' is not among 'columns'"
                raise ValueError(msg)
        return self


Layout = Annotated[FolderLayout | TableLayout, Field(discriminator="layout")]


class Data(Section):
    """Where the images are and which of them are used for what.

    Attributes:
        package: A Python package that contains the images, used when no `--data` is given.
        images: How the images are arranged below the root.
        alternatives: Other ways they may be arranged; the first that fits the root is taken.
        names: What the data set calls a category, where that is not its name in the recipe.
        fit_fraction: Share of the shuffled normal images used to fit, when the data set has no
            test split of its own.
        validation_fraction: Share of those kept back to choose the best weights and the threshold.
        split_seed: Seeds the shuffle.
        non_square: What to do with images that are not square; without it they are an error.
        unreadable: What to do with files that cannot be decoded: an error, or to leave them out,
            which is counted and reported. The others are used as if all could be read. It takes a
            look at every file before the work begins.
    """

    package: str | None = None
    images: Layout
    alternatives: list[Layout] = []
    names: dict[str, str] = {}
    fit_fraction: Fraction = 0.7
    validation_fraction: Fraction = 0.1
    split_seed: int = 0
    non_square: Literal["crop", "stretch"] | None = None
    unreadable: Literal["error", "skip"] = "error"


class Foreground(Section):
    """Which pixels of a normal image are the object, so that anomalies are put only there.

    Attributes:
        method: How the threshold is found; `none` takes the whole image.
        polarity: Whether the object is brighter than the threshold or not.
        channel: What is compared with it; `grey` is the luminance.
        close: Side of the square that closes gaps, pixels of an image of 256; 0 closes none.
        open: Likewise of the one that then removes specks.
    """

    method: Literal["none", "otsu", "triangle"]
    polarity: Literal["bright", "dark"] = "bright"
    channel: Literal["grey", "red", "green", "blue"] = "grey"
    close: KernelSide = 0
    open: KernelSide = 0
