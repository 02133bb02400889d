"""The task-aware region connector of TAMP (2.2): find in the image what the task mentions.

A text encoder encodes a description between ``<ref>`` and ``</ref>``, a box encoder a box between
``<loc>`` and ``</loc>``. Both become queries in one space that attend to the features of the vision
encoder. The results replace `<region>` in the text.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from deixis.batch import Regions
from deixis.errors import ModelError
from deixis.models.projector import Projector
from deixis.models.regions.choices import check_count, check_fields, values_of
from deixis.models.regions.grouping import group_by_image
from deixis.models.regions.inputs import RegionContext
from deixis.models.regions.masked import Source
from deixis.models.regions.text_branch import Summary, TextBranch, pool_by_slots
from deixis.structures import RegionType

BoxEncoding = Literal["mlp", "sincos", "sincos_linear"]
TextQueries = Literal["summary", "tokens"]


@dataclass(frozen=True, slots=True)
class ConnectorConfig:
    """Shape of a `RegionConnector`; the paper does not state widths and depths.

    Args:
        width: Width of the shared query space, of attention and of region features.
        heads: Heads of the attention; equation 1 has one.
        hidden: Width inside the feed-forward network; 0 for four times ``width``.
        box_encoder: ``mlp`` (the paper's choice), ``sincos`` codes without weights, or
            ``sincos_linear`` (Table 4).
        box_layers: Linear layers of ``mlp``.
        text_encoder: Hugging Face configuration of a text encoder, with its ``model_type`` (see
            `read_text_config`); None for boxes only.
        text_summary: The state of the text encoder that summarises a description.
        text_queries: Queries come from the ``summary`` of a description, or each from its own
            weighted mean of the description's ``tokens``.
        num_region_tokens: Number of queries, and of tokens, of each region.
        residual: Add residual connections around attention and feed-forward network, which
            equations 1 and 2 do not have.
        source: Features that queries attend to: the vision encoder's ``tokens`` or ``cells``.
        projector_layers: Linear layers to the language model's width.
        tags: Whether the text has words and numbers between tags before a region's tokens, as in
            the paper; otherwise boxes are not spelled out, and words have no tags.
    """

    width: int = 768
    heads: int = 1
    hidden: int = 0
    box_encoder: BoxEncoding = "mlp"
    box_layers: int = 3
    text_encoder: dict[str, Any] | None = None
    text_summary: Summary = "first"
    text_queries: TextQueries = "summary"
    num_region_tokens: int = 1
    residual: bool = False
    source: Source = "tokens"
    projector_layers: int = 2
    tags: bool = True

    def __post_init__(self) -> None:
        check_fields(ConnectorConfig, values_of(self))
        for name in ("width", "heads", "box_layers", "num_region_tokens", "projector_layers"):
            check_count(name, getattr(self, name))
        check_count("hidden", self.hidden, least=0)
        if self.width % self.heads:
            raise ModelError(f"width {self.width}: expected a multiple of the {self.heads} heads")

    @property
    def num_tokens(self) -> int:
        """Number of tokens of a region."""
        return self.num_region_tokens


def box_sines(boxes: Float[Tensor, "*n 4"], width: int) -> Float[Tensor, "*n width"]:
    """Return sines and cosines of a box's four numbers in [0, 1], a quarter of ``width`` each.

    Periods form a geometric series from a hundredth of the range to the whole range; leftover
    channels are zero.
    """
    waves = width // 8
    exponents = torch.linspace(0, 1, waves, device=boxes.device)
    phase = (boxes.float()[..., None] * (2 * math.pi * 100.0**exponents)).flatten(-2)
    return functional.pad(torch.cat([phase.sin(), phase.cos()], dim=-1), (0, width - 8 * waves))


class BoxBranch(nn.Module):
    """Encode boxes (x1 y1 x2 y2 in [0, 1] of the canvas) as vectors (TAMP Table 4)."""

    def __init__(self, width: int, encoding: BoxEncoding, *, layers: int) -> None:
        super().__init__()
        self.width = width
        self.encoding = encoding
        if encoding == "mlp":
            self.mlp = Projector(4, width, layers=layers)
        if encoding == "sincos_linear":
            self.linear = nn.Linear(width, width)

    def forward(self, boxes: Float[Tensor, "n 4"]) -> Float[Tensor, "n w"]:
        """Encode boxes; codes without weights are in float32."""
        if self.encoding == "mlp":
            return self.mlp(boxes.to(self.mlp.dtype))
        codes = box_sines(boxes, self.width)
        if self.encoding == "sincos":
            return codes
        return self.linear(codes.to(self.linear.weight.dtype))


class CrossAttention(nn.Module):
    """softmax(Q W_Q (F W_K)ᵀ / √D_k) F W_V: equation 1, without an output projection."""

    def __init__(self, width: int, visual_width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(visual_width, width, bias=False)
        self.value = nn.Linear(visual_width, width, bias=False)

    def forward(
        self,
        queries: Float[Tensor, "r k d"],
        visual: Float[Tensor, "b p v"],
        rows: Int[Tensor, " r"],
    ) -> Float[Tensor, "r k d"]:
        """Attend from each region's queries to the features of its own image."""
        groups = group_by_image(rows)
        seen = visual[groups.images]
        # regions of one image share its keys, so their queries are concatenated
        asked = groups.line_up(self.query(queries)).flatten(1, 2)
        found = functional.scaled_dot_product_attention(
            self._split(asked), self._split(self.key(seen)), self._split(self.value(seen))
        )
        side_by_side = found.transpose(1, 2).flatten(2)
        return groups.take_back(side_by_side.unflatten(1, (groups.columns, queries.shape[1])))

    def _split(self, states: Float[Tensor, "i n d"]) -> Float[Tensor, "i heads n _part"]:
        return states.unflatten(2, (self.heads, -1)).transpose(1, 2)


class RegionConnector(nn.Module):
    """Attend from descriptions and boxes to image features, and project the results to tokens."""

    def __init__(self, visual_width: int, language_width: int, config: ConnectorConfig) -> None:
        super().__init__()
        self.config = config
        self.num_tokens = config.num_region_tokens
        width = config.width
        self.text = (
            None
            if config.text_encoder is None
            else TextBranch(config.text_encoder, summary=config.text_summary)
        )
        asked = width if self.text is None else self.text.width
        self.box = BoxBranch(asked, config.box_encoder, layers=config.box_layers)
        self.unify = nn.Linear(asked, width)
        if self.num_tokens > 1 or config.text_queries == "tokens":
            self.slots = nn.Parameter(torch.randn(self.num_tokens, width) / math.sqrt(width))
        self.attention = CrossAttention(width, visual_width, config.heads)
        hidden = config.hidden or 4 * width
        self.feed_forward = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width)
        )
        self.norm = nn.LayerNorm(width)
        self.projector = Projector(width, language_width, layers=config.projector_layers)

    def encode(self, context: RegionContext, regions: Regions) -> Float[Tensor, "r k d"]:
        """Return the region tokens H_r of each region.

        Raises:
            ModelError: A description is empty, or the connector has no text encoder for it.
        """
        return self.projector(self.features(context, regions))

    def forward(self, context: RegionContext, regions: Regions) -> Float[Tensor, "r k d"]:
        """Return the same as `encode`."""
        return self.encode(context, regions)

    def features(self, context: RegionContext, regions: Regions) -> Float[Tensor, "r k w"]:
        """Return the region features F_R of equation 2, before the region projector."""
        if self.config.source == "tokens":
            visual = context.tokens
        else:
            visual = context.cells.flatten(2).transpose(1, 2)
        queries = self.queries(regions)
        found = self.attention(queries, visual, regions.rows)
        if self.config.residual:
            found = found + queries
            return self.norm(found + self.feed_forward(found))
        return self.norm(self.feed_forward(found))

    def queries(self, regions: Regions) -> Float[Tensor, "r k w"]:
        """Return the queries Q: text branch for descriptions, box branch for boxes."""
        described = regions.types == RegionType.TEXT.number
        texts, drawn = described.nonzero()[:, 0], described.logical_not().nonzero()[:, 0]
        parts, places = [], []
        if len(texts):
            parts.append(self._text_queries(regions.text_ids[texts], regions.text_mask[texts]))
            places.append(texts)
        if len(drawn) or not len(texts):
            boxes = self.box(regions.boxes[drawn]).to(self.unify.weight.dtype)
            parts.append(self._with_slots(self.unify(boxes)))
            places.append(drawn)
        return torch.cat(parts)[torch.cat(places).argsort()]

    def describe(self, ids: Int[Tensor, "n t"], mask: Bool[Tensor, "n t"]) -> Float[Tensor, "n w"]:
        """Return one vector in the query space for each description."""
        return self.unify(self._text_branch()(ids, mask)[2])

    def _text_queries(
        self, ids: Int[Tensor, "n t"], mask: Bool[Tensor, "n t"]
    ) -> Float[Tensor, "n k w"]:
        states, kept, summary = self._text_branch()(ids, mask)
        if self.config.text_queries == "tokens":
            return pool_by_slots(self.slots, self.unify(states), kept)
        return self._with_slots(self.unify(summary))

    def _with_slots(self, queries: Float[Tensor, "n w"]) -> Float[Tensor, "n k w"]:
        if self.num_tokens == 1:
            return queries[:, None]
        return queries[:, None] + self.slots

    def _text_branch(self) -> TextBranch:
        if self.text is None:
            raise ModelError("a region is described in words: the connector has no text_encoder")
        return self.text
