"""Options of the disentangler."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from draper.config import Config, ModelConfig
from draper.errors import DraperError, option_text

Size = Annotated[int, Field(ge=1)]
Sizes = tuple[Size, ...]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]

Probe = Literal["ridge", "boosting", "mlp"]

Engine = Literal["bottleneck", "bins", "joint", "continuous", "hsic", "none"]

DISCRIMINATORS: tuple[Engine, ...] = ("bins", "joint", "continuous")
"""Engines whose encoder is trained against discriminators."""

ENGINES_WITH: dict[str, tuple[Engine, ...]] = {
    "strength": ("bottleneck", *DISCRIMINATORS, "hsic"),
    "bins": ("bins", "joint"),
    "information_limit": ("bottleneck",),
    "kept_cost": ("bottleneck",),
    "ramp": (*DISCRIMINATORS, "hsic"),
}
"""The engines of each option that not all engines have."""

SEARCHED: dict[Engine, dict[str, tuple[float, float]]] = {
    "bottleneck": {"strength": (5, 500), "information_limit": (4, 36)},
    **{engine: {"strength": (1e-4, 1), "ramp": (0, 1)} for engine in DISCRIMINATORS},
    "hsic": {"strength": (0.03, 3), "ramp": (0, 1)},
    "none": {},
}
"""Options of each engine that ``draper tune`` searches by default, with their ranges."""


EPOCHS, MIN_STEPS = 40, 400
"""Passes over a small training set by default, and the number of steps that it has at least."""

PATIENCE = 20
"""Validations without improvement after which training on a small set stops by default."""


class LeakageObjectivesConfig(Config):
    """How a search or a sweep measures what the latents reveal of the labels."""

    probes: Annotated[tuple[Probe, ...], Field(min_length=1)] = ("ridge", "mlp")
    """Regressors that predict the labels from the latents: ridge, boosting, mlp."""
    least_kept: Annotated[float, Field(gt=0, le=1)] | None = None
    """Smallest R2 of each kept label from the latents, as a fraction of that from the spectra (0 to 1), for a
    trial to be among the best; no limit by default."""
    truth: str = ""
    """Suffix of the columns with true labels, such as _true in a simulated survey; none by default."""


class DisentanglerConfig(ModelConfig):
    """An autoencoder whose latents are free of some labels and rich in others."""

    model: ClassVar[str] = "draper.models.disentangler.model:Disentangler"
    summary: ClassVar[str] = (
        "Latents that are free of chosen labels, rich in others; the same star with other labels."
    )
    training: ClassVar[dict[str, Any]] = {
        "steps": 4000,
        "batch_size": 256,
        "learning_rate": 1e-3,
        "clip": 10.0,
    }
    objectives: ClassVar[str] = "draper.models.disentangler.objectives:ReconstructionAndLeakage"
    objective_options: ClassVar[type[Config]] = LeakageObjectivesConfig
    example: ClassVar[dict[str, Any]] = {
        "keep": ("teff", "logg", "fe_h"),
        "latent": 6,
        "encoder": (24,),
        "decoder": (24,),
    }
    foreign_options: ClassVar[tuple[str, ...]] = ("draper.models.disentangler.gandalf:OPTION_FILE",)

    generate_from: ClassVar[tuple[Literal["spectra", "labels"], ...]] = ("spectra", "labels")
    commands: ClassVar[tuple[str, ...]] = (
        "draper.cli.models.disentangler:leakage",
        "draper.cli.models.disentangler:swap",
    )

    labels: tuple[str, ...] = ()
    """Labels given to the decoder; by default those to remove and to keep, or else teff, logg, fe_h and
    alpha_fe, as far as the data have them."""
    remove: tuple[str, ...] = ()
    """Labels to remove from the latent space; none by default."""
    keep: tuple[str, ...] = ()
    """Labels to keep in the latent space; none by default."""
    engine: Engine = "bottleneck"
    """Method of removal: a bottleneck, discriminators (bins, joint, continuous), a penalty on statistical
    dependence (hsic), or none."""
    strength: tuple[Weight, ...] = ()
    """Strength of the removal, at least 0: one number for all labels, or one for each label of remove and
    then of keep (bottleneck: of remove; joint: always one). It is lambda of GANDALF's loss, or the nats of
    likelihood that a nat of leaked information costs (bottleneck). By default 50 (bottleneck), 0.01 (bins),
    0.1 (joint, continuous) or 0.3 (hsic)."""
    latent: Size = 25
    """Number of latents, at least 1."""
    encoder: Annotated[Sizes, Field(min_length=1)] = (512, 256)
    """Sizes of the hidden layers of the encoder."""
    decoder: Annotated[Sizes, Field(min_length=1)] = (256, 512)
    """Sizes of the hidden layers of the decoder."""
    critic: Annotated[Sizes, Field(min_length=1)] = (64, 32)
    """Sizes of the hidden layers of the discriminators, which predict labels from latents during training;
    the engines hsic and none have none."""
    bins: Annotated[int, Field(ge=2)] = 10
    """Number of classes of a label, at least 2, for the engines bins and joint."""
    encoder_sees_labels: bool = False
    """Whether the encoder also gets the labels as inputs, with the mean in place of unknown ones."""
    erase: bool = False
    """Whether linear traces of removed labels are erased from the latents after training (LEACE); the kept
    labels among the latents of the engine bottleneck are not changed."""
    information_limit: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 12.0
    """Information limit of the latents (nats per spectrum, on average), above 0; engine bottleneck only."""
    kept_cost: Annotated[float, Field(ge=0, lt=1)] = 0.04
    """Fraction of R2 of each kept label that noise in its latent may cost (0 to 1; 0 for no noise), so that
    errors of kept labels tell less of removed ones; engine bottleneck only."""
    ramp: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Fraction of the training (0 to 1) over which the strength rises from 0; not for the bottleneck."""
    probe: bool = True
    """Whether the leakage is measured on the held-out spectra after training."""

    def training_for(self, rows: int) -> Mapping[str, Any]:
        """Return defaults of the trainer; small sets are learnt by heart in the usual number of steps.

        Examples
        --------
        >>> [DisentanglerConfig().training_for(rows)["steps"] for rows in (1_000, 6_400, 50_000)]
        [400, 1000, 4000]
        """
        steps = max(MIN_STEPS, EPOCHS * rows // self.training["batch_size"])
        if steps >= self.training["steps"]:
            return self.training
        # The misfit, since labels are learnt by heart long before spectra are.
        return {**self.training, "steps": steps, "patience": PATIENCE, "metric": "valid/misfit"}

    def search_ranges(self) -> dict[str, tuple[float, float]]:
        """Return what ``draper tune`` searches by default, among it the options of the engine."""
        return {"latent": (8, 64), **super().search_ranges(), **SEARCHED[self.engine]}

    @property
    def notes(self) -> tuple[str, ...]:
        """What is trained without labels to remove or to keep."""
        if self.remove or self.keep:
            return ()
        given = ", ".join(self.labels) or "teff, logg, fe_h and alpha_fe, as far as the data have them"
        flags = f"{option_text('remove')}, {option_text('keep')}"
        return (
            f"no labels to remove or to keep are named ({flags}): this trains an autoencoder whose decoder "
            f"gets {given}; no label is removed from its latents or kept in them, and no leakage is measured",
        )

    @property
    def named(self) -> tuple[str, ...]:
        """Every label that is named, once."""
        return tuple(dict.fromkeys((*self.labels, *self.remove, *self.keep)))

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for option in ("remove", "keep"):
            names = getattr(self, option)
            if len(set(names)) < len(names):
                raise DraperError(f"{option} names a label twice", given=", ".join(names))
        if both := set(self.remove) & set(self.keep):
            raise DraperError(
                "a label cannot be removed and kept",
                given=", ".join(sorted(both)),
                hint="name it in one of remove and keep",
            )
        for option, engines in ENGINES_WITH.items():
            given = getattr(self, option)
            if self.engine not in engines and given != type(self).model_fields[option].default:
                raise DraperError(
                    f"the engine {self.engine} has no {option}",
                    given=f"{option}={given}",
                    expected=f"one of the engines {', '.join(engines)}",
                    hint=f"leave out {option}",
                )
        number = len(self.remove) + len(self.keep)
        if self.engine == "bottleneck":
            if self.encoder_sees_labels:
                raise DraperError(
                    "the engine bottleneck estimates labels from the spectrum",
                    given="encoder_sees_labels=True",
                    hint="leave it out, or use another engine",
                )
            if len(self.keep) >= self.latent:
                raise DraperError(
                    "each label to keep needs one of the latents",
                    given=f"latent={self.latent}, keep={self.keep}",
                    expected=f"latent of at least {len(self.keep) + 1}",
                )
            number = len(self.remove)
        if len(self.strength) not in (0, 1, number):
            which = "remove" if self.engine == "bottleneck" else "remove and to keep"
            raise DraperError(
                f"strength is one number, or one for each label to {which}",
                given=f"strength={self.strength}",
                expected=f"{number} numbers",
            )
        if self.engine == "joint":
            if len(self.strength) > 1:
                raise DraperError(
                    "one discriminator of all labels together has one strength",
                    given=f"strength={self.strength}",
                    hint="engine='bins' has one for each label",
                )
            if self.remove and self.keep:
                raise DraperError(
                    "one discriminator of all labels together either removes or keeps them",
                    given=f"remove={self.remove}, keep={self.keep}",
                    hint="engine='bins' has one for each label",
                )
            if self.bins**number > 100_000:
                raise DraperError(
                    "one discriminator of all labels together would have too many classes",
                    given=f"{self.bins} bins, {number} labels",
                    expected="at most 100,000 classes",
                    hint="fewer bins, or engine='bins'",
                )
        return self
