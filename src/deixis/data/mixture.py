"""Mixtures: the tasks of a build and their rates."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from deixis.errors import RecipeError

_ENTRY = re.compile(r"([a-z][a-z0-9_]*(?:\|[a-z][a-z0-9_]*)*)(?:\*(\d+(?:\.\d+)?))?")


@dataclass(frozen=True, slots=True)
class Mixture:
    """Tasks with rates; a rate is the average number of tries per image.

    A rate of 0.25 tries the task on one in four images, chosen by the image's seed; 2 tries it twice.
    Each try of an entry of several tasks, as ``rec|reg|count``, uses one that applies to the image.
    """

    rates: tuple[tuple[str, float], ...]

    def __post_init__(self) -> None:
        names = [name for entry, _ in self.rates for name in entry.split("|")]
        twice = sorted({name for name in names if names.count(name) > 1})
        if not names or twice:
            raise RecipeError(f"mixture: expected each task once, got {names}")
        wrong = [(name, rate) for name, rate in self.rates if not 0 < rate <= 1000]
        if wrong:
            raise RecipeError(f"mixture: rate {wrong[0][1]} of {wrong[0][0]}: expected 0 to 1000")

    def __str__(self) -> str:
        return ",".join(name if rate == 1 else f"{name}*{rate:g}" for name, rate in self.rates)


def parse_mixture(text: str, *, known: Mapping[str, object]) -> Mixture:
    """Read ``rec,res*2,count*0.5``, or the name of a mixture.

    Args:
        text: Task names with rates, or one name of `MIXTURES`.
        known: All tasks by name.

    Raises:
        RecipeError: A task is unknown, appears twice, or its rate is not a number from 0 to 1000.
    """
    if text in MIXTURES:
        return Mixture(tuple(MIXTURES[text].items()))
    rates = []
    for entry in text.split(","):
        match = _ENTRY.fullmatch(entry.strip())
        if match is None or not set(match[1].split("|")) <= set(known):
            raise RecipeError(
                f"task {entry.strip()!r}: expected one of {sorted(known)}, as NAME, NAME*RATE or "
                f"NAME|NAME*RATE, or one mixture of {sorted(MIXTURES)}"
            )
        rates.append((match[1], float(match[2] or 1)))
    return Mixture(tuple(rates))


MIXTURES: Mapping[str, Mapping[str, float]] = {
    "pointing": {
        "rec": 1,
        "res": 1,
        "detection": 1,
        "segmentation": 0.5,
        "count": 0.5,
        "reg": 1,
        "caption": 0.5,
        "gcg": 0.5,
        "region_qa": 1,
        "vqa": 1,
    },
    # one task of referential comprehension per image (Pink, section 3.2), and other data
    "pink": {
        "relation|relation_object_box|relation_object_class|relation_object_both"
        "|quadrant_box|quadrant_class|quadrant_both|count_words|count_example"
        "|detection|detection_example|rec|reg_box": 1,
        "vqa": 1,
        "choice": 1,
        "gcg_box": 1,
        "caption": 1,
        "conversation": 1,
    },
    # the families of TAMP's Table 12
    "tamp": {
        "ref_tag": 1,
        "loc_tag": 1,
        "reg_box": 1,
        "vqa": 1,
        "choice": 1,
        "gcg_box": 1,
        "caption_detailed": 1,
        "conversation": 1,
    },
    # at most three expressions or classes per image, as in u-LLaVA's public code
    "ullava": {
        "res": 3,
        "semantic": 3,
        "salient": 1,
        "vqa": 1,
        "caption|video_caption": 1,
        "conversation": 1,
    },
    # REF-VLM's Table I: rates are the samples of each kind relative to VQA (1.31 million)
    "refvlm": {
        "caption|caption_detailed": 0.6,
        "vqa|vqa_reason|region_qa": 1,
        "rec": 0.67,
        "res": 0.52,
        "reg_point|reg_box|reg_scribble|reg_mask": 0.92,
        "interactive_box_point|interactive_box_box|interactive_box_scribble"
        "|interactive_box_mask": 0.09,
        "interactive_mask_point|interactive_mask_box|interactive_mask_scribble"
        "|interactive_mask_mask": 0.09,
        "interactive_keypoint_point|interactive_keypoint_box|interactive_keypoint_scribble"
        "|interactive_keypoint_mask": 0.11,
        "gcg_box": 0.41,
        "gcg_mask": 0.34,
        "detection|conditional_detection|detection_names": 0.46,
        "segmentation|conditional_segmentation|segmentation_names": 0.46,
        "keypoint": 1,
        "depth": 1,
        "conversation": 1,
    },
}
"""Mixtures by name: deixis's and the papers'. Tasks that need annotations an image lacks are skipped
for that image, so one mixture can serve sources with different annotations."""
