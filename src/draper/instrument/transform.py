"""The base class of transforms."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Self

from torch import Tensor, nn

from draper.errors import DraperError


class Transform(nn.Module, ABC):
    """A pure, differentiable function of flux and inverse variance, both (n, p).

    Options are in :meth:`to_json`; arrays are buffers, and are stored with the weights.
    """

    kind: ClassVar[str]

    @abstractmethod
    def forward(self, flux: Tensor, ivar: Tensor) -> tuple[Tensor, Tensor]:
        """Transform flux and inverse variance."""

    def inverse(self, flux: Tensor, ivar: Tensor) -> tuple[Tensor, Tensor]:
        """Undo :meth:`forward` where pixels are good; an error for a transform that loses information."""
        raise DraperError(
            f"the transform '{self.kind}' cannot be undone",
            hint="compare in transformed units, or leave it to the reader of the files",
        )

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Return the arguments of :meth:`from_json`."""

    @classmethod
    @abstractmethod
    def from_json(cls, state: dict[str, Any]) -> Self:
        """Return a transform with empty arrays of the right shape."""
