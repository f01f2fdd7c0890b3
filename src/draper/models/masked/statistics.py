"""What a spectrum says about its components, with all correlations of its errors.

A spectrum of brightness s is ``s (mean + basis z)`` with errors of covariance C. For Gaussian errors the
inner products of data, mean and basis in the metric of the inverse of C are sufficient; pixels that are
missing or hidden have no part in them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from draper.data.correlation import Correlation
from draper.nn.module import Batch, Batches

FloatArray = NDArray[np.float64]

TEMPLATES = 512
"""Largest number of correlation matrices that are kept for training; others are replaced by the nearest."""

ROWS = 8192
"""Largest number of rows of the training set from which mean and basis are measured."""

PASSED = 1_000_000
"""Rows among which they are taken."""

BLOCK = 512
"""Rows that are whitened at once."""

RELATED = 1e-6
"""Correlation below which two pixels count as independent."""

RIDGE = 1e-4
"""Added to the diagonal of correlations: those of resampled spectra are singular."""

ROUNDING = 1e-6
"""Relative rounding error of information in single precision."""

KEPT = 3.0
"""Rank of pixels that no other one is taken apart from; that of shown ones is 2, hidden 1, bad 0."""

TINY = 1e-30


class Products(NamedTuple):
    """Inner products in the metric of the inverse covariance, of n spectra, mean and basis (q = 1 + k).

    Attributes
    ----------
    gram : Tensor (n, q, q)
        Of mean and basis with each other.
    data : Tensor (n, q)
        Of mean and basis with the spectra less ``level`` times the mean.
    square : Tensor (n,)
        Of the spectra less ``level`` times the mean with themselves.
    pixels : Tensor (n,)
        Number of pixels.
    level : Tensor (n,)
        Rough brightness, which keeps the products small.
    """

    gram: Tensor
    data: Tensor
    square: Tensor
    pixels: Tensor
    level: Tensor

    def nothing(self) -> Products:
        """Return the products of no pixel of the same spectra."""
        gram, data, square, pixels, level = self
        return Products(0 * gram, 0 * data, 0 * square, 0 * pixels, level)

    def with_rest(self, rest: Products) -> Products:
        """Return the products of these pixels and others of the same spectra."""
        return Products._make(
            [*(one + other for one, other in zip(self[:-1], rest[:-1], strict=True)), self.level]
        )


class Posterior(NamedTuple):
    """A normal distribution of components.

    Attributes
    ----------
    mean : Tensor (n, k)
        Most likely components.
    precision, factor : Tensor (n, k, k)
        Inverse of their covariance, and its Cholesky factor.
    """

    mean: Tensor
    precision: Tensor
    factor: Tensor

    def sigma(self) -> Tensor:
        """Return the standard deviations (n, k) of the components."""
        return torch.cholesky_inverse(self.factor).diagonal(dim1=1, dim2=2).clamp(min=1e-12).sqrt()

    def variance_of(self, basis: Tensor) -> Tensor:
        """Return the variance (n, p) of the pixels of ``basis`` (p, k)."""
        rows = basis.T.expand(len(self.factor), -1, -1)
        variance: Tensor = torch.linalg.solve_triangular(self.factor, rows, upper=False).square().sum(1)
        return variance


class Components(NamedTuple):
    """What products say about a spectrum of known brightness.

    Attributes
    ----------
    precision : Tensor (n, k, k)
        Information on the components, without their prior.
    pull : Tensor (n, k)
        Precision times the most likely components.
    square : Tensor (n,)
        chi2 of the mean spectrum.
    pixels : Tensor (n,)
        Number of pixels.
    """

    precision: Tensor
    pull: Tensor
    square: Tensor
    pixels: Tensor

    def posterior(self, mean: Tensor | float = 0.0, variance: Tensor | float = 1.0) -> Posterior:
        """Return what is known of the components; their prior has independent errors (n, k)."""
        size = self.precision.diagonal(dim1=1, dim2=2)
        weight = 1 / (variance + torch.zeros_like(size))
        # In single precision the information on bright stars is singular but for its rounding errors.
        precision = self.precision + torch.diag_embed(weight + ROUNDING * size)
        factor = torch.linalg.cholesky(precision)
        z = torch.cholesky_solve((self.pull + weight * mean)[..., None], factor)[..., 0]
        return Posterior(z, precision, factor)

    def weighted(self, weight: Tensor) -> Components:
        """Return what the pixels say with weights (n,), 0 to 1."""
        precision, pull, square, pixels = self
        return Components(
            precision * weight[:, None, None], pull * weight[:, None], square * weight, pixels * weight
        )

    def rows(self, rows: Tensor | slice) -> Components:
        """Return some rows."""
        return Components(*(part[rows] for part in self))

    def misfit(self, predicted: Posterior) -> tuple[Tensor, Tensor]:
        """Return chi2 (n,) of the pixels, and ln det of their covariance beyond that of the errors (n,)."""
        mean = predicted.mean
        off = self.pull - (self.precision @ mean[..., None])[..., 0]
        square = self.square - (mean * (self.pull + off)).sum(1)
        factor = torch.linalg.cholesky(predicted.precision + self.precision)
        gain = torch.linalg.solve_triangular(factor, off[..., None], upper=False)[..., 0]
        chi2 = (square - gain.square().sum(1)).clamp(min=0)
        return chi2, 2 * (_log_diagonal(factor) - _log_diagonal(predicted.factor))


def _log_diagonal(factor: Tensor) -> Tensor:
    return factor.diagonal(dim1=1, dim2=2).log().sum(1)


class SpectrumStatistics(nn.Module):
    """Mean and basis of spectra, and what single spectra say about them.

    Parameters
    ----------
    pixels
        Number of pixels p.
    components
        Number of components k.
    templates
        Number of correlation matrices of the errors; 0 where errors are independent.
    """

    mean: Tensor
    basis: Tensor
    excess: Tensor
    whiteners: Tensor

    def __init__(self, pixels: int, components: int, templates: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.ones(pixels))
        self.register_buffer("basis", torch.zeros(pixels, components))
        self.register_buffer("excess", torch.zeros(pixels))
        self.register_buffer("whiteners", torch.zeros(templates, pixels, pixels))

    @property
    def blocks(self) -> tuple[Tensor, Tensor]:
        """Number of the independent block of each pixel (p,), and its place in there, 0 to 1."""
        pixels = len(self.mean)
        order = torch.arange(pixels, device=self.mean.device)
        first = order == 0
        if len(self.whiteners):
            largest = self.whiteners.abs().amax(0)
            reach = torch.where(largest > RELATED, order, pixels).amin(1)
            # A block begins where no later pixel is related to an earlier one.
            first = torch.flip(torch.cummin(torch.flip(reach, [0]), 0).values, [0]) >= order
        number = first.long().cumsum(0) - 1
        start = torch.where(first, order, 0).cummax(0).values
        length = torch.bincount(number)[number]
        return number, (order - start) / length

    def products(self, batch: Batch, shown: Tensor | None = None) -> tuple[Products, Products]:
        """Return the products of the good pixels that are shown, and of those that are hidden.

        Where errors are correlated, the latter are those of the hidden pixels given the shown ones; in sum
        both are the products of all good pixels.

        Parameters
        ----------
        batch
            Of n spectra.
        shown : Tensor (n, p)
            1 where a pixel is shown; all are by default.
        """
        flux, ivar, unit = _in_own_units(batch["flux"], batch["ivar"])
        largest = ivar.amax(1, keepdim=True).clamp(min=TINY)
        relative = ivar / largest
        norm = (relative * self.mean.square()).sum(1).clamp(min=TINY)
        level = (relative * self.mean * flux).sum(1) / norm
        spread = ((relative * flux.square()).sum(1) / norm).sqrt()
        level = torch.where(level > 0.1 * spread, level, spread)
        level = torch.where(level > 0, level, torch.ones_like(level))
        scaled = ivar * level[:, None].square()
        is_related = "whitener" in batch or "template" in batch
        if not is_related:
            # Beyond the basis spectra differ by more than their errors.
            scaled = scaled / (1 + scaled * self.excess)
        weight = scaled.sqrt()
        residual = weight * (flux / level[:, None] - self.mean)
        both = torch.cat([self.mean[:, None], self.basis], dim=1)
        good = (ivar > 0).to(flux.dtype)
        visible = good if shown is None else good * shown
        hidden = good - visible
        # Brightness comes out in the units of the spectra.
        level_unit = level * unit
        if not is_related:
            first = _independent(both, visible * weight, visible * residual, visible.sum(1), level_unit)
            if shown is None:
                return first, first.nothing()
            return first, _independent(both, hidden * weight, hidden * residual, hidden.sum(1), level_unit)
        whitener = batch["whitener"] if "whitener" in batch else self.whiteners[batch["template"]]
        data = whitener @ torch.cat([weight[:, :, None] * both, residual[:, :, None]], dim=2)
        # A whitener of its own leaves out the bad pixels of a spectrum; one of the training set does not.
        rank = torch.where(good > 0, 1 + visible, 0.0 if "template" in batch else KEPT)
        rows = self._is_out_of_order(rank).nonzero()[:, 0]
        seen, rest = data * visible[:, :, None], data * hidden[:, :, None]
        if len(rows):
            apart = _taken_apart(whitener[rows], data[rows], rank[rows])
            seen, rest = (
                part.index_copy(0, rows, own) for part, own in zip((seen, rest), apart, strict=True)
            )
        first = _related(seen, visible.sum(1), level_unit)
        return first, first.nothing() if shown is None else _related(rest, hidden.sum(1), level_unit)

    def _is_out_of_order(self, rank: Tensor) -> Tensor:
        """Return for which spectra (n,) a pixel is to be kept longer than one before it in its block.

        What whitens the pixels in their order says of each what is new beyond those before it.
        """
        number, _ = self.blocks
        # No later block lowers the least rank of an earlier one.
        key = rank - (KEPT + 1) * number
        return ((key > key.cummin(dim=1).values) & (rank < KEPT)).any(1)

    def brightness(self, products: Products) -> tuple[Tensor, Tensor]:
        """Return the ratio (n,) of the brightness to the rough one, and its relative error (n,)."""
        norm = products.gram[:, 0, 0]
        known = norm > 0
        ratio = 1 + products.data[:, 0] / torch.where(known, norm, 1.0)
        ratio = torch.where(known, ratio, 1.0)
        # Noise without a spectrum must not turn it upside down.
        ratio = ratio.clamp(0.2, 5.0)
        return ratio, torch.where(known, norm.clamp(min=TINY).rsqrt(), torch.inf) / ratio

    def components(self, products: Products, ratio: Tensor) -> Components:
        """Return what products say about spectra of a brightness relative to the rough one (n,)."""
        more = ratio - 1
        data = products.data - more[:, None] * products.gram[:, 0]
        square = products.square - more * (products.data[:, 0] + data[:, 0])
        precision = ratio[:, None, None].square() * products.gram[:, 1:, 1:]
        return Components(precision, ratio[:, None] * data[:, 1:], square.clamp(min=0), products.pixels)

    @torch.no_grad()
    def prepare(self, train: Batches) -> None:
        """Measure mean and basis from some rows: directions of the largest ratio of signal to noise."""
        some = thinned(train, ROWS)
        flux, ivar = some["flux"], some["ivar"]
        template = some.get("template", torch.zeros(len(flux), dtype=torch.long, device=flux.device))
        good = ivar > 0
        used = good.any(1)
        if not used.any():
            return
        flux, ivar, _ = _in_own_units(flux[used], ivar[used])
        good, template = good[used], template[used]
        scaled, weight = flux, ivar
        self.mean.fill_(1.0)
        for _ in range(3):
            norm = (weight * self.mean.square()).sum(1, keepdim=True)
            level = (weight * self.mean * scaled).sum(1, keepdim=True) / norm
            rough = ((good * scaled.square()).sum(1, keepdim=True) / good.sum(1, keepdim=True)).sqrt()
            level = torch.where(level > 0.1 * rough, level, rough)
            level = torch.where(level > 0, level, torch.ones_like(level))
            scaled, weight = scaled / level, weight * level.square()
            total = good.sum(0).clamp(min=1)
            self.mean.copy_((good * scaled).sum(0) / total)
        noise = self._noise(weight, good, template)
        relative = (good / weight.clamp(min=TINY)).sum(1) / good.sum(1)
        best = relative <= relative.median()
        residual = torch.where(good, scaled - self.mean, 0.0)[best].double()
        root = torch.linalg.cholesky(noise) if noise.dim() == 2 else noise.sqrt()
        white = (
            torch.linalg.solve_triangular(root, residual.T, upper=False).T
            if noise.dim() == 2
            else residual / root
        )
        _, size, directions = torch.linalg.svd(white, full_matrices=False)
        size = size / len(white) ** 0.5
        floor = (relative[best].mean() ** 0.5).clamp(min=TINY)
        count = min(self.basis.shape[1], len(size))
        strength = (size[:count].square() - floor**2).clamp(min=(0.1 * floor) ** 2).sqrt()
        basis = directions[:count].T * strength
        self.basis.zero_()
        self.basis[:, :count] = ((root @ basis) if noise.dim() == 2 else root[:, None] * basis).float()
        # What the components leave over.
        self.excess.zero_()
        if len(self.whiteners):
            rest = directions[count:].T * (size[count:].square() - floor**2).clamp(min=0).sqrt()
            self.excess.copy_((root @ rest).square().sum(1))
        else:
            batch = {"flux": scaled, "ivar": weight}
            every, _ = self.products(batch)
            ratio, _ = self.brightness(every)
            z = self.components(every, ratio).posterior().mean
            model = self.mean + z @ self.basis.T
            off = (scaled / (every.level * ratio)[:, None] - model).square() - 1 / weight.clamp(min=TINY)
            # The median is that of a squared normal number, 0.455 of its mean.
            middle = torch.where(good, off, torch.nan).nanmedian(0).values / 0.455
            self.excess.copy_(middle.nan_to_num(0.0).clamp(min=0))

    def _noise(self, weight: Tensor, good: Tensor, template: Tensor) -> Tensor:
        """Return the mean covariance (p, p) of errors, each star's divided by its mean variance, or (p,)."""
        variance = torch.where(good, 1 / weight.clamp(min=TINY), 0.0).double()
        mean = variance.sum(1, keepdim=True) / good.sum(1, keepdim=True)
        sigma = (variance / mean).sqrt()
        if not len(self.whiteners):
            typical = sigma.square().sum(0) / good.sum(0).clamp(min=1)
            return typical.clamp(min=1e-6)
        factors = torch.linalg.inv(self.whiteners.double())
        noise = torch.zeros(sigma.shape[1], sigma.shape[1], dtype=torch.float64, device=sigma.device)
        for number in np.unique(template.cpu().numpy()):
            own = sigma[template == number]
            noise += (factors[number] @ factors[number].T) * (own.T @ own)
        noise /= len(sigma)
        return noise + 1e-6 * torch.eye(
            len(noise), dtype=noise.dtype, device=noise.device
        ) * noise.trace() / len(noise)


def _in_own_units(flux: Tensor, ivar: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return spectra whose largest value is 1, their weights, and the unit (n,): squares of 1e-20 are 0."""
    largest = (flux * (ivar > 0)).abs().amax(1, keepdim=True)
    unit = torch.where(largest > 0, largest, torch.ones_like(largest))
    return flux / unit, (ivar * unit) * unit, unit[:, 0]


def _independent(both: Tensor, weight: Tensor, residual: Tensor, count: Tensor, level: Tensor) -> Products:
    """Return the products of pixels with independent errors."""
    q = both.shape[1]
    rows, columns = torch.triu_indices(q, q)
    pairs = weight.square() @ (both[:, rows] * both[:, columns])
    gram = pairs.new_empty(len(weight), q, q)
    gram[:, rows, columns] = pairs
    gram[:, columns, rows] = pairs
    return Products(gram, (weight * residual) @ both, residual.square().sum(1), count, level)


def _related(data: Tensor, count: Tensor, level: Tensor) -> Products:
    """Return the products of related pixels from their whitened mean, basis and residual (n, p, q + 1)."""
    every = data.transpose(1, 2) @ data
    return Products(every[:, :-1, :-1], every[:, :-1, -1], every[:, -1, -1], count, level)


def _taken_apart(whitener: Tensor, data: Tensor, rank: Tensor) -> tuple[Tensor, Tensor]:
    """Return the whitened data (n, p, q) of shown pixels, and of hidden ones given those, in any order.

    A pixel is left out of whitened data by projecting out the direction in which its own value moves them:
    of what is left nothing depends on it. The bad pixels go first, then the hidden ones.
    """
    out = rank < KEPT - 1
    count = int(out.sum(1).max())
    order = rank.argsort(dim=1, stable=True)[:, :count]
    taken = out.gather(1, order).to(data.dtype)
    directions = whitener.gather(2, order[:, None].expand(-1, whitener.shape[1], -1)) * taken[:, None]
    gram = directions.transpose(1, 2) @ directions
    factor = torch.linalg.cholesky(gram + torch.diag_embed(1 - taken))
    along = torch.linalg.solve_triangular(factor, directions.transpose(1, 2) @ data, upper=False)
    removed = torch.linalg.solve_triangular(factor.transpose(1, 2), along, upper=True)
    hidden = along * (rank.gather(1, order) == 1)[:, :, None]
    padded = nn.functional.pad(hidden, (0, 0, 0, data.shape[1] - count))
    return data - directions @ removed, padded


def thinned(train: Batches, rows: int) -> Batch:
    """Return at most ``rows`` rows, evenly spaced in a pass: the first of a file may be unlike the others."""
    parts: list[Batch] = []
    stride, passed, count = 1, 0, 0
    for batch in train():
        start = -passed % stride
        parts.append({name: tensor[start::stride].clone() for name, tensor in batch.items()})
        passed += len(batch["flux"])
        count += len(parts[-1]["flux"])
        while count > rows:
            kept = _joined(parts)
            parts, stride = [{name: tensor[::2].clone() for name, tensor in kept.items()}], 2 * stride
            count = len(parts[0]["flux"])
        if passed >= PASSED:
            break
    return _joined(parts)


def _joined(parts: list[Batch]) -> Batch:
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def small_batches(batch: Batch) -> Iterator[Batch]:
    """Iterate over parts of few rows: whitening takes much memory."""
    for start in range(0, len(batch["flux"]), BLOCK):
        yield {name: tensor[start : start + BLOCK] for name, tensor in batch.items()}


def chosen_templates(correlation: Correlation) -> NDArray[np.float32]:
    """Return at most ``TEMPLATES`` of the correlation matrices (t, p, p) in use."""
    used = correlation.compact().templates
    if len(used) > TEMPLATES:
        used = used[np.linspace(0, len(used) - 1, TEMPLATES).astype(int)]
    return np.asarray(used)


def whiteners(templates: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the inverse Cholesky factors (t, p, p) of correlation matrices."""
    return _inverse_factors(templates.astype(np.float64))


def _inverse_factors(matrices: FloatArray) -> NDArray[np.float32]:
    unit = np.eye(matrices.shape[-1])
    factors = np.linalg.cholesky((matrices + RIDGE * unit) / (1 + RIDGE))
    found: NDArray[np.float32] = np.linalg.inv(factors).astype(np.float32)
    return found


def whiteners_of(correlation: Correlation, good: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the inverse Cholesky factors (n, p, p) of the correlations of good pixels (n, p)."""
    own = correlation.among(good)
    return _inverse_factors(own.templates.astype(np.float64))[own.index]


def nearest(templates: NDArray[np.float32], known: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the number (t,) of the known whitener (s, p, p) nearest to the correlation of each template."""
    other = known.reshape(len(known), -1)
    places = np.random.default_rng(0).choice(other.shape[1], min(2000, other.shape[1]), replace=False)
    b = other[:, places]
    found = np.empty(len(templates), dtype=np.int64)
    for start in range(0, len(templates), BLOCK):  # every star may have its own
        own = whiteners(templates[start : start + BLOCK])
        a = own.reshape(len(own), -1)[:, places]
        found[start : start + BLOCK] = ((b**2).sum(1) - 2 * a @ b.T).argmin(axis=1)
    return found
