"""Options of the reference model that is trained on two unpaired data sets."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field

from draper.config import Input, ModelConfig


class AlignedConfig(ModelConfig):
    """Linear label regression on synthetic spectra, for observed ones that are shifted to their mean."""

    model: ClassVar[str] = "draper.testing.aligned:AlignedRegression"
    summary: ClassVar[str] = (
        "Labels of observed spectra by linear regression on synthetic ones: an example and a baseline."
    )
    inputs: ClassVar[tuple[Input, ...]] = (
        Input("synthetic", "Computed spectra with labels."),
        Input("observed", "Observed spectra on the same pixels; their labels are not used."),
    )
    example: ClassVar[dict[str, Any]] = {"latent": 4, "labels": ("teff", "logg")}

    labels: Annotated[tuple[str, ...], Field(min_length=1)] = ("teff", "logg", "fe_h")
    """Columns of the synthetic spectra to predict."""
    latent: Annotated[int, Field(ge=1)] = 8
    """Number of latent dimensions, 1 or more."""
