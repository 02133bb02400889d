"""Memory of 7B models, computed from shapes without weights."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from models.decoders.segmenters import SIDE, WIDTH, tiny_sam
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPVisionConfig

from deixis.models.catalogue.memory import (
    Step,
    part_memory,
    refvlm,
    steps,
    ullava,
    weights_table,
)
from deixis.models.catalogue.meter import HeldBytes, held_bytes
from deixis.models.decoders.prompted import PromptedConfig, PromptedMaskDecoder, build_prompted
from deixis.models.pointing import PointingVLM
from deixis.models.vision.pretrained import PretrainedEncoder, vision_config

PAGE = (Path(__file__).parents[2] / "docs" / "parts.md").read_text()
WRITE = "write it anew: python -m deixis.models.catalogue.memory"
MEASURED: dict[str, Callable[[Step], bool]] = {
    "ullava": lambda step: step.part != "whole" and "4 images" not in step.what,
    "refvlm": lambda step: step.part.endswith(("_decoder", "region_encoder")),
}
"""Steps that are measured again here; all steps would take half a minute."""


def rows(title: str) -> list[tuple[str, str, float, float]]:
    """Return the steps of a model on the page: part, step, held memory and peak in MiB."""
    section = PAGE.split(f"### {title}\n")[1].split("\n#")[0]
    found = re.findall(r"^\| `(\w+)` \| (.+?) \| ([\d,.]+) \| ([\d,.]+) \|$", section, re.MULTILINE)
    return [
        (part, what, float(held.replace(",", "")), float(peak.replace(",", "")))
        for part, what, held, peak in found
        if not what.replace(",", "").isdigit()
    ]


ROWS = {"ullava": rows("u-LLaVA"), "refvlm": rows("REF-VLM")}


@pytest.fixture(params=[torch.device("meta"), torch.device("cpu")], ids=str)
def device(request: pytest.FixtureRequest) -> torch.device:
    found: torch.device = request.param
    return found


def test_layers_hold_their_inputs_and_outputs(device: torch.device) -> None:
    with device:
        layers = nn.Sequential(nn.Linear(100, 200), nn.ReLU(), nn.Linear(200, 50))
        numbers = torch.zeros(8, 100)
    # at the ReLU its input and output; weights and the first input are not counted
    assert held_bytes(lambda: layers(numbers)) == 8 * (200 + 200) * 4
    layers[1] = nn.ReLU(inplace=True)
    assert held_bytes(lambda: layers(numbers)) == 8 * (200 + 50) * 4
    layers.bfloat16()
    assert held_bytes(lambda: layers(numbers.bfloat16())) == 8 * (100 + 200 + 50) * 2


def test_bytes_are_counted_once_and_until_they_are_freed(device: torch.device) -> None:
    weight = torch.zeros(100, device=device)
    with HeldBytes() as held:
        one = weight.view(10, 10) + 1
        view = one.t()
        two = view * 2
        assert held.peak == 2 * 400
        del one, view
        two.add_(weight.view(10, 10))
        three = two[0] + 1
        assert held.peak == 2 * 400
        four = torch.cat([three, *two])
        assert held.peak == 400 + 40 + 440
    assert len(four) == 110


def test_attention_allocates_its_result_only(device: torch.device) -> None:
    heads = torch.zeros(1, 4, 300, 8, device=device)
    assert held_bytes(lambda: functional.scaled_dot_product_attention(heads, heads, heads)) == (
        4 * 300 * 8 * 4
    )


def test_values_on_the_processor_combine_with_meta_tensors() -> None:
    states, chosen = torch.zeros(3, 5, device="meta"), torch.tensor([True, False, True])

    def run() -> Tensor:
        some = states[chosen] * torch.ones(int(chosen.sum()), 1)
        return states.masked_scatter(chosen[:, None], some)

    with HeldBytes():
        assert run().is_meta
        assert run().shape == (3, 5)


def test_meta_tensors_have_the_memory_of_real_ones() -> None:
    config = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
    )

    def held(device: str) -> int:
        with torch.device(device):
            encoder = PretrainedEncoder(vision_config(config)).eval()
            return held_bytes(lambda: encoder(torch.zeros(2, 3, 28, 28)))

    assert held("meta") == held("cpu") > 0


def test_a_segmenter_that_encodes_images_one_by_one_holds_one_image() -> None:
    segmenter = tiny_sam().config.to_dict()

    def held(images: int, at_once: int) -> int:
        with torch.device("meta"):
            decoder = build_prompted(PromptedConfig(segmenter=segmenter, images_at_once=at_once), 8)
            pixels = torch.zeros(images, 3, SIDE, SIDE)
        assert isinstance(decoder, PromptedMaskDecoder)
        return held_bytes(lambda: decoder.see(pixels))

    embedding = WIDTH * (SIDE // 16) ** 2 * 4
    # embeddings of earlier images, and all of them concatenated
    assert held(4, 1) <= held(1, 1) + 2 * 4 * embedding
    assert held(4, 4) >= 4 * held(1, 1)


@pytest.fixture(scope="module", params=[ullava, refvlm], ids=["ullava", "refvlm"])
def model(request: pytest.FixtureRequest) -> PointingVLM:
    build: Callable[[], PointingVLM] = request.param
    return build()


@pytest.mark.slow
def test_a_7b_model_is_counted_without_its_weights(model: PointingVLM) -> None:
    assert all(parameter.is_meta for parameter in model.parameters())
    found = {one.part: one.parameters for one in part_memory(model)}
    # LLaMA 7B as released, and a row for each of 20 tokens in both of its tables
    assert found["language_model"] == 6_738_415_616 + 2 * 20 * 4096
    assert found["whole"] == sum(parameter.numel() for parameter in model.parameters())
    assert weights_table(model) in PAGE, WRITE


@pytest.mark.slow
def test_a_7b_model_has_the_memory_on_the_page(model: PointingVLM) -> None:
    name = "refvlm" if model.config.notation == "triplets" else "ullava"
    weights = {one.part: one.weights(torch.bfloat16) for one in part_memory(model)}
    told = {(part, what): (held, peak) for part, what, held, peak in ROWS[name]}
    found = steps(model)
    assert [(step.part, step.what) for step in found] == list(told), WRITE
    for step in found:
        shown, peak = told[step.part, step.what]
        assert peak == pytest.approx(weights[step.part] / 2**20 + shown, abs=0.11), WRITE
        if MEASURED[name](step):
            # versions of libraries differ by a temporary tensor
            held = step.held() / 2**20
            assert held == pytest.approx(shown, rel=0.05, abs=0.1), (step.part, WRITE)


def test_the_page_has_the_memory_of_a_whole_batch() -> None:
    told = {(part, what): held for part, what, held, _ in ROWS["ullava"]}
    one, each, together = (
        told["mask_decoder", f"{what} encoded{how}"]
        for what, how in (("1 image", ""), ("4 images", ", one by one"), ("4 images", ", at once"))
    )
    # an image's embedding has 256 channels of 64 x 64 cells; all are concatenated at the end
    embedding = 256 * 64 * 64 * 2 / 2**20
    assert one <= each <= one + 8 * embedding
    assert together > 4 * one
    assert told["whole", "a question read, one token written, its references decoded"] >= max(
        held for (_, what), held in told.items() if "4 images" not in what
    )
    # cached keys and values of 32 layers
    cache = 2 * 32 * 837 * 4096 * 2 / 2**20
    assert told["language_model", "one token written after them"] >= cache
