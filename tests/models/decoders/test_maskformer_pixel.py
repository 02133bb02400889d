"""MaskFormer's pixel decoder against that of transformers, and in place of ours."""

import pytest
import torch
from models.decoders.small import generator, gradients_are_finite
from torch import Tensor
from transformers.models.maskformer import modeling_maskformer

from deixis.errors import ModelError
from deixis.models.decoders import PixelDecoder
from deixis.models.decoders.maskformer_pixel import MaskFormerPixelDecoder

WIDTHS, SIDES = (8, 12, 16, 24), (32, 16, 8, 4)


def pyramid(rows: int = 2) -> list[Tensor]:
    dice = generator(0)
    return [torch.randn(rows, w, s, s, generator=dice) for w, s in zip(WIDTHS, SIDES, strict=True)]


def ours(cell_level: int = 3, pixel_level: int = 0, **changes: object) -> MaskFormerPixelDecoder:
    torch.manual_seed(1)
    return MaskFormerPixelDecoder(
        WIDTHS,
        cell_level=cell_level,
        pixel_level=pixel_level,
        cell_width=20,
        pixel_width=6,
        width=32,
        groups=4,
        **changes,  # type: ignore[arg-type]  # checked by beartype
    )


def test_it_equals_that_of_transformers_with_the_same_names() -> None:
    theirs = modeling_maskformer.MaskFormerPixelDecoder(
        in_features=WIDTHS[-1],
        lateral_widths=list(WIDTHS[:-1]),
        feature_size=32,
        mask_feature_size=6,
    )
    decoder = MaskFormerPixelDecoder(
        WIDTHS, cell_level=3, pixel_level=0, cell_width=24, pixel_width=6, width=32
    )
    assert decoder.state_dict().keys() == theirs.state_dict().keys()
    decoder.load_state_dict(theirs.state_dict())
    with torch.no_grad():
        expected = theirs(pyramid(), output_hidden_states=True)
        found = decoder(pyramid())
    assert torch.allclose(found.pixels, expected.last_hidden_state, atol=1e-6)
    # references attend to the backbone's map, which already has the width
    assert torch.equal(found.cells, pyramid()[3])
    merged = MaskFormerPixelDecoder(
        WIDTHS, cell_level=2, pixel_level=0, cell_width=32, pixel_width=6, width=32,
        cells_from="merged",
    )  # fmt: skip
    merged.load_state_dict(theirs.state_dict())
    with torch.no_grad():
        assert torch.allclose(merged(pyramid()).cells, expected.hidden_states[0], atol=1e-6)


@pytest.mark.parametrize("levels", [(3, 0), (2, 0), (2, 1), (3, 3)])
@pytest.mark.parametrize("cells_from", ["backbone", "merged"])
def test_it_takes_the_place_of_the_other_pixel_decoder(
    levels: tuple[int, int], cells_from: str
) -> None:
    cell_level, pixel_level = levels
    found = ours(cell_level, pixel_level, cells_from=cells_from)(pyramid())
    other = PixelDecoder(
        WIDTHS, cell_level=cell_level, pixel_level=pixel_level, cell_width=20, pixel_width=6
    )(pyramid())
    assert found.cells.shape == other.cells.shape
    assert found.pixels.shape == other.pixels.shape


def test_images_do_not_depend_on_one_another() -> None:
    decoder = ours()
    with torch.no_grad():
        together, alone = decoder(pyramid()), decoder([each[1:] for each in pyramid()])
    assert torch.allclose(together.cells[1:], alone.cells, atol=1e-6)
    assert torch.allclose(together.pixels[1:], alone.pixels, atol=1e-5)


def test_gradients_are_finite_in_bfloat16_too() -> None:
    decoder = ours(2, cells_from="merged")
    with torch.autocast("cpu", torch.bfloat16):
        found = decoder(pyramid())
    (found.cells.float().square().mean() + found.pixels.float().square().mean()).backward()
    assert gradients_are_finite(decoder)


def test_invalid_levels_and_groups_are_refused() -> None:
    with pytest.raises(ModelError, match="pixel level <= cell level < 4, got 2 and 1"):
        ours(1, 2)
    with pytest.raises(ModelError, match="5 groups do not divide a width of 32"):
        MaskFormerPixelDecoder(
            WIDTHS, cell_level=3, pixel_level=0, cell_width=8, pixel_width=8, width=32, groups=5
        )
