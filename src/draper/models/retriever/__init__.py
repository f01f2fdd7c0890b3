"""Atmospheres of planets from their transmission spectra."""
