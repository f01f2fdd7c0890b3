"""The emulator's network and its training: components, closed-form last layers, errors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from draper.configs.emulator import Activation
from draper.errors import DivergedError, option_text
from draper.nn.error_modes import common_errors, error_width
from draper.nn.footprint import (
    complete_rows,
    good_pixels,
    measure,
    misfit,
    misfits,
    moments,
    squared,
    store_points,
)
from draper.nn.module import Batch, Batches
from draper.nn.readout import USUAL, Ridge, components, fill_bad, trusted
from draper.nn.spectral import Perceptron

ROWS = 8192
"""Largest number of rows, evenly chosen, that the last layer is solved from; more hardly change it."""

TARGETS = 512
"""Largest number of outputs that the strength of the ridge is chosen by."""

EDGE = 1e-4
"""Smallest distance from 0 and 1 of the targets of a bounded network."""

GENTLE = 1e-2
"""Least strength of the ridge at the start of training: large weights that cancel would keep the hidden
layers from changing."""

NOTHING = 1e-3
"""Least share of the scatter of spectra that an emulator must predict in at least one pixel."""

TINY = 1e-20
"""Least leverage."""

TRUST = 20.0
"""Weight, in held-out rows, of the prior that squared errors are proportional to the leverage."""


class EmulatorNetwork(Perceptron):
    """A perceptron from labels to spectra that learns from spectra with bad pixels.

    Parameters
    ----------
    labels, pixels, hidden, activation, bounded, components, censored
        See :class:`draper.nn.spectral.Perceptron`.
    loss
        Mean absolute (l1) or mean squared (l2) residual.
    tolerance
        Share of the scatter (rms) that components may leave out; further ones are dropped.
    start, solve
        Whether the last layer is solved in closed form before and after training.
    """

    def __init__(
        self,
        labels: int,
        pixels: int,
        hidden: Sequence[int] = (300, 300),
        activation: Activation = "silu",
        *,
        bounded: bool = False,
        components: int = 0,
        censored: Mapping[int, Tensor] | None = None,
        loss: Literal["l1", "l2"] = "l2",
        tolerance: float = 0.0,
        start: bool = False,
        solve: bool = False,
    ) -> None:
        super().__init__(
            labels, pixels, hidden, activation, bounded=bounded, components=components, censored=censored
        )
        self.kind, self.start, self.solves = loss, start, solve and not bounded and loss == "l2"
        self.condenses, self.tolerance = components > 0, tolerance
        self.variance: Tensor
        self.few: Tensor
        self.spread: Tensor
        self.growth: Tensor
        size = self.last.in_features + 1
        self.register_buffer("variance", torch.ones(()))
        self.register_buffer("few", torch.ones((), dtype=torch.int64))
        self.register_buffer("spread", torch.zeros(size, size))
        self.register_buffer("growth", torch.zeros(2))

    def whitened(self, x: Tensor) -> Tensor:
        """Return the last hidden layer (n, h + 1) in units in which training points scatter alike."""
        whitened: Tensor = self.hidden(x) @ self.spread[:-1] + self.spread[-1]
        return whitened

    def leverage(self, x: Tensor) -> Tensor:
        """Return the squared distance (n,) of the last hidden layer from that of the training points."""
        squares: Tensor = self.whitened(x).square().sum(1)
        return squares

    def posterior(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the covariance (n, m) of the flux between labels (n, d), (m, d): a Bayesian last layer.

        The :meth:`leverage` is its diagonal.
        """
        return self.whitened(x) @ self.whitened(y).T

    @property
    def posterior_noise(self) -> float:
        """The variance of a training spectrum in units of :meth:`posterior`, for up to 8,192 of them."""
        return 1.0

    def error(self, x: Tensor) -> Tensor:
        """Return the 1-sigma error (n, p): that of held-out spectra, larger far from training points.

        The leverage would be the variance of a Bayesian last layer; how errors really grow with it was
        measured on held-out spectra.
        """
        return self.uncertainty * self._factor(self.leverage(x))[:, None]

    def _factor(self, leverage: Tensor) -> Tensor:
        """Return the factor (n,) of errors at a leverage (n,)."""
        usual, power = self.growth
        factor: Tensor = (power / 2 * (leverage.clamp(min=TINY).log() - usual)).exp()
        return factor

    # ---------------------------------------------------------------- training

    def condense(self, batch: Batch) -> Batch:
        """Return scores (n, k), and the power (n,) that the components leave out."""
        if not self.condenses or "scores" in batch:
            return batch
        good, power = batch["ivar"] > 0, self.basis.square().sum(1)
        inverse = torch.where(power > 0, 1 / power.clamp(min=1e-30), 0.0)
        few = int(self.few)
        leading, shares = self.basis[:few], inverse[:few]
        flux = fill_bad(batch["flux"] - self.mean, good, lambda v: ((v @ leading.T) * shares) @ leading)
        scores = (flux @ self.basis.T) * inverse
        rest = (flux - scores @ self.basis).square().sum(1)
        return {"labels": batch["labels"], "scores": scores, "rest": rest}

    def loss(self, batch: Batch, shared: Batch, player: str, progress: float) -> dict[str, Tensor]:
        """Return the relative and absolute misfit; spectra without all labels do not count."""
        batch = self.condense(batch)
        complete = torch.isfinite(batch["labels"]).all(1)
        outputs = self.last(self.hidden(torch.nan_to_num(batch["labels"])))
        if self.condenses:
            power = self.basis.square().sum(1)
            squares = ((outputs - batch["scores"]).square() @ power + batch["rest"]) / self.pixels
            return squared(complete * squares, self.variance)
        return misfit(
            self.flux(outputs), batch["flux"], batch["ivar"] > 0, complete, self.variance, self.kind
        )

    def prepare(self, train: Batches) -> None:
        """Measure the mean, compute the components and, with ``start``, solve the last layer."""
        mean, variance, rows = moments(train, self.pixels)
        self.variance.copy_(variance)
        self.mean.copy_(torch.logit(mean.clamp(EDGE, 1 - EDGE)) if self.bounded else mean)
        self.scale.copy_(torch.ones(()) if self.bounded else self.variance.sqrt())
        if self.condenses:

            def centred() -> Iterator[tuple[Tensor, Tensor]]:
                return ((flux - self.mean, good) for flux, good in good_pixels(train))

            self.few.fill_(trusted(len(self.basis), self.pixels, rows))
            directions, power = components(centred, len(self.basis), self.pixels)
            left = self.variance * self.pixels - power.cumsum(0)
            enough = left > self.tolerance**2 * self.variance * self.pixels
            self._set_basis((directions * power.sqrt()).T[: int(enough.sum()) + 1])
        if self.start:
            self._solve(train, rows, least=GENTLE)

    def _set_basis(self, basis: Tensor) -> None:
        """Set the basis (k, p), and shorten the last layer to k outputs."""
        k = len(basis)
        self.basis, self.last.out_features = basis.contiguous(), k
        self.last.weight = nn.Parameter(self.last.weight[:k].clone())
        self.last.bias = nn.Parameter(self.last.bias[:k].clone())

    def finish(self, train: Batches, valid: Batches | None) -> None:
        """Solve the last layer again, and measure the errors on held-out rows."""
        self.spread.copy_(self._solve(train, store_points(self, train), keep=not self.solves))
        if valid is not None:
            self.measure_errors(valid)

    def measure_errors(self, held_out: Batches, leverage: Tensor | None = None) -> None:
        """Measure errors on held-out spectra, how pixels share them, and how they grow with the leverage.

        ``leverage`` (n,) is that of these spectra with all labels, when they were predicted; by default it is
        computed.
        """
        if not measure(self, held_out):
            return
        self._require_progress(held_out)
        relative, distance = [], []
        for part in misfits(self, held_out):
            share = part.squares / (self.uncertainty.square() + part.noise)
            relative.append(share.sum(1) / part.good.sum(1).clamp(min=1))
            if leverage is None:
                distance.append(self.leverage(part.x))
        leverage = torch.cat(distance) if leverage is None else leverage
        self._measure_growth(leverage, torch.cat(relative))
        # Once more, relative to what is expected of each spectrum: a few large errors would hide the others.
        factor = self._factor(leverage)
        measure(self, held_out, factor)
        found = common_errors(self, held_out, factor)
        self.modes, self.error_width = found.modes, error_width(self, found)
        is_local = bool(self.error_width.isfinite().all())
        self.held_out, self.amplitudes = (
            part[: len(part) * is_local] for part in (found.labels, found.amplitudes)
        )

    def _require_progress(self, valid: Batches) -> None:
        """Raise an error if all labels give the same spectrum: training has saturated the hidden units."""
        flux = torch.cat([self(batch["labels"]) for batch in map(complete_rows, valid())])
        scatter = 1.0 if self.bounded else float(self.scale)
        if len(flux) > 1 and float(flux.std(dim=0).max()) < NOTHING * scatter:
            raise DivergedError(
                "training has failed: the emulator predicts the same spectrum for all labels",
                hint=f"lower {option_text('train.learning_rate')}, or train for fewer epochs",
            )

    def _measure_growth(self, leverage: Tensor, relative: Tensor) -> None:
        """Fit the power of the leverage (n,) that the squared relative error (n,) is proportional to."""
        far, error = leverage.clamp(min=TINY).log(), relative.clamp(min=1e-12).log()
        spread = (far - far.mean()).square().mean().clamp(min=1e-6)
        common = ((far - far.mean()) * (error - error.mean())).mean()
        n = len(far)
        # With few held-out rows this is the power 1 of a Bayesian last layer.
        power = ((n * common / spread + TRUST) / (n + TRUST)).clamp(0.25, 3.0)
        # Normalised so that the mean variance over held-out rows is the measured one.
        usual = torch.logsumexp(power * far, 0) - torch.log(torch.tensor(float(n)))
        self.growth.copy_(torch.stack([usual / power, power]))

    def _solve(self, train: Batches, count: int, *, keep: bool = False, least: float = 0.0) -> Tensor:
        """Solve the last layer by ridge regression unless ``keep``; returns ``spread`` (h + 1, h + 1)."""
        features, targets, weights = [], [], []
        for batch in map(self.condense, _every(-(-count // ROWS), map(complete_rows, train()))):
            hidden = self.hidden(batch["labels"])
            features.append(nn.functional.pad(hidden, (0, 1), value=1.0).double())
            target, good = self._targets(batch)
            targets.append(target)
            weights.append(good)
        rows, target, good = torch.cat(features), torch.cat(targets), torch.cat(weights)
        ridge = Ridge(rows)
        every = max(1, target.shape[1] // TARGETS) if not self.condenses else 1
        weight = self.basis.square().sum(1) if self.condenses else good[:, ::every]
        # Zeros in place of bad targets would favour a ridge that is too strong.
        some = ridge.fill_bad(target[:, ::every], good[:, ::every], USUAL)
        chosen = max(least, ridge.strength(some.double(), weight.double()))
        if not keep:
            bent = torch.ones(rows.shape[1], dtype=torch.bool)
            if self.activation == "leaky_relu":
                # A unit that is linear at all training points would bend where there are none.
                bent = rows.amax(0).cpu() > 0
            for allowed, outputs in self._patterns():
                units = allowed & bent
                part = ridge if units.all() else Ridge(rows[:, units])
                self._set_outputs(part, chosen, target[:, outputs], good[:, outputs], units, outputs)
        return ridge.spread(chosen).to(self.spread)

    def _targets(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the targets (n, k) of the last layer, and where they are good."""
        if self.condenses:
            return batch["scores"], torch.ones_like(batch["scores"], dtype=torch.bool)
        good = batch["ivar"] > 0
        flux = torch.where(good, batch["flux"], 0.0)
        if self.bounded:
            flux = torch.logit(flux.clamp(EDGE, 1 - EDGE))
        return torch.where(good, (flux - self.mean) / self.scale, 0.0), good

    def _patterns(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield which features (h + 1,) may change which outputs (k,)."""
        outputs = self.last.out_features
        constant = torch.ones(1, dtype=torch.bool)
        if self.last.mask is None:
            yield torch.ones(self.last.in_features + 1, dtype=torch.bool), torch.arange(outputs)
            return
        kinds, kind = torch.unique(self.last.mask, dim=0, return_inverse=True)
        for number, units in enumerate(kinds.cpu()):
            yield torch.cat([units, constant]), torch.nonzero(kind.cpu() == number)[:, 0]

    def _set_outputs(
        self, ridge: Ridge, strength: float, target: Tensor, good: Tensor, units: Tensor, outputs: Tensor
    ) -> None:
        """Set the weights of some outputs; bad targets are filled by the regression on the others."""
        weights = ridge.weights(ridge.fill_bad(target, good, strength), strength)
        place = outputs.to(self.last.weight.device)
        held = torch.zeros(len(outputs), self.last.in_features, dtype=weights.dtype, device=weights.device)
        held[:, units[:-1]] = weights[:-1].T
        self.last.weight[place] = held.to(self.last.weight)
        self.last.bias[place] = weights[-1].to(self.last.bias)


def _every(step: int, batches: Iterable[Batch]) -> Iterator[Batch]:
    """Yield one row out of every ``step`` rows of all batches."""
    passed = 0
    for batch in batches:
        yield {name: tensor[-passed % step :: step] for name, tensor in batch.items()}
        passed += len(next(iter(batch.values())))
