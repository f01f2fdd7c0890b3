"""The published code of Cycle-StarNet (O'Briain et al. 2021, repository Cycle_SN) beside the Translator.

It is imported from a checkout at run time; nothing of it is part of draper. Its networks (`CycleSN`) and
its training step (`train_iter`) run as they are, with the options of one of its own files. Around them:

- `network.build_emulator` is replaced by a function that loads nothing: training does not use the emulator;
- `distutils`, which Python lacks from 3.12 on, is replaced where it is missing by its only function in use;
- spectra are in memory, which spares it the time of its loader, and standardised as its loader does it: one
  mean and scatter (of synthetic spectra), errors of 0.005 at least, and pixels of errors above 0.05 masked;
- spectra are padded at both ends with the mean, masked, up to the next number of pixels that its networks
  return (2,401 become 2,559; 7,167 stay);
- a translated spectrum has the mean split code of observed training spectra, as it has by default in draper.
"""

from __future__ import annotations

import importlib
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from draper import Grid, Spectra, TrainConfig
from draper.models.translator.model import Translator

OPTIONS = "new_lines_1"
"""Its options for synthetic spectra that lack lines, as here."""

FLOOR, WORST = 0.005, 0.05
"""Errors of its loader: the smallest, and that above which a pixel is masked."""

PIXELS, BATCH = 7167, 8
"""Pixels that its published options are for, and spectra of each kind in a step."""

PAPER = {"filters": (32, 64), "shared_filters": (128, 256, 512), "split": 1}
"""Options of the Translator with the sizes of that file."""


def spent(start: float) -> float:
    """Return the CPU seconds since a time."""
    return time.process_time() - start


def possible(pixels: int) -> int:
    """Return the next number of pixels that its strides (4, 4, 4, 2, 2; kernel 7; no padding) lead back to.

    Examples
    --------
    >>> possible(2401), possible(7167)
    (2559, 7167)
    """
    latents = 1
    while (size := 256 * latents + 1023) < pixels:
        latents += 1
    return size


class Original:
    """The published networks and their training.

    Parameters
    ----------
    folder
        A checkout of the code.
    pixels
        Number of pixels p of spectra.
    """

    def __init__(self, folder: Path, pixels: int) -> None:
        network, self.training = _modules(folder)
        options = ConfigParser()
        options.read(folder / "configs" / f"{OPTIONS}.ini")
        self.options = options["TRAINING"]
        self.pixels, self.size = pixels, possible(pixels)
        self.left = (self.size - pixels) // 2
        options["ARCHITECTURE"]["num_pixels"] = str(self.size)
        # As it does itself, whatever the data.
        torch.manual_seed(1)
        self.model: Any = network.CycleSN(options["ARCHITECTURE"], use_cuda=False)
        judges: list[nn.Parameter] = []
        others: list[nn.Parameter] = []
        for name, parameter in self.model.named_parameters():
            (judges if name.startswith("discriminator") else others).append(parameter)
        self.optimizers = [self._adam(others, "encoder"), self._adam(judges, "discriminator")]
        self.schedules = [
            torch.optim.lr_scheduler.MultiStepLR(
                optimizer,
                [
                    int(float(step))
                    for step in self.options[f"lr_decay_batch_iters_{name}"].strip("[]").split(",")
                ],
                float(self.options[f"lr_decay_{name}"]),
            )
            for name, optimizer in zip(("rg", "dis"), self.optimizers, strict=True)
        ]

    def _adam(self, parameters: list[nn.Parameter], name: str) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, float(self.options[f"learning_rate_{name}"]), betas=(0.5, 0.999))

    def fit(self, synthetic: Spectra, observed: Spectra, seconds: float, steps: int | None = None) -> int:
        """Train for so many CPU seconds, or steps; return the number of steps."""
        start, done = time.process_time(), 0
        self.mean, self.scatter = float(synthetic.flux.mean()), float(synthetic.flux.std())
        sets = [self._tensors(spectra) for spectra in (synthetic, observed)]
        self.observed = sets[1]["x"]
        batches = [self._batches(tensors) for tensors in sets]
        weights = [float(self.options[f"loss_weight_{name}"]) for name in ("synth", "obs", "gen", "dis")]
        while done < steps if steps else spent(start) < seconds:
            # The values of the losses are not used.
            self.training.train_iter(
                self.model,
                next(batches[1]),
                next(batches[0]),
                self.training.weighted_masked_mse_loss,
                nn.BCELoss(),
                *weights,
                *self.optimizers,
                *self.schedules,
                self.options.getboolean("use_real_as_true"),
                defaultdict(list),
                False,
            )
            done += 1
        return done

    def translate(self, synthetic: Spectra) -> NDArray[np.float64]:
        """Return synthetic spectra (n, p) as observed ones."""
        self.model.eval_mode()
        with torch.no_grad():
            split = torch.cat([self.model.obs_to_z(rows)[1] for rows in torch.split(self.observed, 128)])
            given = torch.split(self._tensors(synthetic)["x"], 128)
            typical = split.mean(0, keepdim=True)
            found = [
                self.model.z_to_obs(self.model.synth_to_z(x), typical.expand(len(x), -1, -1)) for x in given
            ]
        flux = torch.cat(found)[:, self.left : self.left + self.pixels].double().numpy()
        return np.asarray(flux * self.scatter + self.mean, dtype=np.float64)

    def _tensors(self, spectra: Spectra) -> dict[str, Tensor]:
        """Return standardised flux, errors and masks (n, size)."""
        exact = (spectra.ivar == 1).all(1, keepdims=True)
        error = np.where(exact, 0, spectra.ivar.clip(1e-9) ** -0.5)
        room = ((0, 0), (self.left, self.size - self.pixels - self.left))
        arrays = {
            "x": np.pad((spectra.flux - self.mean) / self.scatter, room),
            "x_err": np.pad(error.clip(FLOOR), room, constant_values=FLOOR) / self.scatter,
            "x_msk": np.pad((error <= WORST).astype(np.float32), room),
        }
        return {name: torch.from_numpy(array.astype(np.float32)) for name, array in arrays.items()}

    def _batches(self, tensors: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
        """Yield batches without end, whole ones only: it fails with others."""
        size = int(self.options["batchsize"])
        while True:
            order = torch.randperm(len(tensors["x"]))
            for rows in torch.split(order[: len(order) // size * size], size):
                yield {name: tensor[rows] for name, tensor in tensors.items()}


def _modules(folder: Path) -> tuple[ModuleType, ModuleType]:
    """Return its modules `network` and `training_fns`, so that they run on this machine."""
    try:
        importlib.import_module("distutils.util")
    except ModuleNotFoundError:
        package, util = ModuleType("distutils"), ModuleType("distutils.util")
        util.__dict__["strtobool"] = lambda text: text.lower() in ("y", "yes", "t", "true", "on", "1")
        package.__dict__["util"] = util
        sys.modules |= {"distutils": package, "distutils.util": util}
    sys.path.insert(0, str(folder))
    try:
        network, training = (importlib.import_module(name) for name in ("network", "training_fns"))
    finally:
        sys.path.remove(str(folder))
    network.__dict__["build_emulator"] = lambda **_: (nn.Identity(), None, None)
    return network, training


def speeds(folder: Path, rounds: int = 5, steps: int = 6) -> Iterator[dict[str, Any]]:
    """Yield CPU seconds of a step of 8 + 8 spectra of 7,167 pixels, medians of rounds that take turns."""
    random = np.random.default_rng(0)
    flux = random.normal(1, 0.05, (64, PIXELS)).astype(np.float32)
    spectra = Spectra(
        Grid.linear(8000, 8000 + 0.1 * (PIXELS - 1), 0.1, medium="vacuum"),
        flux,
        np.full_like(flux, 1e4),
        {},
        "normalised flux",
    )
    original = Original(folder, PIXELS)
    own = {"sizes of the paper": PAPER, "default sizes": {}}

    def published(n: int) -> None:
        original.fit(spectra, spectra, 0.0, n)

    def cycle(n: int, options: dict[str, Any]) -> None:
        train = TrainConfig(steps=n, batch_size=BATCH, ema=0.99, threads=1, progress="none")
        Translator(method="cycle", **options).fit(synthetic=spectra, observed=spectra, train=train)

    seconds: dict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        seconds["published code"].append(_step(published, steps))
        for name, options in own.items():
            seconds[f"cycle, {name}"].append(_step(lambda n, options=options: cycle(n, options), steps))
    first = np.median(seconds["published code"])
    for name, values in seconds.items():
        each = float(np.median(values))
        yield {
            "what": f"{name}, {BATCH} + {BATCH} spectra of {PIXELS} px",
            "CPU s": each,
            "steps per CPU s": 1 / each,
            "times as fast": float(first / each),
        }


def _step(training: Any, steps: int) -> float:
    """Return the CPU seconds of a step: a long training minus a short one."""
    times = []
    for n in (2, 2 + steps):
        start = time.process_time()
        training(n)
        times.append(spent(start))
    return (times[1] - times[0]) / steps
