"""The comparison that turns an overlap into right or wrong, named because papers differ in it."""

from typing import Literal

Inequality = Literal[">", ">="]
"""How an overlap must compare with the threshold to count as right."""


def passes(overlap: float, threshold: float, inequality: Inequality) -> bool:
    """Say whether ``overlap`` reaches ``threshold``; equality counts for ``>=`` alone."""
    return overlap > threshold if inequality == ">" else overlap >= threshold
