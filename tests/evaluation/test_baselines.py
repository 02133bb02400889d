import numpy as np

from deixis.evaluation import CenterBox, LargestInstance
from deixis.geometry import Box, ImageSize, Mask
from deixis.structures import Instance, Sample

SIZE = ImageSize(20, 40)
IMAGE = np.zeros((20, 40, 3), np.uint8)
WIDE = Instance("bar", Box(0.0, 0.0, 40.0, 2.0))
SMALL_MASK = Instance(
    "ring", Box(0.0, 0.0, 20.0, 20.0), Mask.from_box(Box(0.0, 0.0, 2.0, 2.0), SIZE)
)


def test_the_centre_box_has_half_the_sides() -> None:
    answer = CenterBox().answer_sample(Sample("a", IMAGE, SIZE), ("Where?",))
    (phrase,) = answer.phrases
    assert phrase.boxes == (Box(10.0, 5.0, 30.0, 15.0),)
    assert phrase.masks[0].area == 200


def test_the_largest_instance_has_the_most_visible_pixels() -> None:
    sample = Sample("a", IMAGE, SIZE, (SMALL_MASK, WIDE))
    (phrase,) = LargestInstance().answer_sample(sample, ("Where?",)).phrases
    assert phrase.boxes == (WIDE.box,)
    assert phrase.masks == (Mask.from_box(WIDE.box, SIZE),)


def test_without_instances_the_answer_is_empty() -> None:
    answer = LargestInstance().answer_sample(Sample("a", IMAGE, SIZE), ("Where?",))
    assert answer.phrases == ()
