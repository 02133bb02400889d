"""REF-VLM's decoders as its public code puts them together, of Hugging Face's own modules.

States are published ones: names are those of the transformers that the code was written for.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional
from transformers.image_transforms import center_to_corners_format
from transformers.loss.loss_for_object_detection import generalized_box_iou
from transformers.models.detr.modeling_detr import (
    DetrDecoder,
    DetrMLPPredictionHead,
    DetrSinePositionEmbedding,
)
from transformers.models.maskformer.modeling_maskformer import (
    MaskformerMLPPredictionHead,
    MaskFormerPixelDecoder,
)

State = Mapping[str, Tensor]


def close(found: Tensor, expected: Tensor) -> None:
    """Assert that numbers agree to 1e-5."""
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def lively(state: State) -> dict[str, Tensor]:
    """The same tensors with numbers large enough that every one of them counts.

    DETR's decoder starts with weights so small that it hardly looks at the image.
    """
    dice = torch.Generator().manual_seed(7)
    found = {}
    for key, tensor in state.items():
        noise = torch.randn(tensor.shape, generator=dice)
        matrix = tensor.dim() > 1 and "embed" not in key
        fan = tensor[0].numel() if matrix else 1
        found[key] = noise * 1.4 / fan**0.5 if matrix else tensor + 0.3 * noise
    return found


def positions(grid: int, width: int) -> Tensor:
    """DETR's sine codes of a square map, cells row by row."""
    embed = DetrSinePositionEmbedding(width // 2, normalize=True)
    shape = torch.Size((1, width, grid, grid))
    code: Tensor = embed(shape, torch.device("cpu"), torch.float32)
    return code[0].flatten(1).T


def generalized_iou(boxes: Tensor, target: Tensor) -> Tensor:
    """Generalized IoU of every pair of boxes (cxcywh)."""
    corners: Any = center_to_corners_format
    found: Tensor = generalized_box_iou(corners(boxes), corners(target))
    return found


def below(state: State, prefix: str) -> dict[str, Tensor]:
    return {key[len(prefix) :]: x for key, x in state.items() if key.startswith(prefix)}


def linear(state: State, name: str, x: Tensor) -> Tensor:
    return functional.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])


def detr(state: State, queries: Tensor, places: Tensor, maps: Tensor) -> Tensor:
    """DETR's decoder: queries (b, q, d) with their places (q, d) over maps (b, d, h, w)."""
    hidden = state["layers.0.fc1.weight"].shape[0]
    config = transformers.DetrConfig(
        d_model=queries.shape[2],
        decoder_layers=1 + max(int(key.split(".")[1]) for key in state if "layers." in key),
        decoder_attention_heads=2,
        decoder_ffn_dim=hidden,
        activation_function="relu",
        dropout=0.1,
    )
    decoder = DetrDecoder(config)
    decoder.load_state_dict(
        {
            key.replace("attn.out_proj", "attn.o_proj")
            .replace(".fc1.", ".mlp.fc1.")
            .replace(".fc2.", ".mlp.fc2."): value
            for key, value in state.items()
        }
    )
    code = positions(maps.shape[-1], queries.shape[2])
    hidden_states: Tensor = decoder.eval()(
        inputs_embeds=queries,
        encoder_hidden_states=maps.flatten(2).transpose(1, 2),
        spatial_position_embeddings=code.expand(len(maps), -1, -1),
        object_queries_position_embeddings=places.expand(len(queries), -1, -1),
    ).last_hidden_state
    return hidden_states


def padded(state: State, states: Tensor) -> Tensor:
    """Projected states, padded with zeros to the number of queries."""
    queries = linear(state, "in_proj_queries", states)
    count = len(state["query_position_embeddings.weight"])
    return functional.pad(queries, (0, 0, 0, count - queries.shape[1]))


def resize_concat(state: State, pyramid: Sequence[Tensor]) -> Tensor:
    """All levels at the first one's size, through the linear map of a decoder."""
    size = pyramid[0].shape[2:]
    levels = [
        functional.interpolate(level, size=size, mode="bilinear", align_corners=False)
        for level in pyramid
    ]
    together = torch.cat(levels, dim=1).permute(0, 2, 3, 1)
    return linear(state, "in_proj_visual_feats", together).permute(0, 3, 1, 2)


def head(state: State, name: str, states: Tensor) -> Tensor:
    width, outputs = states.shape[-1], len(state[f"{name}.layers.2.bias"])
    module = DetrMLPPredictionHead(width, width, outputs, 3)
    module.load_state_dict(below(state, f"{name}."))
    found: Tensor = module(states)
    return found


def boxes(state: State, states: Tensor, pyramid: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """The decoded states and boxes of all queries; ``state`` is a box decoder's."""
    places = state["query_position_embeddings.weight"]
    maps = resize_concat(state, pyramid)
    decoded = detr(below(state, "decoder."), padded(state, states), places, maps)
    return decoded, head(state, "predictor", decoded).sigmoid()


def masks(state: State, states: Tensor, pyramid: Sequence[Tensor]) -> Tensor:
    """Mask logits of all queries."""
    merged = below(state, "pixel_decoder.")
    pixels = MaskFormerPixelDecoder(
        in_features=pyramid[-1].shape[1],
        feature_size=merged["fpn.stem.0.weight"].shape[0],
        mask_feature_size=len(merged["mask_projection.bias"]),
        lateral_widths=[level.shape[1] for level in pyramid[:-1]],
    )
    pixels.load_state_dict(merged)
    projection = below(state, "in_proj_visual_feats.")
    coarsest = functional.conv2d(pyramid[-1], projection["weight"], projection["bias"])
    places = state["query_position_embeddings.weight"]
    decoded = detr(below(state, "query_decoder."), padded(state, states), places, coarsest)
    width = decoded.shape[2]
    embedder: nn.Module = MaskformerMLPPredictionHead(
        width, width, len(merged["mask_projection.bias"])
    )
    embedder.load_state_dict(below(state, "mask_embedder."))
    embeddings = pixels([level.clone() for level in pyramid]).last_hidden_state
    return torch.einsum("bqc,bchw->bqhw", embedder(decoded), embeddings)


def bodies(state: State, states: Tensor, pyramid: Sequence[Tensor]) -> dict[str, Tensor]:
    """Boxes, joints and their visibility of all queries."""
    refined, first = boxes(below(state, "box_decoder."), states, pyramid)
    own = below(state, "kpt_decoder.")
    joints = own["kpt_embedding.weight"]
    queries = linear(own, "in_proj_queries", refined)
    spread = (queries[:, :, None] + joints).flatten(1, 2)
    places = own["query_position_embeddings.weight"]
    decoded = detr(below(own, "decoder."), spread, places, resize_concat(own, pyramid))
    # the first query of each reference is for its box
    each = decoded.unflatten(1, (-1, len(joints)))
    return {
        "first": first,
        "box": head(own, "box_predictor", each[:, :, 0]).sigmoid(),
        "joints": head(own, "kpt_predictor", each[:, :, 1:]).sigmoid(),
        "visible": linear(own, "kpt_classifier", each[:, :, 1:]),
    }
