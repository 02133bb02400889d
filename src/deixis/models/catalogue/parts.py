"""The list of parts. Sections and equations are those of the papers' own numbering."""

from collections.abc import Callable
from functools import partial

from deixis.models.adapters import Adapter
from deixis.models.catalogue import shapes
from deixis.models.catalogue.entry import Built, CatalogueEntry, Size
from deixis.models.catalogue.shapes import BOXES, LANGUAGE, LEVELS, MASKS, VISUAL
from deixis.models.decoders import (
    BoxDecoder,
    DecoderConfig,
    DetrBoxDecoder,
    DetrMaskDecoder,
    MaskDecoder,
    PixelDecoder,
    ProposalHead,
)
from deixis.models.decoders.depth import DepthConfig, DepthDecoder
from deixis.models.decoders.keypoints import KeypointConfig, KeypointDecoder
from deixis.models.decoders.location import LocationConfig, LocationDecoder, StateProjector
from deixis.models.decoders.maskformer_pixel import MaskFormerPixelDecoder
from deixis.models.losses.contrastive import SimilarityScale
from deixis.models.projector import (
    CellProjector,
    ObjectProjector,
    Projector,
)
from deixis.models.regions import (
    MASK_REGIONS,
    MaskGuidedAggregation,
    RegionAlignment,
    RegionConnector,
    RegionEncoder,
)
from deixis.models.regions.aggregation import PRESETS
from deixis.models.regions.alignment import AlignmentConfig
from deixis.models.regions.text_branch import TextBranch
from deixis.models.tuning import Tuning
from deixis.models.vision import SmallVisionConfig, SmallVisionEncoder
from deixis.models.vision.merging import MergingEncoder
from deixis.models.vision.pretrained import PretrainedEncoder
from deixis.models.vision.pyramid import PyramidEncoder

_MODELS = "deixis.models."


def _part(group: str, what: str, code: str, source: str, test: str, *sizes: Size) -> CatalogueEntry:
    full = code if code.startswith("deixis.") else _MODELS + code
    return CatalogueEntry(group, what, full, source, test, sizes)


def _presets(build: Callable[[str], Built], *names: str) -> tuple[Size, ...]:
    return tuple(Size(f"`{name}`", partial(build, name)) for name in names)


def _aggregation(preset: str) -> MaskGuidedAggregation:
    blocks = 1 if preset == "code_legacy" else 9
    return MaskGuidedAggregation(blocks, width=VISUAL, code_width=LANGUAGE, variant=PRESETS[preset])


def _region_encoder(preset: str) -> RegionEncoder:
    return RegionEncoder(VISUAL, LANGUAGE, MASK_REGIONS[preset])


def _both_adapters(preset: str) -> dict[str, Adapter]:
    inside = (shapes.vision_adapters(preset), shapes.language_adapters(preset))
    return {name: adapter for each in inside for name, adapter in each.items()}


_encoders = partial(_part, "Encoders and the language model")
_adapters = partial(_part, "Adapters and LoRA")
_projectors = partial(_part, "Projectors")
_video = partial(_part, "Video")
_regions = partial(_part, "Regions in")
_router = partial(_part, "Router and matching")
_units = partial(_part, "Units out")
_losses = partial(_part, "Losses")
_published = partial(_part, "Published weights")
_fusion = partial(_part, "Fusion")

PARTS: tuple[CatalogueEntry, ...] = (
    _encoders(
        "language model: any causal language model of transformers",
        "pointing.PointingVLM",
        "Pink 4.1; TAMP 2.2; u-LLaVA 3.1; REF-VLM IV-D",
        "models/test_pointing.py",
        Size("LLaMA, Vicuna 7B", shapes.language_model),
    ),
    _encoders(
        "image encoder from the hub: CLIP, EVA, ConvNeXt, SigLIP, DINO",
        "vision.pretrained.PretrainedEncoder",
        "Pink 4.1; TAMP 3.1; u-LLaVA 4.1; REF-VLM IV-D",
        "models/vision/test_pretrained.py",
        Size("CLIP ViT-L/14, 224 px", lambda: PretrainedEncoder(shapes.clip())),
        Size("336 px", lambda: PretrainedEncoder(shapes.clip(336))),
        Size("EVA g/14", lambda: PretrainedEncoder(shapes.eva())),
        Size("CLIP ConvNeXt-L", lambda: PretrainedEncoder(shapes.convnext())),
    ),
    _encoders(
        "weights of an image encoder, by preset, folder or hub id",
        "vision.loading.load_encoder",
        "Pink 4.1; TAMP 3.1; u-LLaVA 4.1; REF-VLM IV-D",
        "models/vision/test_loading.py",
    ),
    _encoders(
        "ViT and ConvNeXt as one pyramid",
        "vision.pyramid.PyramidEncoder",
        "REF-VLM IV-A, figure 3, Table XI",
        "models/vision/test_pyramid.py",
        Size("`refvlm`", lambda: PyramidEncoder(shapes.pyramid())),
    ),
    _encoders(
        "features of a frozen encoder, stored on disk",
        "vision.cached.CachedEncoder",
        "deixis",
        "models/vision/test_cached.py",
    ),
    _encoders(
        "small encoder, trained from scratch",
        "vision.small.SmallVisionEncoder",
        "deixis",
        "models/test_pointing.py",
        Size("default", lambda: SmallVisionEncoder(SmallVisionConfig())),
    ),
    _encoders(
        "a released LLaVA or Qwen-VL as encoder, projector and language model",
        "aligned.read_aligned",
        "deixis",
        "models/test_aligned.py",
    ),
    _encoders(
        "image encoder of Qwen-VL, including its projector",
        "vision.merging.MergingEncoder",
        "deixis, after Qwen2-VL, Qwen2.5-VL and Qwen3-VL",
        "models/vision/test_merging.py",
        Size("Qwen2-VL 7B", lambda: MergingEncoder(shapes.merging())),
    ),
    _encoders(
        "language model of Qwen-VL with its head",
        "headed.HeadedLanguageModel",
        "deixis",
        "models/test_aligned.py",
    ),
    _encoders(
        "positions of image tokens on a grid",
        "positions.GridPositions",
        "deixis, after Qwen2-VL",
        "models/vision/test_merging.py",
    ),
    _adapters(
        "adapter before each self-attention of a ViT",
        "adapters.insert_adapters",
        "Pink 3.1, eq. 1, and 4.1; TAMP 3.1",
        "models/test_adapters.py",
        *_presets(shapes.vision_adapters, "paper", "code"),
    ),
    _adapters(
        "adapter before each self-attention of a language model",
        "adapters.insert_adapters",
        "Pink 3.1, eq. 1, and 4.1; TAMP 3.1",
        "models/test_adapters.py",
        *_presets(shapes.language_adapters, "paper", "code"),
    ),
    _adapters(
        "merging of linear adapters into the linear maps after them",
        "adapters.merge_adapters",
        "deixis",
        "models/test_adapters.py",
    ),
    _adapters(
        "LoRA on queries and values, rank 8",
        "tuning.insert_lora",
        "u-LLaVA 4.1, public code; TAMP 3.1",
        "models/test_tuning.py",
        Size("language model", shapes.ullava_lora),
    ),
    _adapters(
        "choice for each part: frozen, full, LoRA, adapters, both",
        "tuning.apply_tuning",
        "Pink 3.1, 4.2; TAMP 3.1; u-LLaVA 4.1",
        "models/test_tuning.py",
        Size("Pink, both models", lambda: _both_adapters("paper")),
        Size(
            "TAMP, language model",
            lambda: shapes.language_tuned(Tuning("lora+adapters")),
        ),
    ),
    _adapters(
        "merging of LoRA and linear adapters of a whole model",
        "tuning.fold_tuning",
        "deixis",
        "training/test_tuned_stages.py",
    ),
    _adapters(
        "changes of a training run, stored without the base model: `deixis.load(base, adapters=…)`",
        "changes.save_changes",
        "deixis",
        "training/test_tuned_stages.py",
    ),
    _adapters(
        "markers added to any causal language model of transformers",
        "language.load_language",
        "Pink 4.1; TAMP 4.1; u-LLaVA 4.1; REF-VLM IV-D",
        "training/test_language.py",
    ),
    _projectors(
        "one linear map",
        "projector.Projector",
        "Pink 4.1; u-LLaVA 3.1",
        "models/test_projector.py",
        Size("Pink", lambda: Projector(VISUAL, LANGUAGE, layers=1, bias=False)),
        Size("u-LLaVA, with bias", lambda: Projector(VISUAL, LANGUAGE, layers=1)),
    ),
    _projectors(
        "two linear maps with a GELU between them",
        "projector.Projector",
        "TAMP 2.2; REF-VLM IV-A; u-LLaVA, public code",
        "models/test_projector.py",
        Size("", lambda: Projector(VISUAL, LANGUAGE)),
    ),
    _projectors(
        "cells as image tokens",
        "projector.CellProjector",
        "deixis",
        "models/test_proposals.py",
        Size("cells of 256", lambda: CellProjector(256, LANGUAGE)),
    ),
    _projectors(
        "instances as image tokens",
        "projector.ObjectProjector",
        "deixis",
        "models/test_proposals.py",
        Size(
            "cells of 256, 32 a side",
            lambda: ObjectProjector(256, LANGUAGE, cell_grid=32, objects=16),
        ),
    ),
    _video(
        "frames as T temporal and N spatial tokens; `paper` puts them before the question, `code` after it",
        "vision.video.VideoPooling",
        "u-LLaVA 3.1, Table 2",
        "models/vision/test_video.py",
    ),
    _video(
        "evenly spread frames of a file",
        "deixis.processing.video.read_video",
        "u-LLaVA 3.1, public code",
        "processing/test_video.py",
    ),
    _regions(
        "mask-guided aggregation",
        "regions.aggregation.MaskGuidedAggregation",
        "REF-VLM IV-B, eqs. 1 to 3",
        "models/regions/test_aggregation.py",
        *_presets(
            _aggregation, "paper", "code", "code_mask_token", "code_embedding", "code_legacy"
        ),
    ),
    _regions(
        "mask regions with any preset; those of the paper share the image's projector",
        "regions.masked.RegionEncoder",
        "REF-VLM IV-B",
        "models/regions/test_encoders.py",
        *_presets(_region_encoder, "deixis", "paper", "code", "code_legacy"),
    ),
    _regions(
        "task-aware region connector with P_R",
        "regions.connector.RegionConnector",
        "TAMP 2.2, eqs. 1 and 2; Table 4",
        "models/regions/test_connector.py",
        Size("`mlp`, with BERT", lambda: RegionConnector(VISUAL, LANGUAGE, shapes.connector())),
        Size(
            "`mlp`, boxes alone",
            lambda: RegionConnector(VISUAL, LANGUAGE, shapes.connector(text=False)),
        ),
        Size(
            "`sincos`, boxes alone",
            lambda: RegionConnector(VISUAL, LANGUAGE, shapes.connector("sincos", text=False)),
        ),
        Size(
            "`sincos_linear`, boxes alone",
            lambda: RegionConnector(
                VISUAL, LANGUAGE, shapes.connector("sincos_linear", text=False)
            ),
        ),
    ),
    _regions(
        "text branch of the connector",
        "regions.text_branch.TextBranch",
        "TAMP 2.2",
        "models/regions/test_connector.py",
        Size("BERT-base", lambda: TextBranch({"model_type": "bert"})),
    ),
    _regions(
        "words and boxes between `<ref>` and `<loc>` tags, each to its branch",
        "deixis.notation.region_form.RegionForm",
        "TAMP 2.2, 2.3, Table 12",
        "models/test_composition.py",
    ),
    _regions(
        "heads that align the connector in stage 1 and are dropped afterwards",
        "regions.alignment.RegionAlignment",
        "TAMP appendix F",
        "models/regions/test_alignment.py",
        Size("width 768", lambda: RegionAlignment(768, AlignmentConfig())),
    ),
    _regions(
        "regions as coordinates in the text",
        "deixis.notation.coordinates.Coordinates",
        "Pink 3.1; TAMP 2.3; REF-VLM IV-D, stage 1",
        "notation/test_coordinates.py",
    ),
    _regions(
        "mix of region encoders, chosen by the type of the region",
        "regions.encoders.RegionEncoders",
        "deixis",
        "models/regions/test_encoders.py",
    ),
    _router(
        "router: hidden states at `<REF>` or one token before, none dropped",
        "references.route_references",
        'REF-VLM IV-C, "Latent Embeddings Router"',
        "models/test_references.py",
    ),
    _router(
        "decoders by the name of their unit type",
        "decoders.registry.DecoderKind",
        "REF-VLM IV-C, IV-D, stage 3",
        "models/decoders/test_registry.py",
    ),
    _router(
        "zero loss of a decoder that nobody wants",
        "losses.scoring.tied_zero",
        'REF-VLM IV-C, "Latent Embeddings Router"',
        "models/decoders/test_scoring.py",
    ),
    _router(
        "matching cost of boxes",
        "matching.pairwise_box_cost",
        "REF-VLM IV-C, eq. 4",
        "models/test_matching.py",
    ),
    _router(
        "matching cost of masks",
        "matching.pairwise_mask_cost",
        "REF-VLM IV-C; public code",
        "models/test_objectives.py",
    ),
    _router(
        "Hungarian matching inside groups",
        "matching.assign_groups",
        "REF-VLM IV-C, eqs. 5 to 8",
        "models/test_matching.py",
    ),
    _units(
        "boxes, as in DETR, with a quality estimate",
        "decoders.box.BoxDecoder",
        "REF-VLM IV-C, figure 4",
        "models/test_pointing.py",
        Size("REF-VLM's shape", lambda: BoxDecoder(BOXES, LANGUAGE)),
    ),
    _units(
        "masks, as in MaskFormer, with a quality estimate",
        "decoders.mask.MaskDecoder",
        "REF-VLM IV-C, figure 4",
        "models/decoders/test_interface.py",
        Size("REF-VLM's shape", lambda: MaskDecoder(MASKS, LANGUAGE, 256)),
    ),
    _units(
        "boxes, with the layers of REF-VLM's public code",
        "decoders.detr.DetrBoxDecoder",
        "REF-VLM IV-C, figure 4; public code",
        "models/decoders/test_detr.py",
        Size(
            "REF-VLM's shape",
            lambda: DetrBoxDecoder(DecoderConfig.refvlm("box", "code"), LANGUAGE, LEVELS),
        ),
    ),
    _units(
        "masks, with the layers of REF-VLM's public code, without the pixel decoder",
        "decoders.detr.DetrMaskDecoder",
        "REF-VLM IV-C, figure 4; public code",
        "models/decoders/test_detr.py",
        Size(
            "REF-VLM's shape",
            lambda: DetrMaskDecoder(DecoderConfig.refvlm("mask", "code"), LANGUAGE, 256),
        ),
    ),
    _units(
        "MaskFormer's pixel decoder",
        "decoders.maskformer_pixel.MaskFormerPixelDecoder",
        "REF-VLM IV-C",
        "models/decoders/test_maskformer_pixel.py",
        Size(
            "features 0, 1, 2, 4",
            lambda: MaskFormerPixelDecoder(
                LEVELS, cell_level=3, pixel_level=0, cell_width=256, pixel_width=256
            ),
        ),
    ),
    _units(
        "a lighter pixel decoder",
        "decoders.pixel.PixelDecoder",
        "deixis",
        "models/test_pointing.py",
        Size(
            "features 0, 1, 2, 4",
            lambda: PixelDecoder(
                LEVELS, cell_level=3, pixel_level=0, cell_width=256, pixel_width=256
            ),
        ),
    ),
    _units(
        "keypoints",
        "decoders.keypoints.KeypointDecoder",
        "REF-VLM III-B, Table I; public code",
        "models/decoders/test_keypoints.py",
        *_presets(
            lambda name: KeypointDecoder(
                KeypointConfig.refvlm("code" if name == "code" else "paper"), LANGUAGE, LEVELS
            ),
            "paper",
            "code",
        ),
    ),
    _units(
        "depth",
        "decoders.depth.DepthDecoder",
        "REF-VLM III-B, Table I; the design is ours",
        "models/decoders/test_depth.py",
        Size(
            "REF-VLM's shape of masks",
            lambda: DepthDecoder(DepthConfig(256, 8, 2048, 6), LANGUAGE, 256),
        ),
    ),
    _units(
        "boxes from the state alone; `paper` and `code` differ in the loss",
        "decoders.location.LocationDecoder",
        "u-LLaVA 3.2, 4.1, eq. 2",
        "models/decoders/test_location.py",
        Size("", lambda: LocationDecoder(LocationConfig(), LANGUAGE)),
    ),
    _units(
        "projector of hidden states for boxes and for SAM",
        "decoders.location.StateProjector",
        "u-LLaVA 4.1; REF-VLM, public code",
        "models/decoders/test_location.py",
        Size("", lambda: StateProjector(LANGUAGE, 256)),
    ),
    _units(
        "SAM, prompted with states; `paper` and `code` differ in the loss",
        "decoders.prompted.PromptedMaskDecoder",
        "u-LLaVA 3.2, 4.1, eq. 2; REF-VLM IV-D, stage 3",
        "models/decoders/test_prompted.py",
        Size("SAM ViT-H", partial(shapes.prompted, "sam")),
        Size("SAM 2 Hiera-T", partial(shapes.prompted, "sam2")),
    ),
    _units(
        "GroundingDINO, prompted with the words of a tag",
        "decoders.grounding.GroundingDetector",
        "u-LLaVA figure 2",
        "models/decoders/test_grounding.py",
        Size("Swin-T", shapes.detector),
    ),
    _units(
        "ViTPose, prompted with boxes",
        "decoders.grounding.PoseEstimator",
        'REF-VLM figure 1a, "agent tools"',
        "models/decoders/test_grounding.py",
        Size("ViTPose-B", shapes.pose_estimator),
    ),
    _units(
        "proposals: a box and a mask for every cell",
        "decoders.proposals.ProposalHead",
        "deixis",
        "models/test_proposals.py",
        Size("cells and pixels of 256", lambda: ProposalHead(256, 256)),
    ),
    _losses(
        "next token, without logits where labels are ignored",
        "losses.language.language_loss",
        "TAMP 2.2, eq. 3; u-LLaVA 3.1, eq. 1",
        "models/test_language_loss.py",
    ),
    _losses(
        "L1 and generalized IoU of boxes",
        "losses.boxes.box_loss",
        "REF-VLM IV-C, eq. 4",
        "models/test_losses.py",
    ),
    _losses(
        "focal loss of masks",
        "losses.masks.focal_loss",
        "REF-VLM, public code",
        "models/test_losses.py",
    ),
    _losses(
        "dice loss of masks",
        "losses.masks.dice_loss",
        "REF-VLM, public code",
        "models/test_losses.py",
    ),
    _losses(
        "cross-entropy and dice of SAM's masks",
        "decoders.prompted.pixel_losses",
        "u-LLaVA 3.2, eq. 2",
        "models/decoders/test_prompted.py",
    ),
    _losses(
        "OKS as COCO has it; the code's mean distance beside it",
        "decoders.keypoints.object_keypoint_similarity",
        "REF-VLM, public code",
        "models/decoders/test_keypoints.py",
    ),
    _losses(
        "scale-invariant error of metric depth",
        "decoders.depth.scale_invariant_log_loss",
        "deixis, after Eigen et al. 2014",
        "models/decoders/test_depth.py",
    ),
    _losses(
        "affine-invariant error of relative depth",
        "decoders.depth.affine_invariant_loss",
        "deixis, after MiDaS",
        "models/decoders/test_depth.py",
    ),
    _losses(
        "location: smooth L1 and generalized IoU",
        "regions.alignment.location_loss",
        "TAMP appendix F, eqs. 4 to 6",
        "models/regions/test_alignment.py",
    ),
    _losses(
        "contrast of regions and descriptions over all ranks",
        "losses.contrastive.contrastive_loss",
        "TAMP appendix F, eqs. 7 to 9",
        "models/test_contrastive.py",
    ),
    _losses(
        "its temperature",
        "losses.contrastive.SimilarityScale",
        "TAMP appendix F, eq. 8",
        "models/test_contrastive.py",
        Size("", SimilarityScale),
    ),
    _losses(
        "its batch of 16,384, piece by piece",
        "losses.contrastive.cached_backward",
        "TAMP appendix C; deixis",
        "models/test_contrastive.py",
    ),
    _losses(
        "words that hold for a cell",
        "losses.concepts.concept_loss",
        "deixis",
        "models/test_pointing.py",
    ),
    _published(
        "mapping of Pink's published weights",
        "published.pink.PINK",
        "Pink, public code",
        "models/test_published.py",
    ),
    _published(
        "mapping of u-LLaVA's published weights",
        "published.ullava.ULLAVA",
        "u-LLaVA, public code",
        "models/test_published.py",
    ),
    _published(
        "mapping of REF-VLM's weights; none have been released",
        "published.refvlm.REFVLM",
        "REF-VLM, public code",
        "models/test_published.py",
    ),
    _published(
        "import of published weights, with a report: `deixis import`",
        "published.importing.import_weights",
        "deixis",
        "cli/test_published.py",
    ),
    _fusion(
        "boxes of decoder, mask and detector for one reference",
        "deixis.inference.fusion.gather_sources",
        "u-LLaVA 4.5, figure 2",
        "inference/test_fusion.py",
    ),
    _fusion(
        "fused box, by six named strategies",
        "deixis.inference.fusion.fuse_boxes",
        "u-LLaVA 4.5, figure 2; the strategies are ours",
        "inference/test_fusion.py",
    ),
    _fusion(
        "how good each source and each way is",
        "deixis.evaluation.fusion_comparison.compare_fusion",
        "deixis",
        "evaluation/test_fusion_comparison.py",
    ),
)
"""Every part, table by table."""
