"""Shards that someone made to do harm: each is one of three samples, with something wrong in it."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import struct
import tarfile
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

from PIL import Image

Member = tuple[tarfile.TarInfo, bytes]
SECOND = "parts_disc_00000001"
# Where the members of the second sample stand.
JSON, PNG = 2, 3
# More than any member of a shard may have.
LARGE = 1 << 20


class Hostile(NamedTuple):
    """A way to spoil a shard, and what its readers have to say of it."""

    spoil: Callable[[list[Member]], bytes]
    told: str


def members_of(shard: bytes) -> list[Member]:
    """The members of a shard that is whole."""
    with tarfile.open(fileobj=io.BytesIO(shard)) as tar:
        return [(member, tar.extractfile(member).read()) for member in tar]


def packed(members: list[Member], form: int = tarfile.USTAR_FORMAT) -> bytes:
    """A shard of any members."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def renamed(name: str, form: int = tarfile.PAX_FORMAT) -> Hostile:
    def spoil(members: list[Member]) -> bytes:
        members[JSON][0].name = name
        return packed(members, form)

    return Hostile(spoil, f"not expected here, but {SECOND}.json")


def typed(kind: bytes, target: str = "") -> Hostile:
    """A member that is not a plain file."""

    def spoil(members: list[Member]) -> bytes:
        member = members[JSON][0]
        member.type, member.linkname = kind, target
        return packed([*members[:JSON], (member, b""), *members[JSON + 1 :]])

    return Hostile(spoil, f"{SECOND}.json: not a plain file")


def with_headers(**headers: str) -> list[Callable[[list[Member]], bytes]]:
    def spoil(members: list[Member]) -> bytes:
        members[JSON][0].pax_headers = {name.replace("_", "."): v for name, v in headers.items()}
        return packed(members, tarfile.PAX_FORMAT)

    return [spoil]


def sparse(members: list[Member]) -> bytes:
    """A member with a hole of gigabytes, in the old form of GNU."""
    raw = bytearray(packed(members))
    start = raw.index(f"{SECOND}.json".encode())
    header = raw[start : start + 512]
    header[156:157] = tarfile.GNUTYPE_SPARSE
    header[257:265] = b"ustar  \0"
    header[345:500] = bytes(155)
    header[386:410] = b"%011o\0%011o\0" % (0, 1)
    header[483:495] = b"%011o\0" % (1 << 33 - 1)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    raw[start : start + 512] = header
    return bytes(raw)


def with_size(size: bytes) -> Callable[[list[Member]], bytes]:
    """The shard with another size in the header of the member, its checksum right."""

    def spoil(members: list[Member]) -> bytes:
        raw = bytearray(packed(members))
        start = raw.index(f"{SECOND}.json".encode())
        raw[start + 124 : start + 136] = size
        raw[start + 148 : start + 156] = b" " * 8
        raw[start + 148 : start + 156] = b"%06o\0 " % sum(raw[start : start + 512])
        return bytes(raw)

    return spoil


def content_of(place: int, content: bytes, told: str) -> Hostile:
    def spoil(members: list[Member]) -> bytes:
        members[place] = (members[place][0], content)
        return packed(members)

    return Hostile(spoil, told)


def metadata(change: Callable[[dict[str, Any]], Any], told: str) -> Hostile:
    """The metadata of the sample, changed."""

    def spoil(members: list[Member]) -> bytes:
        content = change(json.loads(members[JSON][1]))
        written = content if isinstance(content, bytes) else json.dumps(content).encode()
        return content_of(JSON, written, "").spoil(members)

    return Hostile(spoil, f"{SECOND}.json: {told}")


def field(name: str, text: str, told: str) -> Hostile:
    """The metadata with any text as the value of a field."""

    def change(found: dict[str, Any]) -> bytes:
        return json.dumps(found | {name: "?"}).replace('"?"', text).encode()

    return metadata(change, told)


def image(picture: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def bomb(side: int) -> bytes:
    """A small file of an image with far too many pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + checksum

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(side + 1))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels)


def picture(content: bytes, told: str = "not a whole PNG image") -> Hostile:
    return content_of(PNG, content, f"{SECOND}.png: {told}")


def moved(*order: int) -> Callable[[list[Member]], bytes]:
    return lambda members: packed([members[place] for place in order])


GREY = Image.new("L", (8, 8))
NOT_JSON, OTHER_FIELDS = "not JSON (", "its fields are not key"
NO_TAR = "cannot be read as a tar file"
PATHS: dict[str, Hostile] = {
    "a path with ..": renamed(f"../{SECOND}.json"),
    "a path with .. further on": renamed(f"data/../../../{SECOND}.json"),
    "an absolute path": renamed(f"/tmp/{SECOND}.json"),
    "a path with backslashes": renamed(f"..\\{SECOND}.json"),
    "a path with ./": renamed(f"./{SECOND}.json"),
    "no name": renamed(""),
    "a name that steers terminals": renamed(f"\x1b[2J\r\n{SECOND}.json"),
    "a name of 100,000 characters": renamed("a" * 100_000),
    "a long name as GNU writes it": renamed("../" * 100 + "x", tarfile.GNU_FORMAT),
    "a path in an extended header": Hostile(
        with_headers(path=f"../{SECOND}.json")[0], f"not expected here, but {SECOND}.json"
    ),
}
KINDS: dict[str, Hostile] = {
    "a symbolic link": typed(tarfile.SYMTYPE, "/etc/passwd"),
    "a symbolic link upwards": typed(tarfile.SYMTYPE, "../../../../canary"),
    "a hard link": typed(tarfile.LNKTYPE, "/etc/passwd"),
    "a hard link to another member": typed(tarfile.LNKTYPE, "parts_disc_00000000.json"),
    "a device": typed(tarfile.CHRTYPE),
    "a disk": typed(tarfile.BLKTYPE),
    "a pipe": typed(tarfile.FIFOTYPE),
    "a folder": typed(tarfile.DIRTYPE),
    "a sparse file": Hostile(sparse, f"{SECOND}.json: "),
    "a sparse file in extended headers": Hostile(
        with_headers(GNU_sparse_major="0", GNU_sparse_minor="1", GNU_sparse_map="0,1")[0],
        f"{SECOND}.json: ",
    ),
    "a size of terabytes": Hostile(with_size(b"77777777777\0"), f"{SECOND}.json: not a plain file"),
    "a negative size": Hostile(with_size(b"\xff" * 12), SECOND),
    "a size that is no number": Hostile(with_size(b"-00000000100"), SECOND),
    "a size in an extended header": Hostile(with_headers(size="-1000000")[0], SECOND),
    "a member that is too large": content_of(
        JSON, b" " * LARGE, f"{SECOND}.json: not a plain file"
    ),
}
ORDER: dict[str, Hostile] = {
    "members exchanged": Hostile(moved(0, 1, 3, 2, 4, 5), f"but {SECOND}.json"),
    "samples exchanged": Hostile(moved(2, 3, 0, 1, 4, 5), "but parts_disc_00000000.json"),
    "a member twice": Hostile(moved(0, 1, 2, 2, 3, 4, 5), f"but {SECOND}.png"),
    "a sample twice": Hostile(moved(0, 1, 2, 3, 2, 3, 4, 5), "but parts_disc_00000002.json"),
    "a member missing": Hostile(moved(0, 1, 3, 4, 5), f"but {SECOND}.json"),
    "the last sample missing": Hostile(moved(0, 1, 2, 3), "ends before parts_disc_00000002.json"),
    "a sample too many": Hostile(moved(0, 1, 2, 3, 4, 5, 0, 1), "parts_disc_00000000.json: not ex"),
    "nothing": Hostile(lambda _: b"", "parts_disc_00000000.json: "),
    "no members": Hostile(lambda _: packed([]), "ends before parts_disc_00000000.json"),
    "zeros alone": Hostile(lambda _: bytes(10_240), "ends before parts_disc_00000000.json"),
    "no tar file": Hostile(lambda _: b"#!/bin/sh\n" * 999, f"parts_disc_00000000.json: {NO_TAR}"),
    "gzip": Hostile(lambda members: gzip.compress(packed(members)), NO_TAR),
    "bzip2": Hostile(lambda members: bz2.compress(packed(members)), NO_TAR),
    "xz": Hostile(lambda members: lzma.compress(packed(members)), NO_TAR),
}
METADATA: dict[str, Hostile] = {
    "JSON that is huge": metadata(
        lambda one: json.dumps(one).encode() + b" " * LARGE, "not a plain"
    ),
    "JSON that is deep": metadata(lambda _: b"[" * 60_000, f"{NOT_JSON}recursion limit exceeded"),
    "JSON that is deep and whole": metadata(lambda _: b'{"a":' * 9_000 + b"1" + b"}" * 9_000, ""),
    "NaN": field("strength", "NaN", f"{NOT_JSON}expected value"),
    "Infinity": field("strength", "-Infinity", NOT_JSON),
    "a number that is too large": field("strength", "1e999", f"{NOT_JSON}Out of range float"),
    "a number of 5,000 digits": field("seed", "9" * 5_000, NOT_JSON),
    "a field too many": field("seed", '1, "run": "x"', OTHER_FIELDS),
    "a field missing": metadata(lambda one: {"key": one["key"]}, OTHER_FIELDS),
    "a list": metadata(lambda one: [one], OTHER_FIELDS),
    "null": metadata(lambda _: None, OTHER_FIELDS),
    "a text": metadata(lambda _: "/etc/passwd", OTHER_FIELDS),
    "UTF-16": metadata(lambda one: json.dumps(one).encode("utf-16"), NOT_JSON),
    "a byte-order mark": metadata(lambda one: json.dumps(one).encode("utf-8-sig"), NOT_JSON),
    "a pickle": metadata(lambda _: b"\x80\x04cos\nsystem\n", NOT_JSON),
    "an integer for a float": field("strength", "0", "'strength' is 0, not of type float"),
    "true for an integer": field("seed", "true", "'seed' is True, not of type int"),
    "an object for a text": field("sampler", "{}", "'sampler' is {}, not of type str"),
    "another sample's key": field("key", '"parts_disc_00000000"', "'key' is "),
    "a path for a key": field("key", '"../../x"', "'key' is '../../x'"),
    "a key that steers terminals": field("key", r'"\u001b[2J"', "'key' is "),
    "half a character": field("model", r'"\ud800"', f"{NOT_JSON}unexpected end of hex"),
    "a strength out of range": field("strength", "9.5", "'strength' is 9.5, not 0.0:0.5"),
}
PICTURES: dict[str, Hostile] = {
    "a bomb": picture(bomb(50_000)),
    "a smaller bomb": picture(bomb(12_000), ""),
    "an image of another size": picture(image(GREY.resize((9, 8))), "9 x 8 pixels, not 8 x 8"),
    "a colour image": picture(image(GREY.convert("RGB")), "mode RGB, not L"),
    "a palette": picture(image(GREY.convert("P")), "mode P, not L"),
    "alpha": picture(image(GREY.convert("LA")), "mode LA, not L"),
    "16 bits": picture(image(GREY.convert("I;16")), "mode I;16, not L"),
    "a GIF": picture(image(GREY, "GIF")),
    "a JPEG": picture(image(GREY, "JPEG")),
    "PostScript": picture(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n(x) run\n"),
    "half an image": picture(image(Image.effect_noise((8, 8), 50))[:80]),
    "no image": picture(b""),
}
HOSTILE = PATHS | KINDS | ORDER | METADATA | PICTURES
