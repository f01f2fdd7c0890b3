"""The error that users see: what went wrong, what was given, what was expected and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
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
    """A training has ended with a model that is no better than the mean on held-out objects."""


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
