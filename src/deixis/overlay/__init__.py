"""Answers drawn on their images."""

from deixis.overlay.draw import draw_answer

__all__ = ["draw_answer"]
