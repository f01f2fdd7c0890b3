"""What draper's trainer costs beside a bare torch loop.

An 800-512-800 network, batch 256, one thread, no clipping and no moving average in either, the same batches,
the same optimiser and the same matrix-product mode. The two run in turn, seven times each; the ratio of a
pair is of CPU seconds, and the median of the seven ratios counts. A third row shows what the mode that the
trainer chooses by itself is worth on this processor.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

from draper.configs.train import TrainConfig
from draper.nn.module import Batch, Module
from draper.nn.precision import Mode, fastest_mode, matmul_mode
from draper.train.feed import ArrayFeed
from draper.train.trainer import Trainer
from report import arguments, report

ROWS, PIXELS, HIDDEN, BATCH, PAIRS = 8192, 800, 512, 256, 7


class Network(Module):
    """800-512-800 with a mean squared error."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(PIXELS, HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, PIXELS))

    def loss(self, batch: Batch, shared: Batch, player: str, progress: float) -> dict[str, Tensor]:
        return {"total": (self.layers(batch["flux"]) - batch["flux"]).square().mean()}


def network() -> Network:
    torch.manual_seed(0)
    return Network()


def by_trainer(feed: ArrayFeed, steps: int, mode: Mode) -> float:
    config = TrainConfig(
        steps=steps,
        threads=1,
        matmul=mode,
        schedule="constant",
        progress="none",
        log_every=max(1, steps // 10),
    )
    trainer = Trainer(network(), feed, None, config, device=torch.device("cpu"))
    events = trainer.events()
    next(events)
    start = time.process_time()
    for _ in events:
        pass
    return time.process_time() - start


def by_bare_loop(batches: Iterable[dict[str, Tensor]], mode: Mode) -> float:
    module = network()
    optimizer = torch.optim.Adam(module.parameters(), 1e-3, fused=True)
    with matmul_mode(mode):
        start = time.process_time()
        for batch in batches:
            optimizer.zero_grad()
            loss = (module.layers(batch["flux"]) - batch["flux"]).square().mean()
            loss.backward()
            optimizer.step()
            loss.item()
        return time.process_time() - start


def main() -> None:
    options = arguments(__doc__).parse_args()
    steps = 1000 if options.full else 200
    torch.set_num_threads(1)
    flux = np.random.default_rng(0).normal(size=(ROWS, PIXELS)).astype(np.float32)
    rows = []
    for resident in (True, False):
        feed = ArrayFeed({"flux": flux}, batch_size=BATCH, resident=resident)
        ours, bare = [], []
        for pair in range(PAIRS + 1):
            batches = [feed.load(step) for step in range(steps)] if resident else None
            seconds = by_trainer(feed, steps, "highest")
            plain = by_bare_loop(batches or (feed.load(step) for step in range(steps)), "highest")
            if pair:  # the first pair warms up
                ours.append(seconds)
                bare.append(plain)
        ratios = [a / b for a, b in zip(ours, bare, strict=True)]
        rows.append(
            {
                "rows": "held in memory" if resident else "gathered each step",
                "draper ms/step": 1e3 * statistics.median(ours) / steps,
                "bare loop ms/step": 1e3 * statistics.median(bare) / steps,
                "ratio (median)": statistics.median(ratios),
                "ratio (range)": f"{min(ratios):.3f}-{max(ratios):.3f}",
            }
        )
    chosen = fastest_mode()
    pairs = [(by_trainer(feed, steps, "highest"), by_trainer(feed, steps, chosen)) for _ in range(3)]
    gain = statistics.median(slow / fast for slow, fast in pairs)
    facts = {
        "threads": 1,
        "steps": steps,
        "pairs": PAIRS,
        "figure": "CPU seconds",
        "mode chosen by trial": chosen,
        "gain of that mode": f"{gain:.2f}",
    }
    report("draper's trainer beside a bare torch loop, 800-512-800, batch 256", rows, facts, options.json)


if __name__ == "__main__":
    main()
