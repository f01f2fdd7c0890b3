"""Posteriors of labels from spectra, such as an exoplanet's atmosphere from its transmission spectrum."""
