"""The build engine: makes shards of conversations from sources and tasks, on several machines."""

from deixis.data.build.build_plan import BuildPlan
from deixis.data.build.build_run import Budget, BuildResult, build
from deixis.data.build.check import Findings, check_pictures, check_sources
from deixis.data.build.custom_wordings import with_wordings
from deixis.data.build.dataset import BuiltDataset, verify
from deixis.data.build.live import LiveDataset

__all__ = [
    "Budget",
    "BuildPlan",
    "BuildResult",
    "BuiltDataset",
    "Findings",
    "LiveDataset",
    "build",
    "check_pictures",
    "check_sources",
    "verify",
    "with_wordings",
]
