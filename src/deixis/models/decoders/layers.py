"""The transformer layer and the anchor that unit decoders share."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from deixis.models.losses.anchors import Anchors
from deixis.models.positions import BOX_CODE, cell_centres


def attend(
    queries: Float[Tensor, "b q d"],
    keys: Float[Tensor, "b k d"],
    values: Float[Tensor, "b k d"],
    heads: int,
    allowed: Bool[Tensor, "b 1 q k"] | None = None,
) -> Float[Tensor, "b q d"]:
    """Multi-head attention of projected states, where ``allowed``; None allows all pairs."""
    query, key, value = (
        states.unflatten(2, (heads, -1)).transpose(1, 2) for states in (queries, keys, values)
    )
    mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=allowed)
    return mixed.transpose(1, 2).flatten(2)


class Attention(nn.Module):
    """Multi-head attention; the caller adds positions to queries and keys."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(
        self,
        queries: Float[Tensor, "b q d"],
        keys: Float[Tensor, "b k d"],
        values: Float[Tensor, "b k d"],
        allowed: Bool[Tensor, "b 1 q k"] | None = None,
    ) -> Float[Tensor, "b q d"]:
        """Attend from queries to keys where ``allowed``; None allows all pairs."""
        projected = (self.query(queries), self.key(keys), self.value(values))
        return self.out(attend(*projected, self.heads, allowed))


class DecoderLayer(nn.Module):
    """DETR's decoder layer, pre-norm: references, then features, then MLP."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.self_norm, self.cross_norm, self.mlp_norm = (nn.LayerNorm(width) for _ in range(3))
        self.self_attention = Attention(width, heads)
        self.cross_attention = Attention(width, heads)
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)

    def forward(
        self,
        queries: Float[Tensor, "b q d"],
        positions: Float[Tensor, "b q d"],
        features: Float[Tensor, "b k d"],
        feature_positions: Float[Tensor, "k d"],
        together: Bool[Tensor, "b 1 q q"],
    ) -> Float[Tensor, "b q d"]:
        """Refine queries; ``together`` masks the pairs of references that see one another."""
        normed = self.self_norm(queries)
        placed = normed + positions
        queries = queries + self.self_attention(placed, placed, normed, together)
        placed = self.cross_norm(queries) + positions
        queries = queries + self.cross_attention(placed, features + feature_positions, features)
        return queries + self.down(functional.gelu(self.up(self.mlp_norm(queries))))


class Anchor(nn.Module):
    """Attention of each reference over the feature map, with its mean position.

    Query and keys are normalised, so that the logits are cosines times a learned temperature;
    otherwise training from scratch is unstable. Features and positions of cells have separate
    terms in the logits: positions that are added to features have too little effect (compare
    Conditional DETR). The attention is supervised by the target's cells (see
    `soft_attention_loss`), which lets boxes be learned on a small budget.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.place = nn.Linear(width, BOX_CODE)
        self.temperature = nn.Parameter(torch.tensor(math.log(10.0)))

    def forward(
        self,
        queries: Float[Tensor, "b q d"],
        features: Float[Tensor, "b cells d"],
        places: Float[Tensor, "*b cells code"],
    ) -> Anchors:
        """Attend to the cells and return the mean position.

        ``places`` are box codes of the cells, or of the instances that they show.
        """
        keys = functional.normalize(self.key(features).float(), dim=-1)
        asked = functional.normalize(self.query(queries).float(), dim=-1)
        scale = self.temperature.exp().clamp(max=60.0)
        where = self.place(queries).float() @ places.transpose(-1, -2) / 4
        logits = scale * (asked @ keys.transpose(1, 2)) + where
        weights = logits.softmax(-1)
        grid = math.isqrt(features.shape[1])
        centres = weights @ cell_centres(grid, device=features.device)
        pooled = weights.to(features.dtype) @ features
        votes, elected = weights.detach().max(-1)
        return Anchors(logits, centres, pooled, elected, votes)


class MultiLayerPerceptron(nn.Module):
    """DETR's MLP head: ``layers`` linear layers with ReLU between."""

    def __init__(self, width: int, outputs: int, *, layers: int = 3) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(layers - 1))
        self.last = nn.Linear(width, outputs)

    def forward(self, states: Float[Tensor, "*n d"]) -> Float[Tensor, "*n out"]:
        """Map states to outputs."""
        for layer in self.layers:
            states = functional.relu(layer(states))
        return self.last(states)


class QualityHead(nn.Module):
    """Estimate the probability that a unit is right from its state and the votes for its cell."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.sureness = nn.Linear(1, width)
        self.estimate = MultiLayerPerceptron(width, 1, layers=2)

    def forward(
        self, states: Float[Tensor, "b q d"], anchors: tuple[Anchors, ...]
    ) -> Float[Tensor, "b q"]:
        """Return a logit; states and anchors get no gradient."""
        states = states.detach()
        if anchors:
            votes = anchors[-1].votes.clamp(min=1e-4).log()[..., None]
            states = states + self.sureness(votes.to(states.dtype))
        return self.estimate(states).squeeze(-1).float()
