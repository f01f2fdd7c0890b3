"""Options of GANDALF's YAML and JSON files, and what they are called here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Self

from pydantic import Field

from draper.config import Config
from draper.errors import DraperError, did_you_mean

Size = Annotated[int, Field(ge=1)]
Sizes = Annotated[tuple[Size, ...], Field(min_length=1)]
Names = Annotated[tuple[str, ...], Field(min_length=1)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Rate = Annotated[float, Field(gt=0)]

RANKS = 12.0
"""One over the variance of ranks, the unit of misfits there; here it is that of the fluxes."""

LOADER = "SampleDataLoader"
"""The loader of folders of X.npy, params.npy, ids.npy and axis_labels.npy, which draper reads itself."""


class Data(Config):
    """The section ``data``; what a file leaves out is as on GANDALF's command line."""

    data_loader: str = LOADER
    """Class that loads the data."""
    survey_data_path: Path | None = None
    """Folder of X.npy, params.npy, ids.npy and axis_labels.npy."""
    labels: Names = ("teff", "logg")
    """Names of the columns of params.npy."""
    cond_labels: Names = ("teff",)
    """Labels that have a discriminator and that the decoder is told."""
    normalize_spectra: bool = False
    """Whether each pixel becomes its rank."""
    shuffle: bool = False
    """Whether rows are shuffled before they are split."""
    discretize: bool = False
    """Whether the discriminators tell classes."""
    nbins: Annotated[int, Field(ge=2)] = 10
    """Classes of a label."""
    seed: Annotated[int, Field(ge=0)] | None = None
    """Seed of the split."""


class Models(Config):
    """The section ``models``."""

    encoder_hidden_layer_sizes: Sizes = (512, 256)
    """Hidden layers of the encoder."""
    decoder_hidden_layer_sizes: Sizes = (256, 512)
    """Hidden layers of the decoder."""
    disc_hidden_layer_sizes: Sizes = (64, 32)
    """Hidden layers of a discriminator."""
    latent_size: Size = 25
    """Numbers of the latent vector."""
    input_without_params: bool = False
    """Whether the encoder is told the spectrum alone."""
    batch_norm: bool = False
    """Whether batch normalisation follows each layer."""
    multi_disc: bool = False
    """Whether each label has a discriminator of its own."""
    conv_disc: bool = False
    """Whether discriminators convolve over the latent vector."""


class Train(Config):
    """The section ``train``."""

    epochs: Size = 200
    """Passes over the training set."""
    batch_size: Size = 50
    """Rows of one batch."""
    lambda_values: Annotated[tuple[Number, ...], Field(min_length=1)] = (0.001,)
    """Weights of the discriminators: above 0 a label is removed, below 0 kept."""
    lr_disc: Rate = 1e-3
    """Learning rate of the discriminators."""
    lr_ae: Rate = 1e-3
    """Learning rate of the autoencoder."""
    dl_no_change: Size | None = None
    """Epochs without improvement before lambda rises."""
    dl_lambda_steps: Size | None = None
    """Steps in which lambda rises."""


class Settings(Config):
    """A whole file."""

    id: Any = None
    """Name of the run."""
    root_folder: Any = None
    """Where runs are written."""
    data: Data = Data()
    """What is learnt from."""
    models: Models = Models()
    """What learns."""
    train: Train = Train()
    """How it learns."""


class Translation(NamedTuple):
    """What GANDALF's options are here.

    Attributes
    ----------
    model, train, read : dict
        Options of :class:`draper.configs.disentangler.DisentanglerConfig`,
        :class:`draper.configs.train.TrainConfig` and :class:`draper.configs.read.ReadConfig`.
    data : Path or None
        The folder to learn from.
    notes : tuple of str
        What is different here, and what has no counterpart.
    """

    model: dict[str, Any]
    train: dict[str, Any]
    read: dict[str, Any]
    data: Path | None
    notes: tuple[str, ...]

    def for_another_engine(self) -> Self:
        """Leave out what is about GANDALF's discriminators alone: other engines weigh otherwise."""
        left = ("engine", "strength", "bins")
        model = {name: value for name, value in self.model.items() if name not in left}
        rates = {name: rate for name, rate in self.train["rates"].items() if name != "critic"}
        left_out = "lambda_values, lr_disc, nbins: only the signs count for the engine that was asked for"
        return self._replace(model=model, train={**self.train, "rates": rates}, notes=(*self.notes, left_out))


def recognises(settings: object) -> bool:
    """Whether a file of options is GANDALF's; draper's own has neither of these sections."""
    return isinstance(settings, dict) and ("data" in settings or "models" in settings)


def translate(settings: dict[str, Any], named: Callable[[str], str]) -> Translation:
    """Say GANDALF's options in draper's words.

    Parameters
    ----------
    settings
        The content of the file.
    named
        Returns draper's name for a label: :func:`draper.data.labels.canonical`.

    Examples
    --------
    >>> from draper.data.labels import canonical
    >>> data = {"labels": ["teff", "M_H"], "cond_labels": ["teff", "M_H"], "discretize": True}
    >>> train = {"lambda_values": [0.01, -0.02]}
    >>> found = translate({"data": data, "models": {"multi_disc": True}, "train": train}, canonical)
    >>> [found.model[name] for name in ("engine", "remove", "keep", "strength")]
    ['bins', ('teff',), ('fe_h',), (0.01, 0.02)]
    """
    told = Settings(**{str(name): _given(value) for name, value in settings.items()})
    data, models, train = told.data, told.models, told.train
    notes = list(_dropped(told))
    names = _names(data.labels, named, notes)
    for name in data.cond_labels:
        if name.lower() not in names:
            raise DraperError(
                f"cond_labels names '{name}', which is not among the labels",
                given=", ".join(data.labels),
                hint=did_you_mean(name, data.labels),
            )
    labels = tuple(names[name.lower()] for name in data.cond_labels)
    weights = _weights(len(labels), models.multi_disc, train.lambda_values, notes)
    remove, keep = (
        tuple(label for label, weight in zip(labels, weights, strict=True) if weight * sign > 0)
        for sign in (1, -1)
    )
    engine = _engine(data, models, bool(remove or keep), notes)
    model: dict[str, Any] = {
        "labels": labels,
        "remove": remove,
        "keep": keep,
        "engine": engine,
        "latent": models.latent_size,
        "encoder": models.encoder_hidden_layer_sizes,
        "decoder": models.decoder_hidden_layer_sizes,
        "critic": models.disc_hidden_layer_sizes,
        "encoder_sees_labels": not models.input_without_params,
    }
    if engine in ("bins", "joint"):
        model["bins"] = data.nbins
    if engine != "none":
        each = dict(zip(labels, weights, strict=True))
        unit = RANKS if data.normalize_spectra else 1.0
        sizes = tuple(unit * abs(each[label]) for label in remove + keep)
        model["strength"] = sizes if models.multi_disc else sizes[:1]
    rates = {"model": train.lr_ae, "critic": train.lr_disc}
    if engine == "none":
        del rates["critic"]
    # GANDALF's learning rates never fall.
    run: dict[str, Any] = {"epochs": train.epochs, "batch_size": train.batch_size, "schedule": "constant"}
    run |= {"rates": rates} | ({} if data.seed is None else {"seed": data.seed})
    read = {"columns": tuple(names.values())}
    return Translation(model, run, read, data.survey_data_path, tuple(notes))


def _given(section: Any) -> Any:
    """Leave out the keys of a section that stand without a value."""
    if not isinstance(section, dict):
        return {} if section is None else section
    return {str(name): value for name, value in section.items() if value is not None}


def _names(labels: Sequence[str], named: Callable[[str], str], notes: list[str]) -> dict[str, str]:
    """Return draper's name for each label; of two that would get the same one, the second keeps its own."""
    names: dict[str, str] = {}
    own = {label.lower() for label in labels}
    for label in labels:
        lower, new = label.lower(), named(label)
        taken = new in names.values() or (new != lower and new in own)
        names[lower] = lower if taken else new
    changed = [
        f"{label} is {names[label.lower()]}" for label in labels if names[label.lower()] != label.lower()
    ]
    if changed:
        notes.append(f"labels: {', '.join(changed)} here")
    return names


def _weights(count: int, multi: bool, values: Sequence[float], notes: list[str]) -> tuple[float, ...]:
    """Return lambda for each label, as GANDALF shares it out."""
    if not multi:
        if len(values) > 1:
            notes.append(
                f"lambda_values: one joint discriminator (multi_disc: false) takes the first, {values[0]:g}"
            )
        return tuple(values[:1]) * count
    if len(values) == 1 and count > 1:
        share = values[0] / count
        notes.append(
            f"lambda_values: one value for {count} labels is divided by their number, as GANDALF does "
            f"without saying so: {share:g} each"
        )
        return (share,) * count
    if len(values) != count:
        raise DraperError(
            "lambda_values and cond_labels differ in number",
            given=f"{len(values)} values for {count} labels",
            expected=f"1 or {count} values",
        )
    return tuple(values)


def _engine(data: Data, models: Models, adverse: bool, notes: list[str]) -> str:
    if not adverse:
        notes.append("lambda_values, lr_disc: every lambda is 0, so nothing is removed or kept: engine none")
        return "none"
    if not data.discretize:
        notes.append(
            "discretize: without classes GANDALF compares a discriminator with the labels of another star; "
            "draper reads the values of the right one: engine continuous"
        )
        return "continuous"
    return "bins" if models.multi_disc else "joint"


def _dropped(told: Settings) -> list[str]:
    """Return a line for each option that is lost in translation."""
    data, models, train = told.data, told.models, told.train
    placed = [name for name in ("id", "root_folder") if getattr(told, name)]
    raised = [name for name in ("dl_no_change", "dl_lambda_steps") if getattr(train, name) is not None]
    lost = {
        "lambda_values: misfits are in units of the scatter of the fluxes here; for the balance that raw "
        "fluxes had, divide --strength by their variance (0.0016 for Gaia RVS)": not data.normalize_spectra
        and any(train.lambda_values),
        f"{', '.join(placed)}: the folder of the model is what -o names": bool(placed),
        f"data_loader: {data.data_loader} is not run; draper reads the data itself": data.data_loader
        != LOADER,
        "normalize_spectra: pixels do not become ranks; draper scales them by the training rows": (
            data.normalize_spectra
        ),
        "shuffle: draper draws what is held out and every batch by the seed, always": (
            "shuffle" in data.model_fields_set and not data.shuffle
        ),
        "batch_norm: there is no batch normalisation here; left out": models.batch_norm,
        "conv_disc: there is no convolutional discriminator here; left out": models.conv_disc,
        f"{', '.join(raised)}: lambda does not rise in steps here; left out": bool(raised),
    }
    return [line for line, applies in lost.items() if applies]
