"""SAM and SAM 2 as mask decoders: the classes of transformers with random weights."""

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from closeness import assert_same_outputs
from models.decoders.cases import prompted_truth
from models.decoders.segmenters import SIDE, WIDTH, tiny_sam, tiny_sam2
from models.decoders.small import LANGUAGE, features, generator, references
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, SamImageProcessorPil

from deixis.errors import CheckpointError, GeometryError, ModelError
from deixis.geometry import Box, ImageSize, Letterbox, Mask
from deixis.models.decoders.interface import Features
from deixis.models.decoders.prompted import (
    ImageFrame,
    PromptedConfig,
    PromptedMaskDecoder,
    PromptedPredictions,
    build_prompted,
    load_segmenter,
    pixel_losses,
)

both = pytest.mark.parametrize("build", [tiny_sam, tiny_sam2])
Build = Callable[[], Any]


def images(rows: int) -> torch.Tensor:
    return torch.randn(rows, 3, SIDE, SIDE, generator=generator(0))


def decoder_of(build: Build, **changes: Any) -> PromptedMaskDecoder:
    torch.manual_seed(0)
    return PromptedMaskDecoder(PromptedConfig(**changes), build(), LANGUAGE)


@both
def test_masks_are_those_of_the_segmenters_own_forward(build: Build) -> None:
    decoder, asked = decoder_of(build), references([3, 3])
    seen = decoder.see(images(2))
    given = replace(features(2), images=seen)
    with torch.no_grad():
        found = decoder(asked, given).logits
        prompts = decoder.projector(asked.states)[:, :, None]
        segmenter = decoder.segmenter
        no_mask = segmenter.prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1)
        dense = no_mask.expand(2, -1, SIDE // 16, SIDE // 16)
        # the segmenter's forward, with our prompts in place of encoded points
        segmenter.prompt_encoder.forward = lambda **_: (prompts, dense)
        own = segmenter(pixel_values=images(2), multimask_output=False)
    expected = own.pred_masks[:, :, 0].flatten(0, 1)
    assert found.shape == (6, SIDE // 4, SIDE // 4)
    assert torch.allclose(found, expected, atol=1e-4)
    assert (found[0] - found[1]).abs().max() > 1e-3


@both
def test_images_are_encoded_once_for_all_references(build: Build) -> None:
    decoder = decoder_of(build, at_once=2)
    calls = []
    hook = decoder.segmenter.vision_encoder.register_forward_hook(lambda *_: calls.append(1))
    given = replace(features(2), images=decoder.see(images(2)))
    for counts in ([1, 0], [5, 4], [0, 0]):
        assert len(decoder(references(counts), given).logits) == sum(counts)
    hook.remove()
    assert calls == [1, 1]


@both
def test_images_are_encoded_some_at_a_time_with_equal_results(build: Build) -> None:
    pixels = images(3)
    whole = decoder_of(build, images_at_once=3).see(pixels)
    for at_once in (1, 2):
        decoder = decoder_of(build, images_at_once=at_once)
        found = decoder.see(pixels)
        assert len(found.details) == len(whole.details)
        for one, other in zip(
            (found.embeddings, *found.details), (whole.embeddings, *whole.details), strict=True
        ):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    assert PromptedConfig().images_at_once == 1
    with pytest.raises(ModelError, match=r"^at_once: expected at least 1, got 0"):
        PromptedConfig(at_once=0)
    with pytest.raises(ModelError, match="images_at_once: expected at least 1, got 0"):
        PromptedConfig(images_at_once=0)


@both
def test_only_layers_with_gradients_are_trained(build: Build) -> None:
    decoder = decoder_of(build)
    trained = {name for name, p in decoder.named_parameters() if p.requires_grad}
    parts = {name.split(".")[0] for name in trained}
    assert parts == {"projector", "segmenter", "estimate"}
    inside = {name for name in trained if name.startswith("segmenter.")}
    assert all(name.startswith("segmenter.mask_decoder.") for name in inside)
    assert not any("iou_prediction_head" in name for name in inside)
    asked, given = references([2]), replace(features(1), images=decoder.see(images(1)))
    decoder.losses(decoder(asked, given), prompted_truth(2), asked.filled).loss.backward()
    grown = {n for n, p in decoder.named_parameters() if p.grad is not None and bool(p.grad.any())}
    assert "projector.up.weight" in grown
    assert any(name.startswith("segmenter.mask_decoder.transformer") for name in grown)
    assert any(name.startswith("segmenter.mask_decoder.output_hypernetworks") for name in grown)


@both
def test_masks_are_learned(build: Build) -> None:
    decoder = decoder_of(build)
    asked, given = references([2]), replace(features(1), images=decoder.see(images(1)))
    truth = prompted_truth(2)
    masks = torch.zeros_like(truth.masks)
    masks[0, 4:12, 2:10] = True
    masks[1, 10:18, 12:22] = True
    truth = replace(truth, masks=masks)
    trained = [p for p in decoder.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=3e-3)
    losses = []
    for _ in range(20):
        scored = decoder.losses(decoder(asked, given), truth, asked.filled)
        optimizer.zero_grad()
        scored.loss.backward()
        optimizer.step()
        losses.append(scored.loss.item())
    assert losses[-1] < 0.9 * losses[0]


def test_losses_equal_loops_and_the_public_codes() -> None:
    logits = torch.randn(3, 40, generator=generator(1))
    target = (torch.rand(3, 40, generator=generator(2)) > 0.5).float()
    inside = torch.rand(3, 40, generator=generator(3)) > 0.2
    target = target * inside
    for smoothing in (1.0, 1e-3):
        entropy, dice = pixel_losses(logits, target, inside, smoothing=smoothing)
        for index in range(3):
            kept = inside[index]
            p, t = logits[index][kept].sigmoid().double(), target[index][kept].double()
            loss = -(t * p.log() + (1 - t) * (1 - p).log()).mean()
            assert entropy[index].item() == pytest.approx(float(loss), rel=1e-5)
            # u-LLaVA's public code: sums divided by 1000 and smoothed by 1e-6
            shared, whole = 2 * (p / 1000 * t).sum(), (p / 1000).sum() + (t / 1000).sum()
            extra = smoothing / 1000
            expected = 1 - (shared + extra) / (whole + extra)
            assert dice[index].item() == pytest.approx(float(expected), abs=1e-5)
    assert PromptedConfig(loss="code").smoothing == 1e-3


@both
def test_costs_equal_the_losses_of_each_pair(build: Build) -> None:
    decoder = decoder_of(build)
    asked, given = references([3]), replace(features(1), images=decoder.see(images(1)))
    truth = prompted_truth(3)
    truth = replace(truth, weights=torch.ones(3))
    with torch.no_grad():
        decoded = decoder(asked, given)
        cost = decoder.costs(decoded, truth, asked.filled, torch.tensor([[0, 1, 2]]))[0]
        for i in range(3):
            for j in range(3):
                swapped = replace(truth, masks=truth.masks[[j] * 3], known=torch.arange(3) == i)
                parts = decoder.losses(decoded, swapped, asked.filled).parts
                expected = 2.0 * parts["bce"] + 0.5 * parts["dice"]
                assert cost[i, j].item() == pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.parametrize("size", [(48, 64), (64, 48), (30, 30), (100, 7), (301, 200)])
def test_preparation_equals_sams_image_processor(size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    processor: Any = SamImageProcessorPil(
        size={"longest_edge": SIDE}, pad_size={"height": SIDE, "width": SIDE}
    )
    expected = processor(image, return_tensors="pt")["pixel_values"][0]
    found = ImageFrame(SIDE, "corner").prepare(torch.from_numpy(image))
    assert found.shape == expected.shape == (3, SIDE, SIDE)
    # one level is about 1/58; rounding after resizing differs by at most one level
    assert (found - expected).abs().max() < 1.5 / 57


@pytest.mark.parametrize("fit", ["corner", "stretch"])
@pytest.mark.parametrize("size", [(300, 400), (400, 300), (37, 41), (250, 90)])
def test_masks_come_back_from_the_frame(fit: Any, size: tuple[int, int]) -> None:
    extent = ImageSize(*size)
    frame = ImageFrame(SIDE, fit)
    height, width = size
    box = Box(width * 0.2, height * 0.3, width * 0.8, height * 0.7)
    mask = Mask.from_box(box, extent)
    cells, inside = frame.to_frame(mask, SIDE)
    down, across = frame.extent(extent)
    assert inside.float().mean().item() == pytest.approx(down * across, abs=0.05)
    assert not (cells & ~inside).any()
    decoder = decoder_of(tiny_sam if fit == "corner" else tiny_sam2)
    logits = torch.where(cells, 5.0, -5.0)[None]
    decoded = PromptedPredictions(logits, torch.tensor([[0]]), torch.zeros(1, 1))
    found = decoder.to_unit(decoded, 0, 0, Letterbox(extent, 64))
    assert found.size == extent
    shared = (found.array & mask.array).sum() / (found.array | mask.array).sum()
    assert shared > 0.85
    with pytest.raises(GeometryError, match="mask is empty"):
        decoder.to_unit(replace(decoded, logits=-logits.abs()), 0, 0, Letterbox(extent, 64))


@both
def test_weights_come_from_a_folder_of_safetensors(build: Build, tmp_path: Path) -> None:
    segmenter = build()
    segmenter.save_pretrained(tmp_path)
    loaded = load_segmenter(tmp_path)
    assert loaded.state_dict().keys() == segmenter.state_dict().keys()
    assert all(torch.equal(v, segmenter.state_dict()[k]) for k, v in loaded.state_dict().items())
    torch.manual_seed(0)
    first = PromptedMaskDecoder(PromptedConfig(), loaded, LANGUAGE)
    second, asked = decoder_of(build), references([2])
    second.projector.load_state_dict(first.projector.state_dict())
    masks = []
    for decoder in (first, second):
        given = Features(features(1).maps, images=decoder.see(images(1)))
        masks.append(decoder(asked, given).logits)
    assert_same_outputs(*masks)
    # a folder or a configuration is enough to build a decoder; a checkpoint then has all weights
    from_folder = build_prompted(PromptedConfig(segmenter=str(tmp_path), at_once=3), LANGUAGE)
    assert from_folder.config.at_once == 3
    plain = json.loads(json.dumps(loaded.config.to_dict(), default=str))
    from_config = build_prompted(PromptedConfig(segmenter=plain), LANGUAGE)
    from_config.load_state_dict(first.state_dict())
    with torch.no_grad():
        given = Features(features(1).maps, images=from_config.see(images(1)))
        assert_same_outputs(from_config(asked, given).logits, masks[0])


def test_folders_that_do_not_hold_a_segmenter_are_refused(tmp_path: Path) -> None:
    tiny_sam().save_pretrained(tmp_path / "sam")
    canary = tmp_path / "canary"

    class Poison:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return (Path.touch, (canary,))  # type: ignore[return-value]  # a pickle runs it

    pickled = tmp_path / "pickled"
    pickled.mkdir()
    (pickled / "config.json").write_text((tmp_path / "sam" / "config.json").read_text())
    (pickled / "pytorch_model.bin").write_bytes(pickle.dumps(Poison()))
    with pytest.raises(CheckpointError, match=r"expected config\.json and safetensors there"):
        load_segmenter(pickled)
    assert not canary.exists()
    weights = tmp_path / "sam" / "model.safetensors"
    tensors = load_file(weights)
    name = next(name for name in tensors if "mask_decoder" in name)
    save_file({k: v for k, v in tensors.items() if k != name}, weights, {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"weights do not fit: \{'missing_keys'"):
        load_segmenter(tmp_path / "sam")
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="segmenter"):
        load_segmenter(tmp_path / "sam")
    CLIPConfig().save_pretrained(tmp_path / "clip")
    weights.rename(tmp_path / "clip" / "model.safetensors")
    with pytest.raises(ModelError, match="expected sam or sam2, got 'clip'"):
        load_segmenter(tmp_path / "clip")


def test_other_models_and_missing_images_are_refused() -> None:
    with pytest.raises(ModelError, match="expected a SamModel or Sam2Model, got 'Linear'"):
        PromptedMaskDecoder(PromptedConfig(), torch.nn.Linear(2, 2), LANGUAGE)
    with pytest.raises(ModelError, match="expected a folder or configuration of sam or sam2"):
        build_prompted(PromptedConfig(segmenter={"model_type": "clip"}), LANGUAGE)
    with pytest.raises(ModelError, match="expected encoded images, got none"):
        decoder_of(tiny_sam)(references([1]), features(1))
    assert WIDTH == 16
