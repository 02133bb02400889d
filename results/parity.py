"""Run the papers' parts beside reference formulas with equal weights, and write the differences.

$ python results/parity.py results/parity.md

A reference is a building block that others maintain (transformers, SciPy, pycocotools, torch) or a few
lines written from the paper's equation or the public code's description. `PARTS` lists what is
compared; a function under `part` adds a row.
"""

import argparse
import contextlib
import io
import platform
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlavaConfig
from transformers.loss.loss_for_object_detection import (
    dice_loss,
    generalized_box_iou,
    sigmoid_focal_loss,
)
from transformers.models.llava.modeling_llava import LlavaMultiModalProjector
from transformers.models.maskformer import modeling_maskformer

from deixis.batch import Regions
from deixis.evaluation.score_tables import format_table
from deixis.geometry import Box, ImageSize
from deixis.models.adapters import ADAPTER_PRESETS, Adapter, AdapterConfig
from deixis.models.decoders.depth import scale_invariant_log_loss
from deixis.models.decoders.keypoints import SKELETONS, object_keypoint_similarity
from deixis.models.decoders.location import (
    LocationConfig,
    LocationDecoder,
    LocationPredictions,
    LocationTruth,
    StateProjector,
)
from deixis.models.decoders.maskformer_pixel import MaskFormerPixelDecoder
from deixis.models.decoders.prompted import PromptedConfig, pixel_losses
from deixis.models.losses import masks as mask_losses
from deixis.models.losses.boxes import box_loss
from deixis.models.losses.contrastive import contrastive_loss
from deixis.models.matching import match_groups, pairwise_box_cost
from deixis.models.projector import Projector
from deixis.models.references import route_references
from deixis.models.regions import ConnectorConfig, RegionConnector, RegionContext
from deixis.models.regions.aggregation import PRESETS, MaskGuidedAggregation
from deixis.models.regions.alignment import location_loss
from deixis.models.vision.video import VIDEO_PRESETS
from deixis.notation import join_pieces, notation_named
from deixis.storage import write_file
from deixis.structures import GroundedPhrase, GroundedText, Reference, RegionType, UnitGroup
from deixis.training.release import hardware

SEED = 11
LIBRARIES = ("torch", "transformers", "numpy", "scipy", "pycocotools")

Pair = tuple[Tensor, Tensor]
"""What deixis gives and what the reference gives."""


@dataclass(frozen=True)
class Comparison:
    """A row of the table: what is compared, and how large the difference may be."""

    name: str
    official: str
    ours: str
    preset: str
    bound: float
    compare: Callable[[], Iterator[Pair]]

    @torch.no_grad()
    def difference(self, seed: int = SEED) -> float:
        """The largest absolute difference, with random numbers of a seed."""
        torch.manual_seed(seed)
        return max(
            float((mine.double() - theirs.double()).abs().max()) for mine, theirs in self.compare()
        )


PARTS: list[Comparison] = []
"""Every row, in the order in which they are written."""


def part(
    name: str, *, official: str, ours: str, preset: str, bound: float = 1e-5
) -> Callable[[Callable[[], Iterator[Pair]]], Callable[[], Iterator[Pair]]]:
    """Make a function that yields pairs a row of the table."""

    def add(compare: Callable[[], Iterator[Pair]]) -> Callable[[], Iterator[Pair]]:
        PARTS.append(Comparison(name, official, ours, preset, bound, compare))
        return compare

    return add


def scattered(module: nn.Module) -> nn.Module:
    """A module whose parameters are random throughout: some begin at zero, which hides them."""
    for parameter in module.parameters():
        parameter.normal_(std=0.3)
    return module.train(mode=False)


def adapted(states: Tensor, adapter: Adapter) -> Tensor:
    """States after an adapter, by equation 1."""
    narrow = functional.linear(states, adapter.down.weight, adapter.down.bias)
    if adapter.config.activation == "silu":
        narrow = narrow / (1 + torch.exp(-narrow))
    return states + functional.linear(narrow, adapter.up.weight, adapter.up.bias)


@part(
    "Pink: adapter, paper",
    official="equation 1: Z + s(Z W_d) W_u with SiLU as s, no biases by its parameter counts",
    ours="`Adapter`",
    preset="`paper`",
)
def _() -> Iterator[Pair]:
    adapter, states = Adapter(32, ADAPTER_PRESETS["paper"]), torch.randn(7, 32)
    scattered(adapter)
    yield adapter(states), adapted(states, adapter)


@part(
    "Pink: adapter, public code",
    official="biases, and nothing between its maps unless `adapter_non_linear`, then SiLU",
    ours="`Adapter`; an import reads the switch from `config.json` or asks for it",
    preset="`code`, `code` with SiLU",
)
def _() -> Iterator[Pair]:
    for activation in ("identity", "silu"):
        shape = AdapterConfig(8, activation, bias=True)
        adapter, states = Adapter(32, shape), torch.randn(7, 32)
        scattered(adapter)
        yield adapter(states), adapted(states, adapter)


@part(
    "Projectors",
    official="one linear map (Pink, u-LLaVA); two with GELU (TAMP, REF-VLM: LLaVA's)",
    ours="`Projector`",
    preset="`linear`, `linear_bias`, `mlp`",
)
def _() -> Iterator[Pair]:
    states = torch.randn(5, 12)
    for bias in (False, True):
        one = Projector(12, 20, layers=1, bias=bias)
        reference = nn.Linear(12, 20, bias=bias)
        reference.load_state_dict(
            {name.removeprefix("layers.0."): tensor for name, tensor in one.state_dict().items()}
        )
        yield one(states), reference(states)
    config = LlavaConfig(
        vision_config={"model_type": "clip_vision_model", "hidden_size": 12},
        text_config={"model_type": "llama", "hidden_size": 20, "num_attention_heads": 2},
    )
    theirs, ours = LlavaMultiModalProjector(config), Projector(12, 20)
    names = {"layers.0": "linear_1", "layers.2": "linear_2"}
    ours.load_state_dict(
        {
            f"{mine}.{kind}": theirs.state_dict()[f"{name}.{kind}"]
            for mine, name in names.items()
            for kind in ("weight", "bias")
        }
    )
    yield ours(states), theirs(states)


@part(
    "u-LLaVA: video tokens",
    official="a token a frame, the mean of its patches; then one a patch, the mean over frames",
    ours="`VideoPooling`",
    preset="`paper`, `code` (which differ in where the video stands)",
    bound=1e-6,
)
def _() -> Iterator[Pair]:
    frames = torch.randn(2, 8, 16, 6)
    for pooling in VIDEO_PRESETS.values():
        found, _ = pooling.pool(frames)
        rows = [
            torch.stack([*(frame.mean(0) for frame in clip), *clip.transpose(0, 1).mean(1)])
            for clip in frames
        ]
        yield found, torch.stack(rows)


def bent(value: Tensor, *layers: nn.Linear) -> Tensor:
    """Linear maps with ReLU between them, not after the last."""
    for number, layer in enumerate(layers):
        value = value @ layer.weight.T + layer.bias
        value = value.clamp(min=0) if number + 1 < len(layers) else value
    return value


@part(
    "u-LLaVA: `[LOC]` to a box, `[SEG]` to a prompt",
    official="the public code moves the mask of `[LOC]` and `[SEG]` one token back: the state that "
    "predicted it passes 4096-4096-256, then 256-256-128-4 without a sigmoid",
    ours="`route_references` and `LocationDecoder`, `StateProjector`; an import of u-LLaVA chooses it",
    preset="`offset=prev` (the default `at` reads the token itself)",
)
def _() -> Iterator[Pair]:
    width, location, segment = 24, 7, 8
    ids = torch.randint(0, 9, (3, 12))
    ids[:, 0] = 0
    hidden = torch.randn(3, 12, width)
    decoder = LocationDecoder(LocationConfig(width=16), width)
    projector = StateProjector(width, 16)
    scattered(decoder)
    scattered(projector)
    turns = torch.ones_like(ids)
    for token, layers, decode in (
        (
            location,
            (decoder.projector.up, decoder.projector.down),
            lambda references: decoder(references).corners,
        ),
        (
            segment,
            (projector.up, projector.down),
            lambda references: projector(references.states),
        ),
    ):
        references = route_references(hidden, ids == token, turns, offset="prev")
        found = decode(references)[references.filled]
        # as the public code has it: the mask of all but the first token, and one more that is false
        mask = torch.cat([ids[:, 1:] == token, torch.zeros(3, 1, dtype=torch.bool)], dim=1)
        state = bent(hidden, *layers)[mask]
        boxed = bent(state, decoder.first, decoder.second, decoder.last)
        yield found, boxed if token == location else state


def corners(count: int) -> Tensor:
    """Random boxes, x1 y1 x2 y2 in [0, 1]."""
    low = torch.rand(count, 2) * 0.5
    return torch.cat([low, low + torch.rand(count, 2) * 0.4 + 0.05], dim=1)


def location_parts(loss: str, predicted: Tensor, target: Tensor, filled: Tensor) -> Tensor:
    """L1 and GIoU as our location decoder loses them."""
    config = LocationConfig(width=8, loss="code" if loss == "code" else "paper")
    count = len(target)
    everywhere = torch.zeros(*filled.shape, 4)
    everywhere[filled] = predicted
    decoded = LocationPredictions(everywhere, torch.zeros(filled.shape))
    truth = LocationTruth(target, torch.ones(count, dtype=torch.bool), torch.ones(count))
    found = LocationDecoder(config, 8).losses(decoded, truth, filled).parts
    return torch.stack([found["l1"], found["giou"]])


@part(
    "u-LLaVA: box loss, paper",
    official="equation 2: L1 and 1 - GIoU, each a mean over the boxes",
    ours="`LocationDecoder.losses`",
    preset="`decoders.location.loss=paper`",
)
def _() -> Iterator[Pair]:
    filled = torch.tensor([[True, True, True], [True, False, False]])
    predicted, target = corners(4), corners(4)
    l1 = (predicted - target).abs().sum() / 4
    giou = (1 - generalized_box_iou(predicted, target).diagonal()).sum() / 4
    yield location_parts("paper", predicted, target, filled), torch.stack([l1, giou])


@part(
    "u-LLaVA: box loss, public code",
    official="boxes with corners out of order have no GIoU; a mean over each image's boxes, and the sum "
    "of these is divided by all boxes",
    ours="`LocationDecoder.losses`",
    preset="`decoders.location.loss=code`",
)
def _() -> Iterator[Pair]:
    filled = torch.tensor([[True, True, True], [True, False, False]])
    predicted, target = corners(4), corners(4)
    predicted[1] = predicted[1][[2, 3, 0, 1]]
    sums = torch.zeros(2)
    for some in (range(3), range(3, 4)):
        mine, theirs = predicted[list(some)], target[list(some)]
        ordered = (mine[:, 2:] >= mine[:, :2]).all(1)
        overlap = generalized_box_iou(mine[ordered], theirs[ordered]).diagonal()
        sums += torch.stack([(mine - theirs).abs().sum(), (1 - overlap).sum()]) / len(some)
    yield location_parts("code", predicted, target, filled), sums / 4


@part(
    "u-LLaVA: mask loss",
    official="cross-entropy, a mean over pixels; dice smoothed by 1, or in the public code of sums "
    "divided by 1000 and smoothed by 1e-6",
    ours="`pixel_losses`",
    preset="`prompted.loss=paper`, `prompted.loss=code`",
)
def _() -> Iterator[Pair]:
    logits, masks = torch.randn(3, 200), (torch.rand(3, 200) > 0.6).float()
    inside = torch.ones_like(masks, dtype=torch.bool)
    for loss, scale, smoothing in (("paper", 1.0, 1.0), ("code", 1000.0, 1e-6)):
        config = PromptedConfig(loss="code" if loss == "code" else "paper")
        entropy, dice = pixel_losses(logits, masks, inside, smoothing=config.smoothing)
        chance = logits.double().sigmoid() / scale
        truth = masks.double() / scale
        shared = 2 * (chance * masks.double()).sum(1) + smoothing
        yield dice, 1 - shared / (chance.sum(1) + truth.sum(1) + smoothing)
        each = functional.binary_cross_entropy_with_logits(logits, masks, reduction="none")
        yield entropy, each.mean(1)


def blocks(features: Tensor, mask: Tensor, inside: Callable[[int, int], int]) -> Tensor:
    """Equation 1: sums of features under a mask, divided by its area, block by block."""
    pooled = torch.zeros(9, features.shape[0])
    for row in range(mask.shape[0]):
        for column in range(mask.shape[1]):
            pooled[inside(row, column)] += features[:, row, column] * mask[row, column] / mask.sum()
    return pooled


def seen_regions() -> tuple[Tensor, Tensor, Tensor]:
    """Features of two images, and binary masks on them at their resolution."""
    masks = (torch.rand(3, 6, 6) > 0.5).float()
    masks[:, 2, 3] = 1
    return torch.randn(2, 10, 6, 6), masks, torch.tensor([0, 1, 1])


@part(
    "REF-VLM: mask-guided aggregation, paper",
    official="equations 1 to 3: sums over the blocks of a grid, and cos(n / s^(2c/C))",
    ours="`MaskGuidedAggregation`",
    preset="`paper`",
)
def _() -> Iterator[Pair]:
    features, masks, rows = seen_regions()
    found = MaskGuidedAggregation(9, width=10, variant=PRESETS["paper"])(features, masks, rows)
    channel = torch.arange(10, dtype=torch.float64)
    order = torch.arange(9, dtype=torch.float64)[:, None]
    places = torch.cos(order / 10_000.0 ** (2 * channel / 10))
    expected = [
        blocks(features[row], mask, lambda y, x: y // 2 * 3 + x // 2) + places
        for mask, row in zip(masks, rows.tolist(), strict=True)
    ]
    yield found, torch.stack(expected)


@part(
    "REF-VLM: mask-guided aggregation, public code",
    official="a reshape that cuts the raster into nine strips; learned positions",
    ours="`MaskGuidedAggregation`",
    preset="`code`",
)
def _() -> Iterator[Pair]:
    features, masks, rows = seen_regions()
    aggregate = MaskGuidedAggregation(9, width=10, variant=PRESETS["code"])
    found = aggregate(features, masks, rows)
    weighted = features[rows] * (masks / masks.sum((1, 2), keepdim=True))[:, None]
    strips = weighted.reshape(3, 10, 9, 2, 2).sum((3, 4)).transpose(1, 2)
    yield found, strips + aggregate.get_parameter("position_embedding.weight")


@part(
    "REF-VLM: matching in groups",
    official="equations 4 to 8, by `scipy.optimize.linear_sum_assignment` in each group",
    ours="`match_groups`; what is compared is what the chosen pairs cost",
    preset="-",
)
def _() -> Iterator[Pair]:
    sizes = np.array([1, 2, 3, 5, 8])
    cost = torch.rand(len(sizes), 8, 8)
    taken = match_groups(cost, sizes)
    mine, theirs = [], []
    for table, size, chosen in zip(cost, sizes.tolist(), taken, strict=True):
        rows, columns = linear_sum_assignment(table[:size, :size].numpy())
        mine.append(table[torch.arange(size), torch.from_numpy(chosen)].sum())
        theirs.append(table[torch.from_numpy(rows), torch.from_numpy(columns)].sum())
    yield torch.stack(mine), torch.stack(theirs)


@part(
    "REF-VLM: box loss and cost",
    official="5 L1 + 2 (1 - GIoU), GIoU as DETR has it",
    ours="`box_loss`, `pairwise_box_cost`",
    preset="-",
)
def _() -> Iterator[Pair]:
    def centred(box: Tensor) -> Tensor:
        return torch.cat([(box[:, :2] + box[:, 2:]) / 2, box[:, 2:] - box[:, :2]], dim=1)

    predicted, target = corners(6), corners(6)
    overlap = generalized_box_iou(predicted, target)
    distance = torch.cdist(centred(predicted), centred(target), p=1)
    cost = pairwise_box_cost(centred(predicted)[None], centred(target)[None], l1=5.0, giou=2.0)
    yield cost[0], 5 * distance + 2 * (1 - overlap)
    l1, giou = box_loss(centred(predicted), centred(target))
    yield 5 * l1 + 2 * giou, (5 * distance + 2 * (1 - overlap)).diagonal()


@part(
    "REF-VLM: mask loss",
    official="20 focal (alpha 0.25, gamma 2) + dice, as in DETR",
    ours="`focal_loss`, `dice_loss`",
    preset="-",
)
def _() -> Iterator[Pair]:
    logits, masks = torch.randn(4, 300), (torch.rand(4, 300) > 0.7).float()
    mine = mask_losses.focal_loss(logits, masks).mean() * 20
    mine = mine + mask_losses.dice_loss(logits, masks).mean()
    theirs = 20 * sigmoid_focal_loss(logits, masks, 4) + dice_loss(logits, masks, 4)
    yield mine, theirs


@part(
    "REF-VLM: object keypoint similarity",
    official="COCO's, as pycocotools computes it (the public code of REF-VLM forgets that k is twice sigma)",
    ours="`object_keypoint_similarity`",
    preset="-",
)
def _() -> Iterator[Pair]:
    skeleton = SKELETONS["coco"]
    count = len(skeleton.names)
    truth, found = torch.rand(3, count, 2) * 100, torch.rand(3, count, 2) * 100
    found = truth + (found - 50) * 0.1
    visible = torch.randint(0, 3, (3, count))
    visible[:, 0] = 2
    areas = torch.tensor([900.0, 2500.0, 4000.0])
    mine = object_keypoint_similarity(
        found, truth, visible > 0, areas, torch.tensor(skeleton.sigmas)
    )
    theirs = []
    for body in range(3):
        marked = torch.cat([truth[body], visible[body][:, None]], dim=1).flatten().tolist()
        guessed = torch.cat([found[body], torch.ones(count, 1)], dim=1).flatten().tolist()
        with contextlib.redirect_stdout(io.StringIO()):
            data = COCO()
            data.dataset = {
                "images": [{"id": 1, "height": 100, "width": 100}],
                "categories": [{"id": 1, "name": "person"}],
                "annotations": [
                    {
                        "id": 1,
                        "image_id": 1,
                        "category_id": 1,
                        "iscrowd": 0,
                        "area": float(areas[body]),
                        "bbox": [0, 0, 100, 100],
                        "keypoints": marked,
                        "num_keypoints": int((visible[body] > 0).sum()),
                    }
                ],
                "info": {},
            }
            data.createIndex()
            guesses = data.loadRes(
                [{"image_id": 1, "category_id": 1, "keypoints": guessed, "score": 1.0}]
            )
            judge = COCOeval(data, guesses, "keypoints")
            judge._prepare()  # noqa: SLF001 - what `evaluate` does first
            theirs.append(judge.computeOks(1, 1)[0, 0])
    yield mine, torch.tensor(theirs)


@part(
    "REF-VLM: MaskFormer's pixel decoder",
    official="`MaskFormerPixelDecoder` of transformers",
    ours="`MaskFormerPixelDecoder`",
    preset="`pixel_decoder`",
)
def _() -> Iterator[Pair]:
    widths, sides = (8, 12, 16, 24), (32, 16, 8, 4)
    pyramid = [torch.randn(2, width, side, side) for width, side in zip(widths, sides, strict=True)]
    theirs = modeling_maskformer.MaskFormerPixelDecoder(
        in_features=24, lateral_widths=list(widths[:-1]), feature_size=32, mask_feature_size=6
    )
    ours = MaskFormerPixelDecoder(
        widths, cell_level=3, pixel_level=0, cell_width=24, pixel_width=6, width=32
    )
    ours.load_state_dict(theirs.state_dict())
    yield ours(pyramid).pixels, theirs(pyramid).last_hidden_state


@part(
    "TAMP: task-aware connector",
    official="equations 1 and 2: softmax(Q W_Q (F W_K)ᵀ / √D) F W_V, then LN(FFN(·)), then P_R",
    ours="`RegionConnector`",
    preset="`tamp_scenes`",
)
def _() -> Iterator[Pair]:
    connector = RegionConnector(12, 20, ConnectorConfig(width=16))
    scattered(connector)
    tokens, rows = torch.randn(2, 9, 12), torch.tensor([0, 1, 1])
    types = torch.full((3,), RegionType.BOX.number)
    regions = Regions.drawn(torch.zeros(3, 4, 4), rows, types=types, boxes=corners(3))
    found = connector(RegionContext(torch.zeros(2, 1, 1, 1), tokens), regions)
    queries = connector.queries(regions)[:, 0]
    weights = connector.attention
    expected = []
    for query, row in zip(queries, rows.tolist(), strict=True):
        asked, keys = weights.query.weight @ query, tokens[row] @ weights.key.weight.T
        share = torch.softmax(keys @ asked / 4.0, dim=0)
        value = share @ (tokens[row] @ weights.value.weight.T)
        value = connector.feed_forward(value)
        centred = value - value.mean()
        value = centred / (centred.square().mean() + connector.norm.eps).sqrt()
        value = value * connector.norm.weight + connector.norm.bias
        expected.append(connector.projector(value))
    yield found[:, 0], torch.stack(expected)


@part(
    "TAMP: contrastive loss",
    official="equations 7 to 9: half the cross-entropy of each way, cosines times exp(log τ)",
    ours="`contrastive_loss`",
    preset="-",
)
def _() -> Iterator[Pair]:
    first, second = torch.randn(6, 16), torch.randn(6, 16)
    scale = torch.tensor(1 / 0.07)
    cosines = functional.cosine_similarity(first[:, None], second[None], dim=-1) * scale
    ways = [
        -(table.diagonal() - table.exp().sum(1).log()).mean()
        for table in (cosines.double(), cosines.double().T)
    ]
    yield contrastive_loss(first, second, scale), (ways[0] + ways[1]) / 2


@part(
    "TAMP: location loss",
    official="equations 4 to 6: 0.7 smooth L1 + 0.3 (1 - GIoU)",
    ours="`location_loss`",
    preset="-",
)
def _() -> Iterator[Pair]:
    predicted, target = corners(5), corners(5)
    smooth = functional.smooth_l1_loss(predicted, target, reduction="none").mean(1)
    overlap = generalized_box_iou(predicted, target).diagonal()
    yield location_loss(predicted, target), 0.7 * smooth + 0.3 * (1 - overlap)


@part(
    "Depth: SILog",
    official="√(mean e² - 0.85 (mean e)²), e the error of the logarithm (Eigen et al.; neither REF-VLM's "
    "paper nor its code has a depth loss)",
    ours="`scale_invariant_log_loss`",
    preset="-",
)
def _() -> Iterator[Pair]:
    logs, depth = torch.randn(3, 40), torch.rand(3, 40) * 9 + 0.5
    valid = torch.rand(3, 40) > 0.3
    expected = []
    for mine, theirs, kept in zip(logs.double(), depth.double(), valid, strict=True):
        error = mine[kept] - theirs[kept].log()
        expected.append((error.square().mean() - 0.85 * error.mean() ** 2).sqrt())
    yield scale_invariant_log_loss(logs, depth, valid), torch.stack(expected)


def printed(notation: str, box: Box, size: ImageSize) -> list[float]:
    """The numbers of a box in an answer."""
    group = UnitGroup(("box",), (Reference((box,)),))
    answer = GroundedText("", (GroundedPhrase("", 0, 0, (group,)),))
    writer = notation_named(notation)
    text = join_pieces(writer.encode(answer, size).pieces, writer.spelling)
    return [float(number) for number in text.strip("[]").split(",")]


@part(
    "Coordinates in text",
    official="fractions of the padded square with three decimals: half of the padding first (u-LLaVA, "
    "the papers), in Pink's public code the whole pixels below that half",
    ours="`Coordinates`",
    preset="`notation=coordinates`, `notation=coordinates_floor`",
    bound=1e-9,
)
def _() -> Iterator[Pair]:
    dice = np.random.default_rng(SEED)
    for notation in ("coordinates", "coordinates_floor"):
        mine, theirs = [], []
        for _ in range(60):
            height, width = (int(value) for value in dice.integers(20, 700, 2))
            x1, y1 = dice.uniform(0, width / 2), dice.uniform(0, height / 2)
            box = Box(x1, y1, dice.uniform(x1 + 5, width), dice.uniform(y1 + 5, height))
            side = max(height, width)
            gaps = ((side - width) / 2, (side - height) / 2)
            if notation == "coordinates_floor":
                gaps = ((side - width) // 2, (side - height) // 2)
            mine.append(printed(notation, box, ImageSize(height, width)))
            theirs.append(
                [
                    float(f"{(value + gaps[axis % 2]) / side:.3f}")
                    for axis, value in enumerate((box.x1, box.y1, box.x2, box.y2))
                ]
            )
        yield torch.tensor(mine, dtype=torch.float64), torch.tensor(theirs, dtype=torch.float64)


_PREAMBLE = """Written by the program; do not edit. Each part ran beside a reference with equal weights and random
numbers of one seed, in float32 on the CPU. *Largest difference* is the largest absolute one of all numbers
that were compared, *bound* what a test allows.
"""


def page(command: str, commit: str) -> str:
    """Measure every part and write the page."""
    facts = {
        "command": f"`{command}`",
        "commit": commit,
        "seed": str(SEED),
        "Python": platform.python_version(),
        "libraries": ", ".join(f"{name} {version(name)}" for name in ("deixis", *LIBRARIES)),
        "hardware": hardware(),
    }
    rows = [
        {
            "part": one.name,
            "official": one.official,
            "ours": one.ours,
            "preset": one.preset,
            "largest difference": f"{one.difference():.1e}",
            "bound": f"{one.bound:.0e}",
        }
        for one in PARTS
    ]
    told = "".join(f"- {name}: {value}\n" for name, value in facts.items())
    return "\n".join(
        ["# Parts of the papers beside references\n", _PREAMBLE, told, format_table(rows)]
    )


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=Path)
    path = parser.parse_args().page
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"],  # noqa: S607 - whichever git the user has
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    write_file(path, page(f"python results/parity.py {path}", commit))


if __name__ == "__main__":
    main()
