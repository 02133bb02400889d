"""Vision encoders."""

from deixis.models.vision.features import VisionFeatures
from deixis.models.vision.small import SmallVisionConfig, SmallVisionEncoder

__all__ = ["SmallVisionConfig", "SmallVisionEncoder", "VisionFeatures"]
