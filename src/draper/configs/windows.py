"""Windows of wavelength, as options take them."""

from __future__ import annotations

from typing import Any


def in_pairs(windows: Any) -> Any:
    """Return numbers in a row, as a command line gives them, as pairs.

    Examples
    --------
    >>> in_pairs(["8480", "8520", "8600", "8650"])
    [('8480', '8520'), ('8600', '8650')]
    """
    is_flat = isinstance(windows, (tuple, list)) and all(
        isinstance(value, (int, float, str)) for value in windows
    )
    if not is_flat:
        return windows
    if len(windows) % 2:
        raise ValueError("expected pairs of numbers: LOW HIGH LOW HIGH ...")
    return list(zip(windows[::2], windows[1::2], strict=True))
