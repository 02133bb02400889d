"""Self-consistent bootstrapping: descriptions of boxes that lead back to their boxes.

A model describes the thing in a box, and is then asked where what it has described is. A
description is kept where the box that it finds meets the one that it was made from. What is kept
has the box of the annotation, never the one that the model found.
"""

from deixis.data.bootstrap.engine import BootstrapResult, bootstrap
from deixis.data.bootstrap.judge import Verdict, judge
from deixis.data.bootstrap.plan import BootstrapPlan, Prompts
from deixis.data.bootstrap.round_trip import Asker

__all__ = [
    "Asker",
    "BootstrapPlan",
    "BootstrapResult",
    "Prompts",
    "Verdict",
    "bootstrap",
    "judge",
]
