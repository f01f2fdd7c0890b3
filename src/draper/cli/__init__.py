"""The command line: thin functions that parse, call and print. Nothing here imports torch before it must."""

from draper.cli.app import main

__all__ = ["main"]
