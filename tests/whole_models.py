"""Whole models of every kind at tiny size, each with questions and a training batch."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from models.decoders.segmenters import tiny_sam
from region_batches import TEXT_ENCODERS
from released import release
from scripted import script
from tiny import tiny_model

from deixis.batch import Batch
from deixis.data.scenes import draw_scene, scene_sample
from deixis.data.tasks import sample_turns
from deixis.geometry import Box, ImageSize, Mask, Point, Scribble
from deixis.models.decoders import DecoderConfig, MaskDecoder
from deixis.models.decoders.location import LocationDecoder
from deixis.models.pointing import PointingOutput, PointingVLM
from deixis.models.regions import (
    ConnectorConfig,
    CoordinateRegionConfig,
    MaskRegionConfig,
    RegionEncodersConfig,
)
from deixis.models.vision.video import VIDEO_PRESETS
from deixis.processing.batch import collate
from deixis.processing.build import build_processor
from deixis.processing.processor import Processor
from deixis.structures import (
    Conversation,
    Description,
    GroundedPhrase,
    GroundedText,
    QuestionPart,
    Reference,
    Turn,
    UnitGroup,
    Video,
)
from deixis.training.aligned import attach_aligned

SIZE = ImageSize(40, 80)
IMAGE = np.random.default_rng(0).integers(0, 255, (*SIZE, 3), dtype=np.uint8)
SHAPE: dict[str, Any] = {"width": 32, "heads": 2, "hidden": 48}
DECODER = asdict(DecoderConfig(**SHAPE, layers=2, num_queries=24))

Question = tuple[Any, tuple[QuestionPart, ...]]
Made = tuple[PointingVLM, Processor]


def _mask() -> Mask:
    array = np.zeros((*SIZE,), bool)
    array[8:30, 20:60] = True
    return Mask(array)


DRAWN: tuple[Question, ...] = (
    (IMAGE, ("Where is it?",)),
    (IMAGE, ("Where is ", Point(30, 20), "?")),
    (IMAGE, ("Where is ", Box(5, 5, 60, 30), "?")),
    (IMAGE, ("Where is ", Scribble(((4.0, 4.0), (50.0, 30.0)), 3.0), "?")),
    (IMAGE, ("Where is ", _mask(), "?")),
)
"""Return a plain question and one with a region of each drawn type."""

DESCRIBED: tuple[Question, ...] = (
    (IMAGE, ("Where is ", Description("the red star"), " or ", Box(5, 5, 60, 30), "?")),
    (IMAGE, ("Where is ", Point(30, 20), " or ", _mask(), "?")),
)
CLIP_OF_THREE = Video(lambda: np.stack([IMAGE, IMAGE[::-1], IMAGE[:, ::-1]]))

BERT = {**TEXT_ENCODERS["bert"], "vocab_size": 400, "max_position_embeddings": 64}
MIX = RegionEncodersConfig(
    {
        "task": ConnectorConfig(width=16, text_encoder=BERT),
        "masks": MaskRegionConfig(4, source="tokens", places=False, projector="image"),
        "numbers": CoordinateRegionConfig(marks=True),
    },
    {"text": "task", "box": "task", "mask": "masks", "scribble": "masks", "point": "numbers"},
)
BODIES = {"keypoint": SHAPE, "depth": {**SHAPE, "nearest": 0.5, "farthest": 40.0}}


@dataclass(frozen=True)
class Whole:
    """A kind of model.

    ``units`` are what references are decoded to; ``pointing`` models say a sentence that points.
    ``tasks`` are what the batch asks.
    """

    changes: Mapping[str, Any] = field(default_factory=dict)
    questions: tuple[Question, ...] = DRAWN[:1]
    units: str | None = None
    pointing: bool = False
    tasks: tuple[str, ...] = ()
    build: Callable[[Path], Made] | None = None

    def made(self, folder: Path) -> Made:
        """Return the model with the same weights each time; released ones use ``folder``."""
        model, processor = tiny_model(**self.changes) if self.build is None else self.build(folder)
        if self.pointing:
            reference = Reference((Box(5, 5, 30, 30),))
            phrase = GroundedPhrase("it", 0, 2, (UnitGroup(("box",), (reference,)),))
            turn = Turn(("Where?",), GroundedText("it", (phrase,)))
            script(model, processor, Conversation("q", IMAGE, SIZE, (turn,)))
        with torch.no_grad():
            # random units are often empty or outside the image
            masks, boxes = (model.decoders.get(unit) for unit in ("mask", "box"))
            if isinstance(masks, MaskDecoder):
                masks.embedding.last.bias[-1] += 8.0
            if isinstance(boxes, LocationDecoder):
                boxes.last.weight.mul_(0.01)
                boxes.last.bias.copy_(torch.tensor([0.3, 0.4, 0.6, 0.7]))
        return model, processor


def _released(kind: str) -> Callable[[Path], Made]:
    def build(folder: Path) -> Made:
        if not (folder / "config.json").exists():
            release(kind, folder)
        torch.manual_seed(0)
        model, tokenizer = attach_aligned(
            folder,
            image_size=None if kind == "llava" else 64,
            decoders={"box": DECODER, "mask": DECODER},
            pixel_width=8,
            proposals=True,
        )
        model.eval()  # type: ignore[no-untyped-call]  # transformers leaves it untyped
        return model, build_processor(model.config, tokenizer)

    return build


WHOLES: Mapping[str, Whole] = {
    "triplets": Whole(questions=DRAWN, units="box,mask", pointing=True),
    "triplets with a plan": Whole({"notation": "triplets_plan"}),
    "tokens": Whole({"notation": "tokens"}, units="box,mask", pointing=True),
    "coordinates": Whole({"notation": "coordinates"}),
    "without anchors": Whole({"anchored": False}, units="box,mask", pointing=True),
    "bodies and depth": Whole(
        {"more": BODIES},
        units="keypoint,depth,box",
        pointing=True,
        tasks=("keypoint", "depth"),
    ),
    "segmenter and location": Whole(
        {
            "proposals": False,
            "tokens_from": "encoder",
            "decoders": {
                "location": {"width": 32},
                "segmenter": {"segmenter": tiny_sam().config.to_dict()},
            },
        },
        units="box,mask",
        pointing=True,
    ),
    "mix of regions": Whole(
        {"tokens_from": "encoder", "regions": MIX.to_json()}, DESCRIBED, pointing=True
    ),
    "video": Whole(
        {"tokens_from": "encoder", "video": asdict(VIDEO_PRESETS["paper"])},
        ((CLIP_OF_THREE, ("Where is it?",)), *DRAWN[:1]),
        pointing=True,
    ),
    "llava": Whole(build=_released("llava"), questions=DRAWN[:3]),
    "qwen2_vl": Whole(build=_released("qwen2_vl"), questions=DRAWN[:2]),
    "qwen3_vl": Whole(build=_released("qwen3_vl"), questions=DRAWN[:2]),
}
"""Models by name."""


def learning_batch(processor: Processor, tasks: tuple[str, ...] = (), *, rows: int = 2) -> Batch:
    """Return questions about drawn scenes with their answers."""
    made = []
    for index in range(60):
        sample = scene_sample(draw_scene(3, index, level="plain", split="train", long_side=64))
        dice = np.random.default_rng(index)
        if tasks:
            each = [sample_turns(sample, dice, count=1, tasks=[task]) for task in tasks]
            turns = tuple(turn for some in each for turn in some)
            if len(turns) < len(tasks):
                continue
        else:
            turns = sample_turns(sample, dice, count=4)
        conversation = Conversation(sample.id, sample.image, sample.size, turns, independent=True)
        made.append(processor.row(conversation, instances=sample.instances))
        if len(made) == rows:
            break
    return collate(made, pad_id=processor.tokenizer.pad_id)


def forward(model: PointingVLM, batch: Batch) -> PointingOutput:
    """Return the losses of a batch."""
    output: PointingOutput = model(batch)
    return output
