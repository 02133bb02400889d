"""From what a recipe chooses to what a model's configuration holds: regions and decoders."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from deixis.errors import ModelError
from deixis.models.decoders.prompted import PromptedConfig, load_segmenter
from deixis.models.pointing import PointingVLM
from deixis.models.published import read_report
from deixis.models.regions import ConnectorConfig, RegionEncodersConfig
from deixis.models.regions.text_branch import read_text_config
from deixis.processing.describer import TextEncoderTokenizer
from deixis.processing.tokenizer import MarkedTokenizer
from deixis.training.recipe import ModelChoice, TextEncoderShape


def region_fields(choice: ModelChoice, tokenizer: MarkedTokenizer) -> dict[str, Any] | None:
    """The region encoders of a choice as a configuration has them; None for the usual one.

    Raises:
        ModelError: There is no text encoder in the folder, or the encoders do not fit.
    """
    if choice.regions is None:
        return None
    text = text_fields(choice.describer, tokenizer)
    encoders = {
        name: replace(each, text_encoder=text)
        if isinstance(each, ConnectorConfig) and each.text_encoder is None
        else each
        for name, each in choice.regions.encoders
    }
    return RegionEncodersConfig(encoders, dict(choice.regions.routes)).to_json()


def text_fields(
    describer: TextEncoderShape | str | None, tokenizer: MarkedTokenizer
) -> dict[str, Any] | None:
    """The encoder of descriptions as a configuration has it.

    Raises:
        ModelError: There is none in the folder.
    """
    if describer is None:
        return None
    if isinstance(describer, str):
        return read_text_config(Path(describer))
    return {
        "model_type": "bert",
        "vocab_size": len(tokenizer.tokenizer),
        "hidden_size": describer.hidden,
        "num_hidden_layers": describer.layers,
        "num_attention_heads": describer.heads,
        "intermediate_size": describer.intermediate,
        "max_position_embeddings": describer.longest,
        "pad_token_id": tokenizer.pad_id,
    }


def decoder_fields(choice: ModelChoice) -> dict[str, dict[str, Any]]:
    """The unit decoders of a choice as a configuration has them.

    Raises:
        CheckpointError: A segmenter's files are missing or damaged.
    """
    fields = {name: asdict(config) for name, config in choice.decoders.items()}
    for each in fields.values():
        if isinstance(each.get("segmenter"), str):
            each["segmenter"] = load_segmenter(Path(each["segmenter"])).config.to_dict()
    return fields


def reference_offset(choice: ModelChoice) -> str:
    """Which hidden state stands for a reference: as chosen, or as imported weights were trained.

    Raises:
        CheckpointError: The folder of imported weights was not written by an import.
    """
    if choice.offset is not None:
        return choice.offset
    if choice.imported is None:
        return "at"
    return read_report(Path(choice.imported)).settings.get("offset", "at")


def load_parts(choice: ModelChoice, model: PointingVLM) -> TextEncoderTokenizer | None:
    """Read the weights of the parts that a choice takes from files; give the describer's tokenizer.

    Raises:
        CheckpointError: Files are missing or damaged.
        ModelError: Files hold something else.
    """
    for config in choice.decoders.values():
        if isinstance(config, PromptedConfig) and isinstance(config.segmenter, str):
            weights = load_segmenter(Path(config.segmenter)).state_dict()
            model.get_submodule("mask_decoder.segmenter").load_state_dict(weights)
    if not isinstance(choice.describer, str):
        return None
    branch = model.connector.text
    if branch is None:
        raise ModelError("a describer is given: expected a connector that reads descriptions")
    branch.load(Path(choice.describer))
    return TextEncoderTokenizer.load(Path(choice.describer))
