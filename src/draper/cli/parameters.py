"""Parameters that many commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from draper.configs.read import ReadConfig

Output = Annotated[Path, Parameter(name=["--out", "-o"])]
"""What a command writes."""

Json = Annotated[bool, Parameter(name="--json")]
"""Whether the result is printed as JSON."""

Hints = Annotated[ReadConfig, Parameter(name="read")]
"""How files of spectra are read (``--read.medium air``), where a command has other options, too."""

Number = Annotated[int, Parameter(name=["--number", "-n"])]
"""How many."""
