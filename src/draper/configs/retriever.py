"""Options of the Retriever and of its verbs."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from draper.config import Config, Input, ModelConfig
from draper.errors import DraperError

Ppm = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def _as_text(value: Any) -> Any:
    """Return two numbers as text, which is what the command line gives."""
    return ",".join(map(str, value)) if isinstance(value, (tuple, list)) else value


def _of_two(text: str) -> str:
    pair(text)
    return text


def pair(text: str) -> tuple[float, float]:
    """Return the two numbers of a text.

    Examples
    --------
    >>> pair("1.13,0.06")
    (1.13, 0.06)
    """
    try:
        first, second = (float(part) for part in text.split(","))
    except ValueError:
        raise ValueError("two numbers with a comma between them, such as 1.13,0.06") from None
    return first, second


Pair = Annotated[str, BeforeValidator(_as_text), AfterValidator(_of_two)]
"""Two numbers: ``(1.13, 0.06)``, or ``"1.13,0.06"`` on the command line."""


class RetrieveConfig(Config):
    """How posteriors are sampled."""

    flags: ClassVar[str] = "*"

    draws: Annotated[int, Field(ge=100)] = 10_000
    """Samples of the network that are weighted by the forward model, 100 or more."""
    samples: Annotated[int, Field(ge=10)] = 2_000
    """Samples of equal weight that are kept, 10 or more."""
    weigh: bool = True
    """Weigh samples by importance with the forward model; without, they are those of the network."""
    refine: Literal["auto", "never", "nested"] = "auto"
    """What is done where the samples of the network serve badly: auto refines them, and takes nested sampling
    (extra: nested) if that is not enough; never keeps them; nested samples every spectrum anew."""
    target: Annotated[float, Field(gt=0, lt=1)] = 0.25
    """Efficiency (0 to 1) below which samples are refined."""
    error: Ppm | None = None
    """1-sigma error of all bins [ppm], above 0, of spectra that come without errors."""
    star_radius: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Radius of the star [solar radii], above 0; by default that of the column star_radius or of the
    file, else 1."""
    star_radius_error: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """1-sigma error of the radius of the star [solar radii], 0 or larger."""
    priors: dict[str, Pair] = {}
    """Gaussian priors of labels, MEAN,SIGMA, inside the range of the training set, such as
    ``--priors.planet_mass 1.13,0.06``."""
    bounds: dict[str, Pair] = {}
    """Narrower ranges of labels, LOW,HIGH, such as ``--bounds.temperature 1000,2000``."""
    fixed: dict[str, float] = {}
    """Labels that are known exactly, such as ``--fixed.planet_mass 1.13``."""
    inflation: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 1.0
    """Largest factor by which all error bars may be too small, 1 or more; it is sampled, too, if above 1."""
    offset: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """1-sigma offset of each data set against the first [ppm], 0 or larger; it is marginalised."""
    detect: bool = False
    """Compare the evidence with that without each gas, and without clouds (columns ``log_bayes_h2o`` ...)."""
    restarts: Annotated[int, Field(ge=2)] = 64
    """Completions of each spectrum with method=inpaint, 2 or more."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the samples, 0 or more."""

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        for name, value in self.fixed.items():
            if name in self.priors:
                raise DraperError(f"label '{name}' is fixed and has a prior", hint="give one of the two")
            bounds = self.bounds.get(name)
            if bounds is not None and not pair(bounds)[0] <= value <= pair(bounds)[1]:
                raise DraperError(
                    f"label '{name}' is fixed at a value outside its bounds",
                    given=value,
                    expected=bounds,
                    hint="leave its bounds out",
                )
        return self


class CompleteConfig(RetrieveConfig):
    """How spectra are generated from posteriors."""

    kind: Literal["median", "samples"] = "median"
    """One spectrum, the median of those of the samples, or one for each sample."""


class RetrieverConfig(ModelConfig):
    """Posteriors of labels, such as those of an exoplanet's atmosphere, from spectra of any instrument."""

    model: ClassVar[str] = "draper.models.retriever.model:Retriever"
    summary: ClassVar[str] = "Posterior samples of labels from spectra of any instrument."
    inputs: ClassVar[tuple[Input, ...]] = (
        Input(
            "spectra",
            "Files of spectra with labels as columns, or a simulator that draws them anew at every step.",
            ("spectra", "stream", "simulator"),
        ),
    )
    training: ClassVar[dict[str, Any]] = {
        "steps": 8000,
        "batch_size": 512,
        "learning_rate": 1e-3,
        "warmup": 200,
        "clip": 5.0,
        "patience": 20,
        "validate_every": 200,
    }
    example: ClassVar[dict[str, Any]] = {
        "components": 6,
        "transforms": 2,
        "width": 16,
        "blocks": 1,
        "labels": ("planet_radius", "log_h2o"),
        "calibration": 0,
    }
    verb_options: ClassVar[dict[str, type[Config]]] = {"predict": RetrieveConfig, "generate": CompleteConfig}

    @classmethod
    def inputs_example(cls) -> str:
        """Return how the command line names the inputs, for help and errors."""
        return "--simulator planets"

    method: Literal["flow", "inpaint"] = "flow"
    """flow learns the posterior; inpaint learns to generate spectra with labels and completes what is
    missing, as ExoGAN does: no posterior, but a baseline."""
    layout: Literal["plain", "aspa"] = "plain"
    """How inpaint arranges spectra and labels: in a row, or in ExoGAN's picture of its 515 wavelengths."""
    labels: tuple[str, ...] = ()
    """Labels to retrieve; all labels of the simulator by default, to be named for files."""
    density: Literal["spline", "matching"] = "spline"
    """A normalising flow of splines, or flow matching (several hundred times slower samples)."""
    errors: tuple[Ppm, Ppm] | None = (3.0, 1500.0)
    """Smallest and largest error of a bin [ppm] of the noise that is drawn anew at each step, above 0;
    spectra that come with errors are taken to be noisy already, and get none."""
    components: Annotated[int, Field(ge=1)] = 48
    """Number of principal components on which spectra are summarised, 1 or more."""
    transforms: Annotated[int, Field(ge=1)] = 10
    """Number of couplings of the flow, 1 or more."""
    width: Annotated[int, Field(ge=1)] = 192
    """Width of the layers, 1 or more."""
    blocks: Annotated[int, Field(ge=1)] = 3
    """Number of residual blocks that read the summary, 1 or more."""
    calibration: Annotated[int, Field(ge=0)] = 1000
    """Simulated spectra on which coverage is measured after training, 0 or more; 0 measures nothing."""
    simulator: dict[str, Any] = {}
    """Options of the simulator that the model was trained on; set by training."""

    @model_validator(mode="after")
    def _errors_increase(self) -> Self:
        if self.errors is not None and self.errors[0] > self.errors[1]:
            raise DraperError(
                "the smallest error of the noise exceeds the largest one",
                given=self.errors,
                expected="errors=(SMALLEST, LARGEST) [ppm]",
            )
        return self
