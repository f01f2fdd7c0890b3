"""Ways to damage a file: its bytes, blocks, numbers, cells, declared sizes, or fields of its description."""

from __future__ import annotations

import gzip
import io
import json
import re
import zipfile
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from draper.models.artifact import checksum

Random = np.random.Generator
Mutation = Callable[[bytes, Random], bytes]

NUMBER = re.compile(rb"(?<![\w.])[-+]?\d+\.?\d*([eE][-+]?\d+)?")
CARD = re.compile(rb"[A-Z0-9_-]{1,8} *= ")
LAYOUT = re.compile(
    rb"(Z?BITPIX|Z?NAXIS\d*|[PG]COUNT|TFIELDS|TFORM\d+|TDIM\d+|THEAP|TNULL\d+|BSCALE|BZERO) *= "
)
"""Keywords of FITS on which depends where data begin and end."""
NUMBERS = (
    b"0", b"-1", b"1", b"999999999", b"-2147483649", b"4294967296", b"99999999999999999999999", b"1e400",
    b"-1e30", b"nan", b"-inf", b"2.5",
)  # fmt: skip
"""What a number of text is replaced by."""

SIZES = (0, 1, 2**16 - 1, 2**31 - 1, 2**32 - 1, 2**32, 2**40, 2**62, 2**63 - 1, 2**64 - 1)
"""What a binary number that may be a size is replaced by."""

ODD: tuple[Any, ...] = (
    None, True, -1, 0, 2**63, 10**30, -0.5, 1e308, float("nan"), "", "teff", "x" * 1000, "os:system",
    [], {}, [[]], [None], {"a": 1}, "../..",
)  # fmt: skip
"""What a field of a description is replaced by."""

HEAD = 4096
"""Bytes from the start in which most headers lie."""

DEPTH = 100_000
"""How deeply brackets are nested where the JSON parser is tried."""


def flipped(content: bytes, random: Random) -> bytes:
    """Change up to 64 bytes, half the time in the head."""
    changed = bytearray(content)
    end = min(len(content), HEAD) if random.random() < 0.5 else len(content)
    for place in random.integers(0, end, random.choice([1, 2, 4, 16, 64])):
        changed[place] = random.integers(256)
    return bytes(changed)


def truncated(content: bytes, random: Random) -> bytes:
    """Cut the end off."""
    return content[: random.integers(len(content))]


def duplicated(content: bytes, random: Random) -> bytes:
    """Copy a block to another place: between the bytes there, or over them."""
    size = int(random.integers(1, HEAD))
    start, place = random.integers(len(content), size=2)
    block = content[start : start + size]
    return content[:place] + block + content[place + (len(block) if random.random() < 0.5 else 0) :]


def other_number(content: bytes, random: Random) -> bytes:
    """Replace a number that is written as text, in a FITS card without moving what follows."""
    number = NUMBERS[random.integers(len(NUMBERS))]
    if cards := _cards(content, LAYOUT if random.random() < 0.5 else CARD):
        place = cards[random.integers(len(cards))]
        return content[: place + 10] + number.rjust(20)[:20] + content[place + 30 :]
    start = random.integers(min(len(content), HEAD) if random.random() < 0.7 else len(content))
    found = NUMBER.search(content, int(start)) or NUMBER.search(content)
    return content if found is None else content[: found.start()] + number + content[found.end() :]


def _cards(content: bytes, keywords: re.Pattern[bytes] = CARD) -> list[int]:
    """Return where the cards of FITS headers begin."""
    if not content.startswith(b"SIMPLE"):
        return []
    return [place for place in range(0, len(content), 80) if keywords.match(content, place, place + 10)]


def swapped(content: bytes, random: Random) -> bytes:
    """Exchange two FITS cards, lines, or words of a text; of other files two blocks of 80 bytes."""
    if b"\x00" in content[:HEAD] or content.startswith(b"SIMPLE"):
        cards = _cards(content) or list(range(0, len(content), 80))
        first, second = sorted(int(place) for place in random.choice(cards, 2))
        one, other = content[first : first + 80], content[second : second + 80]
        return content[:first] + other + content[first + 80 : second] + one + content[second + 80 :]
    pattern = rb"[^\n]+" if random.random() < 0.3 else rb"[^\s,;<>=\"']+"
    pieces = list(re.finditer(pattern, content[: 4 * HEAD]))
    if len(pieces) < 2:
        return content
    a, b = sorted(random.choice(len(pieces), 2, replace=False))
    one, other = pieces[a], pieces[b]
    between = content[one.end() : other.start()]
    parts = content[: one.start()], other.group(), between, one.group(), content[other.end() :]
    return b"".join(parts)


def other_size(content: bytes, random: Random) -> bytes:
    """Replace a binary number that may be a size: those of a zip file, or any small one in the file."""
    changed = bytearray(content)
    size = SIZES[random.integers(len(SIZES))]
    marks = [
        (found.start() + offset, 4)
        for mark, offsets in ((rb"PK\x03\x04", (18, 22, 26, 28)), (rb"PK\x01\x02", (20, 24, 28, 42)))
        for found in re.finditer(mark, content)
        for offset in offsets
    ]
    order: Literal["big", "little"] = "big" if content.startswith(b"CDF") else "little"
    width = int(random.choice([4, 8]))
    if not marks:
        end = min(len(content), HEAD) if random.random() < 0.7 else len(content)
        places = range(0, end - width, 4)
        marks = [
            (place, width)
            for place in places
            if 0 < int.from_bytes(content[place : place + width], order) < 10**7
        ]
    if not marks:
        return content
    place, width = marks[random.integers(len(marks))]
    changed[place : place + width] = (size % 2 ** (8 * width)).to_bytes(width, order)
    return bytes(changed)


ANY: tuple[Mutation, ...] = (flipped, truncated, duplicated, other_number, swapped, other_size)
"""The mutations that suit any file."""


def inner(content: bytes, random: Random) -> bytes:
    """Damage what a gzip file, or a member of a zip file, holds, and compress it again."""
    if content.startswith(b"\x1f\x8b"):
        return gzip.compress(damaged(gzip.decompress(content), random)[1], 1, mtime=0)
    held, made = zipfile.ZipFile(io.BytesIO(content)), io.BytesIO()
    members = held.infolist()
    wanted = members[random.integers(len(members))]
    with zipfile.ZipFile(made, "w") as archive:
        for member in members:
            values = held.read(member)
            if member is wanted:
                head = ANY[random.integers(len(ANY))](values[:128], random)
                values = head + values[128:]
            archive.writestr(member, values)
    return made.getvalue()


def damaged(content: bytes, random: Random) -> tuple[str, bytes]:
    """Return the name of a mutation, and what it makes of a file; once in five, of two one after another."""
    if content.startswith((b"\x1f\x8b", b"PK")) and random.random() < 0.5:
        return "inner", inner(content, random)
    names = []
    for _ in range(1 + (random.random() < 0.2)):
        mutation = ANY[random.integers(len(ANY))]
        if content:
            content = mutation(content, random)
            names.append(mutation.__name__)
    return " + ".join(names), content


def other_field(content: bytes, random: Random) -> bytes:
    """Change fields of a description; half the time its checksum then fits, as a forger's would."""
    if random.random() < 0.05:
        return b"[" * DEPTH + b"]" * DEPTH
    description = json.loads(content)
    for _ in range(1 + random.integers(3)):
        _change(description, random)
    if random.random() < 0.5 and "sha256" in description:
        description["sha256"] = checksum(description)
    return json.dumps(description, indent=1).encode()


def _change(value: Any, random: Random) -> None:
    """Change one entry of nested lists and dictionaries in place; those far inside as often as others."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    if not keys:
        return
    key = keys[random.integers(len(keys))]
    if isinstance(value[key], (dict, list)) and value[key] and random.random() < 0.7:
        _change(value[key], random)
        return
    way = random.integers(4)
    if way == 0:
        del value[key]
    elif way == 1 and isinstance(value, dict):
        value[str(ODD[random.integers(len(ODD))])] = value.pop(key)
    elif way == 2:
        other = keys[random.integers(len(keys))]
        value[key], value[other] = value[other], value[key]
    else:
        value[key] = ODD[random.integers(len(ODD))]
