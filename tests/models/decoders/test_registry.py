"""Decoders by name, from plain data."""

from typing import Any

import pytest
from models.decoders.segmenters import tiny_sam2
from models.decoders.small import LANGUAGE, LEVELS, PIXELS, SHAPE

from deixis.errors import ModelError
from deixis.models.decoders import DecoderConfig
from deixis.models.decoders.interface import UnitDecoder
from deixis.models.decoders.location import LocationConfig, LocationDecoder
from deixis.models.decoders.registry import (
    DECODERS,
    DecoderKind,
    NamedDecoder,
    Surroundings,
    TruthGrids,
)

AROUND = Surroundings(LANGUAGE, PIXELS, tuple(LEVELS))
OWN: dict[str, dict[str, Any]] = {
    "location": {"width": 16},
    "segmenter": {"segmenter": tiny_sam2().config.to_dict(), "at_once": 4},
}


@pytest.mark.parametrize("name", DECODERS)
def test_every_decoder_is_built_from_plain_data_and_is_a_unit_decoder(name: str) -> None:
    named: NamedDecoder[Any] = NamedDecoder.read(name, OWN.get(name, SHAPE))
    decoder = named.build(AROUND)
    assert isinstance(decoder, UnitDecoder)
    assert named.part == f"{decoder.unit}_decoder"
    assert (named.reader(TruthGrids(16, 32)) is None) == (name in {"box", "mask", "location"})


def test_invalid_decoder_configurations_are_refused() -> None:
    with pytest.raises(ModelError, match="unit decoder 'cuboid': expected one of"):
        NamedDecoder.read("cuboid", {})
    with pytest.raises(ModelError, match=r"unit decoder 'depth': .*unexpected keyword.*'colour'"):
        NamedDecoder.read("depth", {"colour": 3})


def test_a_decoder_of_points_without_a_reader_of_their_truth_is_refused() -> None:
    """Such a decoder would train without learning."""
    message = "DecoderConfig, a decoder of units of type 'point': expected a reader"
    with pytest.raises(ModelError, match=message):
        DecoderKind("point", DecoderConfig, lambda *_: LocationDecoder(LocationConfig(), 4))


def test_a_decoder_of_another_unit_than_its_kind_is_refused() -> None:
    kind = DecoderKind(
        "mask", LocationConfig, lambda c, around: LocationDecoder(c, around.language)
    )
    named = NamedDecoder("mine", kind, LocationConfig(width=16))
    with pytest.raises(ModelError, match=r"decoder 'mine': expected units of type mask, .*got box"):
        named.build(AROUND)
