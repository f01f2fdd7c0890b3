"""Point estimates of labels from spectra by regression, to which posteriors are compared.

Each is trained with fresh noise of the level at which it is tested.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.linear_model import RidgeCV
from torch import Tensor, nn

from retrieval.sheets import PPM, Array

Predict = Callable[[Array], Array]
Fit = Callable[[Array, Array, float], Predict]
"""A function of noise-free depths (n, p), labels (n, l) and the error of a bin [ppm]."""

COPIES = 4
"""Times that each training spectrum is given to trees and ridge, with other noise."""

COMPONENTS = 40
"""Principal components that trees see: of thousands of pixels they would use few."""

TREES = 200
STEPS, BATCH, RATE = 700, 256, 3e-3
"""Of the perceptron; 700 steps as in the published comparison."""


def noisy(depth: Array, labels: Array, error: float, copies: int, seed: int = 1) -> tuple[Array, Array]:
    """Return copies of depths with noise [ppm], and their labels."""
    noise = np.random.default_rng(seed).standard_normal((copies * len(depth), depth.shape[1]))
    return np.tile(depth, (copies, 1)) + PPM * error * noise, np.tile(labels, (copies, 1))


def mean_of_labels(depth: Array, labels: Array, error: float) -> Predict:
    mean = labels.mean(axis=0)
    return lambda seen: np.tile(mean, (len(seen), 1))


def shape_and_level(depth: Array) -> Array:
    """Return depths (n, p) less their mean, and the mean: the radius moves all bins by more than any gas."""
    level = depth.mean(axis=1, keepdims=True)
    return np.concatenate([depth - level, level], axis=1)


def ridge(depth: Array, labels: Array, error: float) -> Predict:
    seen, known = noisy(depth, labels, error, COPIES)
    parts = shape_and_level(seen)
    centre, scale = parts.mean(axis=0), parts.std(axis=0)
    # Strengths span what no noise and much noise need.
    fitted = RidgeCV(np.geomspace(1e-6, 1e4, 21)).fit((parts - centre) / scale, known)
    return lambda seen: np.asarray(fitted.predict((shape_and_level(seen) - centre) / scale))


def perceptron(depth: Array, labels: Array, error: float) -> Predict:
    torch.manual_seed(0)
    random = np.random.default_rng(2)
    parts = shape_and_level(depth)
    centre, scale = parts.mean(axis=0), parts.std(axis=0)
    middle, width = labels.mean(axis=0), labels.std(axis=0)
    network = nn.Sequential(
        nn.Linear(parts.shape[1], 256),
        nn.GELU(),
        nn.Linear(256, 256),
        nn.GELU(),
        nn.Linear(256, labels.shape[1]),
    )

    def inputs(seen: Array) -> Tensor:
        return torch.from_numpy((shape_and_level(seen) - centre) / scale).float()

    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=1e-2)
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = RATE * (1 + math.cos(math.pi * step / STEPS)) / 2
        rows = random.integers(len(depth), size=BATCH)
        seen = depth[rows] + PPM * error * random.standard_normal((BATCH, depth.shape[1]))
        wanted = torch.from_numpy((labels[rows] - middle) / width).float()
        loss = (network(inputs(seen)) - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def predict(seen: Array) -> Array:
        with torch.no_grad():
            made = network(inputs(seen)).double().numpy()
        return np.asarray(middle + width * made)

    return predict


def _components(seen: Array) -> Callable[[Array], Array]:
    """Return the map of depths to their level and to components of what is left."""
    level = seen.mean(axis=1, keepdims=True)
    centre = (seen - level).mean(axis=0)
    axes = np.linalg.svd(seen - level - centre, full_matrices=False)[2][:COMPONENTS].T

    def components(depth: Array) -> Array:
        level = depth.mean(axis=1, keepdims=True)
        return np.concatenate([level, (depth - level - centre) @ axes], axis=1)

    return components


def forest(depth: Array, labels: Array, error: float) -> Predict:
    seen, known = noisy(depth, labels, error, COPIES)
    components, scale = _components(seen), known.std(axis=0)
    fitted = RandomForestRegressor(TREES, max_features=0.4, min_samples_leaf=3, random_state=0)
    fitted.fit(components(seen), known / scale)
    return lambda seen: np.asarray(fitted.predict(components(seen))) * scale


def boosted(depth: Array, labels: Array, error: float) -> Predict:
    seen, known = noisy(depth, labels, error, COPIES)
    components = _components(seen)
    fitted = [
        HistGradientBoostingRegressor(max_iter=TREES, random_state=0).fit(components(seen), column)
        for column in known.T
    ]
    return lambda seen: np.stack([one.predict(components(seen)) for one in fitted], axis=1)


BASELINES: dict[str, Fit] = {
    "mean of the training set": mean_of_labels,
    "linear ridge": ridge,
    "random forest": forest,
    "boosted trees": boosted,
    "MLP": perceptron,
}
