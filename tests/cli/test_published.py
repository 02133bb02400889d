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


def test_import_writes_parts_and_says_which(deixis: Run, weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ended = deixis("import", "pink", str(weights), "--out", str(out))
    assert ended.code == 0, ended.err
    assert ended.out == "projector: 2 tensors in projector.safetensors\n"
    assert "not of the released size: language 4 instead of 4096" in ended.err
    assert load_file(out / "projector.safetensors")["layers.0.weight"].shape == (4, 3)
    assert json.loads((out / "report.json").read_text())["complete"]


def test_import_refuses_other_weights_and_writes_nothing(
    deixis: Run, weights: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    ended = deixis("import", "refvlm", str(weights), "--out", str(out))
    assert ended.code == 7
    assert "not the weights of refvlm: 2 unmapped: mm_projector.bias" in ended.err
    assert not out.exists()
    ended = deixis("import", "refvlm", str(weights), "--out", str(out), "--partial", "--json")
    assert ended.code == 0
    told = json.loads(ended.out)
    assert told["unmapped"] == ["mm_projector.bias", "mm_projector.weight"]
    assert told["missing"] == ["projector"]
    assert not told["complete"]
