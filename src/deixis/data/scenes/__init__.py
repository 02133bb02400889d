"""Drawn scenes: an endless, seeded and exactly annotated synthetic data set."""

from deixis.data.scenes.clip_sample import clip_sample
from deixis.data.scenes.clips import Clip, Event, draw_clip
from deixis.data.scenes.drawing import draw_scene
from deixis.data.scenes.scene import Scene, Thing
from deixis.data.scenes.scene_sample import scene_sample
from deixis.data.scenes.splits import scene_expressions

__all__ = [
    "Clip",
    "Event",
    "Scene",
    "Thing",
    "clip_sample",
    "draw_clip",
    "draw_scene",
    "scene_expressions",
    "scene_sample",
]
