"""REF-VLM: the ``.pth`` of ``REFVLMModel``, with the names of its public code; none is released.

Parts: ``language_model``, ``vision_encoder`` (CLIP), ``projector``, ``region_encoder``,
``box_decoder``, ``mask_decoder``, ``pixel_decoder`` (of masks), ``pose_decoder``,
``prompted_decoder`` (Segment Anything as a plug-in). Box, mask and pose decoders are Hugging Face's
DETR and MaskFormer with linear maps before and after them, under the names of transformers 5 within
``decoder``, ``query_decoder`` and ``pixel_decoder``. They need decoders with the design ``detr``
(`deixis.models.decoders.detr`).

The public code saves keys with ``ref_adapter.``, but its module is called ``vd_adapter``, so files
have no weights of that adapter. If keys of it exist, they are reported.
"""

from deixis.models.published.architectures import CLIP_VISION, DETR_DECODER, LLAMA, SAM
from deixis.models.published.rows import Row, Table, joined, linear, norm, renamed


def _head(key: str, part: str, name: str, output: str) -> tuple[Row, ...]:
    """Return the rows of DETR's three linear maps."""
    return joined(
        *(
            linear(f"{key}.layers.{n}", part, f"{name}.layers.{n}", "decoder decoder")
            for n in (0, 1)
        ),
        linear(f"{key}.layers.2", part, f"{name}.layers.2", f"{output} decoder"),
    )


def _queries(
    key: str, part: str, name: str, count: str, shape: str = "decoder language"
) -> tuple[Row, ...]:
    return joined(
        linear(f"{key}in_proj_queries", part, f"{name}in_proj_queries", shape),
        linear(
            f"{key}query_position_embeddings",
            part,
            f"{name}query_position_embeddings",
            f"{count} decoder",
            bias=False,
        ),
    )


def _box_decoder(key: str, part: str, name: str, count: str) -> tuple[Row, ...]:
    return joined(
        _queries(key, part, name, count),
        linear(
            f"{key}in_proj_visual_feats", part, f"{name}in_proj_visual_feats", "decoder features"
        ),
        renamed(DETR_DECODER, f"{key}decoder.", part, f"{name}decoder."),
        _head(f"{key}predictor", part, f"{name}predictor", "4"),
    )


_KEYPOINTS = "visual_decoder.pose.kpt_decoder."
_MASK = "visual_decoder.mask."

REFVLM = Table(
    system="refvlm",
    source="MacavityT/REF-VLM, ref_vlm/model",
    groups={
        "language model": renamed(LLAMA, "llm.", "language_model", ""),
        "vision encoder": renamed(
            CLIP_VISION, "visual_encoder.vision_model.", "vision_encoder", "model."
        ),
        "projector": joined(
            linear("projector.model.0", "projector", "layers.0", "language visual"),
            linear("projector.model.2", "projector", "layers.2", "language language"),
        ),
        "region encoder": (
            Row(
                "vpt_encoder.model.position_embedding.weight",
                "region_encoder",
                "aggregate.position_embedding.weight",
                "region_tokens visual",
            ),
            Row(
                "vpt_encoder.model.mask_embedding.weight",
                "region_encoder",
                "aggregate.mask_embedding.weight",
                "visual 1",
                optional=True,
            ),
            Row(
                "vpt_encoder.model.mask_embedding.bias",
                "region_encoder",
                "aggregate.mask_embedding.bias",
                "visual",
                optional=True,
            ),
            Row(
                "vpt_encoder.model.patch_embedding.weight",
                "region_encoder",
                "aggregate.patch_embedding.weight",
                "visual visual region_patch region_patch",
                optional=True,
            ),
        ),
        "box decoder": _box_decoder("visual_decoder.box.", "box_decoder", "", "box_queries"),
        "mask decoder": joined(
            _queries(_MASK, "mask_decoder", "", "mask_queries"),
            linear(
                f"{_MASK}in_proj_visual_feats",
                "pixel_decoder",
                "input_projection",
                "decoder coarsest 1 1",
            ),
            linear(
                f"{_MASK}pixel_decoder.fpn.stem.0",
                "pixel_decoder",
                "fpn.stem.0",
                "merged coarsest 3 3",
                bias=False,
            ),
            norm(
                f"{_MASK}pixel_decoder.fpn.stem.1",
                "pixel_decoder",
                "fpn.stem.1",
                "merged",
            ),
            *(
                joined(
                    linear(
                        f"{_MASK}pixel_decoder.fpn.layers.*.{each}.0",
                        "pixel_decoder",
                        f"fpn.layers.*.{each}.0",
                        shape,
                        bias=False,
                    ),
                    norm(
                        f"{_MASK}pixel_decoder.fpn.layers.*.{each}.1",
                        "pixel_decoder",
                        f"fpn.layers.*.{each}.1",
                        "merged",
                    ),
                )
                for each, shape in (("proj", "merged lateral* 1 1"), ("block", "merged merged 3 3"))
            ),
            linear(
                f"{_MASK}pixel_decoder.mask_projection",
                "pixel_decoder",
                "mask_projection",
                "pixels merged 3 3",
            ),
            renamed(DETR_DECODER, f"{_MASK}query_decoder.", "mask_decoder", "query_decoder."),
            *(
                linear(
                    f"{_MASK}mask_embedder.{n}.0",
                    "mask_decoder",
                    f"mask_embedder.{n}.0",
                    f"{output} decoder",
                )
                for n, output in enumerate(("decoder", "decoder", "pixels"))
            ),
        ),
        "pose decoder": joined(
            _box_decoder(
                "visual_decoder.pose.box_decoder.", "pose_decoder", "box_decoder.", "pose_queries"
            ),
            # these queries are the output of the box decoder
            _queries(
                _KEYPOINTS, "pose_decoder", "keypoint_decoder.", "joint_queries", "decoder decoder"
            ),
            linear(
                f"{_KEYPOINTS}in_proj_visual_feats",
                "pose_decoder",
                "keypoint_decoder.in_proj_visual_feats",
                "decoder features",
            ),
            linear(
                f"{_KEYPOINTS}kpt_embedding",
                "pose_decoder",
                "keypoint_decoder.joints",
                "joints decoder",
                bias=False,
            ),
            renamed(
                DETR_DECODER, f"{_KEYPOINTS}decoder.", "pose_decoder", "keypoint_decoder.decoder."
            ),
            _head(f"{_KEYPOINTS}box_predictor", "pose_decoder", "keypoint_decoder.box", "4"),
            _head(f"{_KEYPOINTS}kpt_predictor", "pose_decoder", "keypoint_decoder.position", "2"),
            linear(
                f"{_KEYPOINTS}kpt_classifier",
                "pose_decoder",
                "keypoint_decoder.visible",
                "2 decoder",
            ),
        ),
        "Segment Anything plug-in": joined(
            linear(
                f"{_MASK}in_proj_queries.0", "prompted_decoder", "projector.up", "language language"
            ),
            linear(
                f"{_MASK}in_proj_queries.2", "prompted_decoder", "projector.down", "prompt language"
            ),
            renamed(SAM, f"{_MASK}sam.", "prompted_decoder", "segmenter."),
        ),
    },
    required=(("projector",),),
    left_out={
        "llm.model.layers.*.self_attn.rotary_emb.inv_freq": "computed, not learned",
        "visual_encoder.vision_model.embeddings.position_ids": "computed, not learned",
        f"{_MASK}queries_embedder.weight": "not used by any forward pass of the public code",
        f"{_MASK}sam.pixel_mean": "a constant of the image processor",
        f"{_MASK}sam.pixel_std": "a constant of the image processor",
    },
    sizes={
        "language": 4096,
        "language_hidden": 11008,
        "visual": 1024,
        "visual_hidden": 4096,
        "patch": 14,
        "positions": 577,
        "decoder": 256,
        "decoder_hidden": 2048,
        "box_queries": 100,
        "mask_queries": 30,
        "region_tokens": 9,
    },
)
"""Mapping of REF-VLM's weights to parts."""
