"""Labels from numbers by a small network, in one call."""

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
"""Streams of random numbers; see draper.train.feed and draper.train.trainer for the others."""

HELD_OUT = 0.1
"""Part of the rows that decides when to stop."""

EPOCHS, LEAST_STEPS = 50, 3000
"""Passes over the rows at most unless told otherwise; few rows are passed more often."""

AVERAGE = 0.99
"""Decay of the average of the weights, which are steadier than those of the last step."""

LEAST_ROWS = 10
"""Rows without which there is nothing to learn or to hold out."""

BLOCK = 4096
"""Rows that are read together."""


@dataclass(frozen=True, eq=False)
class Regression:
    """What :func:`regress` returns.

    Attributes
    ----------
    module : Regressor
        The network.
    steps : int
        Batches that it has seen.
    valid : float
        Its loss on the held-out tenth.
    seconds : float
        What training took.
    """

    module: Regressor
    steps: int
    valid: float
    seconds: float

    def predict(self, x: ArrayLike) -> NDArray[np.float32]:
        """Return labels (n, d) of inputs (n, p)."""
        return self._read(x)[0]

    def predict_with_errors(self, x: ArrayLike) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return labels (n, d) and 1-sigma errors (n, d), which held-out rows have calibrated."""
        return self._read(x)

    def _read(self, x: ArrayLike) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        rows = _matrix(x, "inputs")
        blocks = (rows[start : start + BLOCK] for start in range(0, max(1, len(rows)), BLOCK))
        with torch.inference_mode():
            means, sigmas = zip(*(self.module(torch.tensor(block)) for block in blocks), strict=True)
            return torch.cat(means).numpy(), torch.cat(sigmas).numpy()


def regress(
    x: ArrayLike,
    y: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    hidden: Sequence[int] = (200, 100),
    heteroscedastic: bool = False,
    standardise: bool = True,
    seed: int = 0,
    epochs: float | None = None,
    batch_size: int = 256,
    learning_rate: float = 3e-3,
    patience: int | None = 10,
    threads: int = 1,
) -> Regression:
    """Learn labels (n, d) from inputs (n, p) with a perceptron, on the CPU.

    A seeded tenth of the rows is not learnt from: it chooses when to stop, and calibrates the errors.

    Parameters
    ----------
    x : array (n, p)
        Finite numbers.
    y : array (n, d) or (n,)
        Labels; NaN where missing.
    weight : array (n,), optional
        How much each row counts.
    hidden, heteroscedastic, standardise
        See :class:`draper.nn.regressor.Regressor`.
    seed
        Of weights, batches and the held-out tenth.
    epochs
        Passes over the rows at most; 50, and more for few rows, unless given.
    batch_size, learning_rate
        Of each step; the rate falls as a cosine.
    patience
        Epochs without improvement after which to stop.
    threads
        CPU threads; more than one does not pay for networks as small as this.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(500, 2))
    >>> found = regress(x, x[:, :1] * x[:, 1:])
    >>> bool(np.abs(found.predict([[1.0, -1.0]]) + 1) < 0.1)
    True
    """
    inputs, labels = _matrix(x, "inputs"), _matrix(y, "labels")
    arrays = {"x": inputs, "y": labels}
    if weight is not None:
        arrays["weight"] = np.asarray(weight, dtype=np.float32)
    if len(inputs) != len(labels) or len(inputs) < LEAST_ROWS:
        raise DraperError(
            "inputs and labels do not fit together",
            given=f"{len(inputs)} rows of inputs, {len(labels)} of labels",
            expected=f"as many of both, at least {LEAST_ROWS}",
        )
    order = np.random.default_rng(seed_of(seed, SPLIT)).permutation(len(inputs))
    held_out, learnt = np.split(order, [round(HELD_OUT * len(inputs))])
    feed, valid = (
        ArrayFeed(arrays, np.sort(rows), batch_size=size, seed=seed, resident=True)
        for rows, size in ((learnt, batch_size), (held_out, BLOCK))
    )
    an_epoch = max(1, feed.rows // feed.size)
    config = TrainConfig(
        steps=max(1, round(epochs * an_epoch)) if epochs else max(EPOCHS * an_epoch, LEAST_STEPS),
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
        module = Regressor(
            inputs.shape[1], labels.shape[1], hidden, heteroscedastic=heteroscedastic, standardise=standardise
        )
    with torch.no_grad():
        module.prepare(feed.sweep)
    trainer = Trainer(module, feed, valid, config, device=torch.device("cpu"))
    *_, last = trainer.events()
    module.eval()
    with torch.no_grad():
        module.finish(feed.sweep, valid.sweep)
    return Regression(module, trainer.step, last.metrics["valid/total"], last.seconds)


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
