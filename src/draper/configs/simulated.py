"""Options of the reference model that is trained on a simulator."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field

from draper.config import Input, ModelConfig


class SimulatedConfig(ModelConfig):
    """Linear label regression on spectra that a simulator draws anew at every step."""

    model: ClassVar[str] = "draper.testing.simulated:SimulatedRegression"
    summary: ClassVar[str] = "Linear label regression on a simulator: an example and a baseline."
    inputs: ClassVar[tuple[Input, ...]] = (
        Input("simulator", "Simulator of the spectra, with its own prior of the labels.", ("simulator",)),
    )
    example: ClassVar[dict[str, Any]] = {"latent": 4, "labels": ("teff", "logg")}

    latent: Annotated[int, Field(ge=1)] = 8
    """Number of latent dimensions, 1 or more."""
    labels: tuple[str, ...] = ()
    """Labels to predict; all labels of the simulator's prior by default."""
