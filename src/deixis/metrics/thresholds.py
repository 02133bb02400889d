"""The comparison of an IoU with a threshold; papers use both ``>`` and ``>=``."""

from typing import Literal

Inequality = Literal[">", ">="]
"""The comparison under which an overlap counts as right."""


def passes(overlap: float, threshold: float, inequality: Inequality) -> bool:
    """Return whether ``overlap`` reaches ``threshold``; equality counts only with ``>=``."""
    return overlap > threshold if inequality == ">" else overlap >= threshold
