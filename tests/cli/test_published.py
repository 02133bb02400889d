import json
from pathlib import Path

import pytest
import torch
from command import Run
from safetensors.torch import load_file


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    folder = tmp_path / "pink"
    folder.mkdir()
    tensors = {"mm_projector.weight": torch.ones(4, 3), "mm_projector.bias": torch.zeros(4)}
    torch.save(tensors, folder / "saved_parameters.pth")
    return folder


def test_import_writes_and_lists_parts(deixis: Run, weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ended = deixis("import", "pink", str(weights), "--out", str(out))
    assert ended.code == 0, ended.err
    assert ended.out == "projector: 2 tensors in projector.safetensors\n"
    assert "not of the released size: language 4 instead of 4096" in ended.err
    assert load_file(out / "projector.safetensors")["layers.0.weight"].shape == (4, 3)
    assert json.loads((out / "report.json").read_text())["complete"]


def test_import_refuses_other_weights_without_output(
    deixis: Run, weights: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    ended = deixis("import", "refvlm", str(weights), "--out", str(out))
    assert ended.code == 7
    assert "not the weights of refvlm: 2 unmapped: mm_projector.bias" in ended.err
    assert "hint: 2 of its 2 keys are those of pink" in ended.err
    assert not out.exists()
    ended = deixis("import", "refvlm", str(weights), "--out", str(out), "--partial", "--json")
    assert ended.code == 0
    told = json.loads(ended.out)
    assert told["unmapped"] == ["mm_projector.bias", "mm_projector.weight"]
    assert told["missing"] == ["projector"]
    assert not told["complete"]


def test_import_asks_for_the_activation_of_adapters(
    deixis: Run, weights: Path, tmp_path: Path
) -> None:
    tensors = torch.load(weights / "saved_parameters.pth", weights_only=True)
    for name, shape in (("a", (2, 4)), ("b", (4, 2))):
        place = f"model.layers.0.adapter_attn.tune_adapter_{name}"
        tensors |= {f"{place}.weight": torch.ones(shape), f"{place}.bias": torch.ones(shape[0])}
    torch.save(tensors, weights / "saved_parameters.pth")
    out = tmp_path / "out"
    ended = deixis("import", "pink", str(weights), "--out", str(out))
    assert ended.code == 7
    assert (
        "hint: --activation identity (the public code's default) or --activation silu" in ended.err
    )
    ended = deixis("import", "pink", str(weights), "--out", str(out), "--activation", "gelu")
    assert ended.code == 2
    assert "activation 'gelu': expected one of ['identity', 'silu']" in ended.err
    ended = deixis("import", "pink", str(weights), "--out", str(out), "--activation", "silu")
    assert ended.code == 0, ended.err
    assert "language_adapters: silu\n" in ended.out
    assert (
        json.loads((out / "report.json").read_text())["settings"]["vision_adapters"] == "identity"
    )
