"""Units and constants of the labels of planets, shared by all planet simulators; does not import torch."""

GASES = ("h2o", "co2", "ch4", "co")

JUPITER_RADIUS = 6.9911e7
JUPITER_MASS = 1.898e27
SUN_RADIUS = 6.95508e8
"""Units of the labels [m, kg], as in the spectra to which the opacities were fitted."""

HELIUM_RATIO = 0.17647
"""Number of He atoms per H2 molecule."""

BOTTOM, TOP = 1e6, 1e-5
"""Pressure range [Pa] of the rays; the radius of a planet is defined at the bottom."""
