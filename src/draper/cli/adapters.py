"""``draper simulate run``: spectra computed by a real code."""

from __future__ import annotations

import sys
from dataclasses import MISSING, fields
from pathlib import Path
from string import ascii_uppercase
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin, get_type_hints

from cyclopts import Parameter

from draper.cli.output import say, say_json
from draper.cli.parameters import Json, Output, Overwrite
from draper.cli.progress import progress
from draper.errors import DraperError, did_you_mean

if TYPE_CHECKING:
    from draper.simulate.adapters.adapter import Adapter

ADAPTERS = {"taurex": "TaurexPlanets", "pysme": "PysmeStars", "turbospectrum": "TurbospectrumStars"}
"""Codes, which are the modules of ``simulate.adapters``, and the class in each."""

KINDS = {Path: "a path", bool: "yes or no", int: "a whole number", float: "a number", str: "a name"}
"""Types of settings, and their description in error messages."""

WORDS = {"true": True, "yes": True, "false": False, "no": False}
"""Values of yes-or-no settings."""


def run(
    code: Literal["taurex", "pysme", "turbospectrum"],
    /,
    *,
    labels: Path,
    out: Output,
    setting: Annotated[tuple[str, ...], Parameter(name=["--setting", "-s"])] = (),
    workers: int | None = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Compute spectra with TauREx, PySME or Turbospectrum, on all cores.

    Example: draper simulate run taurex --labels planets.csv -o planets.h5 -s opacities=xsec

    After an interruption, run the same command again to continue. Rows that fail are skipped and listed in
    OUT.failures.csv.

    Parameters
    ----------
    code
        The code; `pip install 'draper[CODE]'` installs it.
    labels
        Table of labels (CSV, ECSV, FITS, VOTable, Parquet), one row for each spectrum.
    out
        File to write (.h5).
    setting
        Settings of the code as NAME=VALUE; separate several values of one setting by commas.
    workers
        Number of processes, 1 or more; by default the number of cores.
    json
        Print the result as JSON.
    """
    from draper.data.join import read_table
    from draper.simulate.adapters.run import Row, compute

    adapter = adapter_with(code, setting)
    with progress("computing") as done:

        def note(row: Row) -> None:
            done(row.done, row.rows)
            if row.reason:
                sys.stderr.write(f"row {row.number} failed: {row.reason}\n")

        outcome = compute(adapter, read_table(labels), out, workers, note, overwrite=overwrite)
    if json:
        say_json(
            {
                "path": out,
                "spectra": len(outcome.spectra),
                "kept": outcome.kept,
                "failed": {str(row.number): row.reason for row in outcome.failures},
                "code": adapter.version,
            }
        )
        return
    kept = f", {outcome.kept:,} of them from an earlier run" if outcome.kept else ""
    say(f"{len(outcome.spectra):,} spectra written to {out}{kept}")
    if outcome.failures:
        say(f"{len(outcome.failures):,} failed: see {out}.failures.csv")


def adapter_with(code: str, settings: tuple[str, ...]) -> Adapter:
    """Return the adapter to a code with settings NAME=VALUE."""
    from importlib import import_module

    kind: type[Adapter] = getattr(import_module(f"draper.simulate.adapters.{code}"), ADAPTERS[code])
    hints = get_type_hints(kind)
    every = {field.name: field for field in fields(kind) if _kinds(hints[field.name])}
    given: dict[str, Any] = {}
    for setting in settings:
        name, _, text = setting.partition("=")
        if name not in every or not text:
            raise DraperError(
                f"this is not a setting of {code}",
                given=setting,
                expected=f"NAME=VALUE, of {', '.join(every)}",
                hint=did_you_mean(name, every),
            )
        try:
            given[name] = _value(hints[name], text)
        except (ValueError, KeyError):
            raise DraperError(
                f"the value of '{name}' is not valid", given=text, expected=_words(name, hints[name])
            ) from None
    missing = [name for name, field in every.items() if field.default is MISSING and name not in given]
    if missing:
        raise DraperError(
            f"{code} needs more settings", expected=", ".join(missing), hint=f"add -s {missing[0]}=VALUE"
        )
    return kind(**given)


def _kinds(hint: Any) -> list[Any]:
    """Return the types of a setting that can be given on a command line."""
    offered = get_args(hint) or (hint,)
    return [kind for kind in (Path, bool, int, float, str) if kind in offered]


def _value(hint: Any, text: str) -> Any:
    kind = _kinds(hint)[0]
    if get_origin(hint) is tuple:
        parts = text.split(",")
        if Ellipsis not in get_args(hint) and len(parts) != len(get_args(hint)):
            raise ValueError(text)
        return tuple(kind(part) for part in parts)
    return WORDS[text.lower()] if kind is bool else kind(text)


def _words(name: str, hint: Any) -> str:
    """Return a readable description of the values of a setting.

    Examples
    --------
    >>> _words("window", tuple[float, float]), _words("lines", tuple[Path, ...])
    ('window=A,B, each a number', 'lines=A,B,... (one or more), each a path')
    """
    kind = KINDS[_kinds(hint)[0]]
    if get_origin(hint) is not tuple:
        return kind
    if Ellipsis in get_args(hint):
        return f"{name}=A,B,... (one or more), each {kind}"
    return f"{name}={','.join(ascii_uppercase[: len(get_args(hint))])}, each {kind}"
