"""What changes of labels are worth: their response, the stars nearby, and the errors of held-out changes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from draper.nn.response import Response

STARS = 4000
"""Training rows that new combinations of labels are compared with."""

NEIGHBOUR = 10
"""The distance to this neighbour says how populated a combination is."""

POPULATED = 0.99
"""Fraction of training rows that count as populated."""

COVERED = 0.68
"""Fraction of errors that lie within the expected ones."""

MIN_CHANGES = 30
"""Changes of a label without which no error is expected of it."""


class Edits(nn.Module):
    """How a model changes labels, and how far that can be trusted; labels are in units of their scatter.

    Parameters
    ----------
    labels, pixels
        Numbers l of labels and p of pixels.
    """

    def __init__(self, labels: int, pixels: int) -> None:
        super().__init__()
        self.response = Response(labels, pixels)
        self.stars: Tensor
        self.limit: Tensor
        self.sizes: Tensor
        self.register_buffer("stars", torch.full((STARS, labels), torch.nan))
        self.register_buffer("limit", torch.tensor(torch.nan))
        # For the change of one label, the error of each: a constant, by its size, by the distance of stars.
        self.register_buffer("sizes", torch.full((labels, labels, 3), torch.nan))

    @torch.no_grad()
    def learn_stars(self, labels: Tensor) -> None:
        """Remember where training rows (n, l) are; those without all labels are left out."""
        labels = labels[torch.isfinite(labels).all(1)]
        if len(labels) <= NEIGHBOUR:
            return
        chosen = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
        known, others = labels[chosen[:STARS]], labels[chosen[STARS : 2 * STARS]]
        self.stars[: len(known)] = known
        # A row is its own neighbour: it is not counted where there are no others.
        distance = self.distance(others if len(others) > NEIGHBOUR else known)
        self.limit.copy_(distance.quantile(POPULATED))

    def distance(self, labels: Tensor) -> Tensor:
        """Return the distances (n,) of labels (n, l) from their neighbours among the training rows."""
        stars = self.stars[torch.isfinite(self.stars).all(1)]
        if not len(stars):
            return torch.full_like(labels[:, 0], torch.nan)
        return torch.cat(
            [torch.cdist(rows, stars).kthvalue(NEIGHBOUR, dim=1).values for rows in torch.split(labels, 1024)]
        )

    def unpopulated(self, labels: Tensor) -> Tensor:
        """Return which combinations of labels (n, l) have no training rows nearby."""
        return self.distance(labels) > self.limit

    @torch.no_grad()
    def learn_errors(self, number: int, changes: Tensor, new: Tensor, errors: Tensor) -> None:
        """Learn the sizes of errors of one label's changes.

        Parameters
        ----------
        number
            Of the label that is changed.
        changes : Tensor (n,)
            By how much.
        new, errors : Tensor (n, l)
            Labels after the change, and errors of the labels that are measured there.
        """
        from scipy.optimize import nnls

        known = torch.isfinite(changes) & torch.isfinite(errors).all(1)
        if int(known.sum()) < MIN_CHANGES:
            return
        terms = self._terms(changes[known], new[known]).double().numpy()
        # Changes that lead nowhere teach how errors grow, but are not those that most users make.
        usual = terms[:, 2] <= float(self.limit)
        usual = usual if usual.sum() >= MIN_CHANGES else np.ones_like(usual)
        for other, error in enumerate(errors[known].double().abs().T.numpy()):
            size, _ = nnls(terms, error)
            expected = np.maximum(terms @ size, 1e-6)
            scaled = size * np.quantile((error / expected)[usual], COVERED)
            self.sizes[number, other] = torch.from_numpy(scaled).float()

    def _terms(self, changes: Tensor, new: Tensor) -> Tensor:
        return torch.stack([torch.ones_like(changes), changes.abs(), self.distance(new)], dim=1)

    def expected(self, changes: Tensor, new: Tensor) -> Tensor:
        """Return the expected errors (n, l) of labels after changes (n, l) that lead to new ones (n, l)."""
        total = torch.zeros_like(new)
        for number in (changes != 0).any(0).nonzero()[:, 0]:
            own = self._terms(changes[:, number], new) @ self.sizes[number].T
            total += torch.where(changes[:, number, None] != 0, own.square(), 0.0)
        return total.sqrt()
