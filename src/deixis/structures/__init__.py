"""Dataclasses that all packages share: samples, conversations, units and answers."""

from deixis.structures.answer import Answer, Problem
from deixis.structures.conversation import IGNORE_INDEX, Conversation, QuestionPart, Turn
from deixis.structures.left_out import ANYTHING, NOTHING, LeftOut
from deixis.structures.sample import (
    DIALOGUE,
    MARKERS,
    Expression,
    ImageArray,
    ImageSource,
    Instance,
    QuestionAnswer,
    Relation,
    Sample,
)
from deixis.structures.units import (
    Description,
    GroundedPhrase,
    GroundedText,
    Reference,
    Region,
    RegionType,
    Unit,
    UnitGroup,
    UnitType,
)
from deixis.structures.video import FrameArray, Video, VideoContent

__all__ = [
    "ANYTHING",
    "DIALOGUE",
    "IGNORE_INDEX",
    "MARKERS",
    "NOTHING",
    "Answer",
    "Conversation",
    "Description",
    "Expression",
    "FrameArray",
    "GroundedPhrase",
    "GroundedText",
    "ImageArray",
    "ImageSource",
    "Instance",
    "LeftOut",
    "Problem",
    "QuestionAnswer",
    "QuestionPart",
    "Reference",
    "Region",
    "RegionType",
    "Relation",
    "Sample",
    "Turn",
    "Unit",
    "UnitGroup",
    "UnitType",
    "Video",
    "VideoContent",
]
