"""The decoders of REF-VLM's public code: DETR's decoder for boxes, MaskFormer's for masks.

REF-VLM IV-C names DETR and MaskFormer, and its public code uses Hugging Face's modules. Layers are
post-norm with ReLU. Queries are the projected hidden states, padded with zeros to a fixed number;
all of them see one another, and each has a learned position. Features have DETR's sine positions.
Boxes attend to all levels of the pyramid as one map, masks to the coarsest. Parameters have the names
of transformers 5, so that published weights load (`deixis.models.published`); the quality estimates
are added by deixis.

The public code pads each sample's references to one set of queries. Here each turn has its own set:
turns of one row do not see one another, and a turn gets the same units as when it is asked alone.
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from deixis.models.decoders.box import BoxPredictions, BoxUnits
from deixis.models.decoders.interface import Features
from deixis.models.decoders.layers import QualityHead, attend
from deixis.models.decoders.mask import MaskPredictions, MaskUnits
from deixis.models.decoders.trunk import DecoderConfig
from deixis.models.losses.scoring import UNIT_WEIGHTS
from deixis.models.positions import detr_positions
from deixis.models.references import LatentReferences, QuerySets
from deixis.models.vision.pretrained import resample


class _Attention(nn.Module):
    """`Attention` with the parameter names of published weights."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.o_proj = nn.Linear(width, width)

    def forward(
        self,
        queries: Float[Tensor, "b q d"],
        keys: Float[Tensor, "b k d"],
        values: Float[Tensor, "b k d"],
    ) -> Float[Tensor, "b q d"]:
        projected = (self.q_proj(queries), self.k_proj(keys), self.v_proj(values))
        return self.o_proj(attend(*projected, self.heads))


class _FeedForward(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, states: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        return self.fc2(functional.relu(self.fc1(states)))


class DetrLayer(nn.Module):
    """DETR's decoder layer, post-norm: queries of a set, then features, then MLP."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.self_attn = _Attention(config.width, config.heads)
        self.self_attn_layer_norm = nn.LayerNorm(config.width)
        self.encoder_attn = _Attention(config.width, config.heads)
        self.encoder_attn_layer_norm = nn.LayerNorm(config.width)
        self.mlp = _FeedForward(config.width, config.hidden)
        self.final_layer_norm = nn.LayerNorm(config.width)
        self.dropout = config.dropout

    def forward(
        self,
        states: Float[Tensor, "b s q d"],
        positions: Float[Tensor, "q d"],
        features: Float[Tensor, "b k d"],
        placed: Float[Tensor, "b k d"],
    ) -> Float[Tensor, "b s q d"]:
        """Refine ``s`` sets of queries per image; ``placed`` are features with positions added."""
        sets = states.shape[1]
        asked = (states + positions).flatten(0, 1)
        mixed = self.self_attn(asked, asked, states.flatten(0, 1))
        states = self.self_attn_layer_norm(states + self._dropped(mixed).view_as(states))
        # cross-attention does not depend on other queries, so the sets are flattened
        asked = (states + positions).flatten(1, 2)
        seen = self.encoder_attn(asked, placed, features).unflatten(1, (sets, -1))
        states = self.encoder_attn_layer_norm(states + self._dropped(seen))
        changed = self.mlp(states.flatten(1, 2)).unflatten(1, (sets, -1))
        return self.final_layer_norm(states + self._dropped(changed))

    def _dropped(self, states: Tensor) -> Tensor:
        return functional.dropout(states, self.dropout, self.training)


class DetrDecoder(nn.Module):
    """DETR's decoder: layers and a last normalisation."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DetrLayer(config) for _ in range(config.layers))
        self.layernorm = nn.LayerNorm(config.width)

    def forward(
        self,
        states: Float[Tensor, "b s q d"],
        positions: Float[Tensor, "q d"],
        features: Float[Tensor, "b k d"],
    ) -> Float[Tensor, "b s q d"]:
        """Refine sets of queries over the features of a square map, row by row."""
        grid = round(features.shape[1] ** 0.5)
        code = detr_positions(grid, features.shape[2], device=features.device)
        placed = features + code.to(features.dtype)
        for layer in self.layers:
            states = layer(states, positions, features, placed)
        return self.layernorm(states)


class DetrHead(nn.Module):
    """DETR's head: three linear maps with ReLU between."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [nn.Linear(width, width), nn.Linear(width, width), nn.Linear(width, outputs)]
        )

    def forward(self, states: Float[Tensor, "*n d"]) -> Float[Tensor, "*n out"]:
        """Map states to outputs."""
        for layer in self.layers[:-1]:
            states = functional.relu(layer(states))
        return self.layers[-1](states)


class PyramidMap(nn.Module):
    """Project all levels to one map at the finest resolution (``resize_concat``).

    Each level is projected at its own resolution and enlarged afterwards. The result is the same,
    since both steps are linear and bilinear weights sum to one, and no map with all channels at the
    finest resolution is needed.
    """

    def __init__(self, widths: Sequence[int], width: int) -> None:
        super().__init__()
        linear = nn.Linear(sum(widths), width)
        self.weight, self.bias = linear.weight, linear.bias
        self.widths = tuple(widths)

    def forward(self, pyramid: Sequence[Float[Tensor, "b _c _h _w"]]) -> Float[Tensor, "b cells d"]:
        """Map a pyramid, given from fine to coarse, to cells in row-major order."""
        grid = pyramid[0].shape[-1]
        parts = self.weight.split(self.widths, dim=1)
        mapped = [
            resample(functional.conv2d(level, part[..., None, None]), grid)
            for level, part in zip(pyramid, parts, strict=True)
        ]
        return torch.stack(mapped).sum(0).flatten(2).transpose(1, 2) + self.bias


class DetrBoxDecoder(BoxUnits):
    """Decode one box and one quality for each reference, without anchors.

    Args:
        config: Shape of the decoder, of the design ``detr``.
        language_width: Channels of hidden states.
        pyramid: Channels of each level of the pyramid, fine to coarse.
        scored: Whether qualities are estimated.
        weights: Weights of the losses.
    """

    def __init__(
        self,
        config: DecoderConfig,
        language_width: int,
        pyramid: Sequence[int],
        *,
        scored: bool = True,
        weights: Mapping[str, float] = UNIT_WEIGHTS,
    ) -> None:
        super().__init__(config, weights)
        self.in_proj_visual_feats = PyramidMap(pyramid, config.width)
        self.in_proj_queries = nn.Linear(language_width, config.width)
        self.query_position_embeddings = nn.Embedding(config.num_queries, config.width)
        self.decoder = DetrDecoder(config)
        self.predictor = DetrHead(config.width, 4)
        self.quality = QualityHead(config.width) if scored else None

    def forward(self, references: LatentReferences, features: Features) -> BoxPredictions:
        """Decode every reference; boxes of padding are undefined.

        Raises:
            ModelError: A turn has more references than there are queries.
        """
        sets = references.in_sets(self.unit, self.config.num_queries)
        if not sets.count:
            blank = references.states.new_zeros(references.filled.shape, dtype=torch.float32)
            return BoxPredictions((blank[..., None].expand(-1, -1, 4),), blank, ())
        states = sets.take_back(self.refine(references, sets, features))
        boxes = self.predictor(states).float().sigmoid()
        quality = boxes.new_zeros(boxes.shape[:2])
        if self.quality is not None:
            quality = self.quality(states, ())
        return BoxPredictions((boxes,), quality, ())

    def refine(
        self, references: LatentReferences, sets: QuerySets, features: Features
    ) -> Float[Tensor, "b s q d"]:
        """Return the decoded states of all queries, padding included."""
        queries = sets.line_up(self.in_proj_queries(references.states))
        seen = self.in_proj_visual_feats(features.pyramid)
        return self.decoder(queries, self.query_position_embeddings.weight, seen)


class DetrMaskDecoder(MaskUnits):
    """Decode one mask and one quality for each reference, as in MaskFormer.

    References attend to the cells of the model's pixel decoder; mask logits are the products of
    their embeddings with its pixels. With MaskFormer's pixel decoder and the coarsest map as cells,
    this is the decoder of REF-VLM's public code.

    Args:
        config: Shape of the decoder, of the design ``detr``.
        language_width: Channels of hidden states.
        pixel_width: Channels of the map from which masks are computed.
        weights: Weights of the losses.
    """

    def __init__(
        self,
        config: DecoderConfig,
        language_width: int,
        pixel_width: int,
        *,
        weights: Mapping[str, float] = UNIT_WEIGHTS,
    ) -> None:
        super().__init__(config, weights)
        width = config.width
        self.in_proj_queries = nn.Linear(language_width, width)
        self.query_position_embeddings = nn.Embedding(config.num_queries, width)
        self.query_decoder = DetrDecoder(config)
        self.mask_embedder = nn.Sequential(
            nn.Sequential(nn.Linear(width, width), nn.ReLU()),
            nn.Sequential(nn.Linear(width, width), nn.ReLU()),
            nn.Sequential(nn.Linear(width, pixel_width)),
        )
        self.quality = QualityHead(width)

    def forward(self, references: LatentReferences, features: Features) -> MaskPredictions:
        """Decode every reference; masks of padding are undefined.

        Raises:
            ModelError: A turn has more references than there are queries.
        """
        pixels = features.maps.pixels
        sets = references.in_sets(self.unit, self.config.num_queries)
        if not sets.count:
            blank = pixels.new_zeros(references.filled.shape, dtype=torch.float32)
            side = pixels.shape[-2:]
            return MaskPredictions(blank[..., None, None].expand(-1, -1, *side), blank, ())
        queries = sets.line_up(self.in_proj_queries(references.states))
        cells = features.maps.cells.flatten(2).transpose(1, 2)
        decoded = self.query_decoder(queries, self.query_position_embeddings.weight, cells)
        states = sets.take_back(decoded)
        logits = self.mask_embedder(states) @ pixels.flatten(2)
        logits = logits.float().unflatten(2, pixels.shape[-2:])
        return MaskPredictions(logits, self.quality(states, ()), ())


class DetrJoints(nn.Module):
    """Decode a box, joints and their visibility for each reference (REF-VLM, public code).

    Each query of the box decoder becomes ``count`` + 1 queries, the first for the whole body, and
    all queries of a set see one another.

    Args:
        config: Shape of the decoder, of the design ``detr``; ``num_queries`` is that of the box
            decoder.
        pyramid: Channels of each level of the pyramid, fine to coarse.
        count: Joints of a body.
    """

    def __init__(self, config: DecoderConfig, pyramid: Sequence[int], count: int) -> None:
        super().__init__()
        width, each = config.width, count + 1
        self.in_proj_visual_feats = PyramidMap(pyramid, width)
        self.in_proj_queries = nn.Linear(width, width)
        self.joints = nn.Embedding(each, width)
        self.query_position_embeddings = nn.Embedding(each * config.num_queries, width)
        self.decoder = DetrDecoder(config)
        self.box = DetrHead(width, 4)
        self.position = DetrHead(width, 2)
        self.visible = nn.Linear(width, 2)

    def forward(
        self, states: Float[Tensor, "b s q d"], features: Features
    ) -> Float[Tensor, "b s q each d"]:
        """Return states of the body and of each joint, for all queries of the box decoder."""
        queries = self.in_proj_queries(states)[:, :, :, None] + self.joints.weight
        seen = self.in_proj_visual_feats(features.pyramid)
        places = self.query_position_embeddings.weight
        decoded = self.decoder(queries.flatten(2, 3), places, seen)
        return decoded.unflatten(2, (-1, len(self.joints.weight)))
