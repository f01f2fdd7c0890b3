"""t-SNE maps of spectra or latents, into which new points can be placed."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Self
from zipfile import BadZipFile

import numpy as np
from numpy.typing import ArrayLike, NDArray

from draper.atomic_write import replacing
from draper.data.arrays import blocks, blocks_of, read_only
from draper.errors import DraperError

FloatArray = NDArray[np.float64]
Rows = NDArray[np.float32]

FORMAT = 1
"""Version of the file format."""

NEIGHBOURS = 10
"""Default number of neighbours that predict the value of a point."""


@dataclass(frozen=True, eq=False, repr=False)
class Map:
    """Positions of n points of d numbers on a plane, and all that is needed to place other points.

    Attributes
    ----------
    coordinates : ndarray (n, 2)
        Positions; only the neighbourhoods have a meaning.
    data : ndarray (n, k) float32
        The points, scaled and reduced to their principal components.
    centre, scale : ndarray (d,)
        Subtracted from a point, which is then divided by the scale.
    components : ndarray (k, d)
        The principal components; the unit matrix if the points were not reduced.
    perplexity : float
        Effective number of neighbours.
    seed : int
        Seed of the map.
    """

    coordinates: FloatArray
    data: Rows
    centre: FloatArray
    scale: FloatArray
    components: FloatArray
    perplexity: float
    seed: int

    def __post_init__(self) -> None:
        for name in ("coordinates", "centre", "scale", "components"):
            object.__setattr__(self, name, read_only(getattr(self, name), np.float64))
        object.__setattr__(self, "data", read_only(self.data, np.float32))
        (n, k), d = self.data.shape, len(self.centre)
        if (self.coordinates.shape, self.scale.shape, self.components.shape) != ((n, 2), (d,), (k, d)):
            raise DraperError(
                "the parts of a map do not fit together",
                given=f"coordinates {self.coordinates.shape}, data {self.data.shape}, "
                f"scale {self.scale.shape}, components {self.components.shape}",
            )

    def __len__(self) -> int:
        return len(self.coordinates)

    def __repr__(self) -> str:
        return f"Map({len(self)} points of {len(self.centre)} numbers, perplexity {self.perplexity:g})"

    def place(self, new: ArrayLike) -> FloatArray:
        """Return the positions (m, 2) of new points (m, d) in this map; the old points stay.

        Each is placed for itself, among similar old points, whatever other points are placed with it.
        """
        rows = as_points(new)
        if rows.shape[1] != len(self.centre):
            raise DraperError(
                "these points have another dimension than those of the map",
                given=f"{rows.shape[1]} numbers each",
                expected=f"{len(self.centre)}",
            )
        tsne = opentsne("openTSNE")
        affinities = Affinities(self.data)
        placed = np.empty((len(rows), 2))
        for block in blocks(len(rows)):
            # The cost of the interpolation hardly depends on the number of points of the map.
            reference = tsne.TSNEEmbedding(self.coordinates, affinities, negative_gradient_method="fft")
            placed[block] = reference.transform(
                reduced(rows[block], self.centre, self.scale, self.components)
            )
        return placed

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write the map as plain arrays (.npz); the file appears only when it is whole."""
        path = Path(path)
        if path.suffix != ".npz":
            raise DraperError("a map is written as .npz", given=path.name)
        with replacing(path, overwrite=overwrite) as part:
            np.savez_compressed(part, format=FORMAT, **vars(self))
        return path

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a map that ``save`` has written."""
        try:
            with np.load(path, allow_pickle=False) as arrays:
                parts: dict[str, Any] = dict(arrays)
        except FileNotFoundError:
            raise DraperError("there is no such file", given=path) from None
        except (OSError, ValueError, TypeError, BadZipFile) as error:
            raise DraperError("this file holds no map", given=path, hint=str(error)) from None
        if set(parts) != {"format", *cls.__dataclass_fields__}:
            raise DraperError("this file holds no map", given=", ".join(parts))
        if int(parts.pop("format")) != FORMAT:
            raise DraperError("this map is of another version of draper", hint="make it again")
        return cls(**parts | {"perplexity": float(parts["perplexity"]), "seed": int(parts["seed"])})


class Affinities:
    """Affinities of new points to those of a map, in the form that openTSNE uses.

    openTSNE's own classes first search the neighbours of all old points, which are not needed here.
    """

    def __init__(self, data: Rows) -> None:
        from scipy.sparse import csr_array
        from sklearn.neighbors import NearestNeighbors

        self.P = csr_array((len(data), len(data)))
        self.index = NearestNeighbors().fit(data)

    def to_new(self, data: Rows, perplexity: float, return_distances: bool = False) -> Any:
        """Return affinities (m, n) of new points (m, k) to the old, their neighbours and distances."""
        n = self.P.shape[0]
        number = min(n, int(3 * perplexity))
        distances, neighbours = self.index.kneighbors(data, number)
        affinities = opentsne("openTSNE.affinity").joint_probabilities_nn(
            neighbours,
            distances,
            [min(perplexity, number / 3)],
            symmetrize=False,
            normalization="point-wise",
            n_reference_samples=n,
        )
        return (affinities, neighbours, distances) if return_distances else affinities


def embed(
    x: ArrayLike,
    *,
    perplexity: float = 30.0,
    seed: int = 0,
    standardise: bool = True,
    components: int = 50,
    iterations: int = 500,
    threads: int = 1,
) -> Map:
    """Make a t-SNE map: points that are near each other in d dimensions are near each other on the plane.

    The map starts from the first two principal components, so it is much the same for any seed. It shows
    which points are similar; it does not prove which labels can be predicted from them.

    Parameters
    ----------
    x : array (n, d)
        Such as spectra or latents.
    perplexity
        Effective number of neighbours; there must be more than three times as many points.
    seed
        The same points, options and seed make the same map.
    standardise
        Whether each of the d numbers is first divided by its standard deviation; otherwise large ones
        dominate. Their mean is subtracted in any case.
    components
        Number of principal components to which longer points are first reduced.
    iterations
        Number of iterations, after 250 in which clusters form.
    threads
        Number of processor cores.

    Examples
    --------
    >>> random = np.random.default_rng(0)
    >>> latents = random.normal(size=(60, 4)) + np.repeat([[0.0], [9.0]], 30, axis=0)
    >>> tsne = embed(latents, perplexity=8, iterations=100)
    >>> tsne
    Map(60 points of 4 numbers, perplexity 8)
    >>> tsne.place(latents[:3] + 0.01).shape
    (3, 2)
    """
    from sklearn.decomposition import PCA

    rows = as_points(x)
    n, d = rows.shape
    if perplexity < 1 or n <= 3 * perplexity:
        raise DraperError(
            "there are too few points for this perplexity",
            given=f"{n} points, perplexity {perplexity:g}",
            expected=f"more than {3 * perplexity:g} points",
            hint=f"perplexity={(n - 1) // 3}" if n > 3 else None,
        )
    for name, number in (("components", components - 1), ("iterations", iterations), ("threads", threads)):
        if number < 1:
            raise DraperError(f"{name} is too small", given=number + (name == "components"))
    centre = rows.mean(axis=0, dtype=np.float64)
    spread = rows.std(axis=0, dtype=np.float64)
    varies = spread > 1e-6 * np.abs(centre)
    if np.count_nonzero(varies) < 2:
        raise DraperError(
            "a map needs points that differ in at least two numbers", given=f"{np.count_nonzero(varies)}"
        )
    scale = np.where(varies & standardise, spread, 1.0)
    main = np.eye(d)
    if d > components:
        scaled = reduced(rows, centre, scale)
        main = PCA(min(components, n - 1), random_state=seed).fit(scaled).components_.astype(np.float64)
    data = reduced(rows, centre, scale, main)
    # Exact neighbours: approximate ones save little here and differ between machines.
    tsne = opentsne("openTSNE").TSNE(
        perplexity=perplexity, n_iter=iterations, neighbors="exact", n_jobs=threads, random_state=seed
    )
    coordinates = np.array(tsne.fit(data), dtype=np.float64)
    coordinates -= (coordinates.max(axis=0) + coordinates.min(axis=0)) / 2  # as openTSNE does to add points
    return Map(coordinates, data, centre, scale, main, float(perplexity), seed)


def neighbour_r2(coordinates: ArrayLike, values: ArrayLike, number: int = NEIGHBOURS) -> float:
    """Return R2 of the prediction of each point's value by the mean of its neighbours in a map.

    Parameters
    ----------
    coordinates : array (n, 2)
        Of the points in a map.
    values : array (n,)
        Points without a value (NaN) are left out.
    number
        Number of neighbours.

    Examples
    --------
    >>> line = np.linspace(0, 1, 101)
    >>> round(neighbour_r2(np.stack([line, 0 * line], axis=1), line), 2)
    1.0
    """
    from scipy.spatial import KDTree

    places, truth = np.asarray(coordinates, dtype=np.float64), np.asarray(values, dtype=np.float64)
    known = np.isfinite(truth) & np.isfinite(places).all(axis=1)
    places, truth = places[known], truth[known]
    if len(truth) < 3 or np.ptp(truth) == 0:
        return np.nan
    around = KDTree(places).query(places, min(number + 1, len(truth)))[1]
    others = np.where(around == np.arange(len(truth))[:, None], np.nan, truth[around])
    return float(1 - np.mean((np.nanmean(others, axis=1) - truth) ** 2) / truth.var())


def as_points(x: ArrayLike) -> Rows:
    """Return (n, d) points of which all numbers are finite."""
    rows = np.asarray(x, dtype=np.float32)
    if rows.ndim != 2:
        raise DraperError("points have two axes", given=f"shape {rows.shape}", expected="(points, numbers)")
    bad = [
        number
        for block in blocks_of(rows)
        for number in np.flatnonzero(~np.isfinite(rows[block]).all(axis=1))
    ]
    if bad:
        raise DraperError(
            "points of a map are finite numbers",
            given=f"{len(bad)} points that are not",
            hint="fill bad pixels, or leave these points out",
        )
    return rows


def reduced(rows: Rows, centre: FloatArray, scale: FloatArray, components: FloatArray | None = None) -> Rows:
    """Return scaled points (n, d), or their principal components (n, k), block by block."""
    points = np.empty((len(rows), rows.shape[1] if components is None else len(components)), np.float32)
    for block in blocks_of(rows):
        scaled = (rows[block] - centre) / scale
        points[block] = scaled if components is None else scaled @ components.T
    return points


def opentsne(module: str) -> Any:
    """Import a module of openTSNE, which is an optional extra."""
    try:
        return import_module(module)
    except ModuleNotFoundError:
        raise DraperError("maps need openTSNE", hint="pip install 'draper[map]'") from None
