"""Masked autoencoder: one model for spectra, photometry and labels, any part of which may be missing."""
