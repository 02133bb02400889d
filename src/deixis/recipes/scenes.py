"""Recipes that train on drawn scenes alone."""

from deixis.models.decoders import DecoderConfig
from deixis.models.vision import SmallVisionConfig
from deixis.training import ModelChoice, Optimizer, SceneData, Stage, TrainRecipe

SCENE_TASKS = (
    ("locate", 0.27),
    ("rec", 0.12),
    ("res", 0.12),
    ("absent", 0.05),
    ("reg", 0.07),
    ("reg_unique", 0.01),
    ("detection", 0.05),
    ("segmentation", 0.04),
    ("detection_all", 0.01),
    ("count", 0.05),
    ("count_words", 0.02),
    ("region_qa", 0.06),
    ("vqa", 0.06),
    ("gcg", 0.04),
    ("caption", 0.03),
)


def scenes_tiny() -> TrainRecipe:
    """The shipped model: about 9 M parameters, trained from scratch on two cores.

    The first stage trains the vision encoder and its heads on images alone: concepts, box and mask
    of the instance in each cell. Its steps take half the time of steps with questions. The other
    stages train the whole model on questions, first at a constant learning rate, then decaying.
    """
    decoder = DecoderConfig(width=128, heads=4, hidden=384, layers=2)
    model = ModelChoice(vision=SmallVisionConfig(), decoders={"box": decoder, "mask": decoder})
    questions = SceneData(seed=1, tasks=SCENE_TASKS, row_tokens=288)
    return TrainRecipe(
        name="scenes_tiny",
        model=model,
        stages=(
            Stage(
                name="see",
                steps=600,
                batch_size=32,
                trainable=("vision_encoder", "pixel_decoder", "proposal_head", "concept_head"),
                data=SceneData(seed=2, turns=0),
                optimizer=Optimizer(lr=1.5e-3, warmup=60, final=1.0, muon_scale=2.0),
            ),
            Stage(
                name="learn",
                steps=1000,
                data=questions,
                optimizer=Optimizer(lr=1e-3, warmup=60, final=1.0, muon_scale=2.0),
            ),
            Stage(
                name="settle",
                steps=540,
                data=questions,
                optimizer=Optimizer(lr=1e-3, warmup=40, final=0.01, muon_scale=2.0),
            ),
        ),
    )
