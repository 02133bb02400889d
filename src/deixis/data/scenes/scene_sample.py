"""Converts a scene to an annotated sample, as readers of annotation files return it."""

import numpy as np

from deixis.data.scenes import relation_extents
from deixis.data.scenes.captions import captions
from deixis.data.scenes.describe import Facts, bit_indices, visible_box
from deixis.data.scenes.expressions import scene_expressions_of
from deixis.data.scenes.scene import Scene, Thing
from deixis.data.scenes.scene_facts import salient_subject, scene_relations
from deixis.data.scenes.scene_questions import descriptions, image_questions, region_questions
from deixis.data.scenes.seeds import scene_dice
from deixis.data.scenes.vocabulary import NAMES
from deixis.geometry import COCO_KEYPOINTS, Box, DepthMap, Keypoints, Mask
from deixis.structures import Instance, Reference, Relation, Sample, UnitGroup

_LANGUAGE = 1
"""Purpose number of the random stream, so that words and drawing have different streams."""


def scene_sample(scene: Scene) -> Sample:
    """Return the sample of a scene; instance *i* is ``scene.things[i]``.

    Words are drawn with the scene's seed, so the same scene always gives the same sample.
    """
    dice = scene_dice(
        scene.seed, scene.index, level=scene.level, split=scene.split, purpose=_LANGUAGE
    )
    facts = Facts(scene)
    instances = tuple(_instance(scene, index) for index in range(facts.count))

    def pointer(indices: tuple[int, ...]) -> UnitGroup:
        return composite(instances, indices)

    names = {thing.name for thing in scene.things}
    return Sample(
        id=f"scenes/{scene.split}/{scene.level}/{scene.seed}/{scene.index}",
        image=scene.image,
        size=scene.size,
        instances=instances,
        relations=_relations(scene, facts),
        expressions=scene_expressions_of(facts, dice),
        captions=captions(facts, dice, pointer),
        questions=(
            *descriptions(facts),
            *region_questions(facts, dice),
            *image_questions(facts, dice),
        ),
        depth=DepthMap(scene.depth, "metric"),
        salient=salient_subject(scene),
        absent_categories=tuple(name for name in NAMES if name not in names),
        source="scenes",
        split=scene.split,
    )


def composite(instances: tuple[Instance, ...], indices: tuple[int, ...]) -> UnitGroup:
    """Return box and mask of each instance, from the left."""
    ordered = sorted(indices, key=lambda index: _place(instances[index].box))
    return UnitGroup(
        ("box", "mask"),
        tuple(Reference((instances[index].box, instances[index].mask)) for index in ordered),
    )


def _place(box: Box) -> tuple[float, float]:
    return box.x1 + box.x2, box.y1 + box.y2


def _instance(scene: Scene, index: int) -> Instance:
    thing = scene.things[index]
    # a figure's colour and texture are those of its shirt
    words = (thing.color, thing.size, thing.texture, thing.symbol)
    if thing.kind == "figure":
        words = (thing.size, f"{thing.color} shirt", f"{thing.texture} shirt", "")
    mask = scene.mask(index)
    mask.flags.writeable = False
    return Instance(
        thing.name,
        Box(*visible_box(thing)),
        mask=Mask(mask),
        keypoints=_keypoints(thing),
        attributes=tuple(word for word in words if word),
        visibility=thing.visibility,
    )


def _keypoints(thing: Thing) -> Keypoints | None:
    if thing.keypoints is None:
        return None
    return Keypoints(
        np.ascontiguousarray(thing.keypoints[:, :2]),
        thing.keypoints[:, 2].astype(np.int8),
        COCO_KEYPOINTS,
    )


def _relations(scene: Scene, facts: Facts) -> tuple[Relation, ...]:
    found = [Relation(*triple) for triple in scene_relations(scene)]
    for index in range(facts.count):
        near = bit_indices(relation_extents.near(facts, index).certain)
        found += [Relation(other, "next to", index) for other in near]
    return tuple(found)
