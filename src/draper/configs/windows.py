"""Windows of wavelength, as options take them."""

from __future__ import annotations

from typing import Any


def in_pairs(windows: Any) -> Any:
    """Take numbers one after the other, as a command line gives them, in pairs.

    Examples
    --------
    >>> in_pairs(["8480", "8520", "8600", "8650"])
    [('8480', '8520'), ('8600', '8650')]
    """
    numbers = isinstance(windows, (tuple, list)) and all(
        isinstance(one, (int, float, str)) for one in windows
    )
    if not numbers:
        return windows
    if len(windows) % 2:
        raise ValueError("pairs of numbers: LOW HIGH LOW HIGH ...")
    return list(zip(windows[::2], windows[1::2], strict=True))
