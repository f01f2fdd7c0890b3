"""Regression of labels on other numbers by a small network, in one call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from draper.configs.train import TrainConfig
from draper.errors import DraperError
from draper.nn.regressor import Regressor
from draper.train.feed import ArrayFeed, seed_of
from draper.train.trainer import Trainer

WEIGHTS, SPLIT = 3, 4
"""Numbers of the random streams; the others stand in draper.train.feed and draper.train.trainer."""

HELD_OUT = 0.1
"""Fraction of the rows that decides when training stops."""

EPOCHS, MIN_STEPS = 50, 3000
"""Default maximum number of epochs, and the steps that few rows get at least."""

AVERAGE = 0.99
"""Decay of the running average of the weights, which is steadier than the weights of the last step."""

MIN_ROWS = 10
"""Minimum number of rows."""

BLOCK = 4096
"""Number of rows that are predicted together."""


@dataclass(frozen=True, eq=False)
class Regression:
    """What :func:`regress` returns.

    Attributes
    ----------
    module : Regressor
        The network.
    steps : int
        Number of training steps.
    valid : float
        Loss on the held-out tenth.
    seconds : float
        Time of the training.
    """

    module: Regressor
    steps: int
    valid: float
    seconds: float

    def predict(self, x: ArrayLike) -> NDArray[np.float32]:
        """Return labels (n, d) of inputs (n, p)."""
        rows = _matrix(x, "inputs")
        blocks = (rows[start : start + BLOCK] for start in range(0, max(1, len(rows)), BLOCK))
        with torch.inference_mode():
            return torch.cat([self.module(torch.tensor(block)) for block in blocks]).numpy()


def regress(
    x: ArrayLike,
    y: ArrayLike,
    *,
    hidden: Sequence[int] = (200, 100),
    standardise: bool = True,
    seed: int = 0,
    epochs: float | None = None,
    batch_size: int = 256,
    learning_rate: float = 3e-3,
    patience: int | None = 10,
    threads: int = 1,
) -> Regression:
    """Learn labels (n, d) from inputs (n, p) with a perceptron, on the CPU.

    A random tenth of the rows is held out and decides when training stops.

    Parameters
    ----------
    x : array (n, p)
        Finite numbers.
    y : array (n, d) or (n,)
        Labels; NaN where missing.
    hidden, standardise
        See :class:`draper.nn.regressor.Regressor`.
    seed
        Seed of weights, batches and the held-out tenth.
    epochs
        Maximum number of passes over the rows; by default 50, and more for few rows.
    batch_size, learning_rate
        Of each step; the rate follows a cosine schedule.
    patience
        Number of epochs without improvement after which training stops.
    threads
        CPU threads; more than one does not help networks as small as this.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(500, 2))
    >>> regression = regress(x, x[:, :1] * x[:, 1:])
    >>> bool(np.abs(regression.predict([[1.0, -1.0]]) + 1) < 0.1)
    True
    """
    inputs, labels = _matrix(x, "inputs"), _matrix(y, "labels")
    if len(inputs) != len(labels) or len(inputs) < MIN_ROWS:
        raise DraperError(
            "inputs and labels do not fit together",
            given=f"{len(inputs)} rows of inputs, {len(labels)} of labels",
            expected=f"as many of both, at least {MIN_ROWS}",
        )
    order = np.random.default_rng(seed_of(seed, SPLIT)).permutation(len(inputs))
    held_out, learnt = np.split(order, [round(HELD_OUT * len(inputs))])
    feed, valid = (
        ArrayFeed({"x": inputs, "y": labels}, np.sort(rows), batch_size=size, seed=seed, resident=True)
        for rows, size in ((learnt, batch_size), (held_out, BLOCK))
    )
    an_epoch = max(1, feed.rows // feed.size)
    config = TrainConfig(
        steps=max(1, round(epochs * an_epoch)) if epochs else max(EPOCHS * an_epoch, MIN_STEPS),
        batch_size=batch_size,
        learning_rate=learning_rate,
        ema=AVERAGE,
        patience=patience,
        validate_every=max(an_epoch, 50),
        seed=seed,
        threads=threads,
        progress="none",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(seed, WEIGHTS))
        module = Regressor(inputs.shape[1], labels.shape[1], hidden, standardise=standardise)
    with torch.no_grad():
        module.prepare(feed.sweep)
    trainer = Trainer(module, feed, valid, config, device=torch.device("cpu"))
    *_, last = trainer.events()
    return Regression(module.eval(), trainer.step, last.metrics["valid/total"], last.seconds)


def _matrix(values: ArrayLike, what: str) -> NDArray[np.float32]:
    array = np.asarray(values, dtype=np.float32)
    array = array[:, None] if array.ndim == 1 else array
    if array.ndim != 2 or (what == "inputs" and not np.isfinite(array).all()):
        raise DraperError(
            f"the {what} of a regression are a table of numbers",
            given=f"shape {array.shape}" if array.ndim != 2 else "numbers that are not finite",
            expected="(rows, columns) of finite numbers" if what == "inputs" else "(rows, labels)",
        )
    return array
