"""The base class of adapters to real codes: picklable settings, and one spectrum for one set of labels."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from draper.data.grid import Grid
from draper.errors import DraperError


@dataclass(frozen=True, eq=False)
class Adapter(ABC):
    """A real code with its settings.

    A final class is a frozen dataclass whose fields are plain values, paths and arrays. It is pickled into
    the processes that compute, so it opens nothing before :meth:`spectrum`, and imports its code there.

    Attributes
    ----------
    package, module, extra : str
        Distribution of the code, its Python module, and the extra of draper that installs it.
    needed, optional : tuple of str
        Labels that a table must have, and further ones that are used if it has them.
    quantity, unit : str
        Quantity and unit of the spectra.
    harmless : tuple of str
        Settings that do not change the spectra.
    recorded : tuple of str
        Numbers among the settings that become columns, because the spectra mean nothing without them.
    """

    package: ClassVar[str]
    module: ClassVar[str]
    extra: ClassVar[str]
    needed: ClassVar[tuple[str, ...]]
    optional: ClassVar[tuple[str, ...]] = ()
    quantity: ClassVar[str] = "normalised flux"
    unit: ClassVar[str] = ""
    harmless: ClassVar[tuple[str, ...]] = ()
    recorded: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def grid(self) -> Grid:
        """Return the pixels of every spectrum."""

    @abstractmethod
    def spectrum(self, labels: dict[str, float]) -> NDArray[np.float64]:
        """Return the spectrum (p,) for one set of labels; if it raises an error, the row is skipped."""

    def require(self) -> None:
        """Raise an error with installation instructions unless the code is installed."""
        if find_spec(self.module) is None:
            raise DraperError(
                f"{self.package} is not installed",
                expected=f"the Python package {self.package}",
                hint=f"pip install 'draper[{self.extra}]'",
            )

    @property
    def version(self) -> str:
        """Name and version of the code."""
        try:
            return f"{self.package} {version(self.package)}"
        except PackageNotFoundError:
            return self.package

    def settings(self) -> dict[str, Any]:
        """Return all settings on which the spectra depend, as JSON values.

        Files are distinguished by size and modification time, arrays by a hash of their values.
        """
        names = [field.name for field in fields(self) if field.name not in self.harmless]
        return {name: described(getattr(self, name)) for name in names}

    @property
    def identity(self) -> str:
        """Settings and version of the code as text, which differs if the spectra may differ."""
        return json.dumps([type(self).__name__, self.version, self.settings()], sort_keys=True)


def described(value: Any) -> Any:
    """Return a setting as JSON values that change with its content."""
    if isinstance(value, Path):
        return {"path": value.name, "files": [list(_stamp(value, file)) for file in _files(value)]}
    if isinstance(value, np.ndarray):
        return hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()[:16]
    if isinstance(value, Mapping):
        return {str(key): described(inner) for key, inner in value.items()}
    if isinstance(value, (tuple, list)):
        return [described(inner) for inner in value]
    return value


def _files(path: Path) -> Iterable[Path]:
    return sorted(entry for entry in path.rglob("*") if entry.is_file()) if path.is_dir() else [path]


def _stamp(root: Path, file: Path) -> tuple[str, int, int]:
    if not file.is_file():
        raise DraperError("no such file", given=file, hint="check the name and the folder")
    state = file.stat()
    return file.relative_to(root).as_posix(), state.st_size, state.st_mtime_ns
