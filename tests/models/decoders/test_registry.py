"""Decoders by name, from plain data."""

import pytest
from models.decoders.segmenters import tiny_sam2
from models.decoders.small import LANGUAGE, PIXELS, SHAPE

from deixis.errors import ModelError
from deixis.models.decoders.interface import UnitDecoder
from deixis.models.decoders.registry import BUILDERS, Widths, build_decoder

WIDTHS = Widths(LANGUAGE, PIXELS)


def test_every_decoder_is_built_from_plain_data_and_is_a_unit_decoder() -> None:
    for name in BUILDERS:
        config = {
            "location": {"width": 16},
            "segmenter": {"segmenter": tiny_sam2().config.to_dict(), "at_once": 4},
        }.get(name, SHAPE)
        assert isinstance(build_decoder(name, config, WIDTHS), UnitDecoder), name


def test_what_cannot_be_built_is_refused() -> None:
    with pytest.raises(ModelError, match="unit decoder 'cuboid': expected one of"):
        build_decoder("cuboid", {}, WIDTHS)
    with pytest.raises(ModelError, match=r"unit decoder 'depth': .*unexpected keyword.*'colour'"):
        build_decoder("depth", {"colour": 3}, WIDTHS)
