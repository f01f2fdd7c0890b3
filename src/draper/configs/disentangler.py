"""Options of the disentangler."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from draper.config import ModelConfig
from draper.errors import DraperError

Size = Annotated[int, Field(ge=1)]
Sizes = tuple[Size, ...]
Weight = Annotated[float, Field(ge=0)]

Engine = Literal["bottleneck", "bins", "joint", "continuous", "hsic", "none"]


class DisentanglerConfig(ModelConfig):
    """An autoencoder whose latents are free of some labels and rich in others."""

    model: ClassVar[str] = "draper.models.disentangler:Disentangler"
    summary: ClassVar[str] = "Latents that are free of chosen labels, rich in others; the same star with other labels."
    training: ClassVar[dict[str, Any]] = {"epochs": 20, "batch_size": 256, "learning_rate": 1e-3, "clip": 10.0}
    example: ClassVar[dict[str, Any]] = {
        "remove": ("teff",),
        "keep": ("fe_h",),
        "latent": 4,
        "encoder": (24,),
        "decoder": (24,),
    }

    labels: tuple[str, ...] = ()
    """Labels that the decoder is told: those to remove and to keep unless given; without these, what there is of
    teff, logg, fe_h and alpha_fe."""
    remove: tuple[str, ...] = ()
    """Labels that the latents are not to tell."""
    keep: tuple[str, ...] = ()
    """Labels that the latents are to tell well."""
    engine: Engine = "bottleneck"
    """How labels are removed."""
    strength: tuple[Weight, ...] = ()
    """How strongly: one number for all, or one for each label of remove and then of keep; the engine's own unless
    given."""
    latent: Size = 25
    """Numbers that describe a spectrum."""
    encoder: Annotated[Sizes, Field(min_length=1)] = (512, 256)
    """Sizes of the hidden layers of the encoder."""
    decoder: Annotated[Sizes, Field(min_length=1)] = (256, 512)
    """Sizes of the hidden layers of the decoder."""
    critic: Annotated[Sizes, Field(min_length=1)] = (64, 32)
    """Sizes of the hidden layers of what tries to read labels from latents while training."""
    bins: Annotated[int, Field(ge=2)] = 10
    """Classes of a label for the engines bins and joint."""
    encoder_sees_labels: bool = False
    """Whether the encoder is told the labels, too; then spectra without labels cannot be encoded."""
    erase: bool = False
    """Whether what a linear function can tell of the removed labels is erased from the latents after training (LEACE)."""
