"""Whether spectra that the model cannot know raise the flag, and others do not.

Foreign gases are made from the opacities of methane: its bands, moved in wavelength, or one broad band in
their place. How far they change a spectrum is measured twice [sigma: the root of chi2 of the noise-free
spectra]: against the same planet without the gas, and against the nearest spectrum of the model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from draper.data.spectra import Spectra
from draper.models.retriever.model import Retriever
from draper.simulate.planets import CLOUD, INSTRUMENTS, Planets
from draper.simulate.transit import log_pressures, pressure_terms
from retrieval.bounds import depths, nearest
from retrieval.efficiency import trained
from retrieval.sheets import PPM, Array, Sheet, physics_of, simulator

ERROR = 30.0
"""Error of a bin [ppm]."""

MOVED = 25
"""Bins of R = 100 by which the bands of methane are moved: to wavelengths longer by a quarter."""

WIDTH, PEAK = 0.06, 8.0
"""Width of the broad band in ln wavelength, and ln of its opacity [1e-24 cm2 per molecule]."""

LEAST = 3.0
"""Change of a spectrum [sigma] above which it should be flagged."""

CANDIDATES = 6
"""Planets that are drawn for each one that is retrieved: many are changed by less than that."""

ABSENT = -8.0
"""Log abundance of a gas that is not there."""

GAS = 5
"""Column of methane among the labels, which the foreign gas replaces."""


def moved_bands(planets: Planets) -> Planets:
    """Return a simulator whose methane has its bands elsewhere."""
    found = planets.opacities
    parts = {name: getattr(found, name).clone() for name in found._fields[2:]}
    for part in parts.values():
        part[2] = part[2].roll(MOVED, dims=-1)
    return _with(planets, **parts)


def broad_band(planets: Planets, centre: float) -> Planets:
    """Return a simulator with a broad band at a wavelength [um] in place of those of methane."""
    found = planets.opacities
    parts = {name: getattr(found, name).clone() for name in found._fields[2:]}
    for part in parts.values():
        part[2] = 0
    off = (found.wavelength.log() - float(np.log(centre))) / WIDTH
    parts["strength"][2, 0] = PEAK - off.square() / 2
    parts["saturation"][2, 0] = -50.0
    return _with(planets, **parts)


def _with(planets: Planets, **parts: torch.Tensor) -> Planets:
    made = Planets(**planets.settings)
    made.opacities = made.opacities._replace(**parts)
    made.terms = pressure_terms(log_pressures(dtype=torch.float32), *made.opacities[-3:])
    return made


def drawn(planets: Planets, number: int, seed: int) -> Array:
    """Return labels (n, l) of the prior, with much of the gas that will be replaced."""
    labels = planets.prior.read(planets.simulate(number, seed=seed).table)
    labels[:, GAS] = np.random.default_rng(seed).uniform(-6, -2, number)
    return labels


class Changed(NamedTuple):
    """Noisy spectra that the model cannot know, all over ``LEAST`` from the same planets without the change.

    Attributes
    ----------
    spectra : Spectra
        The n spectra.
    before, after : ndarray (n,)
        How far the noise-free ones are from those without the change, and from the model's nearest ones.
    share : float
        Part of the planets that were drawn which are changed by that much.
    """

    spectra: Spectra
    before: Array
    after: Array
    share: float


def changed(
    own: Planets, depth: Array, without: Array, starts: list[Array], number: int, seed: int
) -> Changed:
    """Return up to ``number`` of the spectra (n, p) that differ by more than ``LEAST`` from others (n, p).

    ``starts`` are labels (n, l) from which the nearest spectra of the model are searched.
    """
    variance = (PPM * own.error) ** 2 + own.model_error**2
    distance = np.sqrt(((depth - without) ** 2 / variance).sum(axis=1))
    rows = np.flatnonzero(distance > LEAST)[:number]  # NaN, of what is not bound, is not larger
    before = distance[rows]
    after = nearest(own, np.array([start[rows] for start in starts]), depth[rows], variance)
    noise = np.random.default_rng(seed).standard_normal((len(rows), depth.shape[1]))
    flux = depth[rows] + PPM * own.error * noise
    meta = {"source": "draper.simulate.planets", "instrument": own.instrument}
    ivar = np.broadcast_to(1 / variance, flux.shape)
    spectra = Spectra(own.grid, flux, ivar, quantity="transit depth", meta=meta)
    share = float((distance > LEAST).sum() / np.isfinite(distance).sum())
    return Changed(spectra, before, np.sqrt(np.fmin(after, before**2)), share)


def foreign(model: Retriever, kind: str, instrument: str, number: int, seed: int) -> Changed:
    """Return spectra with a gas that the model does not know, in place of methane."""
    own = simulator(model, instrument, ERROR)
    labels = own.prior.read(own.simulate(CANDIDATES * number, seed=seed).table)
    random = np.random.default_rng(seed)
    labels[:, GAS] = random.uniform(-6, -2, len(labels))
    low, high = own.grid.bounds[0, 0] / 1e4, own.grid.bounds[-1, 1] / 1e4
    centre = float(np.exp(random.uniform(np.log(low * 1.1), np.log(high / 1.1))))
    other = moved_bands(own) if kind == "moved bands" else broad_band(own, centre)
    absent = labels.copy()
    absent[:, GAS] = ABSENT
    starts = [absent, labels]
    if CLOUD.name in own.prior.names:
        starts.append(np.where(np.array(own.prior.names) == CLOUD.name, -2.0, absent))
    return changed(own, depths(other, labels), depths(own, absent), starts, number, seed)


def cloudy(model: Retriever, instrument: str, number: int, seed: int) -> Changed:
    """Return spectra with clouds, which the model does not know."""
    own = simulator(model, instrument, ERROR)
    other = Planets(**{**own.settings, "clouds": True})
    labels = other.prior.read(other.simulate(CANDIDATES * number, seed=seed).table)
    clear = labels[:, [other.prior.names.index(name) for name in own.prior.names]]
    little = clear.copy()
    little[:, 3:7] = np.clip(little[:, 3:7] - 2, ABSENT, -1)
    return changed(own, depths(other, labels), depths(own, clear), [clear, little], number, seed)


def rates(kind: str, instrument: str, seen: Changed, flagged: NDArray[np.bool_]) -> dict[str, Any]:
    """Return the shares [%] of spectra with a flag by how much they are changed."""
    after = seen.after

    def share(chosen: NDArray[np.bool_]) -> str:
        return f"{100 * flagged[chosen].mean():.0f} of {chosen.sum()}" if chosen.any() else "-"

    return {
        "what": kind,
        "instrument": instrument,
        "changed": f"{100 * seen.share:.0f}",
        f"over {LEAST:g} before": share(np.ones(len(after), dtype=bool)),
        "less after": share(after <= LEAST),
        f"over {LEAST:g} after": share(after > LEAST),
        "3-5": share((after > LEAST) & (after <= 5)),
        "5-10": share((after > 5) & (after <= 10)),
        "over 10": share(after > 10),
    }


def novelty(
    model: Retriever,
    *,
    spectra: int = 40,
    options: Mapping[str, Any] = MappingProxyType({}),
    clear: Retriever | None = None,
    steps: int = 1000,
    say: Callable[[str], None] = print,
) -> list[Sheet]:
    """Return the rates of false flags, and of flags of what the model does not know, for each instrument.

    ``clear`` is a model that was trained without clouds; without it, one is trained in ``steps`` steps.
    """
    false, found = [], []
    for instrument in INSTRUMENTS:
        made = simulator(model, instrument, ERROR).simulate(spectra, seed=51)
        false.append({"model": "the model", "instrument": instrument, **_flags(model, made, options)})
        say(str(false[-1]))
        for kind in ("moved bands", "broad band"):
            seen = foreign(model, kind, instrument, spectra, seed=53)
            flagged = model.predict(seen.spectra, **options).flags["outside"]
            found.append(rates(kind, instrument, seen, flagged))
            say(str(found[-1]))
    if clear is None:
        clear = _clear(model, steps)
    for instrument in INSTRUMENTS:
        made = simulator(clear, instrument, ERROR).simulate(spectra, seed=51)
        false.append(
            {"model": "the one without clouds", "instrument": instrument, **_flags(clear, made, options)}
        )
        seen = cloudy(clear, instrument, spectra, seed=57)
        flagged = clear.predict(seen.spectra, **options).flags["outside"]
        found.append(rates("clouds, model without", instrument, seen, flagged))
        say(f"{false[-1]}\n{found[-1]}")
    facts = {
        "error [ppm]": ERROR, "options": dict(options), "columns": "% with the flag, of a number",
        "before": "sigma from the same planet without the change", "changed": "% of the planets",
        "after": "sigma from the nearest spectrum of the model", "steps without clouds": steps,
    }  # fmt: skip
    return [Sheet("False flags on fresh simulations [%]", false, facts), Sheet("Flags [%]", found, facts)]


def _flags(model: Retriever, spectra: Spectra, options: Mapping[str, Any]) -> dict[str, Any]:
    estimates = model.predict(spectra, **options)
    limits = model.training.get("calibration", {}).get("limits", {})
    columns = estimates.columns
    return {
        "spectra": len(spectra),
        "outside": float(100 * estimates.flags["outside"].mean()),
        "by novelty": float(100 * (columns["novelty"] > limits.get("novelty", 4.0)).mean()),
        "by p value": float(100 * (columns["p_value"] < 1e-3).mean()),
        "by misfit": float(100 * (columns["misfit"] > limits.get("misfit", 4.0)).mean()),
        "unreliable": float(100 * estimates.flags["unreliable"].mean()),
        "limits": ", ".join(f"{name} {value:.2f}" for name, value in limits.items()),
    }


def _clear(model: Retriever, steps: int) -> Retriever:
    """Return a model that was trained without clouds and hazes."""
    settings = {**physics_of(model).settings, "clouds": False, "haze": False}
    return trained(model, steps, Planets(**settings), calibration=400)[0]
