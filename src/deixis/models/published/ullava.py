"""u-LLaVA: shards of ``UllavaForCausalLM``, or of ``UllavaCoreForCausalLM`` after stage I.

Parts: ``language_model``, ``vision_encoder`` (CLIP), ``projector``, ``prompted_decoder`` (a
projector and Segment Anything) and ``location_decoder``. The first release has no location decoder
and calls the projector of masks ``text_hidden_fcs``.
"""

from deixis.models.published.architectures import CLIP_VISION, LLAMA, SAM
from deixis.models.published.rows import Row, Table, joined, linear, renamed


def _state_projector(key: str, part: str) -> tuple[Row, ...]:
    return joined(
        linear(f"{key}.0", part, "projector.up", "language language"),
        linear(f"{key}.2", part, "projector.down", "prompt language"),
    )


def _projector(key: str) -> dict[str, tuple[Row, ...]]:
    return {
        "linear": linear(key, "projector", "layers.0", "language visual"),
        "mlp": joined(
            linear(f"{key}.0", "projector", "layers.0", "language visual"),
            linear(f"{key}.2", "projector", "layers.2", "language language"),
        ),
    }


def _core(prefix: str, label: str) -> dict[str, tuple[Row, ...]]:
    projectors = _projector(f"{prefix}vision_projector")
    return {
        f"language model{label}": renamed(LLAMA, prefix, "language_model", ""),
        f"vision encoder{label}": renamed(
            CLIP_VISION, f"{prefix}vision_encoder.vision_model.", "vision_encoder", "model."
        ),
        f"linear projector{label}": projectors["linear"],
        f"MLP projector{label}": projectors["mlp"],
    }


ULLAVA = Table(
    system="ullava",
    source="OPPOMKLab/u-LLaVA, models/ullava_core.py and models/ullava.py",
    groups={
        **_core("llm.", ""),
        **_core("", " (stage I)"),
        "mask projector": _state_projector("seg_projector", "prompted_decoder"),
        "mask projector (first release)": _state_projector("text_hidden_fcs", "prompted_decoder"),
        "Segment Anything": renamed(SAM, "visual_model.", "prompted_decoder", "segmenter."),
        "location decoder": joined(
            _state_projector("det_projector", "location_decoder"),
            linear("det_decoder.0", "location_decoder", "first", "prompt prompt"),
            linear("det_decoder.2", "location_decoder", "second", "half_prompt prompt"),
            linear("det_decoder.4", "location_decoder", "last", "4 half_prompt"),
        ),
    },
    required=(
        (
            "linear projector",
            "MLP projector",
            "linear projector (stage I)",
            "MLP projector (stage I)",
        ),
    ),
    left_out={
        "llm.model.layers.*.self_attn.rotary_emb.inv_freq": "computed, not learned",
        "model.layers.*.self_attn.rotary_emb.inv_freq": "computed, not learned",
        "llm.vision_encoder.vision_model.embeddings.position_ids": "computed, not learned",
        "vision_encoder.vision_model.embeddings.position_ids": "computed, not learned",
        "visual_model.pixel_mean": "a constant of the image processor",
        "visual_model.pixel_std": "a constant of the image processor",
    },
    sizes={
        "language": 4096,
        "language_hidden": 11008,
        "visual": 1024,
        "visual_hidden": 4096,
        "patch": 14,
        "prompt": 256,
        "half_prompt": 128,
        "sam": 1280,
        "sam_hidden": 5120,
    },
    # the mask of `[SEG]` and `[LOC]` is shifted by one in training and generation
    settings={"offset": "prev"},
    tokens={
        "seg_token_idx": "[SEG]",
        "loc_token_idx": "[LOC]",
        **{
            f"{place}mm_token_ids.{key}": token
            for place in ("llm_config.", "")
            for key, token in (
                ("IMG_START", "<img_beg>"),
                ("IMG_END", "</img_end>"),
                ("VID_START", "<vid_beg>"),
                ("VID_END", "</vid_end>"),
            )
        },
    },
)
"""Mapping of u-LLaVA's published weights to parts."""
