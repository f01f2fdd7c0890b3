"""What the trainer asks of a network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping

from torch import Tensor, nn

Batch = Mapping[str, Tensor]
"""Named tensors whose first axis runs over the rows of a batch."""

Batches = Callable[[], Iterator[Batch]]
"""Starts one pass over a data set, every row once and in order."""


class Module(nn.Module, ABC):
    """A network that knows its losses, as seen by each of its players.

    A plain network has one player. An adversarial one lists its discriminators in the order in which they
    move in each batch; the last player owns the graph of :meth:`shared`, the others see it detached. Losses
    are means over the rows of the batch, so that a batch may be divided among processes. Random numbers come
    with the batch (see :class:`draper.train.feed.ArrayFeed`, ``noise``) or from torch's generator, which the
    trainer seeds at each step; only those of the batch are the same for one process and for several.

    State that a loss changes (controllers, running means) is a buffer whose name stands in ``moving``;
    processes share its mean after each step.
    """

    players: tuple[str, ...] = ("model",)
    moving: tuple[str, ...] = ()
    condenses: bool = False
    """Whether :meth:`condense` saves work in every step."""

    def shared(self, batch: Batch) -> dict[str, Tensor]:
        """Compute once a batch what several players need."""
        return {}

    @abstractmethod
    def loss(self, batch: Batch, shared: Batch, player: str, progress: float) -> dict[str, Tensor]:
        """Return the named scalar terms of a player's loss; ``"total"`` is what it makes small.

        ``progress`` runs from 0 to 1 over the run.
        """

    def parameters_of(self, player: str) -> Iterable[nn.Parameter]:
        """Return the parameters that a player moves."""
        return self.parameters()

    def condense(self, batch: Batch) -> Batch:
        """Do the work that no step changes, such as a projection on fixed components.

        It is done once for each row, after :meth:`prepare`, where ``condenses`` says so. Losses are given
        what it returns, and batches that it has not seen.
        """
        return batch

    def prepare(self, train: Batches) -> None:
        """Set what can be set in closed form, before the first step."""

    def finish(self, train: Batches, valid: Batches | None) -> None:
        """After the last step, solve what can be solved on the training rows and measure on held-out ones."""
