"""A drawn world of our own: endless, seeded, exactly annotated."""

from deixis.data.scenes.drawing import draw_scene
from deixis.data.scenes.scene import Scene, Thing

__all__ = ["Scene", "Thing", "draw_scene"]
