"""Salient instances from masks: cut out, described by a captioner, named by the description."""

from deixis.data.salient.captioners import (
    Captioner,
    EndpointCaptioner,
    FolderCaptioner,
    ModelCaptioner,
)
from deixis.data.salient.cutout import Cutout, cut_out
from deixis.data.salient.description_names import clean, tag_of
from deixis.data.salient.salient_run import SalientPlan, SalientResult, build_salient

__all__ = [
    "Captioner",
    "Cutout",
    "EndpointCaptioner",
    "FolderCaptioner",
    "ModelCaptioner",
    "SalientPlan",
    "SalientResult",
    "build_salient",
    "clean",
    "cut_out",
    "tag_of",
]
