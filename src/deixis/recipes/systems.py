"""Recipes of the four systems on drawn scenes, at a size for two cores.

Each recipe has the wiring of its paper with a small vision encoder and a language model from scratch, so it
runs without files. Pretrained models replace them by ``--set model.language=FOLDER`` and
``--set model.vision=clip-vit-l-14-336`` (see `ModelChoice`), own data by ``--data`` or ``--mixture``.
"""

from deixis.models.decoders import DecoderConfig
from deixis.models.decoders.depth import DepthConfig
from deixis.models.decoders.keypoints import KeypointConfig
from deixis.models.decoders.location import LocationConfig
from deixis.models.regions import (
    MASK_REGIONS,
    ConnectorConfig,
    CoordinateRegionConfig,
)
from deixis.models.regions.alignment import AlignmentConfig
from deixis.models.vision.video import VIDEO_PRESETS
from deixis.training import ModelChoice, Optimizer, SceneData, Stage, TrainRecipe
from deixis.training.recipe import MaskFormerShape, RegionChoice, TextEncoderShape

_ROW_TOKENS = 256
_DRAWN = ("point", "box", "scribble", "mask")
_DECODER = DecoderConfig(width=128, heads=4, hidden=384, layers=2, anchored=False)


def pink_scenes() -> TrainRecipe:
    """Pink: coordinates as text in questions and answers, a linear projector, then adapters.

    The adapters are in the language model only; the paper also has some in the pretrained encoder.
    """
    model = ModelChoice(
        notation="coordinates",
        tokens_from="encoder",
        projector="linear",
        decoders={},
        concepts=False,
        proposals=False,
        regions=RegionChoice(
            (("numbers", CoordinateRegionConfig()),), tuple((kind, "numbers") for kind in _DRAWN)
        ),
    )
    data = SceneData(
        seed=1,
        row_tokens=_ROW_TOKENS,
        tasks=(
            ("rec", 0.3),
            ("reg", 0.2),
            ("detection", 0.1),
            ("count", 0.1),
            ("quadrant_box", 0.1),
            ("relation", 0.1),
            ("vqa", 0.1),
        ),
    )
    return TrainRecipe(
        name="pink_scenes",
        model=model,
        stages=(
            Stage(name="learn", steps=1200, data=data, optimizer=_optimizer()),
            Stage(
                name="adapt",
                steps=400,
                data=data,
                trainable=("projector",),
                tuning=(("language_model", "adapters"),),
                optimizer=_optimizer(),
            ),
        ),
    )


def tamp_scenes() -> TrainRecipe:
    """TAMP: a connector for words and boxes, trained in three stages: align, connect, tune.

    The last stage trains LoRA and adapters of the language model, in the paper also of the encoder.
    """
    model = ModelChoice(
        notation="coordinates_marks",
        tokens_from="encoder",
        decoders={},
        concepts=False,
        proposals=False,
        regions=RegionChoice(
            (("task", ConnectorConfig(width=128)),), (("text", "task"), ("box", "task"))
        ),
        describer=TextEncoderShape(),
        alignment=AlignmentConfig(),
    )
    data = SceneData(
        seed=1, row_tokens=_ROW_TOKENS, tasks=(("ref_tag", 0.5), ("loc_tag", 0.3), ("vqa", 0.2))
    )
    return TrainRecipe(
        name="tamp_scenes",
        model=model,
        stages=(
            Stage(
                name="align",
                steps=600,
                batch_size=32,
                trainable=("vision_encoder", "region_encoder", "alignment"),
                data=data,
                optimizer=_optimizer(),
                objective="alignment",
                pieces=2,
            ),
            Stage(
                name="connect",
                steps=600,
                trainable=("projector", "region_encoder", "language_model"),
                data=data,
                optimizer=_optimizer(),
            ),
            Stage(
                name="tune",
                steps=300,
                trainable=("projector", "region_encoder"),
                tuning=(("language_model", "lora+adapters"),),
                data=data,
                optimizer=_optimizer(),
            ),
        ),
    )


def ullava_scenes() -> TrainRecipe:
    """u-LLaVA: `<LOC>` for a location decoder, `<SEG>` for masks; images, regions and videos.

    A small mask decoder replaces SAM.
    """
    model = ModelChoice(
        notation="tokens",
        tokens_from="encoder",
        projector="linear_bias",
        decoders={"location": LocationConfig(), "mask": _DECODER},
        concepts=False,
        proposals=False,
        video=VIDEO_PRESETS["paper"],
    )
    data = SceneData(
        seed=1,
        row_tokens=_ROW_TOKENS,
        tasks=(("locate", 0.4), ("res", 0.2), ("salient", 0.1), ("caption", 0.1), ("vqa", 0.2)),
    )
    return TrainRecipe(
        name="ullava_scenes",
        model=model,
        stages=(
            Stage(
                name="tell",
                steps=800,
                trainable=("vision_encoder", "projector", "region_encoder", "language_model"),
                data=SceneData(
                    seed=2, row_tokens=_ROW_TOKENS, tasks=(("caption", 0.5), ("vqa", 0.5))
                ),
                optimizer=_optimizer(),
            ),
            Stage(name="point", steps=1200, data=data, optimizer=_optimizer()),
        ),
    )


def refvlm_scenes() -> TrainRecipe:
    """REF-VLM: triplets, nine tokens per region through the image's projector, four decoders."""
    model = ModelChoice(
        notation="triplets",
        tokens_from="encoder",
        decoders={
            "box": _DECODER,
            "mask": _DECODER,
            "keypoint": KeypointConfig(anchored=False, from_box=False, levels=2),
            "depth": DepthConfig(nearest=0.5, farthest=40.0),
        },
        concepts=False,
        proposals=False,
        pixel_decoder=MaskFormerShape(width=64, groups=8),
        regions=RegionChoice(
            (("mask", MASK_REGIONS["paper"]),), tuple((kind, "mask") for kind in _DRAWN)
        ),
        mask_target="canvas",
    )
    return _refvlm("refvlm_scenes", model, (*_POINTING, ("depth", 0.05)))


def refvlm_code_scenes() -> TrainRecipe:
    """REF-VLM with the regions and decoders of its public code, at their own size.

    It accepts imported weights (``--set model.imported=FOLDER``) with the language model and the
    encoders that they were trained with. It is slow on two cores.
    """
    model = ModelChoice(
        notation="triplets",
        tokens_from="encoder",
        decoders={
            "box": DecoderConfig.refvlm("box", "code"),
            "mask": DecoderConfig.refvlm("mask", "code"),
            "keypoint": KeypointConfig.refvlm("code"),
        },
        concepts=False,
        proposals=False,
        pixel_decoder=MaskFormerShape(cells="coarsest"),
        pixel_width=256,
        regions=RegionChoice(
            (("mask", MASK_REGIONS["code"]),), tuple((kind, "mask") for kind in _DRAWN)
        ),
        mask_target="canvas",
    )
    return _refvlm("refvlm_code_scenes", model, _POINTING)


_POINTING = (
    ("locate", 0.25),
    ("rec", 0.1),
    ("res", 0.1),
    ("reg", 0.1),
    ("gcg", 0.1),
    ("detection", 0.1),
    ("keypoint", 0.1),
    ("vqa", 0.1),
)


def _refvlm(name: str, model: ModelChoice, tasks: tuple[tuple[str, float], ...]) -> TrainRecipe:
    return TrainRecipe(
        name=name,
        model=model,
        stages=(
            Stage(
                name="tell",
                steps=800,
                trainable=("vision_encoder", "projector", "region_encoder", "language_model"),
                data=SceneData(
                    seed=2,
                    row_tokens=_ROW_TOKENS,
                    tasks=(("caption", 0.4), ("vqa", 0.3), ("reg", 0.3)),
                ),
                optimizer=_optimizer(),
            ),
            Stage(
                name="point",
                steps=1200,
                data=SceneData(seed=1, row_tokens=_ROW_TOKENS, tasks=tasks),
                optimizer=_optimizer(),
            ),
        ),
    )


def _optimizer() -> Optimizer:
    return Optimizer(lr=1e-3, warmup=40, final=0.05, muon_scale=2.0)
