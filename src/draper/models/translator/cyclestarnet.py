"""Option files of Cycle-StarNet (INI): how they are recognised, and their options in draper's names."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from draper.config import Config
from draper.configs.foreign import Translation
from draper.errors import DraperError, did_you_mean

Size = Annotated[int, Field(ge=1)]
Sizes = Annotated[tuple[Size, ...], Field(min_length=1)]
Iterations = tuple[Annotated[float, Field(ge=0)], ...]
Rate = Annotated[float, Field(gt=0)]

FOLDER = Path("data")
"""Where its instructions put the training data, seen from the folder where training is started."""

STRIDE = 4
"""Stride of draper's discriminators."""


class Data(Config):
    """The section ``DATA``."""

    spectra_norm_file: Path | None = None
    """Mean and scatter of the computed spectra."""
    data_file_synth: Path | None = None
    """HDF5 file of the computed spectra."""
    data_file_obs: Path | None = None
    """HDF5 file of the observed spectra."""
    emulator_fn: Path | None = None
    """Network of The Payne."""
    mask_fn: Path | None = None
    """Pixels of the lines to hide in the computed spectra."""


class Training(Config):
    """The section ``TRAINING``; ``rg`` stands for the encoders and decoders, ``dis`` for discriminators."""

    batchsize: Size | None = None
    """Spectra of each kind in a batch."""
    learning_rate_encoder: Rate | None = None
    """Learning rate of the encoders."""
    learning_rate_decoder: Rate | None = None
    """Learning rate of the decoders."""
    learning_rate_discriminator: Rate | None = None
    """Learning rate of the discriminators."""
    loss_weight_synth: float | None = None
    """Weight of the misfits of computed spectra."""
    loss_weight_obs: float | None = None
    """Weight of the misfits of observed spectra."""
    loss_weight_rec: float | None = None
    """Weight of reconstructions, in files of 2019."""
    loss_weight_cc: float | None = None
    """Weight of cycles, in files of 2019."""
    loss_weight_gen: float | None = None
    """Weight of the generators' adversarial terms."""
    loss_weight_dis: float | None = None
    """Weight of the discriminators' losses."""
    lr_decay_batch_iters_rg: Iterations | None = None
    """Iterations at which the learning rate falls."""
    lr_decay_batch_iters_dis: Iterations | None = None
    """The same for the discriminators."""
    lr_decay_rg: Rate | None = None
    """Factor by which it falls."""
    lr_decay_dis: Rate | None = None
    """The same for the discriminators."""
    total_batch_iters: Size | None = None
    """Number of iterations."""
    use_real_as_true: bool = False
    """Whether discriminators see data, not reconstructions, as real."""
    mask_synth_lines: bool = False
    """Whether lines of the computed spectra are hidden."""


class Architecture(Config):
    """The section ``ARCHITECTURE``: layers of each domain (``dom``), shared (``sh``) and split (``sp``)."""

    num_pixels: Size | None = None
    """Number of pixels that the networks see."""
    activation: str = "LeakyReLU"
    """Name of the activation function."""
    conv_filts_ae_dom: Sizes | None = None
    """Filters."""
    conv_filt_lens_ae_dom: Sizes | None = None
    """Widths."""
    conv_strides_ae_dom: Sizes | None = None
    """Strides."""
    conv_filts_ae_sh: Sizes | None = None
    """Filters."""
    conv_filt_lens_ae_sh: Sizes | None = None
    """Widths."""
    conv_strides_ae_sh: Sizes | None = None
    """Strides."""
    conv_filts_ae_sp: Sizes | None = None
    """Filters."""
    conv_filt_lens_ae_sp: Sizes | None = None
    """Widths."""
    conv_strides_ae_sp: Sizes | None = None
    """Strides."""
    enc_out_norm: bool = True
    """Whether latents are normalised."""
    shared_z_filters: Size | None = None
    """Channels of the shared latents."""
    split_z_filters: Annotated[int, Field(ge=0)] | None = None
    """Channels of the split latents, 0 for none."""
    conv_filts_dis_x: Sizes | None = None
    """Filters of the discriminators along the spectrum."""
    conv_filt_lens_dis_x: Sizes | None = None
    """Widths."""
    conv_strides_dis_x: Sizes | None = None
    """Strides."""
    conv_filts_dis_z: Sizes | None = None
    """Filters of the discriminators along the latents."""
    conv_filt_lens_dis_z: Sizes | None = None
    """Widths."""
    conv_strides_dis_z: Sizes | None = None
    """Strides."""
    conv_filts_dis_c: Sizes | None = None
    """Not used."""
    conv_filt_lens_dis_c: Sizes | None = None
    """Not used."""
    conv_strides_dis_c: Sizes | None = None
    """Not used."""


SECTIONS: dict[str, type[Config]] = {"DATA": Data, "TRAINING": Training, "ARCHITECTURE": Architecture}
"""The sections with options; ``Notes`` holds a comment."""

INPUTS = {"synthetic": "data_file_synth", "observed": "data_file_obs"}
"""Inputs of the translator and the keys that name their files."""

SIZES = {
    "filters": "conv_filts_ae_dom",
    "strides": "conv_strides_ae_dom",
    "shared_filters": "conv_filts_ae_sh",
    "shared_strides": "conv_strides_ae_sh",
    "split_filters": "conv_filts_ae_sp",
    "shared": "shared_z_filters",
    "split": "split_z_filters",
    "critic": "conv_filts_dis_x",
}
"""Options of the translator and the keys with the same meaning."""

WIDTHS = ("conv_filt_lens_ae_dom", "conv_filt_lens_ae_sh", "conv_filt_lens_ae_sp", "conv_filt_lens_dis_x")
"""Widths of convolutions, for which draper has the one option ``kernel``."""


class CycleStarNetFile:
    """Recognises and translates the content of option files of Cycle-StarNet.

    Examples
    --------
    >>> content = {"TRAINING": {"batchsize": "8"}, "ARCHITECTURE": {"conv_filts_ae_dom": "[32, 64]"}}
    >>> translation = OPTION_FILE.translate(content)
    >>> translation.model, translation.train
    ({'method': 'cycle', 'filters': (32, 64)}, {'batch_size': 8})
    """

    name = "Cycle-StarNet"

    def recognises(self, content: object) -> bool:
        """Return whether the content of a file has these sections, whose names are in capitals."""
        return isinstance(content, dict) and any(isinstance(content.get(name), dict) for name in SECTIONS)

    def translate(self, content: dict[str, Any], given: Collection[str] = ()) -> Translation:
        """Return the options in draper's names.

        Parameters
        ----------
        content
            The content of the file; lists and numbers are text that looks like Python's.
        given
            Names of the options that the command line sets, which come before those of the file.
        """
        data, training, architecture = _settings(content)
        notes: list[str] = []
        files = {name: getattr(data, key) for name, key in INPUTS.items()}
        inputs = {
            name: _found(path) for name, path in files.items() if path is not None and name not in given
        }
        read: dict[str, Any] = {}
        if len(inputs) == len(INPUTS):
            read["select"] = ("part=train",)
            notes.append(
                "data_file_synth, data_file_obs: of their parts train, val and test the first is read, and a "
                "tenth of it is held out"
            )
        elif any(files.values()):
            notes.append(
                "data_file_synth, data_file_obs: these files hold the parts train, val and test; "
                "--read.select part=train keeps to the first"
            )
        model = _model(architecture, notes)
        train = _train(training, notes)
        notes += _lost_options(data, training, architecture)
        return Translation(model, train, read, inputs, tuple(notes))


OPTION_FILE = CycleStarNetFile()


def _settings(content: dict[str, Any]) -> tuple[Data, Training, Architecture]:
    """Return the options of the three sections."""
    for name, section in content.items():
        if name.lower() != "notes" and name not in SECTIONS:
            raise DraperError(
                "Cycle-StarNet's option files have no such section",
                given=name,
                hint=did_you_mean(name, SECTIONS),
            )
        if not isinstance(section, dict):
            raise DraperError(f"'{name}' is no section", given=f"{section!r:.80}", expected="KEY = VALUE")
    values = {
        name: {str(key): _value(value, name) for key, value in content.get(name, {}).items() if value != ""}
        for name in SECTIONS
    }
    return Data(**values["DATA"]), Training(**values["TRAINING"]), Architecture(**values["ARCHITECTURE"])


def _value(value: Any, section: str) -> Any:
    """Return a number or list that text spells as Python does, and other values as they are."""
    if section == "DATA" or not isinstance(value, str):  # a file may be called 1
        return value
    try:
        return ast.literal_eval(value.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return value


def _found(path: Path) -> Path:
    """Return the place of a data file: its folder ``data`` if it is there, else the path as it is."""
    return FOLDER / path if (FOLDER / path).exists() else path


def _model(architecture: Architecture, notes: list[str]) -> dict[str, Any]:
    """Return the options of the model."""
    model: dict[str, Any] = {"method": "cycle"}
    model |= {
        name: getattr(architecture, key)
        for name, key in SIZES.items()
        if getattr(architecture, key) is not None
    }
    if architecture.split_z_filters == 0:
        model.pop("split_filters", None)
    widths = {name: getattr(architecture, name) for name in WIDTHS if getattr(architecture, name)}
    if widths:
        model["kernel"] = next(iter(widths.values()))[0]
        if {width for values in widths.values() for width in values} != {model["kernel"]}:
            notes.append(
                f"{', '.join(widths)}: all convolutions have one width here, {model['kernel']} (--kernel)"
            )
    return model


def _train(training: Training, notes: list[str]) -> dict[str, Any]:
    """Return the options of training."""
    sizes = {"batch_size": training.batchsize, "steps": training.total_batch_iters}
    train = {name: value for name, value in sizes.items() if value is not None}
    return train | _rates(training, notes) | _schedule(training, notes)


def _rates(training: Training, notes: list[str]) -> dict[str, Any]:
    """Return the learning rates."""
    encoder, decoder = training.learning_rate_encoder, training.learning_rate_decoder
    discriminator = training.learning_rate_discriminator
    rate = encoder or decoder or discriminator
    if rate is None:
        return {}
    if encoder and decoder and encoder != decoder:
        notes.append(f"learning_rate_decoder: encoders and decoders have one rate here, {encoder:g}")
    notes.append(f"learning_rate_*: {rate:g}, as there; draper's own default is 0.001")
    # An equal rate is not named twice, so that --train.learning-rate changes both.
    own = discriminator is not None and discriminator != rate
    return {"learning_rate": rate, **({"rates": {"discriminators": discriminator}} if own else {})}


def _schedule(training: Training, notes: list[str]) -> dict[str, Any]:
    """Return a smooth learning-rate schedule that ends where theirs does."""
    iterations, factor = training.lr_decay_batch_iters_rg, training.lr_decay_rg
    if iterations is None or factor is None or training.total_batch_iters is None:
        if _named(training, "lr_decay"):
            notes.append("lr_decay_*: ignored, since one of them, or total_batch_iters, is missing")
        return {}
    if (iterations, factor) != (training.lr_decay_batch_iters_dis, training.lr_decay_dis):
        notes.append("lr_decay_*_dis: discriminators have the schedule of the generators here")
    falls = sum(iteration < training.total_batch_iters for iteration in iterations)
    if not falls:
        return {"schedule": "constant"}
    notes.append(f"lr_decay_*: the rate falls as a cosine, not in steps, to {factor**falls:.2g} of its start")
    return {"schedule": "cosine", "final_rate": factor**falls}


def _named(section: Config, *starts: str) -> str:
    """Return the given keys of a section that begin so, as text."""
    return ", ".join(
        key
        for key in type(section).model_fields
        if key in section.model_fields_set and key.startswith(starts)
    )


def _differs(values: Iterable[int] | None, wanted: Iterable[int]) -> bool:
    return values is not None and tuple(values) != tuple(wanted)


def _lost_options(data: Data, training: Training, architecture: Architecture) -> list[str]:
    """Return a line for each option that draper does differently or ignores."""
    weights = _named(training, "loss_weight")
    unused = _named(architecture, "conv_filts_dis_c", "conv_filt_lens_dis_c", "conv_strides_dis_c")
    critic = architecture.conv_filts_dis_x
    others = [
        key
        for key, wanted in (
            ("conv_strides_dis_x", STRIDE),
            ("conv_filt_lens_dis_z", 1),
            ("conv_strides_dis_z", 1),
        )
        if set(getattr(architecture, key) or ()) - {wanted}
    ]
    split = architecture.split_z_filters != 0
    lines = {
        "spectra_norm_file: not read; fluxes are scaled by the training part": data.spectra_norm_file,
        "emulator_fn: not needed to train; `draper import` makes an Emulator from the .npz of The Payne": (
            data.emulator_fn
        ),
        "mask_synth_lines, mask_fn: no line is hidden while training; hide them before, with mask_lines()": (
            training.mask_synth_lines or data.mask_fn
        ),
        f"{weights}: not needed; misfits are logarithms of chi2, which have no units": weights,
        "use_real_as_true: ignored; discriminators compare with reconstructions, as it is by default there": (
            training.use_real_as_true
        ),
        "num_pixels: any number will do; the first 47 of 7214, which their network leaves out, are used, "
        "unless you give --read.cut 15177.9 17000": architecture.num_pixels,
        f"activation: the leaky ReLU takes the place of {architecture.activation}": (
            architecture.activation.lower() != "leakyrelu"
        ),
        "enc_out_norm: ignored; latents are always normalised": not architecture.enc_out_norm,
        "conv_strides_ae_sp: the split latents have the strides of conv_strides_ae_sh": split
        and _differs(architecture.conv_strides_ae_sp, architecture.conv_strides_ae_sh or ()),
        "conv_filts_dis_z: twice those of conv_filts_dis_x here": critic is not None
        and _differs(architecture.conv_filts_dis_z, (2 * size for size in critic)),
        f"{', '.join(others)}: discriminators have strides of {STRIDE} along the spectrum, and look at each "
        "position of the latents by itself": others,
        f"{unused}: ignored; their code does not use them either": unused,
    }
    return [line for line, applies in lines.items() if applies]
