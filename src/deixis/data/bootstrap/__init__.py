"""Self-consistent bootstrapping (Pink): descriptions of boxes that the same model locates again.

A model describes the instance in a box and is then asked to locate its description. A description
is kept if the predicted box overlaps the original one. Kept descriptions have the box of the
annotation, never the predicted one.
"""

from deixis.data.bootstrap.bootstrap_plan import BootstrapPlan, Prompts
from deixis.data.bootstrap.bootstrap_run import BootstrapResult, bootstrap
from deixis.data.bootstrap.judge import Verdict, judge
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
