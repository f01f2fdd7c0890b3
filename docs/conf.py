"""Configuration of the documentation."""

import os
import shlex
from contextlib import redirect_stdout
from importlib.resources import files
from io import StringIO
from pathlib import Path

from draper import __version__
from draper.cli import main
from draper.cli.app import make_app

project = "draper"
author = "the draper developers"
copyright = "2026, the draper developers"
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "draper"
napoleon_google_docstring = False
autodoc_typehints = "description"
autodoc_member_order = "bysource"
nitpicky = False


def help_of(command: str) -> str:
    """Return what ``draper COMMAND --help`` prints; the exit codes, which follow every time, stand once."""
    printed = StringIO()
    os.environ["COLUMNS"] = "88"
    with redirect_stdout(printed):
        if main([*shlex.split(command), "--help"]):
            raise RuntimeError(f"draper {command} --help failed")
    text, _, _ = printed.getvalue().partition("Exit codes:")
    return printed.getvalue().rstrip() if not command else text.rstrip()


def commands(app, name: str = "") -> list[str]:
    """Return every command that has no commands below it."""
    below = [each for each in app if not each.startswith("-")]
    return [full for each in below for full in commands(app[each], f"{name} {each}".strip())] or [name]


def write_command_line(*_: object) -> None:
    """Write the page of all commands from the program's own help."""
    parts = ["# Command line", "Every command's `--help`, as the program prints it."]
    parts += [f"```text\n{help_of('')}\n```"]
    for command in commands(make_app()):
        parts.append(f"## draper {command}\n\n```text\n{help_of(command)}\n```")
    for packed in sorted(path.name for path in files("draper.models").joinpath("packed").iterdir()):
        command = f"predict builtin:{packed}"
        _, start, options = help_of(command).partition("╭─ Options of this model")
        parts.append(f"## draper {command}\n\n```text\n{start}{options}\n```")
    Path(__file__).with_name("reference").joinpath("command-line.md").write_text("\n\n".join(parts) + "\n")


def setup(app) -> None:
    """Generate pages before they are read."""
    app.connect("builder-inited", write_command_line)
