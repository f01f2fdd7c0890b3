"""Data sets of one object, such as those of several instruments, as one spectrum."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from draper.data.grid import Grid
from draper.data.spectra import DATA_SETS as DATA_SETS
from draper.data.spectra import SOURCE, SOURCES, Spectra, lacks_errors
from draper.errors import DraperError

APART = 1e-9
"""Relative distance that is put between pixels of equal wavelength."""

SIMULATORS = "draper.simulate"
"""Package of the simulators: errors of what they made hold their own error already."""


def simulated(spectra: Spectra) -> NDArray[np.bool_]:
    """Return which pixels (p,) are from a simulator of draper, as the metadata of their data set say."""
    meta = spectra.meta
    if DATA_SETS in meta and SOURCES in meta:
        made = np.array([_is_simulator(name) for name in meta[SOURCES]], dtype=np.bool_)
        return made[np.asarray(meta[DATA_SETS], dtype=np.int64)]
    return np.full(len(spectra.grid), _is_simulator(meta.get(SOURCE)))


def _is_simulator(source: object) -> bool:
    """Return whether a source is a simulator of draper; one of several sources is none."""
    return re.fullmatch(rf"{re.escape(SIMULATORS)}(\.\w+)?", str(source)) is not None


def exposures(
    sets: Sequence[Spectra], by: str = "id"
) -> Iterator[tuple[NDArray[np.int64], tuple[Spectra, ...]]]:
    """Yield objects with the exposures of each: the spectra that share a value of a column.

    Objects with equally many exposures, on the same grids, come together: as their numbers (n,), which count
    objects in the order of the data, and one set of n spectra for each exposure. The column ``id`` of these
    holds the shared value.

    Parameters
    ----------
    sets
        Spectra on whatever grids, in the order of the exposures, and in units that convert.
    by
        The column.

    Examples
    --------
    >>> grid = Grid.from_wavelength([5000, 6000], medium="vacuum")
    >>> visits = Spectra(grid, [[1, 1], [2, 2], [3, 3]], table={"star": ["a", "b", "a"]})
    >>> for numbers, (first, *others) in exposures([visits], by="star"):
    ...     print(numbers, first.ids, first.flux[:, 0], [other.flux[:, 0] for other in others])
    [0] ['a'] [1.] [array([3.], dtype=float32)]
    [1] ['b'] [2.] []
    """
    alike: dict[Hashable, list[Spectra]] = {}
    rows: dict[str, list[tuple[Hashable, int]]] = {}
    for number, one in enumerate(sets):
        one = one.in_unit_of(sets[0], f"set {number}", "set 0")
        power = one.grid.resolving_power
        key = one.grid.fingerprint, power.tobytes() if isinstance(power, np.ndarray) else power
        offset = sum(map(len, alike.setdefault(key, [])))
        alike[key].append(one)
        values = one.column(by).astype(str)
        if missing := int(np.isin(values, ("", "nan")).sum()):
            raise DraperError(
                f"column '{by}' has no value for some spectra",
                given=f"{missing} of {len(one)}",
                hint="fill it, or group by another column",
            )
        for row, value in enumerate(values.tolist()):
            rows.setdefault(value, []).append((key, offset + row))
    pools = {key: Spectra.concat(parts, fill=True) for key, parts in alike.items()}
    names = list(rows)
    kinds: dict[Hashable, list[int]] = {}
    for number, name in enumerate(names):
        kinds.setdefault(tuple(key for key, _ in rows[name]), []).append(number)
    for numbers in kinds.values():
        ids = [names[number] for number in numbers]
        chosen = zip(*(rows[name] for name in ids), strict=True)
        yield (
            np.array(numbers),
            tuple(pools[each[0][0]][[row for _, row in each]].with_columns(id=ids) for each in chosen),
        )


def sources_of(made: NDArray[np.bool_], data_sets: NDArray[np.int64] | None, other: str) -> dict[str, Any]:
    """Return the metadata of pixels of which some (p,) are simulated, and the rest from elsewhere."""
    if made.all():
        return {SOURCE: SIMULATORS}
    if data_sets is None or not made.any():
        return {}
    sets = range(data_sets.max() + 1)
    return {SOURCES: [SIMULATORS if made[data_sets == number].all() else other for number in sets]}


def join(sets: Sequence[Spectra]) -> Spectra:
    """Return the data sets of one object as one spectrum, sorted by wavelength.

    Bins may overlap. The metadata entry ``data_sets`` holds the number of the data set of each pixel, by
    which models tell them apart, and ``sources`` where each set is from, if not all are from one source.
    Columns and name are those of the first data set that has them.

    Parameters
    ----------
    sets
        One spectrum each.

    Examples
    --------
    >>> blue = Spectra(Grid.from_wavelength([5000, 6000], medium="vacuum"), [[1, 1]], [[4, 4]])
    >>> red = Spectra(Grid.from_wavelength([5500, 6500], medium="vacuum"), [[2, 2]], [[9, 9]])
    >>> both = join([blue, red])
    >>> both.flux[0].tolist(), both.meta["data_sets"]
    ([1.0, 2.0, 1.0, 2.0], [0, 1, 0, 1])
    """
    for one in sets:
        if len(one) != 1 or not one.grid.is_spectral:
            raise DraperError(
                "data sets of one object are one spectrum each, in wavelengths",
                given=repr(one),
                hint="give files that hold one spectrum",
            )
    if not sets:
        raise DraperError("there are no data sets to join", hint="give at least one")
    sets = [one.in_unit_of(sets[0], f"set {number}", "set 0") for number, one in enumerate(sets)]
    without = [bool(lacks_errors(one)[0]) for one in sets]
    if len(set(without)) > 1:
        raise DraperError(
            "some data sets have errors, and others have none",
            given=f"no errors in {', '.join(f'set {n}' for n, lacks in enumerate(without) if lacks)}",
            hint="without errors they cannot be weighed against each other: add a column of errors",
        )
    for number, one in enumerate(sets):
        low, high = one.grid.bounds.T
        if not (low < high).all():
            raise DraperError(
                f"a bin of set {number} is alone and has no width",
                given=repr(one.grid),
                hint="give its edges: a fourth column of TauREx text (the width), or columns wavelength_min "
                "and wavelength_max",
            )
    wavelength = np.concatenate([one.grid.vacuum for one in sets])
    order = np.argsort(wavelength, kind="stable")
    wavelength = wavelength[order]
    edges = np.concatenate([one.grid.bounds for one in sets])[order]
    for place in np.flatnonzero(np.diff(wavelength) <= 0):
        wavelength[place + 1] = wavelength[place] * (1 + APART)
    edges[:, 1] = np.maximum(edges[:, 1], wavelength * (1 + APART))
    owner = np.repeat(np.arange(len(sets)), [len(one.grid) for one in sets])[order]
    names = [str(one.meta.get(SOURCE, "")) for one in sets]
    meta = {name: entry for name, entry in sets[0].meta.items() if name != SOURCES}
    if len(set(names)) > 1:
        meta |= {SOURCE: ", ".join(dict.fromkeys(filter(None, names))), SOURCES: names}
    table = {name: column for one in reversed(sets) for name, column in one.table.items()}
    return Spectra(
        Grid.from_wavelength(wavelength, medium="vacuum", edges=edges),
        np.concatenate([one.flux[0] for one in sets])[order][None],
        np.concatenate([one.ivar[0] for one in sets])[order][None],
        table,
        sets[0].quantity,
        sets[0].unit,
        meta={**meta, DATA_SETS: owner.tolist()},
    )
