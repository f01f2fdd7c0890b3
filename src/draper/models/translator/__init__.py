"""The Translator: from synthetic spectra to observed ones and back, learnt from unpaired sets."""
