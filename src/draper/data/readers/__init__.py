"""Readers of foreign formats: one family a file; see :mod:`draper.data.io` for how one is chosen."""
