"""Coordinates in which posteriors are simple, and from which no sample falls outside the prior.

A label that is uniform in its range becomes standard normal (the probit of its place in the range), so a
label of which the data say nothing needs no learning. For planets the labels that decide size and contrast of
the spectrum, mass and radius, are replaced by what is measured: the scale height, and the difference between
the depth that the labels give in some reference pixels and the measured one, in units of its error.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor

from draper.data.labels import LabelSet
from draper.models.retriever.prior import Prior
from draper.models.retriever.summary import Reference
from draper.simulate.planet_units import BOTTOM, JUPITER_RADIUS, SUN_RADIUS, TOP
from draper.simulate.planets import Planets
from draper.simulate.transit import LARGEST_RISE, is_bound, relative_height

EDGE = 1e-6
"""Distance from the ends of the unit interval at which a label counts as being at the end."""

ITERATIONS = 2
"""Steps by which a radius is found from a depth, before the last."""

NEAR = 0.01
"""How far the logarithm of the depth may be from the wanted one before the last step."""

STEP = 1e-3
"""Relative change of the radius for the slope of the depth."""


class Place(NamedTuple):
    """Labels that belong to coordinates.

    Attributes
    ----------
    labels : Tensor (n, l)
        Physical labels.
    log_volume : Tensor (n,)
        Logarithm of the determinant |d coordinates / d labels|.
    inside : Tensor (n,)
        Whether they lie in the prior.
    """

    labels: Tensor
    log_volume: Tensor
    inside: Tensor


class Coordinates(ABC):
    """A one-to-one map between labels and coordinates, which may depend on the data through a reference."""

    def __init__(self, labels: LabelSet, prior: Prior | None = None) -> None:
        self.low = torch.tensor([label.low for label in labels], dtype=torch.float64)
        self.high = torch.tensor([label.high for label in labels], dtype=torch.float64)
        self.prior = prior

    @property
    def log_prior(self) -> float:
        """Logarithm of the density of the uniform prior of the labels."""
        return -float((self.high - self.low).log().sum())

    def physical(self, scaled: Tensor) -> Tensor:
        """Return labels of values (n, l) that are 0 and 1 at the ends of the ranges."""
        return self.low.to(scaled.device) + (self.high - self.low).to(scaled.device) * scaled.double()

    def probit(self, labels: Tensor) -> Tensor:
        """Return the standard normal values (n, l) of labels."""
        if self.prior is None:
            unit = (labels - self.low.to(labels.device)) / (self.high - self.low).to(labels.device)
        else:
            unit = torch.from_numpy(self.prior.place(labels.numpy()))
        values: Tensor = torch.special.ndtri(unit.clamp(EDGE, 1 - EDGE))
        return values

    def unprobit(self, values: Tensor) -> Tensor:
        """Return the labels of standard normal values (n, l)."""
        unit = torch.special.ndtr(values.double())
        return self.physical(unit) if self.prior is None else torch.from_numpy(self.prior.at(unit.numpy()))

    def log_slope(self, values: Tensor) -> Tensor:
        """Return the logarithms (n, l) of d value / d label."""
        if self.prior is None:
            density = -(self.high - self.low).to(values.device).log()
        else:
            density = torch.from_numpy(self.prior.log_densities(self.unprobit(values).numpy()))
        return values.double().square() / 2 + math.log(2 * math.pi) / 2 + density

    @abstractmethod
    def of(self, labels: Tensor, flux: Tensor, reference: Reference) -> Tensor:
        """Return the coordinates (n, l) of physical labels with their noise-free spectra (n, p)."""

    def moved(self, values: Tensor, reference: Reference, other: Reference) -> Tensor:
        """Return the coordinates (n, l), with another reference, of the labels of coordinates (n, l)."""
        return values

    def reflected(self, place: Place) -> Place:
        """Return a place with samples just outside the prior brought back, where that is known to help.

        A smooth density blurs a sharp end of the prior: what lies outside is missing just inside.
        """
        return place

    def possible(self, labels: Tensor) -> Tensor:
        """Return which labels (n, l) inside their ranges can be (n,)."""
        return torch.isfinite(labels).all(1)

    @abstractmethod
    def suited(self, prior: Prior) -> Coordinates:
        """Return the coordinates in which to sample where labels are known beforehand."""

    @abstractmethod
    def confined(self, prior: Prior) -> Coordinates:
        """Return coordinates in which labels are standard normal in a prior, which no sample can leave."""

    def restated(self, values: Tensor, labels: Tensor) -> Tensor:
        """Return, in these confined coordinates, the values (n, l) of the same ones in the box."""
        return self.probit(labels)

    def recast(self, values: Tensor, labels: Tensor) -> Tensor:
        """Return, in these coordinates, those (n, l) of labels (n, l) in the coordinates that they suit."""
        return values

    @abstractmethod
    def place(self, values: Tensor, reference: Reference) -> Place:
        """Return the labels of coordinates (n, l)."""


class BoxCoordinates(Coordinates):
    """Each label by itself."""

    def __init__(self, labels: LabelSet, prior: Prior | None = None) -> None:
        super().__init__(labels, prior)
        self.labels = labels

    def suited(self, prior: Prior) -> Coordinates:
        """Return these coordinates."""
        return self

    def confined(self, prior: Prior) -> Coordinates:
        """Return coordinates in which labels are standard normal in a prior, which no sample can leave."""
        return BoxCoordinates(self.labels, prior)

    def of(self, labels: Tensor, flux: Tensor, reference: Reference) -> Tensor:
        """Return the coordinates (n, l) of physical labels."""
        return self.probit(labels)

    def place(self, values: Tensor, reference: Reference) -> Place:
        """Return the labels of coordinates (n, l)."""
        return Place(self.unprobit(values), self.log_slope(values).sum(1), torch.isfinite(values).all(1))


class PlanetCoordinates(Coordinates):
    """Scale height and depth in place of mass and radius.

    Parameters
    ----------
    planets
        The simulator, whose prior has mass, temperature and radius first.
    swapped
        The label in whose place the scale height stands: mass, temperature, or none. A mass that is known
        would leave a thin, curved sheet of the coordinates without it, which is hard to sample.
    """

    MASS, TEMPERATURE, RADIUS = 0, 1, 2
    CENTRE, WIDTH = -5.5, 1.2
    """Rough mean and scatter of ln(scale height / radius) in the prior."""

    def __init__(self, planets: Planets, swapped: int | None = MASS, prior: Prior | None = None) -> None:
        super().__init__(planets.prior, prior)
        self.planets, self.swapped = planets, swapped
        wavelength = planets.grid.vacuum / 1e4
        first, last = torch.searchsorted(torch.from_numpy(wavelength), torch.tensor([1.1, 1.7]).double())
        self.pixels = slice(int(first), int(last), 12)

    @property
    def reference(self) -> Tensor:
        """Numbers of the reference pixels."""
        return torch.arange(len(self.planets.grid))[self.pixels]

    def reflected(self, place: Place) -> Place:
        """Return a place whose masses beyond the ends of their range are reflected into it."""
        labels = place.labels.clone()
        low, high = self.low[self.MASS], self.high[self.MASS]
        mass = labels[:, self.MASS]
        mass = torch.where(mass > high, high**2 / mass, torch.where(mass < low, low**2 / mass, mass))
        labels[:, self.MASS] = mass
        possible = torch.isfinite(labels).all(1) & (place.log_volume > -math.inf)
        inside = possible & (labels > self.low).all(1) & (labels < self.high).all(1)
        inside &= self.possible(labels)
        return Place(labels, place.log_volume, place.inside | inside)

    def possible(self, labels: Tensor) -> Tensor:
        """Return which planets (n, l) hold their atmosphere (n,)."""
        return is_bound(labels[:, :7], self.planets.exact_weight)

    def _relative_height(self, labels: Tensor) -> Tensor:
        return relative_height(labels[:, :7], self.planets.exact_weight)

    def log_depth(self, labels: Tensor) -> Tensor:
        """Return the logarithm (n,) of the depth in the reference pixels."""
        with torch.no_grad():
            return self.planets.depth(labels.float(), self.pixels).double().mean(1).log()

    def of(self, labels: Tensor, flux: Tensor, reference: Reference) -> Tensor:
        """Return the coordinates (n, l) of physical labels with their noise-free spectra (n, p)."""
        values = self.probit(labels)
        height = self._relative_height(labels).log()
        depth = flux[:, self.pixels].double().mean(1).log() / 2
        if self.swapped is not None:
            values[:, self.swapped] = (height - self.CENTRE) / self.WIDTH
        values[:, self.RADIUS] = (depth - reference.centre) / reference.sigma
        return values

    def moved(self, values: Tensor, reference: Reference, other: Reference) -> Tensor:
        """Return the coordinates (n, l), with another reference, of the labels of coordinates (n, l)."""
        moved = values.double().clone()
        level = reference.centre + reference.sigma * moved[:, self.RADIUS]
        moved[:, self.RADIUS] = (level - other.centre) / other.sigma
        return moved

    def suited(self, prior: Prior) -> Coordinates:
        """Return coordinates in which a mass that is known stands for itself."""
        if not prior.known[self.MASS]:
            return self
        return PlanetCoordinates(self.planets, None if prior.known[self.TEMPERATURE] else self.TEMPERATURE)

    def confined(self, prior: Prior) -> Coordinates:
        """Return coordinates in which labels that stand for themselves cannot leave a prior."""
        return PlanetCoordinates(self.planets, self.swapped, prior)

    def restated(self, values: Tensor, labels: Tensor) -> Tensor:
        """Return, in these confined coordinates, the values (n, l) of the same ones in the box."""
        restated = self.probit(labels)
        kept = [self.RADIUS] if self.swapped is None else [self.RADIUS, self.swapped]
        restated[:, kept] = values[:, kept]
        return restated

    def recast(self, values: Tensor, labels: Tensor) -> Tensor:
        """Return, in these coordinates, those (n, l) of labels (n, l) in the usual ones."""
        recast = values.clone()
        if self.swapped is not None:
            recast[:, self.swapped] = values[:, self.MASS]
        if self.swapped != self.MASS:
            recast[:, self.MASS] = self.probit(labels)[:, self.MASS]
        return recast

    def place(self, values: Tensor, reference: Reference) -> Place:
        """Return the labels of coordinates (n, l); the radius is found by iteration."""
        values, swapped = values.double(), self.swapped
        labels = self.unprobit(values)
        wanted = 2 * (reference.centre + reference.sigma * values[:, self.RADIUS])
        one = torch.ones_like(wanted)
        possible = torch.isfinite(values).all(1)
        lowest, highest = self.low[self.RADIUS] / 2 * one, self.high[self.RADIUS] * 2 * one
        largest = LARGEST_RISE / math.log(BOTTOM / TOP)
        labels[:, self.RADIUS] = 1
        ratio = one
        # The ratio of scale height to radius is in proportion to radius, temperature, and 1 / mass.
        if swapped is None:
            highest = torch.minimum(highest, 0.999 * largest / self._relative_height(labels))
        else:
            height = (self.CENTRE + self.WIDTH * values[:, swapped]).exp()
            possible &= height < largest
            labels[:, swapped] = 1
            ratio = self._relative_height(labels) / height
            ratio = torch.where(possible, ratio if swapped == self.MASS else 1 / ratio, one)

        def at(radius: Tensor) -> Tensor:
            found = labels.clone()
            found[:, self.RADIUS] = radius
            if swapped is not None:
                found[:, swapped] = ratio * radius if swapped == self.MASS else ratio / radius
            return found

        def nearer(radius: Tensor, reached: Tensor, slope: Tensor) -> Tensor:
            step = ((wanted - reached) / (2 * slope.clamp(0.5, 5.0))).exp()
            return torch.minimum(torch.maximum(radius * step, lowest), highest)

        radius = nearer((SUN_RADIUS / JUPITER_RADIUS) * one, torch.zeros_like(one), one)
        reached, slope = self.log_depth(at(radius)), one
        for _ in range(ITERATIONS if swapped == self.MASS else ITERATIONS + 1):
            before, last = radius, reached
            radius = nearer(radius, reached, slope)
            reached, change = self.log_depth(at(radius)), (radius / before).log()
            slope = torch.where(change.abs() > STEP, (reached - last) / (2 * change), slope)
        slope = (self.log_depth(at(radius * (1 + STEP))) - reached) / (2 * math.log(1 + STEP))
        radius = nearer(radius, reached, slope)
        found = at(radius)
        inside = possible & (found > self.low).all(1) & (found < self.high).all(1)
        inside &= self.possible(found) & (slope > 0)
        inside &= (wanted - reached).abs() < NEAR  # else there is no such planet, however large
        volumes = self.log_slope(values)
        volumes[:, self.RADIUS] = 0
        if swapped is not None:
            volumes[:, swapped] = -found[:, swapped].log() - math.log(self.WIDTH)
        volume = volumes.sum(1)
        volume = volume + slope.clamp(min=1e-9).log() - radius.log() - reference.sigma.log()
        return Place(found, volume, inside)
