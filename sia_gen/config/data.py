"""The sections of a recipe on where images are, and on their foreground."""

from pathlib import Path
from string import Formatter
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from sia_gen.errors import did_you_mean

Fraction = Annotated[float, Field(gt=0, lt=1)]
KernelSide = Annotated[int, Field(ge=0, le=128)]
UNKNOWN_KEY = "unknown_key"
NonSquare = Literal["crop", "stretch", "pad"]


class Section(BaseModel):
    """A part of a recipe, which cannot be changed after validation."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    @model_validator(mode="before")
    @classmethod
    def _check_keys(cls, content: Any) -> Any:
        for key, value in content.items() if isinstance(content, dict) else ():
            field = cls.model_fields.get(key)
            if field is None:
                hint = did_you_mean(str(key), cls.model_fields)
                raise PydanticCustomError(UNKNOWN_KEY, "unknown", {"key": key, "hint": hint})
            # Pydantic would read true as 1.
            values = value if isinstance(value, list | tuple) else [value]
            if field.annotation is not bool and any(isinstance(one, bool) for one in values):
                msg = f"'{key}' should not be true or false"
                raise ValueError(msg)
        return content


Patterns = str | Annotated[list[str], Field(min_length=1)]


def patterns_in(value: Patterns | None) -> list[str]:
    """Returns the patterns of a setting, which may have one, several or none."""
    if value is None:
        return []
    return [value] if isinstance(value, str) else value


class FolderLayout(Section):
    """Images that are sorted into folders. All patterns are globs below the root.

    In them, `**/` stands for any number of folders. Several patterns are a list. Files and folders
    whose names begin with a dot, and the outputs of sia-gen, are left out.
    """

    layout: Literal["folder"] = "folder"
    """Kind of the layout."""
    normal: Patterns
    """Pattern of the normal images to learn from, with `{category}` in it."""
    validation: Patterns | None = None
    """Pattern of the normal images that choose the best weights and the threshold. Without it some
    of the normal images are held out for this."""
    test_normal: Patterns | None = None
    """Pattern of the normal test images. Without it some of the normal images are held out for the
    test, if there are anomalous test images."""
    test_anomalous: Patterns | None = None
    """Pattern of the anomalous test images; the name of an image's folder is its defect, or if the
    pattern has `**`, that of the folder before it."""
    mask: Patterns | None = None
    """Pattern of the ground-truth mask of an anomalous image, with `{category}`, `{defect}`,
    `{stem}`, the name of the image without its extension, `{path}`, the same with the folders
    below that of the defect, `{folder}`, the folder of the image below the root, and `{parent}`,
    the folder around it. It may match a folder, whose masks are united. Of several patterns the
    first that finds a mask counts."""
    labels: Literal["folders", "masks"] = "folders"
    """What tells anomalous images from normal ones: their patterns, or their masks, so that an
    image is anomalous if its mask marks anything."""
    exclude: Patterns | None = None
    """Name of files and folders that are left out, with `*` in it, such as that of masks beside
    their images."""

    @model_validator(mode="after")
    def _patterns_work(self) -> Self:
        for setting in (self.normal, self.validation, self.test_normal, self.test_anomalous):
            for pattern in patterns_in(setting):
                _require_glob(pattern, "category")
        for pattern in patterns_in(self.mask):
            _require_glob(pattern, "category", "defect", "stem", "path", "folder", "parent")
        if self.labels == "masks" and self.mask is None:
            msg = "'labels' is masks, but 'mask' does not say where they are"
            raise ValueError(msg)
        return self


def _require_names(pattern: str, *names: str) -> None:
    """Raises ValueError if a pattern has other names than these in braces."""
    for _, name, width, conversion in Formatter().parse(pattern):
        # With a width, a name could become gigabytes long.
        if name is not None and (name not in names or width or conversion):
            msg = f"'{{{name}}}' is unknown or has a format"
            raise ValueError(msg)


def _require_glob(pattern: str, *names: str) -> None:
    """Raises ValueError unless a pattern with these names in braces is a relative glob."""
    try:
        _require_names(pattern, *names)
        # A glob finds nothing below a file, so only the pattern can raise an error.
        any(Path(__file__).glob(pattern.format(**dict.fromkeys(names, "x"))))
    except (ValueError, NotImplementedError) as error:
        known = ", ".join(f"{{{name}}}" for name in names)
        problem = f"'{pattern}' is not a pattern below the data root"
        msg = f"{problem}, with only {known} in braces ({error})"
        raise ValueError(msg) from error


class TableLayout(Section):
    """Images that a text file lists, one per line, with their label and category."""

    layout: Literal["table"]
    """Kind of the layout."""
    table: str
    """Path of the text file below the root."""
    header: bool = False
    """Whether the first line has the names of the columns."""
    columns: list[str]
    """Names of the columns, which commas or blanks separate."""
    folder: str | None = None
    """Folder below the root to which the paths in the table are relative. Without it they are
    relative to the folder of the table."""
    image: str
    """Name of the column with the paths of the images."""
    category: str
    """Name of the column with the categories."""
    label: str
    """Name of the column that distinguishes normal from anomalous images; its value for an
    anomalous image is its defect."""
    normal: str
    """Label of normal images."""
    anomalous: str | None = None
    """Label of anomalous images. Without it all that are not normal are anomalous, and their labels
    are the kinds of defects."""
    mask: str | None = None
    """Name of the column with the paths of the ground-truth masks."""
    split: str | None = None
    """Name of the column that says whether an image is for training or for the test."""
    train: str = "train"
    """Value of `split` for training images."""
    test: str = "test"
    """Value of `split` for test images."""

    @model_validator(mode="after")
    def _columns_exist(self) -> Self:
        for column in (self.image, self.category, self.label, self.mask, self.split):
            if column is not None and column not in self.columns:
                msg = f"column '{column}' is not among 'columns'"
                raise ValueError(msg)
        return self


Layout = Annotated[FolderLayout | TableLayout, Field(discriminator="layout")]


def _require_box(box: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    left, top, right, bottom = box
    if left >= right or top >= bottom:
        msg = "left and top come first, and are smaller than right and bottom"
        raise ValueError(msg)
    return box


Side = Annotated[int, Field(ge=0)]
Box = Annotated[tuple[Side, Side, Side, Side], AfterValidator(_require_box)]


class Tile(Section):
    """Squares of photographs, which models then take in place of whole photographs.

    They lie on a grid that covers the photograph; the last ones end at its edge.
    """

    size: Annotated[int, Field(ge=8)]
    """Side of a tile in pixels of the photograph, after `scale`."""
    overlap: Annotated[int, Field(ge=0)]
    """Pixels that neighbouring tiles share where photographs are scored; a quarter of `size` if not
    given. There anomaly maps pass smoothly from one tile to the next."""
    scale: Annotated[float, Field(gt=0, le=1)] | None = None
    """Scale to which photographs are reduced before they are cut. Without it the size of the
    photographs to learn from decides, and the recipe that is saved with a model has it."""

    @model_validator(mode="before")
    @classmethod
    def _overlap_is_a_quarter(cls, content: Any) -> Any:
        if not isinstance(content, dict) or content.get("overlap") is not None:
            return content
        size = content.get("size")
        if size is None:
            msg = "'data.tile.size' is missing, which --tile gives"
            raise ValueError(msg)
        return {**content, "overlap": size // 4 if isinstance(size, int) else 0}

    @model_validator(mode="after")
    def _tiles_advance(self) -> Self:
        if self.overlap >= self.size:
            msg = f"'overlap' {self.overlap} is not below 'size' {self.size}"
            raise ValueError(msg)
        return self


class Data(Section):
    """Where the images are, and which of them are used for what."""

    package: str | None = None
    """Installed Python package that contains the images, used without `--data`."""
    images: Layout
    """How the images are arranged below the root, the folder that `--data` names."""
    alternatives: list[Layout] = []
    """Other ways in which the images may be arranged; the first that fits the root is used."""
    names: dict[str, str] = {}
    """Names that the data set has for categories, by the names in this recipe, if they differ."""
    fit_fraction: Fraction = 0.7
    """Share of the shuffled normal images that is used for training, if the data set has anomalous
    but no normal test images; the others are test images."""
    validation_fraction: Fraction = 0.1
    """Share of the images for training that is held out to choose the best weights and the
    threshold."""
    split_seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of the shuffle."""
    non_square: NonSquare | None = None
    """What to do with images that are not square: `stretch` them, `pad` them with a plain border
    that never counts, or `crop` them, which loses what is beside the central square. Without it
    they are an error."""
    tile: Tile | None = None
    """Tiles to cut photographs into, so that small defects are seen; without it photographs are
    resized as a whole."""
    roi: Box | None = None
    """Region of interest: left, top, right and bottom in pixels of the photographs. It is cut out
    before anything else, so what is outside never counts."""
    ignore: str | None = None
    """Path of a mask of what never counts, in training, scores and metrics: white where photographs
    of its size are to be ignored. With `{stem}` in it, the name of an image without its extension,
    each image has its own mask, or none."""
    white: Annotated[int, Field(ge=1, le=65535)] | None = None
    """Value of white in images of 16 bits, such as 4095 if a camera uses 12 of them; larger values
    count as white. Without it the largest value in the images to learn from decides, and the recipe
    that is saved with a model has it."""
    unreadable: Literal["error", "skip"] = "error"
    """What to do with images that cannot be decoded: stop with an error, or leave them out and
    report how many there are. To leave them out, every file is decoded once before the work."""

    @model_validator(mode="after")
    def _masks_have_known_names(self) -> Self:
        if self.ignore is not None:
            _require_names(self.ignore, "stem")
        return self


class Foreground(Section):
    """Which pixels of a normal image are the object, where anomalies may be pasted."""

    method: Literal["none", "otsu", "triangle"]
    """Method that finds the threshold of the pixels; `none` takes the whole image as the object."""
    polarity: Literal["bright", "dark"] = "bright"
    """Whether the object is brighter or darker than the threshold."""
    channel: Literal["grey", "red", "green", "blue"] = "grey"
    """Channel that is compared with the threshold; `grey` is the luminance."""
    close: KernelSide = 0
    """Side of the square that closes gaps in the object, in pixels of an image of 256 x 256; 0 for
    none."""
    open: KernelSide = 0
    """Side of the square that then removes specks, in the same pixels; 0 for none."""
