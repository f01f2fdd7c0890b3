"""A network that is asked for wavelengths, and says the flux at any of them."""

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
from draper.nn.footprint import measure, misfit, moments, remember_points
from draper.nn.module import Batch, Batches
from draper.nn.spectral import SpectralNetwork, activated, begin, hidden_layers, slope, through

PIXELS = 256
"""Pixels that a step of training looks at, one from each of as many equal parts of the spectrum."""

SHORTEST = 4.0
"""Pixels of the shortest period: shorter ones would be free to do anything between the pixels."""

NUMBERS = 2**19
"""Hidden units that are held at once; more would leave the processor's cache."""


class QueryNetwork(SpectralNetwork):
    """A decoder of wavelengths whose layers are scaled and shifted by what labels say (FiLM).

    A wavelength enters as sines and cosines of ln(lambda), of periods from twice the window to some pixels.
    The first layer of the decoder is the same for all spectra; in the others, each unit is multiplied by and
    added to a number that hidden layers make of the labels.

    Parameters
    ----------
    labels
        Number of inputs d.
    wavelength
        Of the pixels (p,), increasing, in any unit.
    hidden, activation
        Sizes and activation of the layers that labels pass.
    waves
        Periods of the sines and cosines.
    decoder
        Sizes of the layers that a wavelength passes, at least two; their activation is SiLU.
    loss
        Of the residuals.

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
        begin(self.layers)
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
        asked = np.array(wavelength, dtype=np.float64)
        low, high = self.wavelength[[0, -1]]
        # What has gone through text or logarithms may be off by the last digits.
        if not ((asked >= low * (1 - 1e-9)) & (asked <= high * (1 + 1e-9))).all():
            raise DraperError(
                "the network knows nothing of some wavelengths",
                given=f"{asked.min():.3f} to {asked.max():.3f}",
                expected=f"within {low:.3f} to {high:.3f}",
            )  # fmt: skip
        return self._flux(x, self.waves_at(asked).to(self.waves))

    def forward(self, x: Tensor) -> Tensor:
        """Return flux (n, p) of its own pixels."""
        return self._flux(x, self.waves)

    def _flux(self, x: Tensor, waves: Tensor) -> Tensor:
        film = self.film(self._hidden(x))
        parts = [self._decoded(film, some) for some in self._blocks(waves, len(x))]
        return torch.cat(parts, dim=1)

    def _hidden(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = activated(layer(x), self.activation)
        return x

    def _blocks(self, waves: Tensor, rows: int) -> Iterator[Tensor]:
        """Yield so many pixels at a time that the hidden units of so many rows stay in the cache."""
        yield from torch.split(waves, max(1, NUMBERS // (max(1, rows) * self.film.out_features)))

    def _decoded(self, film: Tensor, waves: Tensor) -> Tensor:
        """Return flux (n, b) at some wavelengths, for scales and shifts (n, 2 h)."""
        h = activated(self.first(waves), "silu")[None]
        for layer, (gain, shift) in zip(self.decoder, self._modulations(film), strict=True):
            # The first of these products is one for all rows.
            h = activated(torch.addcmul(shift, 1 + gain, layer(h)), "silu")
        made: Tensor = self.level + self.scale * self.last(h)[:, :, 0]
        return made

    def _modulations(self, film: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield scales and shifts (..., 1, h) of each layer."""
        sizes = [layer.out_features for layer in self.decoder if isinstance(layer, nn.Linear)]
        for part in torch.split(film, [2 * size for size in sizes], dim=-1):
            gain, shift = part.unsqueeze(-2).chunk(2, dim=-1)
            yield gain, shift

    def jacobian(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return flux (n, p) and its derivatives (n, p, d)."""
        hidden, moved = through(self.layers, self.activation, x)
        film, turned = self.film(hidden), moved.transpose(1, 2) @ self.film.weight.T
        parts = [
            self._decoded_jacobian(film, turned, some)
            for some in self._blocks(self.waves, len(x) * (1 + self.labels))
        ]
        flux, columns = zip(*parts, strict=True)
        return torch.cat(flux, dim=1), torch.cat(columns, dim=2).transpose(1, 2)

    def _decoded_jacobian(self, film: Tensor, turned: Tensor, waves: Tensor) -> tuple[Tensor, Tensor]:
        """Return flux (n, b) and derivatives (n, d, b), for those of scales and shifts (n, d, 2 h)."""
        h, moved = activated(self.first(waves), "silu")[None], None
        steps = zip(self.decoder, self._modulations(film), self._modulations(turned), strict=True)
        for layer, (gain, shift), (gain_moved, shift_moved) in steps:
            assert isinstance(layer, nn.Linear)
            inner = layer(h)
            z = torch.addcmul(shift, 1 + gain, inner)
            change = torch.addcmul(shift_moved, gain_moved, inner[:, None])
            if moved is not None:
                change = torch.addcmul(change, 1 + gain[:, None], moved @ layer.weight.T)
            moved, h = slope(z, "silu")[:, None] * change, activated(z, "silu")
        assert moved is not None
        flux = self.level + self.scale * self.last(h)[:, :, 0]
        return flux, self.scale * (moved @ self.last.weight[0])

    # ---------------------------------------------------------------- training

    def loss(self, batch: Batch, shared: Batch, player: str, progress: float) -> dict[str, Tensor]:
        """Return the relative and absolute misfit in some pixels; a spectrum that lacks a label has none.

        Which pixels follows from ``progress``, so that it is the same in all processes, and after resuming.
        """
        known = torch.isfinite(batch["labels"]).all(1)
        some = self._chosen(progress).to(known.device)
        film = self.film(self._hidden(torch.nan_to_num(batch["labels"])))
        made = self._decoded(film, self.waves[some])
        flux, good = batch["flux"][:, some], batch["ivar"][:, some] > 0
        return misfit(made, flux, good, known, self.variance, self.kind)

    def _chosen(self, progress: float) -> Tensor:
        """Return some pixels; in training others at each step, else the middle one of each part."""
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
        """Keep where the training spectra were, and measure how wrong the network is on held-out ones."""
        remember_points(self, train)
        measure(self, valid)


def _periods(wavelength: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Return geometric periods, from twice the window, in which no two pixels are alike, to a few pixels."""
    if len(wavelength) < 2:
        return np.ones(count)
    window, pixel = np.ptp(wavelength), np.median(np.diff(wavelength))
    return np.geomspace(2 * window, min(SHORTEST * pixel, window), count)
