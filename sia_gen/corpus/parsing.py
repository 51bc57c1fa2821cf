"""From the bytes of a shard to its samples: each member is what it should be, or an error.

A shard may come from anyone. So a member has to be a plain file with the right name and a plausible
size, an image is decoded only as the format in its name, and JSON has exactly the fields and values
it should have. Anything else is a `ValueError` that names the member.
"""

import contextlib
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import IO, TYPE_CHECKING, Any, cast

import numpy as np
from PIL import Image

from sia_gen.config.strength import EDITS, Strength
from sia_gen.corpus.plan import ShardRecord
from sia_gen.corpus.schema import MASK, NO_EDIT, SampleForm, json_schema
from sia_gen.corpus.shards import ENCODINGS
from sia_gen.errors import first_line
from sia_gen.io.files import parse_json

if TYPE_CHECKING:
    from _typeshed import SupportsRead

# The metadata of a sample, and its pictures by their extension, such as `mask.png`.
Sample = tuple[dict[str, Any], dict[str, Image.Image]]

# The name of a member of a tar file, its content, and the byte after it.
Member = tuple[str, bytes | None, int]

# Bytes per pixel that no format exceeds.
LARGEST_PIXEL = 4
# Bytes that surround the pixels; metadata take some hundreds.
LARGEST_REST = 1 << 16
LONGEST_NAME = 100
# Areas may have been summed in float32.
AREA_TOLERANCE = 1e-4
# The second is only a warning, unless warnings are errors.
BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)
# What Python's tarfile raises besides its own errors if bytes are not a tar file.
TAR_ERRORS = (tarfile.TarError, EOFError, ValueError, LookupError, OverflowError, RecursionError)


@dataclass(frozen=True)
class RawSample:
    """The members of a sample by extension, as they are in the shard."""

    index: int
    members: dict[str, bytes]
    end: int  # the byte after the last member, counted from where reading began


def read_members(stream: "SupportsRead[bytes]", largest: int) -> Iterator[Member]:
    """Streams the members of a tar file; raises `ValueError` if it is not a tar file.

    The content is None for anything but a plain file of at most `largest` bytes.
    """
    try:
        # Without compression: a megabyte of gzip may hold gigabytes.
        with tarfile.open(fileobj=cast("IO[bytes]", stream), mode="r|") as tar:
            for member in tar:
                # The holes of a sparse file take no space in the tar, but in memory.
                plain = member.isfile() and not member.issparse() and member.size <= largest
                file = cast("IO[bytes]", tar.extractfile(member)) if plain else None
                yield member.name, file.read() if file else None, tar.offset
    except TAR_ERRORS as error:
        msg = f"cannot be read as a tar file ({first_line(error)})"
        raise ValueError(msg) from error


@dataclass(frozen=True)
class ShardParser:
    """Reads samples from the bytes of a shard."""

    shard: ShardRecord
    form: SampleForm

    @property
    def largest_member(self) -> int:
        """Number of bytes that no member exceeds."""
        return LARGEST_PIXEL * self.form.largest + LARGEST_REST

    @property
    def largest_sample(self) -> int:
        """Number of bytes that no sample exceeds, with the headers of its members."""
        return len(self.form.members) * (self.largest_member + LARGEST_REST)

    def samples(
        self, stream: "SupportsRead[bytes]", indices: range | None = None
    ) -> Iterator[RawSample]:
        """Streams the samples of the shard, or of a part of it; `ValueError` for a wrong member."""
        members = read_members(stream, self.largest_member)
        for index in indices or self.shard.indices:
            contents, end = {}, 0
            for extension in self.form.members:
                wanted = f"{self.shard.key(index)}.{extension}"
                try:
                    name, content, end = next(members)
                except StopIteration:
                    msg = f"ends before {wanted}"
                    raise ValueError(msg) from None
                except ValueError as error:
                    msg = f"{wanted}: {error}"
                    raise ValueError(msg) from error
                if name != wanted:
                    msg = f"{_printable(name)}: not expected here, but {wanted}"
                    raise ValueError(msg)
                if content is None:
                    msg = f"{wanted}: not a plain file of at most {self.largest_member} bytes"
                    raise ValueError(msg)
                contents[extension] = content
            yield RawSample(index, contents, end)
        for name, _, _ in members:
            msg = f"{_printable(name)}: not expected here"
            raise ValueError(msg)

    def decode(self, raw: RawSample) -> Sample:
        """Decodes a sample; raises `ValueError` if a member is not what it should be."""
        decoded, problems = self.decode_leniently(raw)
        if problems:
            raise ValueError(problems[0])
        return decoded.pop("json"), decoded

    def decode_leniently(self, raw: RawSample) -> tuple[dict[str, Any], list[str]]:
        """Decodes the good members of a sample, by extension, and describes its problems."""
        decoded, problems, key = dict[str, Any](), list[str](), self.shard.key(raw.index)
        size = self._size_of(raw)
        for extension in self.form.members:
            try:
                if extension == "json":
                    decoded["json"] = self.decode_metadata(raw)
                else:
                    decoded[extension] = self._decode_image(raw.members[extension], extension, size)
            except ValueError as error:
                problems.append(f"{key}.{extension}: {first_line(error)}")
        if MASK in decoded and "json" in decoded:
            area, covered = decoded["json"]["mask_area"], np.asarray(decoded[MASK]).mean() / 255
            if abs(area - covered) > AREA_TOLERANCE:
                problem = f"'mask_area' is {area}, but the mask covers {covered:.4f}"
                problems.append(f"{key}.json: {problem}")
        return decoded, problems

    def decode_metadata(self, raw: RawSample) -> dict[str, Any]:
        """Decodes metadata; raises `ValueError` if a field is missing or wrong."""
        try:
            metadata = parse_json(raw.members["json"])
        except ValueError as error:
            msg = f"not JSON ({first_line(error)})"
            raise ValueError(msg) from error
        schema = json_schema(self.form.kind)
        if not isinstance(metadata, dict) or metadata.keys() != schema.keys():
            msg = f"its fields are not {', '.join(schema)}"
            raise ValueError(msg)
        for name, kind in schema.items():
            if type(metadata[name]) is not kind:
                raise _wrong(metadata, name, f"of type {kind.__name__}")
        expected = {
            "key": self.shard.key(raw.index),
            "dataset": self.shard.dataset,
            "category": self.shard.category,
            "index": raw.index,
            "model": self.shard.model,
        }
        if self.form.tile is None:
            expected |= {"width": self.form.image_size, "height": self.form.image_size}
        for name, value in expected.items():
            if metadata[name] != value:
                raise _wrong(metadata, name, repr(value))
        width, height = metadata["width"], metadata["height"]
        sides = self.form.tile or 1, self.form.largest
        if min(width, height) < sides[0] or width * height > sides[1]:
            raise _wrong(metadata, "width", f"of an image of at most {sides[1]} pixels")
        if not 0 < metadata.get("start", 1.0) <= 1:
            raise _wrong(metadata, "start", "above 0 and at most 1")
        if metadata.get("edit", NO_EDIT) not in (NO_EDIT, *EDITS):
            raise _wrong(metadata, "edit", f"one of {', '.join(EDITS)}")
        strengths, kind = self.shard.strengths, metadata["perturbation"]
        if kind not in strengths:
            raise _wrong(metadata, "perturbation", f"one of {', '.join(strengths)}")
        strength = Strength.parse(strengths[kind])
        if not strength.low <= metadata["strength"] <= strength.high:
            raise _wrong(metadata, "strength", str(strength))
        return metadata

    def _size_of(self, raw: RawSample) -> tuple[int, int]:
        """Returns width and height of all images of a sample; those of a tile if unknown."""
        side = self.form.tile or self.form.image_size
        if self.form.tile is not None:
            with contextlib.suppress(ValueError):
                metadata = self.decode_metadata(raw)
                return metadata["width"], metadata["height"]
        return side, side

    def _decode_image(self, content: bytes, extension: str, size: tuple[int, int]) -> Image.Image:
        suffix = extension.rpartition(".")[2]
        file_format = ENCODINGS[suffix]["format"]
        try:
            image = Image.open(BytesIO(content), formats=[file_format])
            # A small file may hold more pixels than fit into memory.
            if image.size == size:
                image.load()
        except (OSError, SyntaxError, ValueError, *BOMBS) as error:
            msg = f"not a whole {file_format} image ({first_line(error)})"
            raise ValueError(msg) from error
        if image.size != size:
            msg = f"{image.width} x {image.height} pixels, not {size[0]} x {size[1]}"
            raise ValueError(msg)
        # WebP has no grey mode: grey samples come back as colour.
        expected = "RGB" if suffix == "webp" else self.form.images[extension]
        if image.mode != expected:
            msg = f"mode {image.mode}, not {expected}"
            raise ValueError(msg)
        if extension == MASK and not {value for _, value in image.getcolors() or ()} <= {0, 255}:
            msg = "not a mask: it has other values than 0 and 255"
            raise ValueError(msg)
        return image


def _wrong(metadata: dict[str, Any], name: str, expected: str) -> ValueError:
    return ValueError(f"'{name}' is {_printable(repr(metadata[name]))}, not {expected}")


def _printable(text: str) -> str:
    """Makes a name or value that anyone may have written safe to print."""
    short = text if len(text) <= LONGEST_NAME else f"{text[:LONGEST_NAME]}..."
    return short if short.isprintable() else ascii(short)
