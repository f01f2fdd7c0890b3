"""Labels on the command line: a table, or NAME=VALUE."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from draper.errors import DraperError, MissingLabels, did_you_mean

Values = Annotated[tuple[str, ...], Parameter(name="--set")]
"""Labels as NAME=VALUE, or NAME=VALUE,VALUE,..."""


def label_columns(
    table: Path | None, values: Sequence[str], names: Sequence[str], ignored: Collection[str] = ()
) -> dict[str, Any]:
    """Return columns of labels from a table, and from NAME=VALUE, which replaces a column of the table.

    Parameters
    ----------
    table
        A file with a row for each object.
    values
        Such as ``teff=5000,6000``.
    names
        Labels that may be set.
    ignored
        Columns of the table that do not count.

    Examples
    --------
    >>> label_columns(None, ["Teff=5000,6000", "logg=4.4"], ["teff", "logg"])
    {'teff': [5000.0, 6000.0], 'logg': [4.4]}
    """
    from draper.data.join import read_table
    from draper.data.labels import canonical

    columns: dict[str, Any] = {}
    if table is not None:
        columns = {canonical(name): column for name, column in read_table(table).items()}
        columns = {name: column for name, column in columns.items() if name not in ignored}
    for text in values:
        name, _, value = text.partition("=")
        try:
            numbers = [float(number) for number in value.split(",")]
        except ValueError:
            raise DraperError(
                "this is not a label with its value", given=text, expected="NAME=VALUE, such as teff=5777"
            ) from None
        if canonical(name) not in names:
            raise DraperError(
                "the model has no such label",
                given=name,
                expected=", ".join(names),
                hint=did_you_mean(name, names),
            )
        columns[canonical(name)] = numbers
    if not columns:
        raise DraperError(
            "no labels are given for the spectra",
            expected=", ".join(names),
            hint="--set " + " ".join(f"{name}=..." for name in names) + ", or --labels TABLE",
        )
    return columns


@contextmanager
def completed(command: str, table: Path | None, values: Sequence[str], end: str = "") -> Iterator[None]:
    """Let an error about labels that are not given end with the whole command.

    Parameters
    ----------
    command, end
        What stands before and after the labels, such as ``draper generate model/`` and ``-o OUT``.
    table, values
        As given.
    """
    try:
        yield
    except MissingLabels as error:
        words = [command, *(["--labels", str(table)] if table else [])]
        words += ["--set", *values, *(f"{name}=..." for name in error.missing), *([end] if end else [])]
        hint = " ".join(words)
        raise DraperError(error.what, given=error.given, expected=error.expected, hint=hint) from None
