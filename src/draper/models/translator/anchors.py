"""What observed stars with known labels (anchors) teach: the residual, how rich it may be, and its errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from math import comb
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from draper.infer.conformal import conformal_rank
from draper.models.translator.anchored import SPREAD, AnchoredNetwork, features, number_of_features
from draper.models.translator.hidden_units import EACH, UNITS, hidden_units
from draper.models.translator.label_fit import Nuisances, fit_labels

FloatArray = NDArray[np.float64]

ONE_SIGMA = 0.6827
"""Share of values within one standard deviation."""

FEW = 5
"""Least number of anchors from which the residual is chosen by leaving some of them out."""

DEGREES = range(4)
"""Largest number of labels in a product that the residual is a sum of."""

NONE = -1
"""In place of a degree: no residual, but errors of pixels and a shift of labels. Where synthetic spectra are
nearly right, the mean residual of a few stars does more harm than good."""

REFITS = 2
"""Fits of what is not known of the anchors' labels, and of the residual, in turns."""

USUAL = 0.03
"""Error of a known label as a share of its range, where none is stated."""

FOLDS = 5
"""Groups of anchors that are left out one after the other."""

SHARES = (0.05, 0.3)
"""How much of the variance is taken as independent from pixel to pixel: few stars do not show which is."""

EVEN = 0.5
"""How far the variances of pixels, known from a few stars, are drawn to their mean."""

FREE, HIGHER = 0.01, 4.0
"""Precision known beforehand of the coefficient of a constant, in units of the scatter of one star, and by
how much that of a product is larger than 1 for each further label in it."""

STRENGTHS = (1.0, 10.0, 100.0, 1e3, 1e4, 1e6)
"""By how much precisions known beforehand are multiplied for pixels that need less of a residual."""

FAINT = 0.002
"""Smallest error as a share of the flux by which pixels vote on labels before there is a residual."""

MOST = 60
"""Largest number of errors that pixels have in common."""


@dataclass(frozen=True)
class Anchors:
    """Observed stars with known labels.

    Attributes
    ----------
    flux, ivar : Tensor (n, p)
        Spectra of about the level of synthetic ones.
    x : Tensor (n, d)
        Coordinates of their labels; those of labels that are not known may be anything.
    error : Tensor (n, k)
        1-sigma errors of the known ones.
    """

    flux: Tensor
    ivar: Tensor
    x: Tensor
    error: Tensor

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, rows: Any) -> Anchors:
        return Anchors(self.flux[rows], self.ivar[rows], self.x[rows], self.error[rows])


@dataclass(frozen=True)
class Choice:
    """How the residual is learnt.

    Attributes
    ----------
    degree
        Largest number of labels in a product that it is a sum of; -1 for none.
    share
        Share of the variance that is taken as independent from pixel to pixel.
    adjust
        Whether labels of anchors are adjusted within their errors. Else they are taken as exact, which is
        better where synthetic spectra are further off than labels are.
    each
        Whether each pixel has a residual that is as rich as left-out spectra ask for; that takes hundreds.
    neural
        Whether it is a sum of hidden units, too; that takes hundreds.
    """

    degree: int
    share: float
    adjust: bool = False
    each: bool = False
    neural: bool = False

    @property
    def richness(self) -> float:
        """The degree, and half of one more with hidden units."""
        return self.degree + 0.5 * self.neural


@dataclass(frozen=True)
class LeftOut:
    """What fits of left-out anchors give.

    Attributes
    ----------
    off, sigma : Tensor (n, k)
        Errors of scaled labels without the shift, and stated errors.
    shift : Tensor (k,)
        What all have in common, as far as it is not chance.
    misfit : Tensor (n,)
        chi2 per pixel of spectra of their known labels.
    """

    off: Tensor
    sigma: Tensor
    shift: Tensor
    misfit: Tensor

    @property
    def rms(self) -> Tensor:
        """Rms errors (k,)."""
        return self.off.square().mean(0).sqrt()

    @property
    def widths(self) -> Tensor:
        """Factors (k,) by which stated errors must be multiplied, so that 68 % of the stars lie within."""
        pulls = torch.sort(torch.nan_to_num(self.off.abs() / self.sigma, nan=0.0), dim=0).values
        return pulls[conformal_rank(len(pulls), ONE_SIGMA)].clamp(min=0.1)


def with_residual(
    network: AnchoredNetwork,
    anchors: Anchors,
    choice: Choice,
    continuum: Tensor,
    votes: Tensor | None = None,
) -> AnchoredNetwork:
    """Return the network with the residual of some anchors.

    The ratio of observed to synthetic flux is a Gaussian linear model in features of labels, whose rows and
    columns have a covariance each: that of the features, and that of the pixels.

    Parameters
    ----------
    network
        Its part for synthetic spectra is taken as it is.
    anchors
        At least one star.
    choice
        How rich the residual is.
    continuum : Tensor (p, c)
        Polynomials that are divided out.
    votes : Tensor (p,), optional
        How much each pixel decides on them; all alike by default.
    """
    with torch.no_grad():
        synthetic = network.synthetic(network.labels_at(anchors.x.float())).double()
    good = (anchors.ivar > 0).double()
    ratio, noise = ratio_to(anchors, synthetic, continuum, votes)
    d, degree = network.known, max(choice.degree, 0)
    value = features(anchors.x[:, :d], degree)[0]
    order = torch.tensor([n for n in range(degree + 1) for _ in range(comb(d + n - 1, n))])
    precision = torch.where(order == 0, FREE, HIGHER ** (order.double() - 1))
    if choice.degree == NONE:
        precision = torch.full_like(precision, torch.inf)
    residual, leverage, doubt = _regressed(value, good, ratio, precision, STRENGTHS[:1])
    units = network.units[:, :0]
    if choice.neural:
        units = hidden_units(anchors.x[:, :d] / SPREAD, good * (ratio - value @ residual), good)
        value = features(anchors.x[:, :d], degree, units)[0]
        precision = torch.cat([precision, torch.full((units.shape[1],), HIGHER)])
        residual, leverage, doubt = _regressed(value, good, ratio, precision, STRENGTHS[:1])
    if choice.each:
        root = _weights_beside_noise(good * (ratio - value @ residual), good * noise).sqrt()
        residual, leverage, doubt = _regressed(root * value, good, root * ratio, precision, STRENGTHS)
    rest = good * (ratio - value @ residual) / (1 - leverage).clamp(min=0.1).sqrt()
    count = good.sum(0).clamp(min=1)
    mixture, shapes = torch.eye(len(residual)), residual
    if choice.each:
        scale = (rest.square().sum(0) / count).sqrt().clamp(min=FAINT)
        mixture, shapes = shaped(root * value, residual, scale, float(leverage.sum(0).mean()))
    variance = rest.square().sum(0) / count
    # Pixels that no anchor has are as uncertain as the worst.
    variance = torch.where(good.any(0), variance, variance.max())
    lone = EVEN * variance + (1 - EVEN) * variance.mean()
    lone = (choice.share * lone - (good * noise).sum(0) / count).clamp(min=0.1 * choice.share * lone)
    _, size, direction = torch.linalg.svd(rest / len(anchors) ** 0.5, full_matrices=False)
    # Noise alone has directions of up to this size.
    edge = (good * noise).sum() / good.sum().clamp(min=1) * (1 + (rest.shape[1] / len(rest)) ** 0.5) ** 2
    size = (1 - choice.share) ** 0.5 * (size.square() - edge).clamp(min=0).sqrt()
    kept = min(int((size > 0).sum()), MOST)
    modes = size[:kept, None] * direction[:kept]
    return network.replaced(
        # Loaded arrays are contiguous, and others may differ from them in the last bit of a product.
        units=units.float().contiguous(),
        mixture=mixture.float().contiguous(),
        shapes=shapes.float().contiguous(),
        doubt=doubt.float().contiguous(),
        modes=modes.float().contiguous(),
        uncertainty=(lone + modes.square().sum(0)).sqrt().float(),
    )


def _weights_beside_noise(rest: Tensor, noise: Tensor) -> Tensor:
    """Return weights (n, 1) of spectra: all scatter about a residual (n, p) by something besides noise."""
    own = noise.mean(1, keepdim=True)
    weight = 1 / (own + (rest.square() - noise).mean().clamp(min=FAINT**2))
    return weight / weight.mean()


def shaped(value: Tensor, residual: Tensor, scale: Tensor, freedom: float) -> tuple[Tensor, Tensor]:
    """Return mixtures (f, r) and shapes (r, p): the part of a residual (f, p) that noise alone does not make.

    Parameters
    ----------
    value : Tensor (n, f)
        Features.
    residual, scale : Tensor (f, p), (p,)
        Coefficients, and the noise of a spectrum.
    freedom
        How many free numbers each pixel has.
    """
    size, direction = torch.linalg.eigh(value.T @ value)
    seen = direction.T @ (residual / scale) * size.clamp(min=0).sqrt()[:, None]
    _, strength, shapes = torch.linalg.svd(seen, full_matrices=False)
    # Noise alone has directions of up to this size.
    kept = max(1, int((strength > freedom**0.5 + len(scale) ** 0.5).sum()))
    return residual / scale @ shapes[:kept].T, shapes[:kept] * scale


def _regressed(
    value: Tensor, good: Tensor, ratio: Tensor, precision: Tensor, strengths: Sequence[float]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return coefficients (f, p), leverages (n, p) and the mean covariance (f, f) of ridge regressions.

    Each pixel has the strength with the smallest errors of spectra that are left out one by one. Pixels that
    are good in the same spectra share one decomposition: a matrix for each would be too many where there are
    hundreds of features.
    """
    patterns, which = torch.unique(good, dim=1, return_inverse=True)
    residual, leverage = value.new_zeros(value.shape[1], good.shape[1]), torch.zeros_like(good)
    doubt = torch.zeros_like(precision).diag()
    root = precision.rsqrt()
    for number, pattern in enumerate(patterns.T):
        pixels = (which == number).nonzero()[:, 0]
        scaled = value * root * pattern[:, None]
        size, direction = torch.linalg.eigh(scaled.T @ scaled)
        size, scores, back = size.clamp(min=0), scaled @ direction, root[:, None] * direction
        target = ratio[:, pixels] * pattern[:, None]
        inner, least = scores.T @ target, torch.full((len(pixels),), torch.inf, dtype=value.dtype)
        for strength in strengths:
            inverse = 1 / (size + strength)
            own = scores.square() @ inverse
            rest = (target - scores @ (inverse[:, None] * inner)) / (1 - own).clamp(min=0.1)[:, None]
            loss = rest.square().sum(0)
            better = loss < least
            chosen, least = pixels[better], torch.where(better, loss, least)
            residual[:, chosen] = back @ (inverse[:, None] * inner[:, better])
            leverage[:, chosen] = own[:, None]
        doubt += back @ ((1 / (size + strengths[0]))[:, None] * back.T) * (len(pixels) / good.shape[1])
    return residual, leverage, doubt


def ratio_to(
    anchors: Anchors, synthetic: Tensor, continuum: Tensor, votes: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return observed over synthetic flux, minus one and without continuum (n, p), and its noise variance.

    Pixels decide on the continuum by their votes (p,), all alike by default.
    """
    weight = (anchors.ivar > 0).double()
    columns = synthetic[..., None] * continuum
    weighted = (weight if votes is None else weight * votes)[..., None] * columns
    normal = weighted.transpose(1, 2) @ columns
    flux = torch.where(weight > 0, anchors.flux.double(), 0.0)
    best = torch.linalg.lstsq(normal, weighted.transpose(1, 2) @ flux[..., None]).solution
    level = (columns @ best)[..., 0]
    usable = (level > 0) & (weight > 0)
    level = torch.where(usable, level, 1.0)
    # Where a model has next to no flux, noise alone would be many times as much.
    ratio = torch.where(usable, flux / level - 1, 0.0).clamp(-1, 1)
    return ratio, torch.where(usable, 1 / (anchors.ivar.double().clamp(min=1e-30) * level.square()), 0.0)


def taught(
    network: AnchoredNetwork, anchors: Anchors, choice: Choice, nuisances: Nuisances
) -> AnchoredNetwork:
    """Return the network with the residual of some anchors.

    What is not known of their labels is fitted, with the residual that the fits before have given.
    """
    k = network.known
    if network.labels == k and not choice.adjust:
        return with_residual(network, anchors, choice, nuisances.continuum)
    result = network
    for _ in range(REFITS):
        error = anchors.error if choice.adjust else None
        fit = fit_labels(result, anchors.flux, anchors.ivar, nuisances, anchors.x[:, :k], error)
        result = with_residual(network, replace(anchors, x=fit.solution.x), choice, nuisances.continuum)
    return result


def _folds(number: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield which anchors are kept and which are left out, in a fixed random order."""
    order = torch.randperm(number, generator=torch.Generator().manual_seed(0))
    for left in torch.tensor_split(order, min(FOLDS, number)):
        kept = torch.ones(number, dtype=torch.bool)
        kept[left] = False
        yield kept.nonzero()[:, 0], left


def learn(
    network: AnchoredNetwork,
    anchors: Anchors,
    nuisances: Nuisances,
) -> tuple[AnchoredNetwork, dict[str, Any], LeftOut | None]:
    """Return the network with the residual of all anchors, and what was found when some were left out.

    Parameters
    ----------
    network
        With a trained part for synthetic spectra.
    anchors
        Stars with known labels.
    nuisances
        What else may differ.

    Returns
    -------
    AnchoredNetwork, dict, LeftOut
        The second has the number of ``anchors``, how the residual was learnt, by which ``widths`` (k,) errors
        of labels must be multiplied, and the ``shift`` (k,) to be taken off scaled labels; with at least five
        anchors also the ``rms`` errors (k,) of left-out ones, and those of all that was ``tried``. The third
        is None with fewer.
    """
    n, d = len(anchors), network.known
    if n < FEW:
        choice = Choice(0, SHARES[-1])
        found: dict[str, Any] = {"anchors": n, **asdict(choice), "widths": [1.0] * d, "shift": [0.0] * d}
        return taught(network, anchors, choice, nuisances), found, None
    choices = [Choice(NONE, 1.0)]
    tried = [left_out(network, anchors, choices[0], nuisances)]
    for degree in DEGREES:
        further = [Choice(degree, share, adjust) for share in reversed(SHARES) for adjust in (True, False)]
        choices += further
        tried += [left_out(network, anchors, choice, nuisances) for choice in further]
        best = _simplest(tried, choices)
        # Richer ones are not tried after a degree that has gained nothing, nor for too few stars.
        gained_nothing = degree > 0 and choices[best].degree < degree
        if gained_nothing or n < number_of_features(d, degree + 1):
            break
    if choices[best].degree > 0 and n >= EACH * UNITS:
        choices.append(replace(choices[best], neural=True))
        tried.append(left_out(network, anchors, choices[-1], nuisances))
        best = _simplest(tried, choices)
    chosen = tried[best]
    found = {
        "anchors": n,
        **asdict(choices[best]),
        "widths": chosen.widths.tolist(),
        "shift": chosen.shift.tolist(),
        "rms": chosen.rms.tolist(),
        "tried": [
            {**asdict(one), "rms": each.rms.tolist()} for one, each in zip(choices, tried, strict=True)
        ],
    }
    return taught(network, anchors, choices[best], nuisances), found, chosen


def left_out(network: AnchoredNetwork, anchors: Anchors, choice: Choice, nuisances: Nuisances) -> LeftOut:
    """Return what fits of left-out anchors give, each by a residual of those of other groups."""
    return of_left_out(
        lambda kept: taught(network, anchors[kept], choice, nuisances), anchors, network.known, nuisances
    )


def of_left_out(
    teach: Callable[[Tensor], AnchoredNetwork], anchors: Anchors, known: int, nuisances: Nuisances
) -> LeftOut:
    """Return what fits of left-out anchors give, each by what ``teach`` makes of the rows of others."""
    off, sigma = torch.zeros(2, len(anchors), known, dtype=torch.float64)
    misfit = torch.zeros(len(anchors), dtype=torch.float64)
    for kept, left in _folds(len(anchors)):
        some, stars = teach(kept), anchors[left]
        fit = fit_labels(some, stars.flux, stars.ivar, nuisances)
        off[left] = (fit.solution.x - stars.x)[:, :known]
        sigma[left] = fit.covariance.diagonal(dim1=1, dim2=2)[:, :known].sqrt()
        misfit[left] = misfits_at(some, stars, fit.solution.x, nuisances)
    shift = common_shift(off)
    return LeftOut(off - shift, sigma, shift, misfit)


def common_shift(off: Tensor) -> Tensor:
    """Return the mean (k,) of errors of labels (n, k), as far as it is not chance.

    Examples
    --------
    >>> common_shift(torch.tensor([[1.0, 0.1], [1.1, -0.1], [0.9, 0.1]])).round(decimals=2)
    tensor([1., 0.])
    """
    mean, chance = off.mean(0), off.var(0) / len(off)
    return mean * (1 - chance / mean.square().clamp(min=1e-30)).clamp(min=0)


def misfits_at(network: AnchoredNetwork, stars: Anchors, fitted: Tensor, nuisances: Nuisances) -> Tensor:
    """Return chi2 per pixel (n,) of stars and spectra of their known labels, error added.

    Labels that are not known are those that were ``fitted``, coordinates (n, d).
    """
    x = torch.cat([stars.x[:, : network.known], fitted[:, network.known :]], dim=1)
    with torch.no_grad():
        made = network(x.float()).double()
    ratio, noise = ratio_to(stars, made, nuisances.continuum)
    good = (stars.ivar > 0).double()
    return (good * ratio.square() / (noise + FAINT**2)).sum(1) / good.sum(1).clamp(min=1)


def _simplest(tried: Sequence[LeftOut], choices: Sequence[Choice]) -> int:
    return simplest(torch.stack([one.off for one in tried]), [one.richness for one in choices])


def simplest(off: Tensor, degrees: Sequence[float]) -> int:
    """Return the best of several ways of the least degree that is not worse than the best beyond chance.

    Parameters
    ----------
    off : Tensor (w, n, k)
        Errors of labels of left-out stars, for each way. Large ones count by their logarithm.
    degrees
        Degree of each way.

    Examples
    --------
    >>> off = torch.tensor([[[3.0], [-3.0], [2.5]], [[1.0], [-1.1], [0.9]], [[0.9], [1.2], [-0.9]]])
    >>> simplest(off, [0, 0, 1])
    1
    """
    usual = off.abs().median(dim=1).values.min(dim=0).values.clamp(min=1e-9)
    loss = torch.log1p((off / usual).square()).mean(2)
    worse = loss - loss[loss.mean(1).argmin()]
    chance = worse.std(1) / worse.shape[1] ** 0.5
    good = [number for number in range(len(off)) if worse[number].mean() <= chance[number]]
    least = min(degrees[number] for number in good)
    return min((n for n in good if degrees[n] == least), key=lambda n: float(loss[n].mean()))
