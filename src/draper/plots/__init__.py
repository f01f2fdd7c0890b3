"""Plots: one subject a file; each function takes data and an optional Axes and returns the Axes."""
