"""The members of a shard, read as what they should be and as nothing else.

A shard may come from anyone. So a member is a plain file of the name and about the size it should
have, an image is decoded as the format of its name alone, and JSON has just the fields and values
it should have. Whatever is not so is a `ValueError` that names the member.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import IO, Any, NamedTuple, cast

import numpy as np
from PIL import Image

from sia_gen.config.strength import Strength
from sia_gen.corpus.plan import ShardRecord
from sia_gen.corpus.schema import MASK, TRIPLETS, SampleForm, json_schema
from sia_gen.corpus.shards import ENCODINGS
from sia_gen.errors import first_line
from sia_gen.io.json import parse_json

# Bytes per pixel that no format exceeds.
LARGEST_PIXEL = 4
# Bytes around the pixels, or of the metadata, of which there are some hundreds.
LARGEST_REST = 1 << 16
LONGEST_NAME = 100
# Areas may have been summed in float32.
AREA_TOLERANCE = 1e-4
# The lesser of them is but a warning, unless warnings are errors.
BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)
# What Python's tarfile raises for bytes that are no tar file, beside its own errors.
TAR_ERRORS = (tarfile.TarError, EOFError, ValueError, LookupError, OverflowError, RecursionError)


@dataclass(frozen=True)
class RawSample:
    """The members of a sample as they are in the shard.

    Attributes:
        index: Of the sample.
        members: By their extension.
        end: The byte after the last of them, counted from where reading began.
    """

    index: int
    members: dict[str, bytes]
    end: int


class Member(NamedTuple):
    """A member of a tar file.

    Attributes:
        name: As it stands there.
        content: None if it is no plain file, or too large.
        end: The byte after it.
    """

    name: str
    content: bytes | None
    end: int


def read_samples(stream: IO[bytes], shard: ShardRecord, form: SampleForm) -> Iterator[RawSample]:
    """Streams the samples of a shard.

    Raises:
        ValueError: If a member is missing, out of its order, one too many, or no plain file of a
            size that it may have.
    """
    yield from read_some(stream, shard.indices, shard, form)


def read_one(content: bytes, index: int, shard: ShardRecord, form: SampleForm) -> RawSample:
    """One sample from its bytes in the shard; see `read_samples` for the errors."""
    return next(read_some(BytesIO(content), range(index, index + 1), shard, form))


def read_some(
    stream: IO[bytes], indices: range, shard: ShardRecord, form: SampleForm
) -> Iterator[RawSample]:
    """Streams the samples of these indices, which are all that is in the stream."""
    largest = largest_member(form)
    members = read_members(stream, largest)
    for index in indices:
        contents, end = {}, 0
        for extension in form.members:
            wanted = f"{shard.key(index)}.{extension}"
            _, content, end = read_member(members, wanted)
            if content is None:
                msg = f"{wanted}: no plain file of at most {largest} bytes"
                raise ValueError(msg)
            contents[extension] = content
        yield RawSample(index, contents, end)
    for member in members:
        raise ValueError(not_expected(member.name))


def largest_member(form: SampleForm) -> int:
    """Bytes that no member of a sample exceeds."""
    return LARGEST_PIXEL * form.image_size**2 + LARGEST_REST


def largest_sample(form: SampleForm) -> int:
    """Bytes that no sample exceeds, with the headers of its members."""
    return len(form.members) * (largest_member(form) + LARGEST_REST)


def read_member(members: Iterator[Member], wanted: str) -> Member:
    """The next member; `ValueError` unless it has that name."""
    try:
        member = next(members)
    except StopIteration:
        msg = f"ends before {wanted}"
        raise ValueError(msg) from None
    except ValueError as error:
        msg = f"{wanted}: {error}"
        raise ValueError(msg) from error
    if member.name != wanted:
        msg = f"{not_expected(member.name)}, but {wanted}"
        raise ValueError(msg)
    return member


def read_members(stream: IO[bytes], largest: int) -> Iterator[Member]:
    """Streams the members of a tar file; contents of more bytes than `largest` are left out.

    Raises:
        ValueError: If it is no tar file.
    """
    try:
        # Not compressed: a megabyte of gzip may hold gigabytes.
        with tarfile.open(fileobj=stream, mode="r|") as tar:
            for member in tar:
                # The holes of a sparse file take no room in the tar, but in memory.
                plain = member.isfile() and not member.issparse() and member.size <= largest
                file = cast("IO[bytes]", tar.extractfile(member)) if plain else None
                yield Member(member.name, file.read() if file else None, tar.offset)
    except TAR_ERRORS as error:
        msg = f"cannot be read as a tar file ({first_line(error)})"
        raise ValueError(msg) from error


def not_expected(name: str) -> str:
    """Says that there should be no member of that name."""
    return f"{shown(name)}: not expected here"


def shown(name: str) -> str:
    """A name or value from anyone, fit to be printed."""
    short = name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}..."
    return short if short.isprintable() else ascii(short)


def decode_sample(
    raw: RawSample, shard: ShardRecord, form: SampleForm
) -> tuple[dict[str, Any], dict[str, Image.Image]]:
    """The metadata of a sample, and its pictures by their extension, such as `mask.png`.

    Raises:
        ValueError: If one of them is damaged, or not what it should be.
    """
    decoded: dict[str, Any] = {
        extension: decode_member(raw, extension, shard, form) for extension in form.members
    }
    check_area(decoded, shard.key(raw.index))
    return decoded.pop("json"), decoded


def check_area(decoded: dict[str, Any], key: str) -> None:
    """Raises `ValueError` unless the mask, if a sample has one, covers what its metadata say."""
    if MASK not in decoded:
        return
    told, covered = decoded["json"]["mask_area"], np.asarray(decoded[MASK]).mean() / 255
    if abs(told - covered) > AREA_TOLERANCE:
        msg = f"{key}.json: 'mask_area' is {told}, but the mask covers {covered:.4f}"
        raise ValueError(msg)


def decode_member(raw: RawSample, extension: str, shard: ShardRecord, form: SampleForm) -> Any:
    """One of them; `ValueError` names it if it is not what it should be."""
    content = raw.members[extension]
    try:
        if extension == "json":
            return decode_metadata(content, raw.index, shard, form)
        return decode_image(content, extension, form)
    except ValueError as error:
        msg = f"{shard.key(raw.index)}.{extension}: {first_line(error)}"
        raise ValueError(msg) from error


def decode_metadata(
    content: bytes, index: int, shard: ShardRecord, form: SampleForm
) -> dict[str, Any]:
    """The metadata of a sample: all fields, of the types they should be, and of this sample."""
    try:
        metadata = parse_json(content)
    except ValueError as error:
        msg = f"not JSON ({first_line(error)})"
        raise ValueError(msg) from error
    schema = json_schema(form.kind)
    if not isinstance(metadata, dict) or metadata.keys() != schema.keys():
        msg = f"its fields are not {', '.join(schema)}"
        raise ValueError(msg)
    for name, kind in schema.items():
        if type(metadata[name]) is not kind:
            msg = f"'{name}' is {shown(repr(metadata[name]))}, not a {kind.__name__}"
            raise ValueError(msg)
    known = {
        "key": shard.key(index),
        "dataset": shard.dataset,
        "category": shard.category,
        "index": index,
        "model": shard.model,
        "width": form.image_size,
        "height": form.image_size,
    }
    for name, value in known.items():
        if metadata[name] != value:
            msg = f"'{name}' is {shown(repr(metadata[name]))}, not {value!r}"
            raise ValueError(msg)
    start = metadata.get("start", 1.0)
    if not 0 < start <= 1:
        msg = f"'start' is {start}, not above 0 and at most 1"
        raise ValueError(msg)
    strength = Strength.parse(shard.strength)
    # A triplet has the strength of a sample of another corpus.
    if form.kind != TRIPLETS and not strength.low <= metadata["strength"] <= strength.high:
        msg = f"'strength' is {metadata['strength']}, not {strength}"
        raise ValueError(msg)
    return metadata


def decode_image(content: bytes, extension: str, form: SampleForm) -> Image.Image:
    """The picture in an image member, of the format, size and mode it should be."""
    suffix, mode = extension.rpartition(".")[2], form.images[extension]
    file_format = ENCODINGS[suffix]["format"]
    wanted = (form.image_size, form.image_size)
    try:
        image = Image.open(BytesIO(content), formats=[file_format])
        # A small file may hold more pixels than there is memory for.
        if image.size == wanted:
            image.load()
    except (OSError, SyntaxError, ValueError, *BOMBS) as error:
        msg = f"not a whole {file_format} image ({first_line(error)})"
        raise ValueError(msg) from error
    if image.size != wanted:
        msg = f"{image.width} x {image.height} pixels, not {wanted[0]} x {wanted[1]}"
        raise ValueError(msg)
    # WebP has no grey mode: grey samples come back as colour.
    expected = "RGB" if suffix == "webp" else mode
    if image.mode != expected:
        msg = f"mode {image.mode}, not {expected}"
        raise ValueError(msg)
    if extension == MASK and not {value for _, value in image.getcolors() or ()} <= {0, 255}:
        msg = "not a mask: it has other values than 0 and 255"
        raise ValueError(msg)
    return image
