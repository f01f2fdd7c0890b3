"""An emulator of radial functions about its training spectra: kernel regression with learnt warps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn

from draper.nn.emulator import EmulatorNetwork
from draper.nn.footprint import complete_rows, store_points
from draper.nn.module import Batch, Batches
from draper.nn.radial import RadialNetwork
from draper.nn.readout import USUAL, Ridge

SEEN = 1024
"""Training spectra from which held-out ones are predicted during training."""

POINTS = 4096
"""Largest number of training spectra that become centres."""

LARGEST = 0.6
"""Inverse length scale, at the start, of the label on which spectra depend most; inputs run from -1 to 1."""

SMALLEST = 0.15
"""Smallest of the others at the start, in units of the largest."""

BLUR = 6
"""Pixels by which errors are smoothed, to count once more: so an instrument of lower resolution sees them."""

SHARE = 5
"""Each kernel predicts this many times as many components as the kernels before it together."""


class RadialEmulator(EmulatorNetwork):
    """Predicts principal components of spectra by similarities of labels with those of training spectra.

    The kernels are those of :class:`draper.nn.radial.RadialNetwork`: their warps of the labels and their few
    other parameters are trained on leave-one-out errors, which have a closed form. So have the errors of the
    result, which are those of all training spectra: none need be held out. They grow as the kernel
    regression's own standard deviation, with a power that is measured. The leading components change more
    slowly with the labels than the later ones, so that they have a kernel of their own.

    For label fits it is a perceptron whose last hidden layer are the components.

    Parameters
    ----------
    labels, pixels, components, tolerance
        See :class:`.EmulatorNetwork`.
    bends
        Number of tanh units in each warp.
    kernels
        Number of kernels.
    """

    def __init__(
        self,
        labels: int,
        pixels: int,
        *,
        bends: int,
        kernels: int = 3,
        components: int,
        tolerance: float = 0.0,
    ) -> None:
        super().__init__(labels, pixels, (max(components, 1),), components=components, tolerance=tolerance)
        self.layers = nn.ModuleList()
        self.spread = torch.zeros(0, 0)
        # Similarities cancel to the last digits of double precision.
        self.kernels = nn.ModuleList(RadialNetwork(labels, bends, 0, 0).double() for _ in range(kernels))
        self._set_sizes(0)
        self.power: Tensor
        self.seen: Tensor
        self.seen_scores: Tensor
        # Mean squared flux that a unit of each kernel's variance is worth.
        self.register_buffer("power", torch.zeros(kernels, dtype=torch.float64))
        # During training: what held-out spectra are predicted from.
        self.register_buffer("seen", torch.zeros(0, labels, dtype=torch.float64))
        self.register_buffer("seen_scores", torch.zeros(0, components, dtype=torch.float64))
        self._factors: list[Tensor] = []

    def parts(self) -> Iterator[tuple[RadialNetwork, slice]]:
        """Iterate over the kernels, and the components that each predicts."""
        count, kernels = len(self.basis), len(self.kernels)
        ends = [0, *(-(-count // SHARE**left) for left in range(kernels - 1, -1, -1))]
        for kernel, (start, end) in zip(self.kernels, pairwise(ends), strict=True):
            yield cast(RadialNetwork, kernel), slice(start, end)

    # -------------------------------------------------------------- evaluation

    def hidden(self, x: Tensor) -> Tensor:
        """Return the components (n, k)."""
        return torch.cat([kernel(_inputs(x)) for kernel, _ in self.parts()], dim=1).to(x)

    def hidden_jacobian(self, x: Tensor, kind: torch.dtype | None = None) -> tuple[Tensor, Tensor]:
        """Return the components (n, k) and their derivatives (n, k, d), the latter of a precision."""
        values, derivatives = [], []
        for kernel, _ in self.parts():
            near, slopes = kernel.similarity_jacobian(_inputs(x), kernel.points)
            values.append(near @ kernel.weights)
            derivatives.append((2 * slopes @ kernel.weights).transpose(1, 2))
        return torch.cat(values, dim=1).to(x), torch.cat(derivatives, dim=1).to(kind or x.dtype)

    def leverage(self, x: Tensor) -> Tensor:
        """Return the mean variance (n,) of the flux by the kernel regressions."""
        total = torch.zeros(len(x)).to(self.power)
        for kernel, root, power in self._regressions():
            known = _seen(kernel, root, x).square().sum(0)
            total += power * (kernel.variance(_inputs(x)) - known).clamp(min=0)
        return total.to(x)

    def posterior(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the covariance (n, m) of the flux between labels (n, d) and (m, d), by the regressions."""
        total = torch.zeros(len(x), len(y)).to(self.power)
        for kernel, root, power in self._regressions():
            known = _seen(kernel, root, x).T @ _seen(kernel, root, y)
            total += power * (kernel.similarity(_inputs(x), _inputs(y)) - known)
        return total

    @property
    def posterior_noise(self) -> float:
        """The variance of a training spectrum: the ridges of the regressions."""
        return sum(float(power * kernel.ridge.detach().exp()) for kernel, _, power in self._regressions())

    def _regressions(self) -> Iterator[tuple[RadialNetwork, Tensor, Tensor]]:
        """Iterate over kernels, the roots (m, m) of their matrices at the training points, and powers."""
        if not self._factors:
            # Of float64 and as large as the training set is squared: computed when needed, not stored.
            with torch.inference_mode(False), torch.no_grad():
                self._factors = [
                    torch.linalg.cholesky(kernel.own(kernel.points)) for kernel, _ in self.parts()
                ]
        kernels = (kernel for kernel, _ in self.parts())
        return zip(kernels, self._factors, self.power, strict=True)

    # ---------------------------------------------------------------- training

    def parameters_of(self, player: str) -> Iterable[nn.Parameter]:
        """Return the parameters of the kernels; all others follow from them."""
        return self.kernels.parameters()

    def loss(self, batch: Batch, shared: Batch, player: str, progress: float) -> dict[str, Tensor]:
        """Return the mean rms of leave-one-out errors in a batch; that of predictions for held-out ones."""
        batch = complete_rows(self.condense(batch))
        x, scores = _inputs(batch["labels"]), batch["scores"].double()
        power, total = self._component_power() / self.pixels, torch.zeros(()).to(x)
        blurred = _smoothed(self.basis.double())
        squares = batch["rest"].double() / self.pixels
        for kernel, part in self.parts():
            if self.training:
                error = kernel.left_out(x, scores[:, part])
            else:
                weights = kernel.inverse(self.seen) @ self.seen_scores[:, part]
                error = scores[:, part] - kernel.similarity(x, self.seen) @ weights
            own = error.square() @ power[part]
            squares = squares + own
            # Means of the rms, not of squares: a few bad spectra shall not decide alone. Each kernel has a
            # loss of its own: the largest errors would decide for all.
            seen = (error @ (blurred[part] @ blurred[part].T) * error).sum(1) / self.pixels
            total = total + sum(part.clamp(min=1e-30).sqrt().mean() for part in (own, seen))
        return {"total": total / self.variance.sqrt(), "error": squares.sqrt().mean().detach()}

    def prepare(self, train: Batches) -> None:
        """Compute the components, and start with length scales after the slopes of a linear regression."""
        super().prepare(train)
        x, scores = self._scores(train)
        self.seen, self.seen_scores = (rows[_evenly(len(x), SEEN)] for rows in (x, scores))
        slopes = Ridge(nn.functional.pad(x, (0, 1), value=1.0)).weights(scores, USUAL)[:-1].square()
        for kernel, part in self.parts():
            strength = (slopes[:, part] @ self._component_power()[part]).sqrt()
            share = (strength / strength.max().clamp(min=1e-30)).sqrt().clamp(min=SMALLEST)
            kernel.scale.copy_((LARGEST * share).log())

    def finish(self, train: Batches, valid: Batches | None) -> None:
        """Set the centres and their weights, and measure leave-one-out errors."""
        self.seen, self.seen_scores = self.seen[:0], self.seen_scores[:0]
        store_points(self, train)
        x, scores = self._scores(train)
        chosen = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        chosen[_evenly(len(x), POINTS)] = True
        x, scores = x[chosen], scores[chosen]
        self._factors = []
        with torch.no_grad():
            self.last.weight.copy_(torch.eye(len(self.basis)))
            self.last.bias.zero_()
        errors, variances = [], []
        for number, (kernel, part) in enumerate(self.parts()):
            inverse = kernel.inverse(x)
            own = inverse.diagonal()
            kernel.points, kernel.weights = x.clone(), inverse @ scores[:, part]
            errors.append(kernel.weights / own[:, None])
            self.power[number] = (errors[-1].square() * own[:, None]).mean(0) @ self._component_power()[part]
            variances.append(self.power[number] * (1 / own - kernel.ridge.exp()).clamp(min=0))
        error = torch.cat(errors, dim=1).to(self.basis) @ self.basis

        def left_out() -> Iterator[Batch]:
            """Yield the centres' spectra, moved so that they differ from predictions by their errors."""
            start = end = 0
            for batch in map(complete_rows, train()):
                kept = chosen[start : (start := start + len(batch["labels"]))]
                batch = {name: tensor[kept] for name, tensor in batch.items()}
                place = slice(end, end := end + len(batch["labels"]))
                components = self.condense(batch)["scores"] @ self.basis + self.mean
                moved = self(batch["labels"]) + error[place] + batch["flux"] - components
                yield {**batch, "flux": moved}

        self.measure_errors(left_out, torch.stack(variances).sum(0).to(self.basis))

    def _component_power(self) -> Tensor:
        """Return the sum (k,) over pixels of the squares of each component."""
        return self.basis.double().square().sum(1)

    def _scores(self, train: Batches) -> tuple[Tensor, Tensor]:
        """Return the kernel's inputs (n, d) and the components (n, k) of all spectra with all labels."""
        parts = [complete_rows(self.condense(batch)) for batch in train()]
        x, scores = (torch.cat([part[name] for part in parts]) for name in ("labels", "scores"))
        return _inputs(x), scores.double()

    def _set_basis(self, basis: Tensor) -> None:
        """Set the basis (k, p); hidden layer and last layer have k units."""
        super()._set_basis(basis)
        self._set_sizes(0)

    def _set_sizes(self, points: int) -> None:
        """Allocate what depends on the numbers of components and of centres."""
        count = len(self.basis)
        self.last.in_features = count
        self.last.weight = nn.Parameter(torch.eye(count).to(self.basis))
        for kernel, part in self.parts():
            kernel.points = kernel.points.new_zeros(points, self.labels)
            kernel.weights = kernel.weights.new_zeros(points, part.stop - part.start)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        """Load arrays; the sizes of some depend on the training data."""
        self._set_sizes(len(state_dict[f"{prefix}kernels.0.points"]))
        for name in ("seen", "seen_scores"):
            setattr(self, name, getattr(self, name).new_zeros(state_dict[f"{prefix}{name}"].shape))
        self._factors = []
        super()._load_from_state_dict(state_dict, prefix, *args)


def _smoothed(spectra: Tensor) -> Tensor:
    """Return spectra (n, p) smoothed by a Gaussian of ``BLUR`` pixels."""
    reach = min(3 * BLUR, spectra.shape[1] - 1)
    offset = torch.arange(-reach, reach + 1).to(spectra)
    weight = torch.exp(-0.5 * (offset / BLUR).square())
    padded = nn.functional.pad(spectra[:, None], (reach, reach), mode="replicate")
    return nn.functional.conv1d(padded, (weight / weight.sum())[None, None])[:, 0]


def _seen(kernel: RadialNetwork, root: Tensor, x: Tensor) -> Tensor:
    """Return what (m, n) of the kernel at labels x (n, d) training points of a root (m, m) explain."""
    near = kernel.similarity(_inputs(x), kernel.points)
    seen: Tensor = torch.linalg.solve_triangular(root, near.T, upper=False)
    return seen


def _inputs(labels: Tensor) -> Tensor:
    """Return scaled labels (n, d) as the kernel takes them: -1 to 1, in double precision."""
    return 2 * labels.double()


def _evenly(total: int, most: int) -> Tensor:
    """Return the numbers of at most ``most`` rows."""
    return torch.linspace(0, total - 1, min(most, total)).long()
