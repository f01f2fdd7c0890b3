"""A network of labels and wavelength, which gives the flux at any wavelength."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from draper.configs.emulator import Activation
from draper.errors import DraperError
from draper.nn.footprint import measure, misfit, moments, store_points
from draper.nn.module import Batch, Batches
from draper.nn.spectral import (
    SpectralNetwork,
    activate,
    activation_slope,
    forward_jacobian,
    hidden_layers,
    initialise,
)

PIXELS = 256
"""Pixels of each training step, one from each of as many equal parts of the spectrum."""

SHORTEST = 4.0
"""Shortest period in pixels: shorter ones would be unconstrained between the pixels."""

NUMBERS = 2**19
"""Largest number of hidden units in memory; more would leave the processor's cache."""


class QueryNetwork(SpectralNetwork):
    """A decoder of wavelengths whose layers are scaled and shifted by functions of the labels (FiLM).

    A wavelength enters as sines and cosines of ln(lambda), with periods from twice the window to some pixels.
    The first layer of the decoder is the same for all spectra; in the others, each unit is multiplied by one
    number and shifted by another, which hidden layers compute from the labels.

    Parameters
    ----------
    labels
        Number of inputs d.
    wavelength
        Wavelengths of the pixels (p,), increasing, in any unit.
    hidden, activation
        Sizes and activation of the layers that labels pass.
    waves
        Number of periods of the sines and cosines.
    decoder
        Sizes of the layers that a wavelength passes, at least two; their activation is SiLU.
    loss
        Mean absolute (l1) or mean squared (l2) residual.

    Examples
    --------
    >>> network = QueryNetwork(2, np.linspace(8500, 8600, 101), hidden=(8,), waves=8, decoder=(16, 8))
    >>> tuple(network.at(torch.zeros(3, 2), [8512.34, 8512.35]).shape)
    (3, 2)
    """

    def __init__(
        self,
        labels: int,
        wavelength: ArrayLike,
        hidden: Sequence[int] = (300, 300),
        activation: Activation = "silu",
        *,
        waves: int = 128,
        decoder: Sequence[int] = (256, 64, 64),
        loss: Literal["l1", "l2"] = "l2",
    ) -> None:
        own = np.array(wavelength, dtype=np.float64)
        super().__init__(labels, len(own))
        self.wavelength = own
        self.activation, self.kind = activation, loss
        self.periods = _periods(np.log(self.wavelength), waves)
        self.waves: Tensor
        self.register_buffer("waves", self.waves_at(self.wavelength), persistent=False)
        self.layers = hidden_layers([labels, *hidden], [None] * len(hidden))
        self.film = nn.Linear(hidden[-1], 2 * sum(decoder[1:]))
        self.first = nn.Linear(2 * waves, decoder[0])
        self.decoder = nn.ModuleList(nn.Linear(*ends) for ends in pairwise(decoder))
        self.last = nn.Linear(decoder[-1], 1)
        self.level: Tensor
        self.scale: Tensor
        self.variance: Tensor
        self.register_buffer("level", torch.zeros(()))
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("variance", torch.ones(()))
        initialise(self.layers)
        with torch.no_grad():
            self.film.weight.normal_(0, hidden[-1] ** -0.5)
            self.film.bias.zero_()
            # Sines have a variance of 1/2.
            self.first.weight.normal_(0, waves**-0.5)
            for layer in self.decoder:
                assert isinstance(layer, nn.Linear)
                layer.weight.normal_(0, (2 / layer.in_features) ** 0.5)
            self.last.weight.normal_(0, decoder[-1] ** -0.5)
            self.last.bias.zero_()

    def waves_at(self, wavelength: NDArray[np.float64]) -> Tensor:
        """Return sines and cosines (q, 2 waves) of ln(lambda) (q,)."""
        # In double precision: the shortest period may be a hundred-thousandth of the logarithm itself.
        middle = np.log(self.wavelength[[0, -1]]).mean()
        phase = 2 * np.pi * (np.log(wavelength) - middle)[:, None] / self.periods
        return torch.from_numpy(np.concatenate([np.sin(phase), np.cos(phase)], axis=1)).float()

    # -------------------------------------------------------------- evaluation

    def at(self, x: Tensor, wavelength: ArrayLike) -> Tensor:
        """Return flux (n, q) at wavelengths (q,), which lie between the first and the last pixel."""
        target = np.array(wavelength, dtype=np.float64)
        low, high = self.wavelength[[0, -1]]
        # Wavelengths from text or logarithms may be off by the last digits.
        if not ((target >= low * (1 - 1e-9)) & (target <= high * (1 + 1e-9))).all():
            raise DraperError(
                "some wavelengths are outside the network's range",
                given=f"{target.min():.3f} to {target.max():.3f}",
                expected=f"within {low:.3f} to {high:.3f}",
            )
        return self._flux(x, self.waves_at(target).to(self.waves))

    def forward(self, x: Tensor) -> Tensor:
        """Return flux (n, p) of the network's own pixels."""
        return self._flux(x, self.waves)

    def _flux(self, x: Tensor, waves: Tensor) -> Tensor:
        film = self.film(self._hidden(x))
        parts = [self._decoded(film, some) for some in self._blocks(waves, len(x))]
        return torch.cat(parts, dim=1)

    def _hidden(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = activate(layer(x), self.activation)
        return x

    def _blocks(self, waves: Tensor, rows: int) -> Iterator[Tensor]:
        """Yield blocks of pixels whose hidden units, for this number of rows, stay in the cache."""
        yield from torch.split(waves, max(1, NUMBERS // (max(1, rows) * self.film.out_features)))

    def _decoded(self, film: Tensor, waves: Tensor) -> Tensor:
        """Return flux (n, b) at some wavelengths, for scales and shifts (n, 2 h)."""
        h = activate(self.first(waves), "silu")[None]
        for layer, (gain, shift) in zip(self.decoder, self._modulations(film), strict=True):
            # The first of these products is one for all rows.
            h = activate(torch.addcmul(shift, 1 + gain, layer(h)), "silu")
        flux: Tensor = self.level + self.scale * self.last(h)[:, :, 0]
        return flux

    def _modulations(self, film: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield scales and shifts (..., 1, h) of each layer."""
        sizes = [layer.out_features for layer in self.decoder if isinstance(layer, nn.Linear)]
        for part in torch.split(film, [2 * size for size in sizes], dim=-1):
            gain, shift = part.unsqueeze(-2).chunk(2, dim=-1)
            yield gain, shift

    def jacobian(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return flux (n, p) and its derivatives (n, p, d)."""
        hidden, moved = forward_jacobian(self.layers, self.activation, x)
        film, turned = self.film(hidden), moved.transpose(1, 2) @ self.film.weight.T
        parts = [
            self._decoded_jacobian(film, turned, some)
            for some in self._blocks(self.waves, len(x) * (1 + self.labels))
        ]
        flux, columns = zip(*parts, strict=True)
        return torch.cat(flux, dim=1), torch.cat(columns, dim=2).transpose(1, 2)

    def _decoded_jacobian(self, film: Tensor, turned: Tensor, waves: Tensor) -> tuple[Tensor, Tensor]:
        """Return flux (n, b) and derivatives (n, d, b), for those of scales and shifts (n, d, 2 h)."""
        h, moved = activate(self.first(waves), "silu")[None], None
        steps = zip(self.decoder, self._modulations(film), self._modulations(turned), strict=True)
        for layer, (gain, shift), (gain_moved, shift_moved) in steps:
            assert isinstance(layer, nn.Linear)
            inner = layer(h)
            z = torch.addcmul(shift, 1 + gain, inner)
            change = torch.addcmul(shift_moved, gain_moved, inner[:, None])
            if moved is not None:
                change = torch.addcmul(change, 1 + gain[:, None], moved @ layer.weight.T)
            moved, h = activation_slope(z, "silu")[:, None] * change, activate(z, "silu")
        assert moved is not None
        flux = self.level + self.scale * self.last(h)[:, :, 0]
        return flux, self.scale * (moved @ self.last.weight[0])

    # ---------------------------------------------------------------- training

    def loss(self, batch: Batch, shared: Batch, player: str, progress: float) -> dict[str, Tensor]:
        """Return the relative and absolute misfit in some pixels; spectra without all labels do not count.

        The pixels follow from ``progress``, so that they are the same in all processes, and after resuming.
        """
        complete = torch.isfinite(batch["labels"]).all(1)
        some = self._chosen(progress).to(complete.device)
        film = self.film(self._hidden(torch.nan_to_num(batch["labels"])))
        model = self._decoded(film, self.waves[some])
        flux, good = batch["flux"][:, some], batch["ivar"][:, some] > 0
        return misfit(model, flux, good, complete, self.variance, self.kind)

    def _chosen(self, progress: float) -> Tensor:
        """Return some pixels: random ones at each training step, otherwise the middle one of each part."""
        count = min(PIXELS, self.pixels)
        if count == self.pixels:
            return torch.arange(count)
        place = torch.full((count,), 0.5)
        if self.training:
            place = torch.rand(count, generator=torch.Generator().manual_seed(int(progress * 2**40)))
        return ((torch.arange(count) + place) * (self.pixels / count)).long().clamp(max=self.pixels - 1)

    def prepare(self, train: Batches) -> None:
        """Measure the level of the flux, and how much it varies with wavelength and from star to star."""
        mean, variance, _ = moments(train, self.pixels)
        self.variance.copy_(variance)
        self.level.copy_(mean.mean())
        self.scale.copy_((variance + mean.var(correction=0)).sqrt())

    def finish(self, train: Batches, valid: Batches | None) -> None:
        """Store the labels of the training spectra, and measure the errors on held-out ones."""
        store_points(self, train)
        measure(self, valid)


def _periods(wavelength: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Return geometric periods: from twice the window, so that all pixels differ, to a few pixels."""
    if len(wavelength) < 2:
        return np.ones(count)
    window, pixel = np.ptp(wavelength), np.median(np.diff(wavelength))
    return np.geomspace(2 * window, min(SHORTEST * pixel, window), count)
