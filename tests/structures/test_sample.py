from typing import Any

import numpy as np
import pytest

from deixis.errors import AnnotationError
from deixis.geometry import Box, DepthMap, ImageSize, Mask
from deixis.structures import Expression, Instance, QuestionAnswer, Relation, Sample

SIZE = ImageSize(20, 30)
THING = Instance("circle", Box(1, 2, 11, 12))


def sample(*instances: Instance, **fields: Any) -> Sample:
    return Sample("s7", np.zeros((20, 30, 3), np.uint8), SIZE, instances, **fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"relations": (Relation(0, "beside", 1),)},
        {"expressions": (Expression("the circle", (1,)),)},
        {"questions": (QuestionAnswer("What is it?", "a circle", instance=-1),)},
        {"salient": 1},
    ],
)
def test_what_points_at_no_instance_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(AnnotationError, match=r"s7: instance -?1 of 1 does not exist"):
        sample(THING, **fields)


def test_a_box_that_leaves_the_image_is_refused_and_one_that_fills_it_is_not() -> None:
    sample(Instance("ground", Box(0, 0, 30, 20)))
    with pytest.raises(AnnotationError, match=r"s7: instance 1: .* does not fit a 30x20 image"):
        sample(THING, Instance("circle", Box(0, 0, 30, 21)))


def test_masks_and_depth_of_another_size_are_refused() -> None:
    turned = Mask(np.ones((30, 20), bool))
    with pytest.raises(AnnotationError, match="s7: the mask of instance 0 is of 20x30"):
        sample(Instance("circle", Box(1, 2, 11, 12), mask=turned))
    with pytest.raises(AnnotationError, match="s7: the depth map"):
        sample(depth=DepthMap(np.ones((10, 15), np.float32), "metric"))
