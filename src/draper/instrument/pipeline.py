"""Pipelines of transforms, which are stored with a model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self

from torch import Tensor, nn

from draper.errors import DraperError, did_you_mean
from draper.instrument.observing import AddNoise, Broaden, Normalize, Resample, Shift
from draper.instrument.standardize import Standardize
from draper.instrument.transform import Transform

KINDS: dict[str, type[Transform]] = {
    kind.kind: kind for kind in (Standardize, Shift, Broaden, Resample, Normalize, AddNoise)
}
"""The transforms by the name that artifacts store."""


class Pipeline(nn.Module):
    """Transforms in the order in which they are applied."""

    def __init__(self, transforms: Iterable[Transform] = ()) -> None:
        super().__init__()
        self.transforms = nn.ModuleList(transforms)

    def forward(self, flux: Tensor, ivar: Tensor) -> tuple[Tensor, Tensor]:
        """Apply every transform."""
        for transform in self.transforms:
            flux, ivar = transform(flux, ivar)
        return flux, ivar

    def inverse(self, flux: Tensor, ivar: Tensor) -> tuple[Tensor, Tensor]:
        """Undo every transform, the last one first."""
        for transform in reversed(list(self.transforms)):
            flux, ivar = transform.inverse(flux, ivar)  # type: ignore[operator]
        return flux, ivar

    def to_json(self) -> list[dict[str, Any]]:
        """Return kind and state of every transform."""
        return [
            {"kind": transform.kind, **transform.to_json()}
            for transform in self.transforms
            if isinstance(transform, Transform)
        ]

    @classmethod
    def from_json(cls, states: Iterable[dict[str, Any]]) -> Self:
        """Return a pipeline with empty arrays of the right shape."""
        transforms = []
        for state in states:
            if state["kind"] not in KINDS:
                raise DraperError(
                    "unknown transform", given=state["kind"], hint=did_you_mean(state["kind"], KINDS)
                )
            transforms.append(KINDS[state["kind"]].from_json(state))
        return cls(transforms)
