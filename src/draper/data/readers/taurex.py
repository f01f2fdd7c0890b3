"""Placeholder until its reader lands."""

from draper.data.readers.source import Format

FORMATS: tuple[Format, ...] = ()
