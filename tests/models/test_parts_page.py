"""The page of parts agrees with the code."""

from importlib import import_module
from pathlib import Path

import pytest

from deixis.models.__main__ import parts_tables
from deixis.models.catalogue import PARTS, Size, shapes, uses
from deixis.models.projector import Projector

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs" / "parts.md").read_text()


@pytest.mark.slow
def test_the_page_ends_with_the_tables_that_are_printed() -> None:
    assert PAGE.endswith(parts_tables()), "write them anew: python -m deixis.models"


def test_every_part_is_there_and_has_its_proof() -> None:
    for part in PARTS:
        module, _, name = part.code.rpartition(".")
        assert hasattr(import_module(module), name), part.code
        assert (TESTS / part.test).is_file(), part.test


@pytest.mark.parametrize(
    ("size", "published"),
    [
        # Pink, section 4.1
        (Size("", lambda: shapes.vision_adapters("paper")), 393_216),
        (Size("", lambda: shapes.language_adapters("paper")), 2_097_152),
        (
            Size("", lambda: Projector(shapes.VISUAL, shapes.LANGUAGE, layers=1, bias=False)),
            4_194_304,
        ),
        # the released weights of LLaMA 7B
        (Size("", shapes.language_model), 6_738_415_616),
    ],
    ids=["vision adapters", "language adapters", "projector", "language model"],
)
def test_counts_are_those_that_were_published(size: Size, published: int) -> None:
    assert size.count() == (published, published)


def test_a_part_that_is_half_frozen_says_how_much_of_it_trains() -> None:
    frozen = Projector(3, 2, layers=1)
    frozen.get_parameter("layers.0.bias").requires_grad_(False)
    assert Size("a map", lambda: frozen).describe() == "a map: 8, 6 train"


@pytest.mark.slow
def test_use_is_read_off_the_source_through_what_hands_names_on() -> None:
    found = uses(
        (
            # re-exported by a package, used by a module's name, and from a table of builders
            "deixis.models.decoders.box.BoxDecoder",
            "deixis.models.decoders.BoxDecoder",
            "deixis.models.losses.concepts.concept_loss",
            "deixis.models.decoders.depth.DepthDecoder",
            "deixis.models.published.pink.PINK",
            "deixis.models.catalogue.parts.PARTS",
        )
    )
    assert list(found.values()) == ["model", "model", "model", "model", "command", "alone"]
