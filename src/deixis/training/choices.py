"""Region encoders and unit decoders of a recipe as fields of a model's configuration."""

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
    """Return the region encoders of a choice as configuration; None for the default encoder.

    Raises:
        ModelError: The folder has no text encoder, or the encoders do not fit.
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
    """Return the encoder of descriptions as configuration.

    Raises:
        ModelError: The folder has no text encoder.
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
    """Return the unit decoders of a choice as configuration.

    Raises:
        CheckpointError: A segmenter's files are missing or damaged.
    """
    fields = {name: asdict(config) for name, config in choice.decoders.items()}
    for each in fields.values():
        if isinstance(each.get("segmenter"), str):
            each["segmenter"] = load_segmenter(Path(each["segmenter"])).config.to_dict()
    return fields


def reference_offset(choice: ModelChoice) -> str:
    """Return which hidden state is the latent reference: chosen, or that of imported weights.

    Raises:
        CheckpointError: The folder of imported weights was not written by an import.
    """
    if choice.offset is not None:
        return choice.offset
    if choice.imported is None:
        return "at"
    return read_report(Path(choice.imported)).settings.get("offset", "at")


def load_parts(choice: ModelChoice, model: PointingVLM) -> TextEncoderTokenizer | None:
    """Read the weights of parts from files; return the tokenizer of descriptions, or None.

    Raises:
        CheckpointError: Files are missing or damaged.
        ModelError: Files hold another kind of model.
    """
    for config in choice.decoders.values():
        if isinstance(config, PromptedConfig) and isinstance(config.segmenter, str):
            weights = load_segmenter(Path(config.segmenter)).state_dict()
            model.get_submodule("mask_decoder.segmenter").load_state_dict(weights)
    if not isinstance(choice.describer, str):
        return None
    branch = model.connector.text
    if branch is None:
        raise ModelError("describer is set: expected a connector that reads descriptions")
    branch.load(Path(choice.describer))
    return TextEncoderTokenizer.load(Path(choice.describer))
