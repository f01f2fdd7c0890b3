"""Option files of the Masked Stellar Autoencoder (YAML): how they are recognised, and their options here."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from draper.configs.foreign import Translation
from draper.data.labels import canonical
from draper.errors import DraperError

NOT_SEEN = ("pmra", "pmdec", "ra", "dec")
"""Columns that say where a star is, not what it is."""

COEFFICIENT = re.compile(r"[br]p_\d+")
"""Names of the coefficients of the spectrum; bp_rp is a colour."""

PLAIN = ("parallax", "ebv", "bp_rp", "bp_g", "g_rp")
"""Columns that are no magnitudes."""

IGNORED = {
    "model": {
        "layer_dims": "--width and --blocks set the size of the network",
        "pt_activ_func": "the activation is GELU",
        "norm": "layers are normalised",
        "rtdl_embed": "errors and indicators stand in place of periodic embeddings of -9999",
        "saved_weights": "a network of another shape; --from names a model of draper to continue from",
    },
    "training": {
        "xp_masking_ratio": "what is hidden is drawn anew for each star: spectrum, regions, bands, labels",
        "m_masking_ratio": "see xp_masking_ratio",
        "lr": "suited to 54 million weights; --train.learning-rate sets that of draper",
        "weight_decay": "none here",
        "lasso": "none here",
        "optimizer": "--train.optimizer sets it",
        "loss_fn": "the loss is a likelihood with the errors of the measurement",
        "ensemble": "several label heads say how sure they are; --train.seed makes another model",
    },
    "saving": {
        "model_str": "-o names the folder of the model",
        "log_file": "history.csv stands in that folder",
        "checkpoint_interval": "--train.checkpoint-every sets it",
    },
    "data": {
        "valid_keys": "--valid sets what is held out",
        "error_cols": "errors stand in columns NAME_err",
        "recon_cols": "all that is seen can be filled in",
        "ft_datafile": "a second run with --from and --labels",
    },
}
"""Options that work differently here, and how."""


def column_name(name: str) -> str:
    """Return draper's name of a column: magnitudes end in _mag.

    Examples
    --------
    >>> column_name("G"), column_name("U_SMSS"), column_name("G_MAG"), column_name("PARALLAX")
    ('g_mag', 'u_smss_mag', 'g_mag', 'parallax')
    """
    own = canonical(name)
    return own if own in PLAIN or own.endswith("_mag") else f"{own}_mag"


def is_coefficient(name: str) -> bool:
    """Return whether a column is a coefficient of the spectrum.

    Examples
    --------
    >>> is_coefficient("bp_12"), is_coefficient("bp_rp")
    (True, False)
    """
    return COEFFICIENT.fullmatch(name.lower()) is not None


class MsaFile:
    """Recognises and translates the content of option files of the Masked Stellar Autoencoder.

    Examples
    --------
    >>> content = {"data": {"feature_cols": ["G", "BP", "bp_1", "PARALLAX", "RA"]}, "training": {"epochs": 5}}
    >>> translation = OPTION_FILE.translate(content)
    >>> translation.model["columns"], translation.train["epochs"]
    (('g_mag', 'bp_mag', 'parallax'), 5)
    """

    name = "the Masked Stellar Autoencoder"

    def recognises(self, content: object) -> bool:
        """Return whether the content of a file names feature columns, as only these files do."""
        data = content.get("data") if isinstance(content, dict) else None
        return isinstance(data, dict) and "feature_cols" in data

    def translate(self, content: dict[str, Any], given: Collection[str] = ()) -> Translation:
        """Return the options in draper's names; those that the command line gives (``given``) come first."""
        del given
        if others := sorted(set(map(str, content)) - set(IGNORED)):
            raise DraperError(
                "this option file has a section that draper does not know",
                given=", ".join(others),
                expected=", ".join(IGNORED),
            )
        sections = {name: content.get(name) or {} for name in ("data", "model", "training", "saving")}
        if wrong := [name for name, section in sections.items() if not isinstance(section, dict)]:
            raise DraperError(
                f"the section '{wrong[0]}' is no list of options",
                given=content[wrong[0]],
                expected="NAME: VALUE",
            )
        known = {name: set(options) for name, options in IGNORED.items()}
        known["data"] |= {"feature_cols", "datafile"}
        known["training"] |= {"mini_batch_size", "epochs"}
        for name, section in sections.items():
            if unknown := sorted(set(map(str, section)) - known[name]):
                raise DraperError(
                    f"the section '{name}' has an option that draper does not know",
                    given=", ".join(unknown),
                    expected=", ".join(sorted(known[name])),
                )
        features = sections["data"]["feature_cols"]
        if not isinstance(features, list) or not features:
            raise DraperError(
                "feature_cols names no columns", given=f"feature_cols: {features}", expected="a list of names"
            )
        features = [str(name) for name in features]
        columns = tuple(
            column_name(name)
            for name in features
            if name.lower() not in NOT_SEEN and not is_coefficient(name)
        )
        train: dict[str, Any] = {}
        for option, own in (("epochs", "epochs"), ("mini_batch_size", "batch_size")):
            if sections["training"].get(option) is not None:
                train[own] = sections["training"][option]
        notes = [
            f"{name}.{option}: {line}"
            for name, section in sections.items()
            for option, line in IGNORED[name].items()
            if option in section
        ]
        absent = [name for name in features if name.lower() in NOT_SEEN]
        if absent:
            notes.append(
                f"data.feature_cols: {', '.join(absent)} are not seen: the sky is no property of a star"
            )
        if any(map(is_coefficient, features)):
            notes.append(
                "data.feature_cols: coefficients bp_1 ... rp_55 are the spectrum, with their correlations"
            )
        if sections["data"].get("datafile"):
            notes.append(
                "data.datafile: its layout is not read; name files of spectra with these columns instead"
            )
        renamed = [f"{name} is {column_name(name)}" for name in features if column_name(name) in columns]
        if renamed:
            notes.append(f"data.feature_cols: {', '.join(renamed)} here")
        return Translation({"columns": columns}, train, {}, {}, tuple(notes))


OPTION_FILE = MsaFile()
