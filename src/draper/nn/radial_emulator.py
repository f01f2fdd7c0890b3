"""An emulator of radial functions about its training spectra: kernel regression with a learnt warp."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

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


class RadialEmulator(EmulatorNetwork):
    """Predicts principal components of spectra by similarities of labels with those of training spectra.

    The kernel is that of :class:`draper.nn.radial.RadialNetwork`: its warp of the labels and its few other
    parameters are trained on leave-one-out errors, which have a closed form. So have the errors of the
    result, which are those of all training spectra: none need be held out. They grow as the kernel
    regression's own standard deviation, with a power that is measured.

    For label fits it is a perceptron whose last hidden layer are the components.

    Parameters
    ----------
    labels, pixels, components, tolerance
        See :class:`.EmulatorNetwork`.
    bends
        Number of tanh units in the warp.
    """

    def __init__(
        self, labels: int, pixels: int, *, bends: int, components: int, tolerance: float = 0.0
    ) -> None:
        super().__init__(labels, pixels, (max(components, 1),), components=components, tolerance=tolerance)
        self.layers = nn.ModuleList()
        self.spread = torch.zeros(0, 0)
        # Similarities cancel to the last digits of double precision.
        self.kernel = RadialNetwork(labels, bends, 0, components).double()
        self.seen: Tensor
        self.seen_scores: Tensor
        # During training: what held-out spectra are predicted from.
        self.register_buffer("seen", torch.zeros(0, labels, dtype=torch.float64))
        self.register_buffer("seen_scores", torch.zeros(0, components, dtype=torch.float64))
        self._factor: Tensor | None = None

    # -------------------------------------------------------------- evaluation

    def hidden(self, x: Tensor) -> Tensor:
        """Return the components (n, k)."""
        components: Tensor = self.kernel(_inputs(x)).to(x)
        return components

    def hidden_jacobian(self, x: Tensor, kind: torch.dtype | None = None) -> tuple[Tensor, Tensor]:
        """Return the components (n, k) and their derivatives (n, k, d), the latter of a precision."""
        near, slopes = self.kernel.similarity_jacobian(_inputs(x), self.kernel.points)
        weights = self.kernel.weights
        return (near @ weights).to(x), (2 * slopes @ weights).transpose(1, 2).to(kind or x.dtype)

    def leverage(self, x: Tensor) -> Tensor:
        """Return the variance (n,) of the kernel regression, in units of that without training spectra."""
        kernel, points = self.kernel, self.kernel.points
        if self._factor is None:
            # Of float64 and as large as the training set is squared: computed when it is needed, not stored.
            with torch.inference_mode(False), torch.no_grad():
                ridge = kernel.ridge.exp() * torch.eye(len(points)).to(points)
                self._factor = torch.linalg.cholesky(kernel.similarity(points, points) + ridge)
        near = kernel.similarity(_inputs(x), points)
        known = torch.linalg.solve_triangular(self._factor, near.T, upper=False).square().sum(0)
        variance: Tensor = (kernel.variance(_inputs(x)) - known).clamp(min=0).to(x)
        return variance

    # ---------------------------------------------------------------- training

    def parameters_of(self, player: str) -> Iterable[nn.Parameter]:
        """Return the parameters of the kernel; all others follow from them."""
        return self.kernel.parameters()

    def loss(self, batch: Batch, shared: Batch, player: str, progress: float) -> dict[str, Tensor]:
        """Return the mean rms of leave-one-out errors in a batch; that of predictions for held-out ones."""
        batch = complete_rows(self.condense(batch))
        x, scores = _inputs(batch["labels"]), batch["scores"].double()
        if self.training:
            error = self.kernel.left_out(x, scores)
        else:
            weights = self.kernel.inverse(self.seen) @ self.seen_scores
            error = scores - self.kernel.similarity(x, self.seen) @ weights
        squares = (error.square() @ self.basis.double().square().sum(1) + batch["rest"]) / self.pixels
        # Means of the rms, not of squares: a few bad spectra shall not decide alone.
        rms = squares.clamp(min=1e-30).sqrt()
        return {"total": rms.mean() / self.variance.sqrt(), "error": rms.detach().mean()}

    def prepare(self, train: Batches) -> None:
        """Compute the components, and start with length scales after the slopes of a linear regression."""
        super().prepare(train)
        x, scores = self._scores(train)
        self.seen, self.seen_scores = (rows[_evenly(len(x), SEEN)] for rows in (x, scores))
        slopes = Ridge(nn.functional.pad(x, (0, 1), value=1.0)).weights(scores, USUAL)[:-1]
        strength = (slopes.square() @ self.basis.double().square().sum(1)).sqrt()
        share = (strength / strength.max().clamp(min=1e-30)).sqrt().clamp(min=SMALLEST)
        self.kernel.scale.copy_((LARGEST * share).log())

    def finish(self, train: Batches, valid: Batches | None) -> None:
        """Set the centres and their weights, and measure leave-one-out errors."""
        self.seen, self.seen_scores = self.seen[:0], self.seen_scores[:0]
        store_points(self, train)
        x, scores = self._scores(train)
        chosen = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        chosen[_evenly(len(x), POINTS)] = True
        x, scores = x[chosen], scores[chosen]
        inverse = self.kernel.inverse(x)
        self.kernel.points, self.kernel.weights = x, inverse @ scores
        self._factor = None
        with torch.no_grad():
            self.last.weight.copy_(torch.eye(len(self.basis)))
            self.last.bias.zero_()
        own = inverse.diagonal()
        error = (self.kernel.weights / own[:, None]).to(self.basis) @ self.basis

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

        distance = (1 / own - self.kernel.ridge.exp()).clamp(min=0).to(self.basis)
        self._measure(left_out, distance)

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
        self.kernel.points = self.kernel.points.new_zeros(points, self.labels)
        self.kernel.weights = self.kernel.weights.new_zeros(points, count)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        """Load arrays; the sizes of some depend on the training data."""
        self._set_sizes(len(state_dict[f"{prefix}kernel.points"]))
        for name in ("seen", "seen_scores"):
            setattr(self, name, getattr(self, name).new_zeros(state_dict[f"{prefix}{name}"].shape))
        self._factor = None
        super()._load_from_state_dict(state_dict, prefix, *args)


def _inputs(labels: Tensor) -> Tensor:
    """Return scaled labels (n, d) as the kernel takes them: -1 to 1, in double precision."""
    return 2 * labels.double()


def _evenly(total: int, most: int) -> Tensor:
    """Return the numbers of at most ``most`` rows."""
    return torch.linspace(0, total - 1, min(most, total)).long()
