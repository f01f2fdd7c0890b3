"""Options of the linear autoencoder, the reference model."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from draper.config import ModelConfig


class LinearConfig(ModelConfig):
    """A linear autoencoder with linear label heads: the example to read, and the baseline to beat."""

    model: ClassVar[str] = "draper.testing.reference:LinearAutoencoder"
    summary: ClassVar[str] = "Linear autoencoder and label regression: an example and a baseline."
    example: ClassVar[dict[str, Any]] = {"latent": 4, "labels": ("teff", "logg")}

    latent: Annotated[int, Field(ge=1)] = 32
    """Number of latent dimensions, 1 or more."""
    labels: tuple[str, ...] = ()
    """Columns of the table to predict from the latent space."""
    start: Literal["random", "pca"] = "random"
    """Where training starts: at random, or at the principal components and a regression of labels on them."""

    def search_ranges(self) -> dict[str, tuple[float, float]]:
        """Return what ``draper tune`` searches by default."""
        return {"latent": (2, 32), "learning_rate": (3e-4, 3e-3), "epochs": (25, 100)}
