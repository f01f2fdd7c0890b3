"""A mock code: cheap, in a separate module so that other processes can import it."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from draper.data.grid import Grid
from draper.simulate.adapters.adapter import Adapter


@dataclass(frozen=True, eq=False)
class MockCode(Adapter):
    package: ClassVar[str] = "numpy"
    module: ClassVar[str] = "numpy"
    extra: ClassVar[str] = "numpy"
    needed: ClassVar[tuple[str, ...]] = ("teff",)
    optional: ClassVar[tuple[str, ...]] = ("fe_h",)
    recorded: ClassVar[tuple[str, ...]] = ("depth",)

    depth: float = 0.5

    def grid(self) -> Grid:
        return Grid.linear(5000, 5004, 1, medium="vacuum")

    def spectrum(self, labels: dict[str, float]) -> NDArray[np.float64]:
        teff = labels["teff"]
        if teff == 1:
            raise RuntimeError("no\nconvergence")
        if teff == 2:
            os._exit(1)
        if teff == 3:
            return np.full(5, np.nan)
        if teff == 4:
            return np.ones(3)
        assert os.environ.get("MOCK_WITHOUT_TORCH") is None or "torch" not in sys.modules
        return 1 - self.depth * np.sin(np.arange(5) * teff) + labels.get("fe_h", 0.0)


@dataclass(frozen=True, eq=False)
class Absent(MockCode):
    package: ClassVar[str] = "a-code-nobody-has"
    module: ClassVar[str] = "a_code_nobody_has"
    extra: ClassVar[str] = "that"
