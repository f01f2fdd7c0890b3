"""What the labels of planets mean, for our model and for others alike; nothing here imports torch."""

GASES = ("h2o", "co2", "ch4", "co")

JUPITER_RADIUS = 6.9911e7
JUPITER_MASS = 1.898e27
SUN_RADIUS = 6.95508e8
"""Units of the labels [m, kg]: those of the spectra that the opacities come from."""

HELIUM_RATIO = 0.17647
"""He for one H2, by number."""

BOTTOM, TOP = 1e6, 1e-5
"""Pressures [Pa] between which rays are followed; the planet's radius is that at the bottom."""
