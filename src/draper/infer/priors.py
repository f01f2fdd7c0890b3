"""Priors of label fits: Gaussians of single labels, and mixtures of Gaussians of all labels, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from draper.data.join import read_table
from draper.data.labels import LabelSet
from draper.errors import DraperError
from draper.infer.truncated import drawn
from draper.simulate.population import galactic, in_box

STARS = 20_000
"""Stars of the galactic population that its density is learnt from."""

COMPONENTS = (1, 2, 4, 8, 16)
"""Numbers of Gaussians that are tried; the one of the best Bayesian information criterion is taken."""

LEAST = 20
"""Least number of stars that a density is learnt from."""

NARROW = 2e-3
"""Least scatter of each Gaussian, in units of the range of a label."""

MATCHED, DRAWS = 40, 4096
"""Rounds in which a Gaussian is matched to the moments of points in the box, and draws in each."""

FLAT = 0.1
"""Least precision of such a Gaussian; that of even points in a box of width 1 is 12."""


@dataclass(frozen=True)
class MixturePrior:
    """A mixture of Gaussians over m parameters.

    A Gaussian of precision 0 in some direction says nothing there.

    Attributes
    ----------
    log_share : Tensor (k,)
        Logarithm of the weight of each Gaussian, with its normalisation.
    mean : Tensor (k, m)
    precision : Tensor (k, m, m)
        Inverse covariances.
    sigma : Tensor (m,)
        Standard deviations of the mixture; infinite where it says nothing.
    """

    log_share: Tensor
    mean: Tensor
    precision: Tensor
    sigma: Tensor

    @classmethod
    def gaussian(cls, mean: Tensor, sigma: Tensor) -> Self:
        """Return independent Gaussians of parameters (m,); a sigma of infinity says nothing.

        Examples
        --------
        >>> prior = MixturePrior.gaussian(torch.tensor([1.0, 0.0]), torch.tensor([0.5, torch.inf]))
        >>> prior.chi2(torch.tensor([[2.0, 7.0]]), torch.arange(1))
        tensor([4.], dtype=torch.float64)
        """
        mean, sigma = mean.double(), sigma.double()
        return cls(torch.zeros(1).double(), mean[None], torch.diag(sigma.pow(-2))[None], sigma)

    @classmethod
    def of_points(cls, points: NDArray[np.float64], known: NDArray[np.bool_], m: int) -> Self:
        """Return the density of points (n, d), those parameters of m that are ``known`` (m,)."""
        from sklearn.mixture import GaussianMixture

        d = points.shape[1]
        counts = [count for count in COMPONENTS if count == 1 or len(points) >= 4 * count * d]
        fits = [GaussianMixture(count, reg_covar=NARROW**2, random_state=0).fit(points) for count in counts]
        best = min(fits, key=lambda fit: float(fit.bic(points)))
        means, precisions = best.means_, best.precisions_
        if len(means) == 1:
            means, precisions = (of[None] for of in between_walls(means[0], best.covariances_[0]))
        places = np.flatnonzero(known)
        mean, precision = np.zeros((len(means), m)), np.zeros((len(means), m, m))
        mean[:, places] = means
        precision[:, places[:, None], places] = precisions
        share = np.log(best.weights_) + np.linalg.slogdet(precisions)[1] / 2
        sigma = np.full(m, np.inf)
        sigma[places] = points.std(axis=0)
        return cls(*(torch.from_numpy(array) for array in (share - share.max(), mean, precision, sigma)))

    def given(self, fixed: Tensor, values: Tensor) -> Self:
        """Return the prior of the other parameters if some (m,) bool have known values (f,).

        Examples
        --------
        >>> mean, precision = torch.zeros(1, 2).double(), torch.tensor([[[4.0, -4.0], [-4.0, 8.0]]]).double()
        >>> prior = MixturePrior(torch.zeros(1).double(), mean, precision, torch.ones(2).double())
        >>> prior.given(torch.tensor([False, True]), torch.tensor([0.5]).double()).mean
        tensor([[0.5000]], dtype=torch.float64)
        """
        free, fixed = (~fixed).nonzero()[:, 0], fixed.nonzero()[:, 0]
        own = self.precision[:, free[:, None], free]
        off = values - self.mean[:, fixed]
        pull = (self.precision[:, free[:, None], fixed] @ off[:, :, None])[:, :, 0]
        moved = (torch.linalg.pinv(own, hermitian=True) @ pull[:, :, None])[:, :, 0]
        chi2 = torch.einsum("kf,kfg,kg->k", off, self.precision[:, fixed[:, None], fixed], off)
        share = self.log_share - (chi2 - (pull * moved).sum(1)) / 2
        return type(self)(share - share.max(), self.mean[:, free] - moved, own, self.sigma[free])

    def _each(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return log densities (k, n), and precision times distance (k, n, m)."""
        off = x.double() - self.mean[:, None]
        pull = off @ self.precision
        return self.log_share[:, None] - (pull * off).sum(2) / 2, pull

    def chi2(self, x: Tensor, rows: Tensor) -> Tensor:
        """Return -2 times the log density (n,) at parameters (n, m); 0 at the mean of a single Gaussian."""
        return -2 * torch.logsumexp(self._each(x)[0], dim=0)

    def gradient(self, x: Tensor, rows: Tensor) -> Tensor:
        """Return half the derivative (n, m) of chi2."""
        density, pull = self._each(x)
        return torch.einsum("kn,knm->nm", torch.softmax(density, dim=0), pull)

    def curvature(self, x: Tensor, rows: Tensor) -> Tensor:
        """Return the curvature (n, m, m): the mean of those of the Gaussians, which is never negative."""
        share = torch.softmax(self._each(x)[0], dim=0)
        return torch.einsum("kn,kml->nml", share, self.precision)


def between_walls(
    mean: NDArray[np.float64], covariance: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean (d,) and precision (d, d) of the Gaussian that has these moments when cut at +- 0.5.

    Of points that fill the box evenly it is nearly flat.

    Examples
    --------
    >>> mean, precision = between_walls(np.zeros(1), np.full((1, 1), 1 / 12))
    >>> bool(precision < 1)
    True
    """
    d = len(mean)
    aim = np.linalg.inv(covariance)
    precision, pull = aim.copy(), aim @ mean
    for _ in range(MATCHED):
        matrix = torch.from_numpy(precision)
        centre = torch.linalg.solve(matrix, torch.from_numpy(pull))
        wall = torch.full((d,), 0.5, dtype=torch.float64)
        draws, weight = drawn(centre[None], torch.linalg.inv(matrix)[None], -wall, wall, DRAWS)
        share = torch.softmax(weight, dim=1)[0].numpy()
        points = draws[0].numpy()
        middle = share @ points
        own = np.linalg.inv((points - middle).T * share @ (points - middle))
        values, vectors = np.linalg.eigh(precision + (aim - own) / 2)
        # A Gaussian, if a wide one: draws need a covariance.
        precision = (vectors * np.maximum(values, FLAT)) @ vectors.T
        pull = precision @ (np.linalg.solve(precision, pull) + (mean - middle) / 2)
    return np.asarray(np.linalg.solve(precision, pull)), np.asarray(precision)


def named_prior(name: str, labels: LabelSet, points: Tensor, size: int) -> MixturePrior:
    """Return a prior by its name, or from a table of stars.

    Parameters
    ----------
    name
        ``population``: the simulated stars of the Galaxy (:mod:`draper.simulate.population`). ``training``:
        the density of the points at which the model is known to be good. Else the path of a table whose
        columns are some of the labels.
    labels
        The d labels.
    points : Tensor (m, d)
        Scaled labels of the training spectra.
    size
        Number of parameters: labels first, then others, of which the prior says nothing.
    """
    known = np.zeros(size, dtype=bool)
    if name == "training":
        known[: len(labels)] = True
        values = points.double().numpy()
    else:
        table: Mapping[str, Any]
        if name == "population":
            random = np.random.default_rng(0)
            table = in_box(
                labels[[label for label in labels.names if label in galactic(1, random)]], STARS, random
            )
        else:
            table = read_table(Path(name))
        found = [label for label in labels.names if label in table]
        if not found:
            raise DraperError(
                "the table has none of the labels",
                given=", ".join(table),
                expected=", ".join(labels.names),
            )
        known[: len(labels)] = [label in found for label in labels.names]
        some = labels[found]
        values = some.scale(some.read(table)) - 0.5
        values = values[np.isfinite(values).all(axis=1)]
    if len(values) < LEAST:
        raise DraperError(
            "too few stars to learn a prior from",
            given=f"{len(values)} of '{name}' with all labels",
            expected=f"at least {LEAST}",
        )
    return MixturePrior.of_points(values, known, size)
