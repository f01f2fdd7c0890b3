"""Which process a file belongs to while it is being written, and whether that process has ended."""

from __future__ import annotations

import os
import platform
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

UNKNOWN = 0
"""Start of a process where the system does not say when it began."""

TEXT = re.compile(r"(?P<host>.+)-(?P<process>\d{1,9})-(?P<began>\d+)")


@dataclass(frozen=True)
class Owner:
    """A process.

    Attributes
    ----------
    host
        Name of its machine.
    process
        Its number there.
    began
        When it began, in the machine's clock ticks: numbers of processes are used again.
    """

    host: str
    process: int
    began: int

    @classmethod
    def here(cls) -> Self:
        """Return this process."""
        return cls(platform.node(), os.getpid(), _began(os.getpid()) or UNKNOWN)

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return the process that ``str`` has written; None if the text is something else.

        Examples
        --------
        >>> Owner.parse("node-7.cluster-4711-123456")
        Owner(host='node-7.cluster', process=4711, began=123456)
        """
        found = TEXT.fullmatch(text)
        return found and cls(found["host"], int(found["process"]), int(found["began"]))

    def __str__(self) -> str:
        return f"{self.host}-{self.process}-{self.began}"

    @property
    def has_ended(self) -> bool:
        """Whether the process ran on this machine and has ended; of other machines nothing is known."""
        if self.host != platform.node():
            return False
        began = _began(self.process)
        return began is None or (UNKNOWN not in (began, self.began) and began != self.began)


def _began(process: int) -> int | None:
    """Return when a process began; None if it has ended."""
    if os.name != "posix":
        return UNKNOWN  # the question below would end the process there
    try:
        with suppress(PermissionError):  # it lives, and is another user's
            os.kill(process, 0)
    except ProcessLookupError:
        return None
    try:
        state, *numbers = Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return UNKNOWN
    return None if state == "Z" else int(numbers[18])
