"""GANDALF's option files (YAML, JSON): how they are recognised, and their options in draper's names."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from draper.config import Config
from draper.configs.foreign import Translation
from draper.errors import DraperError, did_you_mean

Size = Annotated[int, Field(ge=1)]
Sizes = Annotated[tuple[Size, ...], Field(min_length=1)]
Names = Annotated[tuple[str, ...], Field(min_length=1)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Rate = Annotated[float, Field(gt=0)]

RANKS = 12.0
"""One over the variance of ranks, GANDALF's unit of misfits; draper's unit is the variance of the fluxes."""

LOADER = "SampleDataLoader"
"""GANDALF's loader of folders of X.npy, params.npy, ids.npy and axis_labels.npy; draper reads them."""


class Data(Config):
    """The section ``data``; defaults are those of GANDALF's command line."""

    data_loader: str = LOADER
    """Class that loads the data."""
    survey_data_path: Path | None = None
    """Folder of X.npy, params.npy, ids.npy and axis_labels.npy."""
    labels: Names = ("teff", "logg")
    """Names of the columns of params.npy."""
    cond_labels: Names = ("teff",)
    """Labels that have a discriminator and are given to the decoder."""
    normalize_spectra: bool = False
    """Whether each pixel becomes its rank."""
    shuffle: bool = False
    """Whether rows are shuffled before they are split."""
    discretize: bool = False
    """Whether the discriminators predict classes."""
    nbins: Annotated[int, Field(ge=2)] = 10
    """Number of classes of a label."""
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
    """Size of the latent vector."""
    input_without_params: bool = False
    """Whether the encoder gets the spectrum alone, without the labels."""
    batch_norm: bool = False
    """Whether batch normalisation follows each layer."""
    multi_disc: bool = False
    """Whether each label has a discriminator of its own."""
    conv_disc: bool = False
    """Whether discriminators are convolutional."""


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
    """Number of steps in which lambda rises."""


class Settings(Config):
    """A whole file."""

    id: Any = None
    """Name of the run."""
    root_folder: Any = None
    """Where runs are written."""
    data: Data = Data()
    """The training data."""
    models: Models = Models()
    """The networks."""
    train: Train = Train()
    """The training."""


class GandalfFile:
    """Recognises and translates the content of GANDALF's option files.

    Examples
    --------
    >>> data = {"labels": ["teff", "M_H"], "cond_labels": ["teff", "M_H"], "discretize": True}
    >>> content = {"data": data, "models": {"multi_disc": True}, "train": {"lambda_values": [0.01, -0.02]}}
    >>> model = OPTION_FILE.translate(content).model
    >>> [model[name] for name in ("engine", "remove", "keep", "strength")]
    ['bins', ('teff',), ('fe_h',), (0.01, 0.02)]
    """

    name = "GANDALF"

    def recognises(self, content: object) -> bool:
        """Return whether the content of a file is GANDALF's; draper's own has neither of these sections."""
        if not isinstance(content, dict) or not {"data", "models"} & set(content):
            return False
        data = content.get("data")
        # Another code's files have a section of this name, too, with columns of features.
        return not (isinstance(data, dict) and "feature_cols" in data)

    def translate(self, content: dict[str, Any], given: Collection[str] = ()) -> Translation:
        """Return the options in draper's names.

        Parameters
        ----------
        content
            The content of the file.
        given
            Names of the options that the command line sets, which come before those of the file. With
            ``engine`` among them, what belongs to GANDALF's discriminators alone is left out: other engines
            have other strengths.
        """
        settings = Settings(**{str(name): _without_empty(value) for name, value in content.items()})
        data, models, train = settings.data, settings.models, settings.train
        notes = _lost_options(settings)
        names = _canonical_names(data.labels, notes)
        for name in data.cond_labels:
            if name.lower() not in names:
                raise DraperError(
                    f"cond_labels names '{name}', which is not among the labels",
                    given=", ".join(data.labels),
                    hint=did_you_mean(name, data.labels),
                )
        labels = tuple(names[name.lower()] for name in data.cond_labels)
        weights = dict(
            zip(labels, _weights(len(labels), models.multi_disc, train.lambda_values, notes), strict=True)
        )
        remove = tuple(label for label in labels if weights[label] > 0)
        keep = tuple(label for label in labels if weights[label] < 0)
        engine = _engine(data, models, bool(remove or keep), notes)
        model: dict[str, Any] = {
            "labels": labels,
            "remove": remove,
            "keep": keep,
            "latent": models.latent_size,
            "encoder": models.encoder_hidden_layer_sizes,
            "decoder": models.decoder_hidden_layer_sizes,
            "critic": models.disc_hidden_layer_sizes,
            "encoder_sees_labels": not models.input_without_params,
        }
        rates = {"model": train.lr_ae}
        if "engine" in given:
            notes.append("lambda_values, lr_disc, nbins: only the signs count for the engine of --engine")
        else:
            model["engine"] = engine
            if engine in ("bins", "joint"):
                model["bins"] = data.nbins
            if engine != "none":
                unit = RANKS if data.normalize_spectra else 1.0
                sizes = tuple(unit * abs(weights[label]) for label in remove + keep)
                model["strength"] = sizes if models.multi_disc else sizes[:1]
                rates["critic"] = train.lr_disc
        # GANDALF's learning rates never fall.
        run: dict[str, Any] = {"epochs": train.epochs, "batch_size": train.batch_size, "schedule": "constant"}
        run |= {"rates": rates} | ({} if data.seed is None else {"seed": data.seed})
        read = {"columns": tuple(names.values())}
        inputs = {} if data.survey_data_path is None else {"spectra": data.survey_data_path}
        return Translation(model, run, read, inputs, tuple(notes))


OPTION_FILE = GandalfFile()


def _without_empty(section: Any) -> Any:
    """Return a section without the keys that have no value."""
    if not isinstance(section, dict):
        return {} if section is None else section
    return {str(name): value for name, value in section.items() if value is not None}


def _canonical_names(labels: Sequence[str], notes: list[str]) -> dict[str, str]:
    """Return draper's name by lower-case label; of two labels with one name, the second keeps its own."""
    from draper.data.labels import canonical

    names: dict[str, str] = {}
    originals = {label.lower() for label in labels}
    for label in labels:
        lower, new = label.lower(), canonical(label)
        is_taken = new in names.values() or (new != lower and new in originals)
        names[lower] = lower if is_taken else new
    changed = [
        f"{label} is {names[label.lower()]}" for label in labels if names[label.lower()] != label.lower()
    ]
    if changed:
        notes.append(f"labels: {', '.join(changed)} here")
    return names


def _weights(
    count: int, is_multi: bool, lambda_values: Sequence[float], notes: list[str]
) -> tuple[float, ...]:
    """Return lambda for each label, as GANDALF distributes it."""
    if not is_multi:
        if len(lambda_values) > 1:
            notes.append(
                "lambda_values: one joint discriminator (multi_disc: false) takes the first, "
                f"{lambda_values[0]:g}"
            )
        return tuple(lambda_values[:1]) * count
    if len(lambda_values) == 1 and count > 1:
        share = lambda_values[0] / count
        notes.append(
            f"lambda_values: one value for {count} labels is divided by their number, as GANDALF does "
            f"without saying so: {share:g} each"
        )
        return (share,) * count
    if len(lambda_values) != count:
        raise DraperError(
            "lambda_values and cond_labels differ in number",
            given=f"{len(lambda_values)} values for {count} labels",
            expected=f"1 or {count} values",
        )
    return tuple(lambda_values)


def _engine(data: Data, models: Models, has_weights: bool, notes: list[str]) -> str:
    """Return the engine that works as GANDALF's discriminators do."""
    if not has_weights:
        notes.append("lambda_values, lr_disc: every lambda is 0, so nothing is removed or kept: engine none")
        return "none"
    if not data.discretize:
        notes.append(
            "discretize: without classes GANDALF compares a discriminator with the labels of another star; "
            "draper compares it with those of the same star: engine continuous"
        )
        return "continuous"
    return "bins" if models.multi_disc else "joint"


def _lost_options(settings: Settings) -> list[str]:
    """Return a line for each option that draper does differently or ignores."""
    data, models, train = settings.data, settings.models, settings.train
    output = [name for name in ("id", "root_folder") if getattr(settings, name)]
    steps = [name for name in ("dl_no_change", "dl_lambda_steps") if getattr(train, name) is not None]
    lines = {
        "lambda_values: misfits are in units of the scatter of the fluxes here; for the balance that raw "
        "fluxes had, divide --strength by their variance (0.0016 for Gaia RVS)": not data.normalize_spectra
        and any(train.lambda_values),
        f"{', '.join(output)}: ignored; -o names the folder of the model": bool(output),
        f"data_loader: {data.data_loader} is not run; draper reads the data itself": data.data_loader
        != LOADER,
        "normalize_spectra: pixels do not become ranks; draper scales them by the training rows": (
            data.normalize_spectra
        ),
        "shuffle: ignored; draper always draws the held-out set and every batch by the seed": (
            "shuffle" in data.model_fields_set and not data.shuffle
        ),
        "batch_norm: ignored; the networks have no batch normalisation": models.batch_norm,
        "conv_disc: ignored; there is no convolutional discriminator": models.conv_disc,
        f"{', '.join(steps)}: ignored; lambda does not rise in steps": bool(steps),
    }
    return [line for line, applies in lines.items() if applies]
