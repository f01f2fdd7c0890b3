"""Real codes that a user has: labels in, spectra out, computed by TauREx, PySME or Turbospectrum."""
