"""Pointing with language: questions about images, answered in words tied to boxes and masks.

    model = deixis.load("scenes-tiny")
    answer = model.ask("photo.jpg", "Where is the red circle?")

Names are loaded when they are first used, so that ``import deixis`` needs neither torch nor
transformers.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deixis.errors import (
        AnnotationError,
        BenchmarkError,
        BudgetError,
        CheckpointError,
        DeixisError,
        GeometryError,
        ImageError,
        LockedError,
        ModelError,
        NotationError,
        NumericError,
        PromptError,
        RecipeError,
        StorageError,
        WorkerError,
    )
    from deixis.geometry import (
        Box,
        DepthMap,
        ImageSize,
        Keypoints,
        Mask,
        Point,
        Scribble,
    )
    from deixis.inference import PointingAnswer, Predictor, load
    from deixis.overlay import draw_answer
    from deixis.processing.images import read_image
    from deixis.structures import (
        Answer,
        Description,
        GroundedPhrase,
        GroundedText,
        Problem,
        Reference,
        Sample,
        UnitGroup,
        UnitType,
        Video,
    )

__version__ = "0.1.0"

_HOMES = {
    "deixis.errors": (
        "AnnotationError",
        "BenchmarkError",
        "BudgetError",
        "CheckpointError",
        "DeixisError",
        "GeometryError",
        "ImageError",
        "LockedError",
        "ModelError",
        "NotationError",
        "NumericError",
        "PromptError",
        "RecipeError",
        "StorageError",
        "WorkerError",
    ),
    "deixis.geometry": (
        "Box",
        "DepthMap",
        "ImageSize",
        "Keypoints",
        "Mask",
        "Point",
        "Scribble",
    ),
    "deixis.inference": ("PointingAnswer", "Predictor", "load"),
    "deixis.overlay": ("draw_answer",),
    "deixis.processing.images": ("read_image",),
    "deixis.structures": (
        "Answer",
        "Description",
        "GroundedPhrase",
        "GroundedText",
        "Problem",
        "Reference",
        "Sample",
        "UnitGroup",
        "UnitType",
        "Video",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "AnnotationError",
    "Answer",
    "BenchmarkError",
    "Box",
    "BudgetError",
    "CheckpointError",
    "DeixisError",
    "DepthMap",
    "Description",
    "GeometryError",
    "GroundedPhrase",
    "GroundedText",
    "ImageError",
    "ImageSize",
    "Keypoints",
    "LockedError",
    "Mask",
    "ModelError",
    "NotationError",
    "NumericError",
    "Point",
    "PointingAnswer",
    "Predictor",
    "Problem",
    "PromptError",
    "RecipeError",
    "Reference",
    "Sample",
    "Scribble",
    "StorageError",
    "UnitGroup",
    "UnitType",
    "Video",
    "WorkerError",
    "draw_answer",
    "load",
    "read_image",
]


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'deixis' has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
