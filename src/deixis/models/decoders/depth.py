"""Depth from latent references (REF-VLM names such a decoder without a description or code).

A reference is refined as for a mask. Its state scales and shifts the channels of the pixel features,
and two convolutions predict one number per pixel: the position between the nearest and the farthest
depth on a logarithmic scale. A depth is therefore always in the configured range.

The loss of metric truth is the scale-invariant logarithmic error (Eigen et al. 2014, equation 4, as
a root, with the variance weighted as in BTS 3.3). The loss of relative truth is invariant to scale
and shift of the disparity (MiDaS, section 5).
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from deixis.batch import Batch, UnitTruth
from deixis.errors import ModelError
from deixis.geometry import DepthMap, Letterbox
from deixis.models.decoders.interface import Features, UnitLoss
from deixis.models.decoders.layers import MultiLayerPerceptron, QualityHead
from deixis.models.decoders.pixel import PixelFeatures
from deixis.models.decoders.placing import map_at_source
from deixis.models.decoders.trunk import DecoderConfig, ReferenceTrunk
from deixis.models.losses.anchors import Anchors
from deixis.models.losses.scoring import quality_loss, tied_zero, weighted_mean
from deixis.models.references import LatentReferences
from deixis.structures import UnitType

_TINY = 1e-8


@dataclass(frozen=True, slots=True)
class DepthConfig:
    """Shape of a depth decoder, its range in metres, and its losses.

    The range of NYU Depth v2 is 0.1 to 10, that of KITTI 1 to 80; truth outside the range takes no
    part in the loss. ``variance`` is the share of the common error that SILog ignores, from 0 to 1.
    Relative truth is an affine function of ``relative_in``: the negative ``disparity``, as the
    reader of HRWSI returns it, or ``depth``. ``kind`` is the kind of the decoded maps; it should be
    ``relative`` for a decoder that was trained on relative truth only.
    """

    width: int = 128
    heads: int = 4
    hidden: int = 256
    layers: int = 2
    num_queries: int = 100
    nearest: float = 0.1
    farthest: float = 10.0
    kind: Literal["metric", "relative"] = "metric"
    relative_in: Literal["disparity", "depth"] = "disparity"
    variance: float = 0.85
    silog: float = 1.0
    affine: float = 1.0
    gradient: float = 0.5
    quality: float = 0.25

    @property
    def trunk(self) -> DecoderConfig:
        """The configuration of the layers that refine references; a depth map has no anchor."""
        return DecoderConfig(
            width=self.width,
            heads=self.heads,
            hidden=self.hidden,
            layers=self.layers,
            anchored=False,
            num_queries=self.num_queries,
        )


@dataclass(frozen=True, slots=True)
class DepthPredictions:
    """Logarithms of depths (metres) over the canvas, for filled references only.

    ``index`` is the map of each reference, -1 for padding. ``quality`` is the logit of the
    probability that more than half of the pixels have δ < 1.25.
    """

    logs: Float[Tensor, "n h w"]
    index: Int[Tensor, "b q"]
    quality: Float[Tensor, "b q"]
    anchors: tuple[Anchors, ...] = ()


@dataclass(frozen=True, slots=True)
class DepthTruth:
    """Truth for each filled reference: depth over the canvas, 0 where it is unknown.

    Values are metres or, if ``relative``, numbers that grow with depth. Truth may have any
    resolution; predictions are interpolated to it.
    """

    values: Float[Tensor, "n h w"]
    relative: Bool[Tensor, " n"]
    known: Bool[Tensor, " n"]
    weights: Float[Tensor, " n"]

    def take(self, order: Int[Tensor, " n"]) -> "DepthTruth":
        """Reorder the truth; weights stay with the references."""
        return DepthTruth(self.values[order], self.relative[order], self.known[order], self.weights)


def scale_invariant_log_loss(
    logs: Float[Tensor, "n p"],
    target: Float[Tensor, "n p"],
    valid: Bool[Tensor, "n p"],
    *,
    variance: float = 0.85,
) -> Float[Tensor, " n"]:
    """Return the SILog of each map: the root of mean(e²) - variance · mean(e)², e the log error.

    Args:
        logs: Predicted logarithms.
        target: Depths; only those of ``valid`` pixels are read.
        valid: Pixels that count. The loss of a map without valid pixels is 0.
        variance: 1 makes the loss scale-invariant; 0 makes it the root mean square of e.
    """
    errors = (logs - target.where(valid, torch.ones_like(target)).log()) * valid
    count = valid.sum(-1).clamp(min=1)
    mean = errors.sum(-1) / count
    # mean(e²) - v mean(e)² = var(e) + (1 - v) mean(e)², which stays positive despite rounding
    spread = ((errors - mean[:, None]) * valid).square().sum(-1) / count
    squared = spread + (1 - variance) * mean.square()
    # linear near 0, where the gradient of the root is unbounded
    root = squared.clamp(min=_TINY).sqrt()
    return torch.where(squared > _TINY, root, squared / math.sqrt(_TINY))


def affine_invariant_loss(
    predicted: Float[Tensor, "n h w"],
    target: Float[Tensor, "n h w"],
    valid: Bool[Tensor, "n h w"],
    *,
    gradient: float = 0.5,
    scales: int = 4,
) -> Float[Tensor, " n"]:
    """Return MiDaS' loss of each map, invariant to scale and shift of both maps.

    Each map is shifted by its median and divided by its mean distance from the median. The loss is
    half the mean distance between the maps, plus ``gradient`` times the horizontal and vertical
    differences of their difference at ``scales`` resolutions. A map without valid pixels has 0; a
    constant prediction gets no gradient from its spread.
    """
    count = valid.flatten(1).sum(-1)
    difference = (_standardised(predicted, valid) - _standardised(target, valid)) * valid
    loss = difference.abs().flatten(1).sum(-1) / (2 * count.clamp(min=1))
    for scale in range(scales if gradient else 0):
        step = 2**scale
        some, there = difference[:, ::step, ::step], valid[:, ::step, ::step]
        right = (some[:, :, 1:] - some[:, :, :-1]).abs() * (there[:, :, 1:] & there[:, :, :-1])
        below = (some[:, 1:] - some[:, :-1]).abs() * (there[:, 1:] & there[:, :-1])
        total = right.flatten(1).sum(-1) + below.flatten(1).sum(-1)
        loss = loss + gradient * total / there.flatten(1).sum(-1).clamp(min=1)
    return loss


def _standardised(
    maps: Float[Tensor, "n h w"], valid: Bool[Tensor, "n h w"]
) -> Float[Tensor, "n h w"]:
    """Subtract the median of the valid pixels and divide by their mean distance from it."""
    flat, there = maps.flatten(1), valid.flatten(1)
    count = there.sum(-1)
    # the lower of two medians, as in torch; invalid pixels are sorted to the end
    order = flat.masked_fill(~there, math.inf).argsort(-1)
    middle = order.gather(1, ((count - 1).clamp(min=0) // 2)[:, None])
    shift = flat.gather(1, middle).where(count[:, None] > 0, torch.zeros_like(flat[:, :1]))
    moved = (flat - shift) * there
    spread = moved.abs().sum(-1) / count.clamp(min=1)
    return (moved / spread.clamp(min=1e-4)[:, None]).unflatten(1, maps.shape[1:])


def aligned(
    predicted: Float[Tensor, "n p"], target: Float[Tensor, "n p"], valid: Bool[Tensor, "n p"]
) -> Float[Tensor, "n p"]:
    """Return predictions, scaled and shifted to the target by least squares over valid pixels."""
    count = valid.sum(-1, keepdim=True).clamp(min=1)
    centre = (predicted * valid).sum(-1, keepdim=True) / count
    goal = (target * valid).sum(-1, keepdim=True) / count
    moved = (predicted - centre) * valid
    scale = (moved * (target - goal)).sum(-1, keepdim=True) / moved.square().sum(
        -1, keepdim=True
    ).clamp(min=_TINY)
    return (predicted - centre) * scale + goal


def share_within(
    predicted: Float[Tensor, "n p"], target: Float[Tensor, "n p"], valid: Bool[Tensor, "n p"]
) -> Float[Tensor, " n"]:
    """Return δ1: the share of valid pixels where the ratio of larger to smaller depth is < 1.25."""
    safe, goal = predicted.clamp(min=1e-6), target.clamp(min=1e-6)
    close = (torch.maximum(safe / goal, goal / safe) < 1.25) & valid
    return close.sum(-1) / valid.sum(-1).clamp(min=1)


class DepthDecoder(nn.Module):
    """Decode one depth map and one quality for each reference.

    Raises:
        ModelError: The range is empty or not positive.
    """

    unit = UnitType.DEPTH.value
    anchored = False

    def __init__(self, config: DepthConfig, language_width: int, pixel_width: int) -> None:
        super().__init__()
        if not 0 < config.nearest < config.farthest < math.inf:
            raise ModelError(
                f"depth decoder: expected 0 < nearest < farthest, "
                f"got {config.nearest} and {config.farthest}"
            )
        self.config = config
        self.capacity = config.trunk.capacity
        self.trunk = ReferenceTrunk(config.trunk, language_width, self.unit)
        self.norm = nn.LayerNorm(config.width)
        self.cells = nn.Conv2d(config.width, pixel_width, 1)
        self.modulation = MultiLayerPerceptron(config.width, 2 * pixel_width)
        self.mix = nn.Conv2d(pixel_width, pixel_width, 3, padding=1)
        self.depth = nn.Conv2d(pixel_width, 1, 3, padding=1)
        self.estimate = QualityHead(config.width)

    def read_truth(self, batch: Batch) -> UnitTruth[DepthTruth] | None:
        """Return the depth maps of `DepthReader`; None if no reference asks for one."""
        return batch.references.truth_of(self.unit, DepthTruth)

    def forward(self, references: LatentReferences, features: Features) -> DepthPredictions:
        """Decode the filled references; padding takes no memory."""
        refined = self.trunk(references, features.maps.cells, features.proposals)
        state = self.norm(refined.states[-1])
        filled = references.filled
        rows = filled.nonzero()[:, 0]
        index = torch.full(filled.shape, -1, device=filled.device)
        index[filled] = torch.arange(len(rows), device=filled.device)
        logs = self._logs(state[filled], self._merged(features.maps)[rows])
        return DepthPredictions(logs, index, self.estimate(state, ()))

    def _merged(self, maps: PixelFeatures) -> Float[Tensor, "b p h w"]:
        """Add the enlarged cells, which carry context, to the pixels, which carry edges."""
        coarse = functional.interpolate(
            self.cells(maps.cells), size=maps.pixels.shape[-2:], mode="bilinear"
        )
        return functional.gelu(maps.pixels + coarse)

    def _logs(
        self, states: Float[Tensor, "n d"], maps: Float[Tensor, "n p h w"]
    ) -> Float[Tensor, "n h w"]:
        near, far = math.log(self.config.nearest), math.log(self.config.farthest)
        scale, shift = self.modulation(states)[:, :, None, None].chunk(2, dim=1)
        mixed = functional.gelu(self.mix(maps * (1 + scale) + shift))
        share = self.depth(mixed)[:, 0].float().sigmoid()
        return near + share * (far - near)

    def costs(
        self,
        decoded: DepthPredictions,
        truth: DepthTruth,
        filled: Bool[Tensor, "b q"],
        members: Int[Tensor, "g most"],
    ) -> Float[Tensor, "g most most"]:
        """Return zeros: all references of an image have the same depth map."""
        del truth, filled
        most = members.shape[1]
        return decoded.logs.new_zeros(len(members), most, most)

    def losses(
        self, decoded: DepthPredictions, truth: DepthTruth, filled: Bool[Tensor, "b q"]
    ) -> UnitLoss:
        """Compute SILog of metric truth, the affine-invariant loss of relative truth, and quality."""
        tied = tied_zero(self)
        config = self.config
        in_range = (truth.values >= config.nearest) & (truth.values <= config.farthest)
        valid = (truth.values > 0) & (in_range | truth.relative[:, None, None])
        # a single pixel has no spread to normalise by
        known = truth.known & (valid.flatten(1).sum(-1) > 1)
        if not bool(known.any()):
            zero = tied.detach()
            return UnitLoss(tied, dict.fromkeys(_PARTS, zero), {"depth_within": zero})
        scale, target, valid = truth.weights[known], truth.values[known], valid[known]
        relative = truth.relative[known]
        logs = decoded.logs[known]
        if logs.shape[-2:] != target.shape[-2:]:
            logs = functional.interpolate(logs[:, None], size=target.shape[-2:], mode="bilinear")[
                :, 0
            ]
        absolute = ~relative
        silog = scale_invariant_log_loss(
            logs[absolute].flatten(1),
            target[absolute].flatten(1),
            valid[absolute].flatten(1),
            variance=config.variance,
        )
        ordered = self._relative(logs[relative])
        affine = affine_invariant_loss(
            ordered, target[relative], valid[relative], gradient=config.gradient
        )
        with torch.no_grad():
            close = torch.zeros_like(scale)
            close[absolute] = share_within(
                logs[absolute].flatten(1).exp(),
                target[absolute].flatten(1),
                valid[absolute].flatten(1),
            )
            goal, there = target[relative].flatten(1), valid[relative].flatten(1)
            close[relative] = share_within(aligned(ordered.flatten(1), goal, there), goal, there)
        parts = {
            # both divide by the weight of all maps: a map counts the same in every mixture
            "silog": (silog * scale[absolute]).sum() / scale.sum().clamp(min=1e-6),
            "affine": (affine * scale[relative]).sum() / scale.sum().clamp(min=1e-6),
            "quality": quality_loss(decoded.quality[filled][known], close, scale),
        }
        loss = (
            config.silog * parts["silog"]
            + config.affine * parts["affine"]
            + config.quality * parts["quality"]
        )
        measures = {"depth_within": weighted_mean(close, scale)}
        return UnitLoss(loss + tied, {name: parts[name].detach() for name in _PARTS}, measures)

    def _relative(self, logs: Float[Tensor, "n h w"]) -> Float[Tensor, "n h w"]:
        """Return the negative disparity or the depth, to compare with relative truth."""
        return -(-logs).exp() if self.config.relative_in == "disparity" else logs.exp()

    def to_unit(
        self, decoded: DepthPredictions, row: int, position: int, letterbox: Letterbox
    ) -> DepthMap:
        """Return the depth map of one reference at the size of its image, without unknown pixels.

        Raises:
            GeometryError: A value is not finite.
        """
        return depth_at_source(
            decoded.logs[int(decoded.index[row, position])], letterbox, kind=self.config.kind
        )


def depth_at_source(
    logs: Float[Tensor, "h w"], letterbox: Letterbox, *, kind: Literal["metric", "relative"]
) -> DepthMap:
    """Return a map of logarithms over the canvas as a depth map of the source image.

    Raises:
        GeometryError: A value is not finite.
    """
    return DepthMap(map_at_source(logs, letterbox).exp().numpy(), kind)


_PARTS = ("silog", "affine", "quality")
