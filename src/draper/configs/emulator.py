"""Options of the emulator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from draper.config import Config, ModelConfig
from draper.configs.fit import FitConfig
from draper.errors import DraperError

Activation = Literal["silu", "leaky_relu", "sigmoid"]
Size = Annotated[int, Field(ge=1)]
Window = tuple[float, float]


class GenerateConfig(Config):
    """Broadening and velocity of generated spectra: one value for all, or one for each (``5,10,20``)."""

    vsini: float | tuple[float, ...] | None = None
    """Rotation to broaden by [km/s]; none by default."""
    vmac: float | tuple[float, ...] | None = None
    """Macroturbulence to broaden by [km/s]; none by default."""
    resolving_power: float | tuple[float, ...] | None = None
    """lambda / FWHM of the generated spectra; that of the training spectra by default."""
    rv: float | tuple[float, ...] | None = None
    """Radial velocity [km/s]; 0 by default."""

    @field_validator("*", mode="before")
    @classmethod
    def _plain(cls, value: Any) -> Any:
        if isinstance(value, str) and "," in value:  # --vsini 5,10,20
            return value.split(",")
        return value.tolist() if hasattr(value, "tolist") else value  # arrays


RADIAL_TRAINING: dict[str, Any] = {"steps": 150, "batch_size": 1024, "learning_rate": 0.05, "warmup": 30}
"""Defaults of the trainer for the radial form."""


class EmulatorConfig(ModelConfig):
    """A network that turns labels into spectra, and fits labels to spectra."""

    model: ClassVar[str] = "draper.models.emulator.model:Emulator"
    summary: ClassVar[str] = "Labels to spectrum, and the fit of labels to spectra."
    training: ClassVar[dict[str, Any]] = {
        "epochs": 1000,
        "learning_rate": 3e-3,
        "clip": 1.0,
        "warmup": 50,
        "final_rate": 1e-3,
    }
    example: ClassVar[dict[str, Any]] = {
        "labels": ("teff", "logg", "fe_h"),
        "hidden": (24, 24),
        "components": 12,
    }
    verb_options: ClassVar[dict[str, type[Config]]] = {"predict": FitConfig, "generate": GenerateConfig}
    generate_from: ClassVar[tuple[Literal["spectra", "labels"], ...]] = ("labels",)
    commands: ClassVar[tuple[str, ...]] = (
        "draper.cli.models.forecast:information",
        "draper.cli.models.propose:propose",
        "draper.cli.models.zero_point:zero_point",
        "draper.cli.models.foreign:import_",
        "draper.cli.models.foreign:export",
    )

    labels: tuple[str, ...] = ()
    """Columns of the table that the network takes as labels; all stellar labels that vary by default."""
    hidden: Annotated[tuple[Size, ...], Field(min_length=1)] = (600, 600, 600)
    """Sizes of the hidden layers; 600,600,600 by default."""
    architecture: Literal["perceptron", "radial", "query", "pixelwise"] = "perceptron"
    """Form of the network: one output for each pixel (perceptron, the default); radial functions about the
    training spectra (radial), more exact where these are few, some thousand at most; or labels and wavelength
    as inputs (query), which gives the flux between pixels, too. Networks of one small network for each pixel
    (pixelwise, the form of binspec) are imported and cannot be trained."""
    bends: Size = 64
    """Number of tanh units that bend the labels before they are compared (radial); 64 by default."""
    kernels: Annotated[int, Field(ge=1, le=6)] = 3
    """Number of kernels (radial, 1 to 6): the leading components, which change slowly with the labels, have
    one of their own, and so on; 3 by default."""
    waves: Size = 128
    """Number of sines and cosines of ln(lambda) that encode a wavelength (query); 128 by default."""
    decoder: Annotated[tuple[Size, ...], Field(min_length=2)] = (256, 64, 64)
    """Sizes of the layers that wavelengths pass (query), at least two; labels pass those of `hidden`."""
    activation: Activation = "silu"
    """Activation function of the hidden layers."""
    output: Literal["linear", "bounded"] = "linear"
    """Output layer: any flux (linear, the default), or flux between 0 and 1 (bounded, by a sigmoid)."""
    components: Annotated[int, Field(ge=0)] | None = None
    """Number of principal components that are learnt instead of pixels; 0 learns pixels. By default as many
    as leave 0.2 % of the scatter, at most 1000; 0 if pixels are bad, or loss, output or censor need it."""
    loss: Literal["l1", "l2"] = "l2"
    """Mean absolute (l1) or mean squared error (l2, the default) over all good pixels, with equal weights."""
    start: Literal["random", "ridge"] = "random"
    """Start of training: random weights (default), or the last layer by ridge regression (ridge), which is
    better in the first seconds and worse later."""
    solve: bool = True
    """Whether the last layer is solved in closed form after training (l2, linear output); true by default."""
    censor: dict[str, tuple[Window, ...]] = {}
    """Labels that may change the flux only within windows (low, high) [vacuum Angstrom]; none by default."""

    @property
    def own_training(self) -> Mapping[str, Any]:
        """Defaults of the trainer; a radial form has few parameters, and learns from large batches."""
        return RADIAL_TRAINING if self.architecture == "radial" else self.training

    def search_ranges(self) -> dict[str, tuple[float, float]]:
        """Return what ``draper tune`` searches by default; one width is that of all hidden layers."""
        return {"hidden": (300, 1200), "learning_rate": (1e-3, 1e-2), "epochs": (300, 3000)}

    @property
    def needs_pixels(self) -> bool:
        """Whether the loss is not a sum of squares of components."""
        return self.loss == "l1" or self.output == "bounded" or bool(self.censor)

    @model_validator(mode="after")
    def _components_suffice(self) -> Self:
        if self.components and self.needs_pixels:
            raise DraperError(
                "components need loss l2, linear output and no censored labels",
                given=f"components={self.components}, loss={self.loss}, output={self.output}",
                hint="set components=0, or leave it out",
            )
        if self.architecture == "query" and (
            self.components or self.censor or self.output == "bounded" or self.start == "ridge"
        ):
            raise DraperError(
                "the architecture query has no components, bounded output, ridge start or censored labels",
                given=f"components={self.components}, output={self.output}, start={self.start}, "
                f"censor={self.censor}",
                hint="leave these options out, or architecture='query'",
            )
        if self.architecture == "radial" and (
            self.needs_pixels or self.components == 0 or self.start == "ridge"
        ):
            raise DraperError(
                "the architecture radial learns components, and has no l1 loss, bounded output, ridge start "
                "or censored labels",
                given=f"components={self.components}, loss={self.loss}, output={self.output}, "
                f"start={self.start}, censor={self.censor}",
                hint="leave these options out, or architecture='radial'",
            )
        if unknown := set(self.censor) - set(self.labels or self.censor):
            raise DraperError(
                "only a label of the model can be censored",
                given=", ".join(sorted(unknown)),
                expected=", ".join(self.labels),
            )
        if self.censor and len(self.censor) > min(self.hidden) // 2:
            raise DraperError(
                "each censored label needs at least two units in every hidden layer",
                given=f"{len(self.censor)} labels, layers of {self.hidden}",
                hint="make the hidden layers wider",
            )
        return self
