"""Parameters that many commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from draper.config import Config
from draper.configs.read import ReadConfig

Output = Annotated[Path, Parameter(name=["--out", "-o"])]
"""What a command writes."""

Json = Annotated[bool, Parameter(name="--json")]
"""Whether the result is printed as JSON."""

Overwrite = Annotated[bool, Parameter(name="--overwrite", help="Replace files that exist already.")]
"""Whether a command may replace files; each has this parameter that writes some."""

Hints = Annotated[ReadConfig, Parameter(name="read")]
"""How files of spectra are read (``--read.medium air``), where a command has other options, too."""

SkipBad = Annotated[bool, Parameter(name="--skip-bad")]
"""Whether files that cannot be used are skipped."""

Number = Annotated[int, Parameter(name=["--number", "-n"])]
"""How many."""


def flags(options: type[Config], group: str | None = None) -> Any:
    """Return the annotation of a parameter by which a class of options becomes flags."""
    if not options.model_fields:
        return Annotated[Any, Parameter(parse=False)]
    # A group that is None would hide the flags from the help.
    part: dict[str, Any] = {} if group is None else {"group": group}
    return Annotated[options, Parameter(name=options.flags, **part)]
