"""Options of the emulator."""

from __future__ import annotations

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
    """Rotation to broaden by [km/s]; none unless given."""
    vmac: float | tuple[float, ...] | None = None
    """Macroturbulence to broaden by [km/s]; none unless given."""
    resolving_power: float | tuple[float, ...] | None = None
    """lambda / FWHM of what comes out; that of the training spectra unless given."""
    rv: float | tuple[float, ...] | None = None
    """Radial velocity [km/s]; 0 unless given."""

    @field_validator("*", mode="before")
    @classmethod
    def _plain(cls, value: Any) -> Any:
        if isinstance(value, str) and "," in value:  # --vsini 5,10,20
            return value.split(",")
        return value.tolist() if hasattr(value, "tolist") else value  # arrays


class EmulatorConfig(ModelConfig):
    """A network from labels to spectra, and the fit of labels by it."""

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
        "draper.cli.models.foreign:import_",
        "draper.cli.models.foreign:export",
    )

    labels: tuple[str, ...] = ()
    """Columns of the table that the spectrum follows from; all that name stellar labels unless given."""
    hidden: Annotated[tuple[Size, ...], Field(min_length=1)] = (600, 600, 600)
    """Sizes of the hidden layers."""
    form: Literal["perceptron", "query", "pixelwise"] = "perceptron"
    """A perceptron has an output for each pixel; a network that is asked for wavelengths (query) says the
    flux between them too. Networks with sigmoids of their own for each pixel (pixelwise, the form of binspec)
    are imported; they cannot be trained."""
    waves: Size = 128
    """Periods of the sines and cosines of ln(lambda) that a query is made of."""
    decoder: Annotated[tuple[Size, ...], Field(min_length=2)] = (256, 64, 64)
    """Sizes of the layers that a query passes; `hidden` are those that the labels pass."""
    activation: Activation = "silu"
    """Of the hidden layers."""
    output: Literal["linear", "bounded"] = "linear"
    """Whether any flux can come out, or only one between 0 and 1."""
    components: Annotated[int, Field(ge=0)] | None = None
    """Principal components learnt in place of pixels; 0 learns pixels. Unless given, as many as leave
    0.2 % of the scatter, up to 1000; or pixels, where some are bad or loss, output or censor need them."""
    loss: Literal["l1", "l2"] = "l2"
    """Mean absolute or mean squared error; bad pixels carry no weight, and all others the same."""
    start: Literal["random", "ridge"] = "random"
    """Where training starts: at random, or with the last layer in closed form (ridge regression), which is
    ahead in the first seconds and behind later."""
    solve: bool = True
    """Whether the last layer is solved in closed form after the last step (loss l2, linear output)."""
    censor: dict[str, tuple[Window, ...]] = {}
    """Labels that move the spectrum nowhere but in windows (low, high) of vacuum Angstrom."""

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
                "components are learnt with loss l2, linear output and nothing censored",
                given=f"components={self.components}, loss={self.loss}, output={self.output}",
                hint="set components=0, or leave it out",
            )
        if self.form == "query" and (
            self.components or self.censor or self.output == "bounded" or self.start == "ridge"
        ):
            raise DraperError(
                "a network that is asked for wavelengths learns pixels, from a random start, without limits",
                given=f"components={self.components}, output={self.output}, start={self.start}, "
                f"censor={self.censor}",
                hint="leave these options out, or form='query'",
            )
        if unknown := set(self.censor) - set(self.labels or self.censor):
            raise DraperError(
                "only a label of the model can be censored", given=", ".join(sorted(unknown)),
                expected=", ".join(self.labels),
            )  # fmt: skip
        if self.censor and len(self.censor) > min(self.hidden) // 2:
            raise DraperError(
                "each censored label takes units of its own in every layer",
                given=f"{len(self.censor)} labels, layers of {self.hidden}",
                hint="make the hidden layers wider",
            )
        return self
