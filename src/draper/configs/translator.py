"""Options of the translator and of its verbs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from draper.config import Config, Input, ModelConfig
from draper.errors import DraperError, option_text

Size = Annotated[int, Field(ge=1)]
Sizes = Annotated[tuple[Size, ...], Field(min_length=1)]

Domain = Literal["synthetic", "observed"]


class TranslateConfig(Config):
    """Which way spectra are translated, and what an observed spectrum has beside its labels."""

    flags: ClassVar[str] = "*"

    to: Domain = "observed"
    """What the result looks like: observed (the default; the spectra given are synthetic), or synthetic (the
    spectra given are observed)."""
    split: Literal["mean", "drawn"] = "mean"
    """What observed spectra have beside what synthetic ones have, such as the continuum of the instrument:
    the mean of the training set (the default), or drawn anew for each spectrum."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of what is drawn."""

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.split == "drawn" and self.to == "synthetic":
            raise DraperError(
                "synthetic spectra have nothing that could be drawn",
                given="split='drawn', to='synthetic'",
                hint=f"leave out {option_text('split')}, or make observed spectra",
            )
        return self


class EncodeConfig(Config):
    """Which latents of which spectra are returned."""

    flags: ClassVar[str] = "*"

    domain: Domain = "observed"
    """What the spectra are: observed (the default), or synthetic."""
    part: Literal["shared", "split", "both"] = "shared"
    """Latents that both domains have (shared, the default), those of observed spectra alone (split), or both,
    shared ones first."""


class TranslatorConfig(ModelConfig):
    """Synthetic spectra translated to look observed, and back, learnt from unpaired sets."""

    model: ClassVar[str] = "draper.models.translator.model:Translator"
    summary: ClassVar[str] = "Synthetic spectra that look observed, and the other way round."
    inputs: ClassVar[tuple[Input, ...]] = (
        Input(
            "synthetic",
            "Computed spectra; with their labels as columns for the method anchored.",
            ("spectra", "stream", "simulator"),
        ),
        Input("observed", "Observed spectra of other stars; labels of some (anchored), NaN for the rest."),
    )
    training: ClassVar[dict[str, Any]] = {
        "epochs": 1000,
        "learning_rate": 3e-3,
        "clip": 1.0,
        "warmup": 50,
        "final_rate": 1e-3,
    }
    cycle_training: ClassVar[dict[str, Any]] = {
        "steps": 3_000,
        "batch_size": 16,
        "learning_rate": 3e-3,
        "warmup": 200,
        "ema": 0.998,
    }
    example: ClassVar[dict[str, Any]] = {"labels": ("teff", "logg", "fe_h"), "hidden": (24, 24)}
    cycle_example: ClassVar[dict[str, Any]] = {
        "method": "cycle",
        "filters": (8, 16),
        "strides": (2, 2),
        "shared_filters": (16,),
        "shared_strides": (2,),
        "split_filters": (8,),
        "shared": 6,
        "split": 2,
        "critic": (8, 16),
    }
    foreign_options: ClassVar[tuple[str, ...]] = ("draper.models.translator.cyclestarnet:OPTION_FILE",)
    commands: ClassVar[tuple[str, ...]] = ("draper.cli.models.translator:lines",)
    verb_options: ClassVar[dict[str, type[Config]]] = {"generate": TranslateConfig, "encode": EncodeConfig}

    method: Literal["anchored", "cycle"] = "anchored"
    """How spectra are translated: by the physics of the synthetic ones and a residual that stars with known
    labels pin down (anchored, the default), or by the Cycle-GAN of O'Briain et al. (cycle), which uses no
    labels. Options further down are those of cycle."""
    labels: tuple[str, ...] = ()
    """Columns that synthetic spectra depend on, and that are predicted (anchored); by default all stellar
    labels that vary. Those that observed stars have, too, come first, and pin the residual down. Those that
    `reweight` compares (cycle)."""
    hidden: Sizes = (300, 300)
    """Sizes of the hidden layers of the network of synthetic spectra (anchored)."""
    continuum: Annotated[int, Field(ge=0, le=20)] = 1
    """Degree (0 to 20) of the polynomial that the continua of both sets may differ by (anchored)."""
    rv_error: Annotated[float, Field(ge=0)] = 0.0
    """1-sigma error of the rest frame of observed spectra [km/s], well below a pixel (anchored); 0 by
    default."""

    filters: Sizes = (16, 32)
    """Filters of the convolutions of each domain; 32,64 in the paper."""
    strides: Sizes = (4, 4)
    """Their strides: pixels of one layer for each of the next."""
    shared_filters: Sizes = (64, 128, 256)
    """Filters of the convolutions that both domains share; 128,256,512 in the paper."""
    shared_strides: Sizes = (4, 2, 2)
    """Their strides, which also hold for `split_filters`."""
    split_filters: Sizes = (32, 32, 32)
    """Filters that encode what observed spectra alone have; as many as `shared_filters`."""
    shared: Size = 25
    """Channels of the latents that both domains have."""
    split: Annotated[int, Field(ge=0)] = 4
    """Channels of the latents that observed spectra alone have; 0 for none."""
    kernel: Annotated[int, Field(ge=3)] = 7
    """Width of the convolutions [pixels of their layer]; an odd number."""
    critic: Sizes = (16, 32, 64, 128, 256)
    """Filters of the discriminators, each with stride 4."""
    adversarial: Literal["logits", "hinge"] = "logits"
    """Loss of the discriminators: cross-entropy (logits, the default), or hinge."""
    penalty: Annotated[float, Field(ge=0)] = 0.0
    """Strength of the R1 penalty on gradients of the discriminators; 0, the default, for none."""
    best_of: Annotated[int, Field(ge=1)] = 1
    """Train on the best 1 of this many synthetic spectra, chosen by the discriminator as most like observed
    ones, so that the label distributions of the two sets may differ; 1, the default, trains on all."""

    reweight: bool = False
    """Count each synthetic spectrum in the terms of the discriminators as often as its labels occur among
    observed stars, relative to synthetic ones, so that the label distributions of the two sets may differ.
    Both sets need columns of labels, by default all that both have; a catalogue's are good enough."""

    @property
    def own_training(self) -> Mapping[str, Any]:
        """Defaults for options of the trainer with these options of the model."""
        return self.training if self.method == "anchored" else self.cycle_training

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        for one, other in (("filters", "strides"), ("shared_filters", "shared_strides")):
            if len(getattr(self, one)) != len(getattr(self, other)):
                raise DraperError(
                    f"{one} and {other} have different lengths",
                    given=f"{getattr(self, one)} and {getattr(self, other)}",
                    hint="give one stride for each layer",
                )
        if self.split and len(self.split_filters) != len(self.shared_strides):
            raise DraperError(
                "split_filters and shared_strides have different lengths",
                given=f"{self.split_filters} and {self.shared_strides}",
                hint="give one stride for each layer",
            )
        if self.reweight and self.method == "anchored":
            raise DraperError(
                f"{option_text('reweight')} is an option of the method cycle",
                given="method=anchored",
                hint="leave it out: the method anchored does not ask for sets of like stars",
            )
        if self.reweight and self.best_of > 1:
            raise DraperError(
                f"{option_text('reweight')} and {option_text('best_of')} both serve sets of different stars",
                given=f"reweight=True, best_of={self.best_of}",
                hint="leave out one of them",
            )
        if self.kernel % 2 == 0:
            raise DraperError("the kernel has an odd number of pixels", given=self.kernel)
        return self
