"""The error that users see: what went wrong, what was given, what was expected and what to do."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar


class DraperError(ValueError):
    """An error whose message ends with what to do next.

    Parameters
    ----------
    what
        One sentence: what went wrong.
    given, expected
        The offending value and what would have been accepted.
    hint
        What to do next.

    Examples
    --------
    >>> raise DraperError("unknown label", given="tef", expected="teff, logg", hint="did you mean 'teff'?")
    Traceback (most recent call last):
    ...
    draper.errors.DraperError: unknown label
      given:    tef
      expected: teff, logg
      hint:     did you mean 'teff'?
    """

    exit_code: ClassVar[int] = 2

    def __init__(
        self, what: str, *, given: object = None, expected: object = None, hint: str | None = None
    ) -> None:
        self.what, self.given, self.expected, self.hint = what, given, expected, hint
        lines = [what]
        if given is not None:
            lines.append(f"  given:    {given}")
        if expected is not None:
            lines.append(f"  expected: {expected}")
        if hint is not None:
            lines.append(f"  hint:     {hint}")
        super().__init__("\n".join(lines))


class MissingLabels(DraperError):  # noqa: N818 - labels are missing, not in error
    """Some labels of a model are not given where it needs them all."""

    def __init__(self, missing: Sequence[str], given: Iterable[str], needed: Iterable[str]) -> None:
        super().__init__(
            f"labels of the model are not given: {', '.join(missing)}",
            given=", ".join(given) or "no columns",
            expected=", ".join(needed),
            hint=f"give them, too: {{..., {', '.join(f'{name!r}: ...' for name in missing)}}}",
        )
        self.missing = tuple(missing)


class DivergedError(DraperError):
    """Training met a loss that is not finite or has exploded; the last good checkpoint is kept."""

    exit_code = 3


class SkippedFilesError(DraperError):
    """The work is done, but for files that could not be used and were skipped, as the user has asked."""

    exit_code = 4


class OutputError(DraperError):
    """A file cannot be written: it exists already, the disk is full, the folder is read-only."""


class Interrupted(DraperError):  # noqa: N818 - an interruption is not an error of the user's
    """A signal stopped the work, and its state was saved; the program exits with 128 + its number."""

    def __init__(self, signal_number: int, what: str, *, hint: str | None = None) -> None:
        super().__init__(what, hint=hint)
        self.signal_number = signal_number


class InterruptedTraining(Interrupted):
    """A signal stopped the training; the checkpoint is on disk."""


class TrainingWarning(UserWarning):
    """A trained model will not be of use: too few spectra, or no better than the mean on held-out ones."""


_flags: Callable[[], Collection[str]] = tuple
"""Returns the flags of the command that is running; none where draper is used from Python."""


@contextmanager
def on_command_line(flags: Callable[[], Collection[str]]) -> Iterator[None]:
    """Let :func:`option_text` name the flags of a command, which are asked for when an error names one."""
    global _flags
    before, _flags = _flags, flags
    try:
        yield
    finally:
        _flags = before


def option_text(name: str, *values: object) -> str:
    """Return how an option is given: as an argument, or as the flag that the running command has for it.

    Parameters
    ----------
    name
        With the group that commands put before it where they have several, such as ``read.medium``.
    values
        Values to choose from, if any: a list is several words of a command line, a tuple one with commas.

    Examples
    --------
    >>> option_text("read.medium", "air", "vacuum"), option_text("resume", True), option_text("read.key")
    ("medium='air' or 'vacuum'", 'resume=True', 'key=')
    >>> with on_command_line(lambda: ["--read.medium", "--resume"]):
    ...     option_text("read.medium", "air", "vacuum"), option_text("resume", True)
    ('--read.medium air|vacuum', '--resume')
    """
    last = name.rpartition(".")[2]
    known = _flags()
    for flag in (f"--{full.replace('_', '-')}" for full in (name, last)):
        if flag in known:
            return f"{flag} {'|'.join(map(_word, values))}".strip()
    return f"{last}={' or '.join(map(repr, values))}"


def _word(value: object) -> str:
    """Return a value as a word, or words, of a command line; a flag that is given needs none."""
    if isinstance(value, (list, tuple)):
        return (" " if isinstance(value, list) else ",").join(map(_word, value))
    return "" if value is True else shlex.quote(str(value))


def did_you_mean(name: str, options: Iterable[str]) -> str:
    """Return a hint that names the nearest of ``options``, or lists them all.

    Examples
    --------
    >>> did_you_mean("tef", ["teff", "logg"])
    "did you mean 'teff'?"
    >>> did_you_mean("colour", ["teff", "logg"])
    'the choices are teff, logg'
    """
    options = list(options)
    lowered = {option.lower(): option for option in options}
    near = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.6)
    if near:
        return f"did you mean '{lowered[near[0]]}'?"
    return f"the choices are {', '.join(options)}" if options else "there is nothing to choose from"
