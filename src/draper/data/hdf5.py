"""Opening HDF5 files: a damaged one gives a clear error, before it takes memory or time."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import h5py

from draper.configs.read import UNPACKED_LIMIT
from draper.data.unpacked import require_unpackable
from draper.errors import DraperError

DAMAGED = (OSError, KeyError, RuntimeError, ValueError, TypeError, AttributeError)
"""What h5py raises on a damaged file."""

HEAP = b"GCOL\x01\x00\x00\x00"
"""How a heap begins, in which HDF5 keeps text; its objects have a header of 16 bytes, as has the heap."""


@contextmanager
def opened(path: Path, unpacked_limit: float = UNPACKED_LIMIT) -> Iterator[h5py.File]:
    """Open an HDF5 file; whatever h5py raises on a damaged one becomes a DraperError."""
    try:
        with h5py.File(path, "r") as file:
            _require_heaps(path, _require_sizes(file, path, unpacked_limit))
            yield file
    except DAMAGED as error:
        if isinstance(error, DraperError):
            raise
        if isinstance(error, FileNotFoundError):
            raise DraperError("no such file", given=path, hint="check the name and the folder") from None
        raise DraperError(
            "the file is damaged or truncated", given=f"{path}: {error}", hint="copy or convert it again"
        ) from error


def _require_sizes(file: h5py.File, path: Path, unpacked_limit: float) -> list[tuple[int, int]]:
    """Refuse arrays that end beyond the file, and compressed ones that unpack to more than the limit.

    Returns place and length [bytes] of the data in the file.
    """
    end, unpacked = path.stat().st_size, 0
    stored: list[tuple[int, int]] = []

    def visit(name: str, item: h5py.Dataset | h5py.Group) -> None:
        nonlocal unpacked
        if not isinstance(item, h5py.Dataset) or item.shape is None:
            return
        start = item.id.get_offset()
        if start is not None:
            stored.append((start, item.nbytes))
            if start + item.nbytes > end:
                raise ValueError(f"'{name}' ends beyond the file")
        elif item.chunks is not None:
            item.id.chunk_iter(lambda chunk: stored.append((chunk.byte_offset, chunk.size)))
        if item.id.get_storage_size() < item.nbytes:
            unpacked += item.nbytes

    file.visititems(visit)
    require_unpackable(path, unpacked, unpacked_limit)
    return stored


def _require_heaps(path: Path, stored: Sequence[tuple[int, int]]) -> None:
    """Refuse heaps whose objects do not follow one another: libhdf5 looks for the next one for ever."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if content[14 if content[8] < 2 else 10] != 8:  # other lengths of numbers are hardly used
            return
        start = 0
        for data, size in [*sorted(stored), (len(content), 0)]:
            while (heap := content.find(HEAP, start, data)) >= 0:
                start = heap + len(HEAP)
                place, end = heap + 16, heap + _integer(content, start)
                if end > len(content):
                    raise ValueError("a heap of text is damaged")
                while place + 16 <= end:
                    length = _integer(content, place + 8)
                    is_used = content[place : place + 2] != b"\x00\x00"
                    place += 16 + -(-length // 8) * 8 if is_used else max(length, 1)
                    if place > end or (not is_used and length < 16):
                        raise ValueError("a heap of text is damaged")
            start = max(start, data + size)


def _integer(content: mmap.mmap, place: int) -> int:
    """Return the unsigned integer of 8 bytes at a place."""
    return int.from_bytes(content[place : place + 8], "little")
