"""Spectra that are physically real, with truth known."""
