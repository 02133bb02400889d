"""All exceptions that deixis raises for its callers, as one tree.

Each class has the exit code of the command line.
"""

from typing import ClassVar


class DeixisError(Exception):
    """Base class: an input is invalid, or the environment failed."""

    exit_code: ClassVar[int] = 2


class GeometryError(DeixisError):
    """A box, mask, point, scribble, keypoint set or depth map is invalid."""


class ImageError(DeixisError):
    """An image or video is missing, unreadable, truncated, too large or of a refused format."""


class PromptError(DeixisError):
    """A question is empty, too long, or refers to a missing region."""


class NotationError(DeixisError):
    """A grounded text cannot be written in a notation, or strict parsing found a problem."""


class AnnotationError(DeixisError):
    """An annotation record does not have the form of its format."""


class RecipeError(DeixisError):
    """A recipe is unknown, or an override names a wrong field or a wrong type."""


class ModelError(DeixisError):
    """A model is unknown or its configuration cannot be built."""


class BenchmarkError(DeixisError):
    """A benchmark is unknown, or predictions do not cover it."""


class BudgetError(DeixisError):
    """More items failed than the error budget allows."""

    exit_code = 3


class StorageError(DeixisError):
    """A file or folder cannot be written."""

    exit_code = 4


class LockedError(DeixisError):
    """Another process is writing to the same output."""

    exit_code = 5


class NumericError(DeixisError):
    """A loss, gradient or parameter is not finite."""

    exit_code = 6


class CheckpointError(DeixisError):
    """Weights, a checkpoint or a data set are damaged, incomplete or do not fit the model."""

    exit_code = 7


class WorkerError(DeixisError):
    """A process that loads data was killed, or failed with an unexpected exception."""

    exit_code = 1
