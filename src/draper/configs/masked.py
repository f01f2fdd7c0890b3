"""Options of the masked autoencoder and of its verbs."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from draper.config import Config, Input, ModelConfig

Probability = Annotated[float, Field(gt=0, lt=1)]

Given = Literal["all", "columns", "labels"]


class QuantileConfig(Config):
    """How labels are predicted."""

    flags: ClassVar[str] = "*"

    levels: Annotated[tuple[Probability, ...], Field(min_length=1)] = (
        0.025, 0.05, 0.16, 0.25, 0.5, 0.75, 0.84, 0.95, 0.975,
    )  # fmt: skip
    """Probabilities of the quantiles, increasing, some below and some above 0.5."""
    calibrated: bool = True
    """Move quantiles so that they hold on the held-out stars; without, they are those of the network."""
    spectrum: bool = True
    """Use the spectrum; without it labels follow from the columns alone, such as photometry."""
    novelty: bool = True
    """Say how unusual a star is (p values, flag outside); without it labels come twice as fast."""


class FillConfig(Config):
    """How what is missing is generated."""

    flags: ClassVar[str] = "*"

    given: Given = "all"
    """What the model is shown: all that there is (labels only if there is no spectrum); the columns of the
    table, such as photometry, without the spectrum; or the labels alone, which are columns of the table, too.
    Spectrum and columns are then new ones, as bright as the old ones, or else as the median training star."""


class MaskedConfig(ModelConfig):
    """One model of spectra, photometry and labels, any part of which may be missing."""

    model: ClassVar[str] = "draper.models.masked.model:MaskedAutoencoder"
    summary: ClassVar[str] = (
        "Masked pre-training on spectra and photometry; labels with calibrated intervals."
    )
    inputs: ClassVar[tuple[Input, ...]] = (
        Input(
            "spectra",
            "Files of spectra with photometry as columns; with labels to fine-tune.",
            ("spectra", "stream", "simulator"),
        ),
    )
    training: ClassVar[dict[str, Any]] = {
        "steps": 6000,
        "batch_size": 512,
        "learning_rate": 2e-3,
        "warmup": 300,
        "clip": 1.0,
    }
    example: ClassVar[dict[str, Any]] = {
        "components": 6,
        "width": 32,
        "blocks": 1,
        "labels": ("teff", "logg"),
    }
    verb_options: ClassVar[dict[str, type[Config]]] = {"predict": QuantileConfig, "generate": FillConfig}
    commands: ClassVar[tuple[str, ...]] = ("draper.cli.models.masked:ledger",)
    foreign_options: ClassVar[tuple[str, ...]] = ("draper.models.masked.msa:OPTION_FILE",)
    later: ClassVar[tuple[str, ...]] = ("encoder",)

    labels: tuple[str, ...] = ()
    """Columns of the table to predict; none to pre-train without labels. Labels that are missing (NaN) are
    tolerated, and errors of labels (NAME_err) are taken into account."""
    columns: tuple[str, ...] | None = None
    """Columns that are seen beside the spectrum: magnitudes (names that end in _mag), parallax, others; by
    default the magnitudes and the parallax of the table, unless they are labels."""
    architecture: Literal["mlp", "tokens"] = "mlp"
    """A perceptron of all values and of what is visible, or attention among visible tokens (slower)."""
    components: Annotated[int, Field(ge=1)] = 48
    """Number of components on which spectra are projected, 1 or more."""
    width: Annotated[int, Field(ge=4, multiple_of=4)] = 256
    """Width of the layers, a multiple of 4."""
    blocks: Annotated[int, Field(ge=1)] = 3
    """Residual blocks, or layers of attention, 1 or more."""
    encoder: Literal["full", "partial", "frozen"] = "full"
    """Which part of the encoder is trained: all of it, the last block, or nothing but what reads labels off
    (frozen); a later fit may change it."""

    @field_validator("columns")
    @classmethod
    def _no_twins(cls, columns: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if twins := {name for name in columns or () if (columns or ()).count(name) > 1}:
            raise ValueError(f"every column once; {', '.join(sorted(twins))} stands there twice")
        return columns

    def search_ranges(self) -> dict[str, tuple[float, float]]:
        """Return what ``draper tune`` searches by default."""
        return {"components": (16, 96), "learning_rate": (5e-4, 5e-3), "epochs": (10, 100)}
