"""Pink: ``saved_parameters.pth`` and, optionally, shards of its LLaMA in the same folder.

The public code saves trained weights: adapters before each self-attention, the projector and, with
mark tokens, embeddings. Parts: ``language_model``, ``vision_encoder`` (CLIP), ``projector``,
``language_adapters`` and ``vision_adapters`` (names as in the models with adapters).
"""

from deixis.models.published.architectures import CLIP_VISION, LLAMA
from deixis.models.published.rows import Row, Table, joined, linear, renamed

_EMBEDDINGS = [row for row in LLAMA if row.shape == "vocabulary language"]


def _adapters(key: str, part: str, name: str, width: str) -> tuple[Row, ...]:
    return joined(
        linear(
            f"{key}.adapter_attn.tune_adapter_a",
            part,
            f"{name}.self_attn.adapter.down",
            f"adapter {width}",
            optional_bias=True,
        ),
        linear(
            f"{key}.adapter_attn.tune_adapter_b",
            part,
            f"{name}.self_attn.adapter.up",
            f"{width} adapter",
            optional_bias=True,
        ),
    )


PINK = Table(
    system="pink",
    source="SY-Xuan/Pink, pink/model/pink.py and adapter.py",
    groups={
        "language model": renamed(
            [row for row in LLAMA if row not in _EMBEDDINGS], "", "language_model", ""
        ),
        # with mark tokens they are trained, and saved with the adapters without the rest
        "token embeddings": renamed(_EMBEDDINGS, "", "language_model", ""),
        "vision encoder": renamed(
            CLIP_VISION, "vision_model.vision_model.", "vision_encoder", "model."
        ),
        "projector": linear("mm_projector", "projector", "layers.0", "language visual"),
        "language adapters": _adapters(
            "model.layers.*", "language_adapters", "model.layers.*", "language"
        ),
        # the public code removes the adapters of layers after the one that is read
        "vision adapters": _adapters(
            "vision_model.vision_model.encoder.layers.*",
            "vision_adapters",
            "model.encoder.layers.*",
            "visual",
        ),
    },
    required=(("projector",),),
    left_out={
        "model.layers.*.self_attn.rotary_emb.inv_freq": "computed, not learned",
        "vision_model.vision_model.embeddings.position_ids": "computed, not learned",
    },
    sizes={
        "language": 4096,
        "language_hidden": 11008,
        "visual": 1024,
        "visual_hidden": 4096,
        "patch": 14,
        "positions": 257,
        "adapter": 8,
    },
    non_linear="adapter_non_linear",
)
"""Mapping of Pink's published weights to parts."""
