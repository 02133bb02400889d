"""Keypoints from latent references (REF-VLM IV-C, whose paper names the decoder without details).

A reference becomes a body in three steps, as in REF-VLM's public code: a box, as in `BoxDecoder`;
one query per joint and one for the whole body, which start from the box and attend to the feature
map; a position and a visibility for each joint. The OKS loss of the public code is the mean distance
of all joints, invisible ones included. deixis uses COCO's OKS; the preset ``code`` uses the distance.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from deixis.batch import Batch, UnitTruth
from deixis.errors import ModelError
from deixis.geometry import COCO_KEYPOINTS, Keypoints, Letterbox
from deixis.models.decoders.box import moved_boxes
from deixis.models.decoders.detr import DetrBoxDecoder, DetrJoints
from deixis.models.decoders.interface import Features, UnitLoss
from deixis.models.decoders.layers import Attention, MultiLayerPerceptron, QualityHead
from deixis.models.decoders.placing import points_at_source
from deixis.models.decoders.proposals import Proposals
from deixis.models.decoders.trunk import DecoderConfig, Design, ReferenceTrunk, Refined
from deixis.models.losses.anchors import Anchors, anchor_loss, box_coverage, reached
from deixis.models.losses.boxes import box_loss, paired_iou, to_corners
from deixis.models.losses.masks import focal_loss
from deixis.models.losses.scoring import quality_loss, tied_zero, weighted_mean
from deixis.models.matching import pairwise_box_cost
from deixis.models.positions import BOX_CODE, box_code, sine_positions
from deixis.models.references import LatentReferences
from deixis.structures import UnitType

# shoulders to ankles, as in COCO
CROWDPOSE_KEYPOINTS = (*COCO_KEYPOINTS[5:], "head", "neck")
"""The 14 keypoints of a person in CrowdPose, in its order."""

COCO_SIGMAS = (
    *(0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072),
    *(0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089, 0.089),
)
"""Standard deviation of annotators for each of COCO's keypoints, relative to a body's scale."""

CROWDPOSE_SIGMAS = (
    *(0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107),
    *(0.107, 0.087, 0.087, 0.089, 0.089, 0.079, 0.079),
)
"""The same for CrowdPose."""


@dataclass(frozen=True, slots=True)
class Skeleton:
    """Names of keypoints and their sigmas."""

    names: tuple[str, ...]
    sigmas: tuple[float, ...]


SKELETONS = {
    "coco": Skeleton(COCO_KEYPOINTS, COCO_SIGMAS),
    "crowdpose": Skeleton(CROWDPOSE_KEYPOINTS, CROWDPOSE_SIGMAS),
}


@dataclass(frozen=True, slots=True)
class KeypointConfig:
    """Shape and losses of a keypoint decoder.

    ``width`` to ``num_queries``, ``design`` and ``dropout`` are as in `DecoderConfig`;
    ``joint_layers`` is the number of layers that refine the joints of each reference. With
    ``from_box``, joints are predicted relative to the reference's box, otherwise in the whole
    canvas. ``levels`` of visibility are COCO's three (absent, occluded, visible) or two (absent,
    visible). The design ``detr`` needs as many layers for joints as for boxes, no ``from_box`` and
    two levels.

    ``loss`` ``paper`` is 1 - OKS and L1 as a mean over the labelled joints. ``code`` is REF-VLM's
    public code: the mean distance of all joints, labelled or not, replaces 1 - OKS, sums over
    joints replace means, and references of a group are matched by their boxes only.

    Raises:
        ModelError: Fields do not fit the design.
    """

    skeleton: Literal["coco", "crowdpose"] = "coco"
    width: int = 128
    heads: int = 4
    hidden: int = 256
    layers: int = 2
    joint_layers: int = 2
    anchored: bool = True
    anchor_weight: float = 1.0
    num_queries: int = 100
    from_box: bool = True
    levels: Literal[2, 3] = 3
    loss: Literal["paper", "code"] = "paper"
    l1: float = 2.0
    similarity: float = 2.0
    visibility: float = 1.0
    box_l1: float = 5.0
    box_giou: float = 2.0
    auxiliary: float = 0.5
    quality: float = 0.25
    design: Design = "deixis"
    dropout: float = 0.0

    def __post_init__(self) -> None:
        trunk = self.trunk  # checks the shape of the box decoder
        fits = (self.joint_layers, self.from_box, self.levels) == (trunk.layers, False, 2)
        if self.design == "detr" and not fits:
            raise ModelError(
                "a keypoint decoder of the design detr: expected as many joint_layers as layers, "
                "from_box false and 2 levels"
            )

    @property
    def trunk(self) -> DecoderConfig:
        """The configuration of the layers that find a reference's box."""
        return DecoderConfig(
            self.width,
            self.heads,
            self.hidden,
            self.layers,
            self.anchored,
            self.anchor_weight,
            self.num_queries,
            self.design,
            self.dropout,
        )

    @classmethod
    def refvlm(cls, preset: Literal["paper", "code"] = "paper") -> "KeypointConfig":
        """Return REF-VLM's shape: 6 layers each, width 256, 8 heads, without anchors.

        ``code`` has the layers and losses of its public code, ``paper`` those of deixis.
        """
        return cls(
            width=256,
            heads=8,
            hidden=2048,
            layers=6,
            joint_layers=6,
            anchored=False,
            from_box=False,
            levels=2,
            loss=preset,
            design="detr" if preset == "code" else "deixis",
            dropout=0.1 if preset == "code" else 0.0,
        )


@dataclass(frozen=True, slots=True)
class KeypointPredictions:
    """Bodies of references, in [0, 1] of the canvas.

    ``steps`` are the joints (x, y) after each joint layer; the last step is the prediction.
    ``visibility`` are logits of the levels. ``boxes`` (cxcywh) are the box from which the joints
    start and the final box. ``quality`` is the logit of the probability that the OKS with the truth
    is above 0.5.
    """

    steps: tuple[Float[Tensor, "b q k 2"], ...]
    visibility: Float[Tensor, "b q k _levels"]
    boxes: tuple[Float[Tensor, "b q 4"], Float[Tensor, "b q 4"]]
    quality: Float[Tensor, "b q"]
    anchors: tuple[Anchors, ...]

    @property
    def positions(self) -> Float[Tensor, "b q k 2"]:
        """The final joints."""
        return self.steps[-1]


@dataclass(frozen=True, slots=True)
class KeypointTruth:
    """Truth for each filled reference, in [0, 1] of the canvas.

    ``visibility`` is COCO's (0 absent, 1 occluded, 2 visible). ``areas`` scale the OKS, as shares of
    the canvas; COCO uses the area of the mask. ``boxes`` are cxcywh.
    """

    positions: Float[Tensor, "n k 2"]
    visibility: Int[Tensor, "n k"]
    areas: Float[Tensor, " n"]
    boxes: Float[Tensor, "n 4"]
    known: Bool[Tensor, " n"]
    weights: Float[Tensor, " n"]

    def take(self, order: Int[Tensor, " n"]) -> "KeypointTruth":
        """Reorder the truth; weights stay with the references."""
        return KeypointTruth(
            self.positions[order],
            self.visibility[order],
            self.areas[order],
            self.boxes[order],
            self.known[order],
            self.weights,
        )


def object_keypoint_similarity(
    predicted: Float[Tensor, "*#n k 2"],
    target: Float[Tensor, "*#n k 2"],
    labelled: Bool[Tensor, "*#n k"],
    areas: Float[Tensor, "*#n"],
    sigmas: Float[Tensor, " k"],
) -> Float[Tensor, "*#n"]:
    """Return COCO's OKS: the mean over labelled joints of exp(-d² / (2 s² k²)), s² the area.

    k is twice the joint's sigma. Positions and areas may be in any one frame with square pixels.
    A body without labelled joints has 0.
    """
    distance = (predicted - target).square().sum(-1)
    spread = 2 * areas.clamp(min=1e-9)[..., None] * (2 * sigmas).square()
    each = (-distance / spread).exp() * labelled
    return each.sum(-1) / labelled.sum(-1).clamp(min=1)


class JointLayer(nn.Module):
    """A pre-norm layer: attention between a reference's joints, to the feature map, and an MLP."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.self_norm, self.cross_norm, self.mlp_norm = (nn.LayerNorm(width) for _ in range(3))
        self.self_attention = Attention(width, heads)
        self.cross_attention = Attention(width, heads)
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)

    def forward(
        self,
        joints: Float[Tensor, "b q k d"],
        places: Float[Tensor, "b q k d"],
        features: Float[Tensor, "b cells d"],
        positions: Float[Tensor, "cells d"],
    ) -> Float[Tensor, "b q k d"]:
        """Refine joints; references do not see one another."""
        batch, count = joints.shape[:2]
        normed = self.self_norm(joints)
        placed = (normed + places).flatten(0, 1)
        mixed = self.self_attention(placed, placed, normed.flatten(0, 1))
        joints = joints + mixed.unflatten(0, (batch, count))
        asked = (self.cross_norm(joints) + places).flatten(1, 2)
        seen = self.cross_attention(asked, features + positions, features)
        joints = joints + seen.unflatten(1, (count, -1))
        return joints + self.down(functional.gelu(self.up(self.mlp_norm(joints))))


class KeypointDecoder(nn.Module):
    """One body and one quality for each reference."""

    unit = UnitType.KEYPOINT.value
    # its anchors learn only from references that ask for a body
    anchored = False

    def __init__(
        self, config: KeypointConfig, language_width: int, pyramid: Sequence[int] = ()
    ) -> None:
        super().__init__()
        self.config = config
        self.capacity = config.trunk.capacity
        self.skeleton = SKELETONS[config.skeleton]
        count = len(self.skeleton.names)
        if config.design == "detr":
            self.box_decoder = DetrBoxDecoder(config.trunk, language_width, pyramid, scored=False)
            self.keypoint_decoder = DetrJoints(config.trunk, pyramid, count)
        else:
            self._add_own_layers(config, language_width, count)
        self.estimate = QualityHead(config.width)

    def _add_own_layers(self, config: KeypointConfig, language_width: int, count: int) -> None:
        self.trunk = ReferenceTrunk(config.trunk, language_width, self.unit)
        self.norm = nn.LayerNorm(config.width)
        self.box = MultiLayerPerceptron(config.width, 4)
        self.feature_norm = nn.LayerNorm(config.width)
        self.joints = nn.Parameter(torch.randn(count + 1, config.width))
        self.place = nn.Linear(BOX_CODE, config.width)
        self.layers = nn.ModuleList(
            JointLayer(config.width, config.heads, config.hidden)
            for _ in range(config.joint_layers)
        )
        self.joint_norm = nn.LayerNorm(config.width)
        self.position = MultiLayerPerceptron(config.width, 2)
        self.whole = MultiLayerPerceptron(config.width, 4)
        self.visible = nn.Linear(config.width, config.levels)

    def start_from_proposals(self) -> None:
        """Initialise the box heads so that they return the proposed boxes unchanged."""
        for head in (self.box, self.whole):
            nn.init.zeros_(head.last.weight)
            nn.init.zeros_(head.last.bias)

    def read_truth(self, batch: Batch) -> UnitTruth[KeypointTruth] | None:
        """Return the bodies of `KeypointReader`; None if no reference asks for one."""
        return batch.references.truth_of(self.unit, KeypointTruth)

    def forward(self, references: LatentReferences, features: Features) -> KeypointPredictions:
        """Decode every reference; bodies of padding are undefined.

        Raises:
            ModelError: The decoder has no anchors and a turn has more references than
                ``num_queries``.
        """
        if self.config.design == "detr":
            return self._decode_as_detr(references, features)
        cells = features.maps.cells
        refined = self.trunk(references, cells, features.proposals)
        state = self.norm(refined.states[-1])
        box = self._box(state, refined, features.proposals)
        flat = self.feature_norm(cells.flatten(2).transpose(1, 2))
        positions = sine_positions(
            cells.shape[-1], flat.shape[-1], device=cells.device, dtype=flat.dtype
        )
        joints = state[:, :, None] + self.joints
        code = self.place(box_code(box.detach()).to(state.dtype))
        places = code[:, :, None] + self.joints
        steps = []
        for layer in self.layers:
            joints = layer(joints, places, flat, positions)
            steps.append(self._positions(self.joint_norm(joints[:, :, :-1]), box))
        normed = self.joint_norm(joints)
        whole = normed[:, :, -1]
        return KeypointPredictions(
            tuple(steps),
            self.visible(normed[:, :, :-1]).float(),
            (box, moved_boxes(box.detach(), self.whole(whole).float())),
            self.estimate(whole, refined.anchors),
            refined.anchors,
        )

    def _decode_as_detr(
        self, references: LatentReferences, features: Features
    ) -> KeypointPredictions:
        sets = references.in_sets(self.unit, self.config.num_queries)
        if not sets.count:
            shape = (*references.filled.shape, len(self.skeleton.names), 2)
            joints = references.states.new_zeros(shape, dtype=torch.float32)
            box, quality = joints[..., 0, :1].expand(-1, -1, 4), joints[..., 0, 0]
            return KeypointPredictions((joints,), joints, (box, box), quality, ())
        boxes, bodies = self.box_decoder, self.keypoint_decoder
        refined = boxes.refine(references, sets, features)
        start = boxes.predictor(sets.take_back(refined)).float().sigmoid()
        states = sets.take_back(bodies(refined, features))
        whole, joints = states[:, :, 0], states[:, :, 1:]
        return KeypointPredictions(
            (bodies.position(joints).float().sigmoid(),),
            bodies.visible(joints).float(),
            (start, bodies.box(whole).float().sigmoid()),
            self.estimate(whole, ()),
            (),
        )

    def _box(
        self, state: Float[Tensor, "b q d"], refined: Refined, proposals: Proposals | None
    ) -> Float[Tensor, "b q 4"]:
        numbers = self.box(state).float()
        if not refined.anchors:
            return numbers.sigmoid()
        anchor = refined.anchors[-1]
        if proposals is not None:
            return moved_boxes(proposals.at(anchor.elected)[0].detach(), numbers)
        extent = numbers[..., 2:].sub(1.5).sigmoid()
        return torch.cat([anchor.centres + numbers[..., :2], extent], dim=-1)

    def _positions(
        self, joints: Float[Tensor, "b q k d"], box: Float[Tensor, "b q 4"]
    ) -> Float[Tensor, "b q k 2"]:
        numbers = self.position(joints).float()
        if not self.config.from_box:
            return numbers.sigmoid()
        start = box.detach()[:, :, None]
        return start[..., :2] + numbers * start[..., 2:]

    def costs(
        self,
        decoded: KeypointPredictions,
        truth: KeypointTruth,
        filled: Bool[Tensor, "b q"],
        members: Int[Tensor, "g most"],
    ) -> Float[Tensor, "g most most"]:
        """Return box and joint losses of every pair; zero where the truth is not known.

        With ``loss`` ``code``, only the losses of boxes.
        """
        index = members.clamp(min=0)
        if self.config.loss == "code":
            cost = pairwise_box_cost(
                decoded.boxes[1].detach()[filled][index],
                truth.boxes[index],
                l1=self.config.box_l1,
                giou=self.config.box_giou,
            )
            return cost.masked_fill(~truth.known[index][:, None], 0.0)
        joints = decoded.positions.detach()[filled][index][:, :, None]
        boxes = decoded.boxes[1].detach()[filled][index][:, :, None]
        labelled = truth.visibility[index][:, None] > 0
        apart = (joints - truth.positions[index][:, None]).abs().sum(-1) * labelled
        alike = object_keypoint_similarity(
            joints,
            truth.positions[index][:, None],
            labelled,
            truth.areas[index][:, None],
            self._sigmas(joints.device),
        )
        target = truth.boxes[index][:, None]
        distance = (boxes - target).abs().sum(-1)
        overlap = paired_iou(to_corners(boxes), to_corners(target))[1]
        cost = (
            self.config.l1 * apart.sum(-1) / labelled.sum(-1).clamp(min=1)
            + self.config.similarity * (1 - alike) * labelled.any(-1)
            + self.config.box_l1 * distance
            + self.config.box_giou * (1 - overlap)
        )
        return cost.masked_fill(~truth.known[index][:, None], 0.0)

    def losses(
        self, decoded: KeypointPredictions, truth: KeypointTruth, filled: Bool[Tensor, "b q"]
    ) -> UnitLoss:
        """Compute the losses of boxes, joints, visibility and quality, with the config's weights."""
        tied = tied_zero(self)
        known = truth.known
        if not bool(known.any()):
            zero = tied.detach()
            return UnitLoss(tied, dict.fromkeys(_PARTS, zero), {"keypoint_oks": zero})
        scale = truth.weights[known]
        here = filled.clone()
        here[filled] = known
        config = self.config
        target, areas = truth.positions[known], truth.areas[known]
        visibility, boxes = truth.visibility[known], truth.boxes[known]
        labelled = visibility > 0
        coverage = (
            box_coverage(boxes, decoded.anchors[0].logits.shape[-1]) if decoded.anchors else None
        )
        found = scale * reached(decoded.anchors[-1:], here, coverage)
        parts = {
            "box": self._box_loss(decoded, here, boxes, found),
            "anchor": anchor_loss(decoded.anchors, here, coverage, scale),
            "visibility": weighted_mean(
                self._visibility_loss(decoded.visibility[here], visibility), found
            ),
        }
        counts = labelled.sum(-1).clamp(min=1)
        sigmas = self._sigmas(target.device)
        distances, similarities = [], []
        for step in decoded.steps:
            joints = step[here]
            apart = ((joints - target).abs().sum(-1) * labelled).sum(-1)
            if config.loss == "code":
                distances.append(weighted_mean(apart, found))
                similarities.append(_mean_distance(joints, target, found))
                continue
            distances.append(weighted_mean(apart / counts, found))
            alike = object_keypoint_similarity(joints, target, labelled, areas, sigmas)
            similarities.append(weighted_mean(1 - alike, found * labelled.any(-1)))
        parts["l1"] = _with_earlier(distances, config.auxiliary)
        parts["similarity"] = _with_earlier(similarities, config.auxiliary)
        with torch.no_grad():
            oks = object_keypoint_similarity(
                decoded.positions[here], target, labelled, areas, sigmas
            )
            seen = scale * labelled.any(-1)
        parts["quality"] = quality_loss(decoded.quality[here], oks, seen)
        loss = (
            parts["box"]
            + config.anchor_weight * parts["anchor"]
            + config.visibility * parts["visibility"]
            + config.l1 * parts["l1"]
            + config.similarity * parts["similarity"]
            + config.quality * parts["quality"]
        )
        measures = {"keypoint_oks": weighted_mean(oks, seen)}
        return UnitLoss(loss + tied, {name: parts[name].detach() for name in _PARTS}, measures)

    def _sigmas(self, device: torch.device) -> Float[Tensor, " k"]:
        # not a buffer, which would be cast to the precision of the weights
        return torch.tensor(self.skeleton.sigmas, dtype=torch.float32, device=device)

    def _box_loss(
        self,
        decoded: KeypointPredictions,
        here: Bool[Tensor, "b q"],
        target: Float[Tensor, "n 4"],
        scale: Float[Tensor, " n"],
    ) -> Float[Tensor, ""]:
        """Return the loss of the final box plus ``auxiliary`` times that of the first box."""
        each = []
        for boxes in decoded.boxes:
            distance, overlap = box_loss(boxes[here], target)
            loss = self.config.box_l1 * distance + self.config.box_giou * overlap
            each.append(weighted_mean(loss, scale))
        return self.config.auxiliary * each[0] + each[1]

    def _visibility_loss(
        self, logits: Float[Tensor, "n k levels"], visibility: Int[Tensor, "n k"]
    ) -> Float[Tensor, " n"]:
        """Return the focal loss of the levels of joints: a mean over joints, a sum for ``code``."""
        level = visibility.long().clamp(max=self.config.levels - 1)
        wanted = functional.one_hot(level, self.config.levels).float()
        each = focal_loss(logits.flatten(0, 1), wanted.flatten(0, 1))
        each = each.unflatten(0, (len(logits), -1))
        return each.sum(-1) if self.config.loss == "code" else each.mean(-1)

    def to_unit(
        self, decoded: KeypointPredictions, row: int, position: int, letterbox: Letterbox
    ) -> Keypoints:
        """Return the body of one reference in pixels of its image; joints outside it are absent.

        Raises:
            GeometryError: A position is not finite.
        """
        places = points_at_source(decoded.positions[row, position], letterbox).numpy()
        level = decoded.visibility[row, position].argmax(-1).cpu().numpy()
        seen = (level * (2 if self.config.levels == 2 else 1)).astype(np.int8)
        return Keypoints(places.astype(np.float32), seen, self.skeleton.names).clip(
            letterbox.source
        )


_PARTS = ("box", "anchor", "visibility", "l1", "similarity", "quality")


def _mean_distance(
    joints: Float[Tensor, "n k 2"], target: Float[Tensor, "n k 2"], scale: Float[Tensor, " n"]
) -> Float[Tensor, ""]:
    # the OKS loss of the public code; the epsilon keeps the gradient of the root finite
    distance = (joints - target + 1e-6).square().sum(-1).clamp(min=1e-12).sqrt()
    return weighted_mean(distance.mean(-1), scale)


def _with_earlier(steps: list[Tensor], weight: float) -> Float[Tensor, ""]:
    """Return the last step's loss plus ``weight`` times the mean of the earlier ones."""
    if len(steps) == 1:
        return steps[0]
    return steps[-1] + weight * torch.stack(steps[:-1]).mean()
