"""Mask-guided aggregation of REF-VLM (IV-B, equations 1 to 3) and of its public code."""

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from deixis.errors import ModelError
from deixis.models.regions.choices import check_count, check_fields, values_of
from deixis.models.regions.grouping import group_by_image

Layout = Literal["grid", "strip"]
Pooling = Literal["sum", "embedding"]
Coverage = Literal["half", "touched", "share"]
Area = Literal["total", "block"]
Positions = Literal["cosine", "learned", "none"]
MaskCode = Literal["none", "mean", "flat"]


@dataclass(frozen=True, slots=True)
class Aggregation:
    """Options of pooling features under a mask. The defaults are those of the paper.

    Args:
        layout: Blocks of a √N x √N ``grid``, or the raster order of the pixels cut into N
            ``strip``s, as the reshape in the public code does.
        pooling: ``sum`` of equation 1, or ``embedding``: each masked block through a convolution of
            the block's size (public code), which needs maps of ``patch`` √N cells per side.
        coverage: Weight of cells in a region: the covered ``share`` (equation 1 for masks of any
            shape); 1 for cells at least ``half`` covered; or 1 for cells above zero after bilinear
            reduction (``touched``, public code). The last two first binarise the mask's pixels at
            half coverage, which can remove parts of thin regions.
        area: Divide blocks by the ``total`` area of the mask, so that an empty block is zero, or
            each ``block`` by its own area, so that each is a mean.
        positions: ``cosine`` of equation 2, ``learned`` (public code) or ``none``.
        mask_code: Add a token computed from the mask alone (public code). ``mean``: a linear map of
            the mean of the normalised mask, which is one over the number of cells for every mask.
            ``flat``: a linear map of the mask at ``patch`` √N cells per side, in the projector's
            output width and without a position.
        patch: Cells per side of a block, if weights depend on it.
        strength: Weight of the positions, alpha of equation 3.
        learned_strength: Whether alpha is learned.
        base: Temperature of equation 2, which the paper does not state.
    """

    layout: Layout = "grid"
    pooling: Pooling = "sum"
    coverage: Coverage = "share"
    area: Area = "total"
    positions: Positions = "cosine"
    mask_code: MaskCode = "none"
    patch: int = 8
    strength: float = 1.0
    learned_strength: bool = False
    base: float = 10_000.0

    def __post_init__(self) -> None:
        check_fields(Aggregation, values_of(self))
        check_count("patch", self.patch)

    @property
    def has_weights(self) -> bool:
        """Whether there are weights besides alpha, so that the features' width must be known."""
        return (
            self.positions == "learned" or self.pooling == "embedding" or self.mask_code != "none"
        )


PRESETS = MappingProxyType(
    {
        "paper": Aggregation(),
        "deixis": Aggregation(coverage="half"),
        "code": Aggregation(layout="strip", coverage="touched", positions="learned"),
        "code_mask_token": Aggregation(
            layout="strip", coverage="touched", positions="learned", mask_code="mean"
        ),
        "code_embedding": Aggregation(pooling="embedding", coverage="touched", positions="learned"),
        "code_legacy": Aggregation(
            coverage="touched", positions="none", mask_code="flat", patch=24
        ),
    }
)
"""Variants of REF-VLM's paper, of the shipped model, and of REF-VLM's public code.

The legacy variant uses a single block.
"""


class MaskGuidedAggregation(nn.Module):
    """Pool visual features under a mask, for each block of a √N x √N grid.

    V[q, n] sums X · M[q] over the cells of block n and divides by the total area of M[q] (equation
    1, normalised masks); cos(n / s^(2c/C)) encodes the block (equations 2 and 3). A side that is
    not divisible is padded at the right or bottom with cells outside of the region. A region too
    small for the feature map keeps the cell with its largest share, so that no region vanishes.
    Sums are in float32, also under autocast.

    Args:
        num_tokens: Number of blocks, a square number.
        width: Channels of the features; required by variants with weights.
        code_width: Channels of a ``flat`` mask code; by default those of the features.
        variant: Options of the aggregation.
        strength: Weight of the positions, in place of the variant's.
        base: Temperature of the positions, in place of the variant's.

    Raises:
        ModelError: ``num_tokens`` is not a square number, or the variant needs a ``width``.
    """

    def __init__(
        self,
        num_tokens: int,
        *,
        width: int | None = None,
        code_width: int | None = None,
        variant: Aggregation = PRESETS["paper"],
        strength: float | None = None,
        base: float | None = None,
    ) -> None:
        super().__init__()
        self.side = math.isqrt(max(num_tokens, 0))
        if self.side**2 != num_tokens or not num_tokens:
            raise ModelError(f"region tokens: expected a square number, got {num_tokens}")
        self.num_blocks = num_tokens
        self.num_tokens = num_tokens + (variant.mask_code != "none")
        self.variant = variant
        self.base = variant.base if base is None else base
        self.strength: float | nn.Parameter = variant.strength if strength is None else strength
        if variant.learned_strength:
            self.strength = nn.Parameter(torch.tensor(float(self.strength)))
        if variant.has_weights:
            if width is None:
                raise ModelError("this aggregation has weights: expected a width, got none")
            self._add_weights(width, width if code_width is None else code_width)

    @property
    def num_placed(self) -> int:
        """Number of tokens with a position."""
        return self.num_blocks if self.variant.mask_code == "flat" else self.num_tokens

    def _add_weights(self, width: int, code_width: int) -> None:
        patch = self.variant.patch
        # names and shapes are those of the public code
        if self.variant.pooling == "embedding":
            self.patch_embedding = nn.Conv2d(width, width, patch, stride=patch, bias=False)
        if self.variant.positions == "learned":
            self.position_embedding = nn.Embedding(self.num_placed, width)
        match self.variant.mask_code:
            case "mean":
                self.mask_embedding = nn.Linear(1, width)
            case "flat":
                self.mask_embedding = nn.Linear((patch * self.side) ** 2, code_width)
            case _:
                pass

    def forward(
        self,
        features: Float[Tensor, "b c h w"],
        masks: Float[Tensor, "q mh mw"],
        rows: Int[Tensor, " q"],
    ) -> Float[Tensor, "q n c"]:
        """Return ``num_tokens`` vectors for each mask, in order.

        Masks cover the canvas at any resolution, with values from 0 to 1; ``rows`` is the image of
        each. A mask code of another width than the features' is only available from `parts`.

        Raises:
            ModelError: A mask is empty, or the features do not have the side of the weights.
        """
        tokens, code = self.parts(features, masks, rows)
        return tokens if code is None else torch.cat([tokens, code], dim=1)

    def parts(
        self,
        features: Float[Tensor, "b c h w"],
        masks: Float[Tensor, "q mh mw"],
        rows: Int[Tensor, " q"],
    ) -> tuple[Float[Tensor, "q n c"], Float[Tensor, "q 1 _code"] | None]:
        """Return the pooled vectors and, separately, the ``flat`` mask code or None.

        Raises:
            ModelError: A mask is empty, or the features do not have the side of the weights.
        """
        with _without_autocast(features.device.type):
            weights = self._weights(masks, (features.shape[2], features.shape[3]))
            tokens = self._pooled(features.float(), weights, rows)
            code = None if self.variant.mask_code == "none" else self._told(weights)
            if code is not None and self.variant.mask_code == "mean":
                tokens, code = torch.cat([tokens, code], dim=1), None
            placed = tokens + self._positions(features.shape[1], features.device)
        return placed.to(features.dtype), None if code is None else code.to(features.dtype)

    def _weights(
        self, masks: Float[Tensor, "q mh mw"], size: tuple[int, int]
    ) -> Float[Tensor, "q h w"]:
        """Return masks at the resolution of the features, normalised to a sum of one."""
        if self.variant.coverage != "share":
            masks = _at_least_half(masks.float())
        share = functional.adaptive_avg_pool2d(masks.unsqueeze(1).float(), size)[:, 0]
        flat = share.flatten(1)
        sound = (flat > 0).any(1) & flat.isfinite().all(1)
        if not bool(sound.all()):
            first = int((~sound).nonzero()[0])
            raise ModelError(f"mask of region {first}: expected a mask that covers a cell")
        match self.variant.coverage:
            case "half":
                inside = (flat >= 0.5).float()
            case "touched":
                shrunk = functional.interpolate(
                    masks.unsqueeze(1).float(), size, mode="bilinear", align_corners=False
                )
                inside = (shrunk.flatten(1) > 0).float()
            case _:
                inside = flat
        largest = functional.one_hot(flat.argmax(1), flat.shape[1]).float()
        # if no cell is covered enough, use the one covered most
        weights = torch.where((inside > 0).any(1, keepdim=True), inside, largest)
        return (weights / weights.sum(1, keepdim=True)).view_as(share)

    def _pooled(
        self,
        features: Float[Tensor, "b c h w"],
        weights: Float[Tensor, "q h w"],
        rows: Int[Tensor, " q"],
    ) -> Float[Tensor, "q n c"]:
        groups = group_by_image(rows)
        # without a copy if every image has a region
        seen = features[groups.images] if len(groups.images) < len(features) else features
        if self.variant.pooling == "embedding":
            seen = self._embedded(seen)
        sizes, inside = self._bands(features.shape[2], features.shape[3], features.device)
        # one product per band of blocks reads the features in place, once for all regions
        parts = zip(
            seen.flatten(2).split(sizes, 2),
            groups.line_up(weights.flatten(1)).split(sizes, 2),
            inside.split(sizes, 1),
            strict=True,
        )
        return groups.take_back(torch.cat([self._pooled_band(*part) for part in parts], dim=2))

    def _pooled_band(
        self,
        cells: Float[Tensor, "i c p"],
        weights: Float[Tensor, "i m p"],
        inside: Float[Tensor, "k p"],
    ) -> Float[Tensor, "i m k c"]:
        """Return the sums of a band's cells by region of an image and block of the band."""
        masked = weights[:, :, None] * inside
        if self.variant.area == "block":
            masked = masked / masked.sum(-1, keepdim=True).clamp(min=1e-12)
        sums = masked.flatten(1, 2) @ cells.transpose(1, 2)
        return sums.unflatten(1, masked.shape[1:3])

    def _bands(
        self, height: int, width: int, device: torch.device
    ) -> tuple[list[int], Float[Tensor, "k cells"]]:
        """Return the cells of each band of blocks in raster order, and the block of each cell.

        A band is a row of √N blocks of the grid, or a single strip. The last ones are smaller if
        sides are not divisible.
        """
        cells = height * width
        if self.variant.layout == "strip":
            count, longest, blocks = self.num_blocks, math.ceil(cells / self.num_blocks), 1
        else:
            count, longest, blocks = self.side, math.ceil(height / self.side) * width, self.side
        ends = [min(longest * band, cells) for band in range(count + 1)]
        column = torch.arange(cells, device=device) % width // math.ceil(width / blocks)
        inside = functional.one_hot(column, blocks).T.float()
        return [end - start for start, end in pairwise(ends)], inside

    def _embedded(self, features: Float[Tensor, "i c h w"]) -> Float[Tensor, "i c h w"]:
        """Return the contribution of each cell to the convolution over its block, before masking.

        The convolution is linear, so masks can be applied afterwards, and cells are mapped once for
        all regions.
        """
        self._check_side(features.shape[2:])
        sides = (self.side, self.variant.patch)
        blocks = features.unflatten(3, sides).unflatten(2, sides)
        mapped = torch.einsum("icyvxu,dcvu->idyvxu", blocks, self.patch_embedding.weight.float())
        return mapped.flatten(4).flatten(2, 3)

    def _told(self, weights: Float[Tensor, "q h w"]) -> Float[Tensor, "q 1 c"]:
        if self.variant.mask_code == "mean":
            told = weights.mean((1, 2)).unsqueeze(1)
        else:
            self._check_side(weights.shape[1:])
            told = weights.flatten(1)
        linear = self.mask_embedding
        return functional.linear(told, linear.weight.float(), linear.bias.float()).unsqueeze(1)

    def _check_side(self, size: torch.Size) -> None:
        expected = self.variant.patch * self.side
        if tuple(size) != (expected, expected):
            raise ModelError(
                f"features of {size[1]}x{size[0]} cells: the weights of this aggregation are "
                f"for {expected}x{expected}"
            )

    def _positions(self, channels: int, device: torch.device) -> Float[Tensor, "#n #c"]:
        match self.variant.positions:
            case "learned":
                return self.strength * self.position_embedding.weight.float()
            case "none":
                return torch.zeros(1, 1, device=device)
            case "cosine":
                order = torch.arange(self.num_placed, device=device)[:, None]
                rate = self.base ** (2 * torch.arange(channels, device=device) / channels)
                return self.strength * torch.cos(order / rate)


def _without_autocast(kind: str) -> AbstractContextManager[object]:
    """Disable autocast, where the type of device has it."""
    if not torch.amp.is_autocast_available(kind):
        return nullcontext()
    return torch.autocast(kind, enabled=False)


def _at_least_half(masks: Float[Tensor, "q mh mw"]) -> Float[Tensor, "q mh mw"]:
    """Return the pixels that a mask covers at least half, or else the one it covers most.

    A mask that is empty or not finite is returned unchanged, to be refused later.
    """
    flat = masks.flatten(1)
    inside = (flat >= 0.5).float()
    largest = functional.one_hot(flat.argmax(1), flat.shape[1]).float()
    chosen = torch.where(inside.any(1, keepdim=True), inside, largest)
    sound = (flat > 0).any(1, keepdim=True) & flat.isfinite().all(1, keepdim=True)
    return torch.where(sound, chosen, flat).view_as(masks)
