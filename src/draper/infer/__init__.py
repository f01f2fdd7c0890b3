"""From spectra back to labels."""
