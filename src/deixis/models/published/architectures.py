"""Names of tensors in networks that several systems share: public code and transformers.

Keys are those of the code that saved the weights (transformers 4.2 to 4.4, Meta's
segment-anything). Names are those of the same networks in transformers 5.
"""

from deixis.models.published.rows import Row, joined, linear, norm

LLAMA: tuple[Row, ...] = joined(
    linear("model.embed_tokens", "", "model.embed_tokens", "vocabulary language", bias=False),
    *(
        linear(f"{layer}.{each}", "", f"{layer}.{each}", shape, bias=False)
        for layer in ("model.layers.*",)
        for each, shape in (
            ("self_attn.q_proj", "language language"),
            ("self_attn.k_proj", "keys language"),
            ("self_attn.v_proj", "keys language"),
            ("self_attn.o_proj", "language language"),
            ("mlp.gate_proj", "language_hidden language"),
            ("mlp.up_proj", "language_hidden language"),
            ("mlp.down_proj", "language language_hidden"),
            ("input_layernorm", "language"),
            ("post_attention_layernorm", "language"),
        )
    ),
    linear("model.norm", "", "model.norm", "language", bias=False),
    linear("lm_head", "", "lm_head", "vocabulary language", bias=False),
)
"""``LlamaForCausalLM``."""

_CLIP_LAYER = "encoder.layers.*"
CLIP_VISION: tuple[Row, ...] = joined(
    (Row("embeddings.class_embedding", "", "embeddings.class_embedding", "visual"),),
    linear(
        "embeddings.patch_embedding",
        "",
        "embeddings.patch_embedding",
        "visual 3 patch patch",
        bias=False,
    ),
    linear(
        "embeddings.position_embedding",
        "",
        "embeddings.position_embedding",
        "positions visual",
        bias=False,
    ),
    norm("pre_layrnorm", "", "pre_layrnorm", "visual"),
    *(
        linear(
            f"{_CLIP_LAYER}.self_attn.{each}",
            "",
            f"{_CLIP_LAYER}.self_attn.{each}",
            "visual visual",
        )
        for each in ("q_proj", "k_proj", "v_proj", "out_proj")
    ),
    norm(f"{_CLIP_LAYER}.layer_norm1", "", f"{_CLIP_LAYER}.layer_norm1", "visual"),
    norm(f"{_CLIP_LAYER}.layer_norm2", "", f"{_CLIP_LAYER}.layer_norm2", "visual"),
    linear(f"{_CLIP_LAYER}.mlp.fc1", "", f"{_CLIP_LAYER}.mlp.fc1", "visual_hidden visual"),
    linear(f"{_CLIP_LAYER}.mlp.fc2", "", f"{_CLIP_LAYER}.mlp.fc2", "visual visual_hidden"),
    norm("post_layernorm", "", "post_layernorm", "visual"),
)
"""The transformer of ``CLIPVisionModel``; its keys follow ``vision_model.``."""

_DETR_ATTENTION = tuple(
    (block, old, new)
    for block in ("self_attn", "encoder_attn")
    for old, new in (
        ("q_proj", "q_proj"),
        ("k_proj", "k_proj"),
        ("v_proj", "v_proj"),
        ("out_proj", "o_proj"),
    )
)
DETR_DECODER: tuple[Row, ...] = joined(
    *(
        linear(f"layers.*.{block}.{old}", "", f"layers.*.{block}.{new}", "decoder decoder")
        for block, old, new in _DETR_ATTENTION
    ),
    linear("layers.*.fc1", "", "layers.*.mlp.fc1", "decoder_hidden decoder"),
    linear("layers.*.fc2", "", "layers.*.mlp.fc2", "decoder decoder_hidden"),
    *(
        norm(f"layers.*.{each}", "", f"layers.*.{each}", "decoder")
        for each in ("self_attn_layer_norm", "encoder_attn_layer_norm", "final_layer_norm")
    ),
    norm("layernorm", "", "layernorm", "decoder"),
)
"""``DetrDecoder``."""


def _sam_mlp(key: str, name: str, output: str, hidden: str) -> tuple[Row, ...]:
    """Return the rows of three linear maps, which transformers names differently."""
    return joined(
        linear(f"{key}.layers.0", "", f"{name}.proj_in", f"{hidden} prompt"),
        linear(f"{key}.layers.1", "", f"{name}.layers.0", f"{hidden} {hidden}"),
        linear(f"{key}.layers.2", "", f"{name}.proj_out", f"{output} {hidden}"),
    )


def _sam_attention(key: str, name: str, inner: str) -> tuple[Row, ...]:
    return joined(
        *(
            linear(f"{key}.{each}", "", f"{name}.{each}", f"{inner} prompt")
            for each in ("q_proj", "k_proj", "v_proj")
        ),
        linear(f"{key}.out_proj", "", f"{name}.out_proj", f"prompt {inner}"),
    )


_BLOCK, _TWO_WAY = "mask_decoder.transformer.layers.*", "mask_decoder.transformer.layers.*"
SAM: tuple[Row, ...] = joined(
    (Row("image_encoder.pos_embed", "", "vision_encoder.pos_embed", "1 sam_grid sam_grid sam"),),
    linear(
        "image_encoder.patch_embed.proj",
        "",
        "vision_encoder.patch_embed.projection",
        "sam 3 sam_patch sam_patch",
    ),
    norm("image_encoder.blocks.*.norm1", "", "vision_encoder.layers.*.layer_norm1", "sam"),
    norm("image_encoder.blocks.*.norm2", "", "vision_encoder.layers.*.layer_norm2", "sam"),
    *(
        (
            Row(
                f"image_encoder.blocks.*.attn.rel_pos_{axis}",
                "",
                f"vision_encoder.layers.*.attn.rel_pos_{axis}",
                "sam_span* sam_head",
            ),
        )
        for axis in ("h", "w")
    ),
    linear(
        "image_encoder.blocks.*.attn.qkv", "", "vision_encoder.layers.*.attn.qkv", "sam_qkv sam"
    ),
    linear("image_encoder.blocks.*.attn.proj", "", "vision_encoder.layers.*.attn.proj", "sam sam"),
    linear(
        "image_encoder.blocks.*.mlp.lin1", "", "vision_encoder.layers.*.mlp.lin1", "sam_hidden sam"
    ),
    linear(
        "image_encoder.blocks.*.mlp.lin2", "", "vision_encoder.layers.*.mlp.lin2", "sam sam_hidden"
    ),
    linear("image_encoder.neck.0", "", "vision_encoder.neck.conv1", "prompt sam 1 1", bias=False),
    norm("image_encoder.neck.1", "", "vision_encoder.neck.layer_norm1", "prompt"),
    linear(
        "image_encoder.neck.2", "", "vision_encoder.neck.conv2", "prompt prompt 3 3", bias=False
    ),
    norm("image_encoder.neck.3", "", "vision_encoder.neck.layer_norm2", "prompt"),
    (
        Row(
            "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix",
            "",
            "prompt_encoder.shared_embedding.positional_embedding",
            "2 half_prompt",
        ),
    ),
    *(
        linear(
            f"prompt_encoder.point_embeddings.{number}",
            "",
            f"prompt_encoder.point_embed.{number}",
            "1 prompt",
            bias=False,
        )
        for number in range(4)
    ),
    *(
        linear(f"prompt_encoder.{each}", "", f"prompt_encoder.{each}", "1 prompt", bias=False)
        for each in ("not_a_point_embed", "no_mask_embed")
    ),
    linear(
        "prompt_encoder.mask_downscaling.0", "", "prompt_encoder.mask_embed.conv1", "fourth 1 2 2"
    ),
    norm(
        "prompt_encoder.mask_downscaling.1", "", "prompt_encoder.mask_embed.layer_norm1", "fourth"
    ),
    linear(
        "prompt_encoder.mask_downscaling.3",
        "",
        "prompt_encoder.mask_embed.conv2",
        "whole fourth 2 2",
    ),
    norm("prompt_encoder.mask_downscaling.4", "", "prompt_encoder.mask_embed.layer_norm2", "whole"),
    linear(
        "prompt_encoder.mask_downscaling.6",
        "",
        "prompt_encoder.mask_embed.conv3",
        "prompt whole 1 1",
    ),
    linear("mask_decoder.iou_token", "", "mask_decoder.iou_token", "1 prompt", bias=False),
    linear("mask_decoder.mask_tokens", "", "mask_decoder.mask_tokens", "4 prompt", bias=False),
    _sam_attention(f"{_BLOCK}.self_attn", f"{_TWO_WAY}.self_attn", "prompt"),
    *(
        _sam_attention(f"{_BLOCK}.{each}", f"{_TWO_WAY}.{each}", "narrow")
        for each in ("cross_attn_token_to_image", "cross_attn_image_to_token")
    ),
    *(
        norm(f"{_BLOCK}.norm{number}", "", f"{_TWO_WAY}.layer_norm{number}", "prompt")
        for number in range(1, 5)
    ),
    linear(f"{_BLOCK}.mlp.lin1", "", f"{_TWO_WAY}.mlp.lin1", "two_way_hidden prompt"),
    linear(f"{_BLOCK}.mlp.lin2", "", f"{_TWO_WAY}.mlp.lin2", "prompt two_way_hidden"),
    _sam_attention(
        "mask_decoder.transformer.final_attn_token_to_image",
        "mask_decoder.transformer.final_attn_token_to_image",
        "narrow",
    ),
    norm(
        "mask_decoder.transformer.norm_final_attn",
        "",
        "mask_decoder.transformer.layer_norm_final_attn",
        "prompt",
    ),
    (
        Row(
            "mask_decoder.output_upscaling.0.weight",
            "",
            "mask_decoder.upscale_conv1.weight",
            "prompt up 2 2",
        ),
        Row("mask_decoder.output_upscaling.0.bias", "", "mask_decoder.upscale_conv1.bias", "up"),
    ),
    norm("mask_decoder.output_upscaling.1", "", "mask_decoder.upscale_layer_norm", "up"),
    (
        Row(
            "mask_decoder.output_upscaling.3.weight",
            "",
            "mask_decoder.upscale_conv2.weight",
            "up up_twice 2 2",
        ),
        Row(
            "mask_decoder.output_upscaling.3.bias",
            "",
            "mask_decoder.upscale_conv2.bias",
            "up_twice",
        ),
    ),
    *(
        _sam_mlp(
            f"mask_decoder.output_hypernetworks_mlps.{number}",
            f"mask_decoder.output_hypernetworks_mlps.{number}",
            "up_twice",
            "prompt",
        )
        for number in range(4)
    ),
    _sam_mlp(
        "mask_decoder.iou_prediction_head",
        "mask_decoder.iou_prediction_head",
        "4",
        "quality_hidden",
    ),
)
"""Segment Anything, with the names of ``SamModel``."""
