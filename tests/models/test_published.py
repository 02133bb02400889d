import io
import json
import os
import pickle
import re
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import nn
from transformers.models.detr.modeling_detr import DetrDecoder, DetrMLPPredictionHead
from transformers.models.maskformer.modeling_maskformer import (
    MaskformerMLPPredictionHead,
    MaskFormerPixelDecoder,
)

from deixis.errors import CheckpointError, ModelError, StorageError
from deixis.models.projector import Projector
from deixis.models.published import (
    SYSTEMS,
    Activation,
    ImportReport,
    import_weights,
    match_keys,
    reading,
)
from deixis.models.published.architectures import SAM
from deixis.models.published.reading import added_tokens, unpickled

State = dict[str, torch.Tensor]
WIDTH, VISUAL, DECODER = 16, 8, 20
PYRAMID = (2, 4, 6, VISUAL)


def llama() -> nn.Module:
    config = transformers.LlamaConfig(
        hidden_size=WIDTH,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        vocab_size=40,
    )
    return transformers.LlamaForCausalLM(config)


def clip() -> nn.Module:
    config = transformers.CLIPVisionConfig(
        hidden_size=VISUAL,
        intermediate_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
    )
    return transformers.CLIPVisionModel(config)


def sam() -> nn.Module:
    config = transformers.SamConfig(
        vision_config={
            "hidden_size": 8,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 32,
            "patch_size": 16,
            "output_channels": 16,
            "global_attn_indexes": [1],
            "mlp_dim": 16,
            "num_pos_feats": 8,
            "window_size": 1,
        },
        prompt_encoder_config={
            "hidden_size": 16,
            "image_size": 32,
            "patch_size": 16,
            "mask_input_channels": 4,
        },
        mask_decoder_config={
            "hidden_size": 16,
            "mlp_dim": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "iou_head_hidden_dim": 16,
        },
    )
    return transformers.SamModel(config)


def state(module: nn.Module, prefix: str = "") -> State:
    return {prefix + key: value.clone() for key, value in module.state_dict().items()}


def linears(prefix: str, *shapes: tuple[int, int]) -> State:
    """Return the state of a Sequential of linear maps with activations between them."""
    return {
        f"{prefix}{2 * number}.{key}": value
        for number, (inputs, outputs) in enumerate(shapes)
        for key, value in nn.Linear(inputs, outputs).state_dict().items()
    }


def as_meta_saves(tensors: State) -> State:
    """Segment Anything under the names of Meta's code."""
    theirs: State = {}
    ours = {row.name: row.key for row in SAM}
    for name, tensor in tensors.items():
        number = next((part for part in name.split(".layers.")[1:] if part), "").split(".")[0]
        key = ours.get(name) or ours.get(name.replace(f".layers.{number}.", ".layers.*.", 1))
        if key is not None:
            theirs[f"visual_model.{key.replace('*', number)}"] = tensor
    return theirs


def pink_adapters() -> State:
    tensors: State = {}
    places = {f"model.layers.{n}": WIDTH for n in range(2)}
    # the public code removes the adapter of the last layer
    places |= {f"vision_model.vision_model.encoder.layers.{n}": VISUAL for n in range(2)}
    for place, width in places.items():
        for name, shape in (("a", (width, 4)), ("b", (4, width))):
            tensors |= {
                f"{place}.adapter_attn.tune_adapter_{name}.{key}": value
                for key, value in nn.Linear(*shape).state_dict().items()
            }
    return tensors | state(nn.Linear(VISUAL, WIDTH), "mm_projector.")


def pink() -> State:
    return (
        state(llama())
        | state(clip(), "vision_model.vision_model.")
        | pink_adapters()
        | {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}
    )


def ullava() -> State:
    return (
        state(llama(), "llm.")
        | state(clip(), "llm.vision_encoder.vision_model.")
        | state(nn.Linear(VISUAL, WIDTH), "llm.vision_projector.")
        | linears("seg_projector.", (WIDTH, WIDTH), (WIDTH, 16))
        | linears("det_projector.", (WIDTH, WIDTH), (WIDTH, 16))
        | linears("det_decoder.", (16, 16), (16, 8), (8, 4))
        | as_meta_saves(state(sam()))
        | {"visual_model.pixel_mean": torch.ones(3, 1, 1)}
    )


def detr_as_it_was(prefix: str) -> State:
    """DETR's decoder under the names of the transformers that REF-VLM was trained with."""
    config = transformers.DetrConfig(
        d_model=DECODER, decoder_layers=2, decoder_attention_heads=2, decoder_ffn_dim=24
    )
    return {
        prefix + key.replace("attn.o_proj", "attn.out_proj").replace("mlp.fc", "fc"): value
        for key, value in DetrDecoder(config).state_dict().items()
    }


def box_decoder_of_refvlm(prefix: str, queries: int) -> State:
    return (
        state(nn.Linear(sum(PYRAMID), DECODER), f"{prefix}in_proj_visual_feats.")
        | state(nn.Linear(WIDTH, DECODER), f"{prefix}in_proj_queries.")
        | state(nn.Embedding(queries, DECODER), f"{prefix}query_position_embeddings.")
        | detr_as_it_was(f"{prefix}decoder.")
        | state(DetrMLPPredictionHead(DECODER, DECODER, 4, 3), f"{prefix}predictor.")
    )


def joints_of_refvlm(prefix: str, queries: int) -> State:
    places = nn.Embedding(18 * queries, DECODER)
    heads = {"box_predictor": 4, "kpt_predictor": 2}
    return (
        state(nn.Linear(sum(PYRAMID), DECODER), f"{prefix}in_proj_visual_feats.")
        | state(nn.Linear(DECODER, DECODER), f"{prefix}in_proj_queries.")
        | state(nn.Embedding(18, DECODER), f"{prefix}kpt_embedding.")
        | state(places, f"{prefix}query_position_embeddings.")
        | detr_as_it_was(f"{prefix}decoder.")
        | {
            key: value
            for name, outputs in heads.items()
            for key, value in state(
                DetrMLPPredictionHead(DECODER, DECODER, outputs, 3), f"{prefix}{name}."
            ).items()
        }
        | state(nn.Linear(DECODER, 2), f"{prefix}kpt_classifier.")
    )


def refvlm() -> State:
    mask, pose = "visual_decoder.mask.", "visual_decoder.pose."
    pixels = MaskFormerPixelDecoder(
        in_features=PYRAMID[-1],
        feature_size=32,
        mask_feature_size=32,
        lateral_widths=list(PYRAMID[:-1]),
    )
    return (
        state(llama(), "llm.")
        | linears("projector.model.", (VISUAL, WIDTH), (WIDTH, WIDTH))
        | {"vpt_encoder.model.position_embedding.weight": torch.randn(9, VISUAL)}
        | box_decoder_of_refvlm("visual_decoder.box.", 5)
        | state(pixels, f"{mask}pixel_decoder.")
        | state(nn.Embedding(3, DECODER), f"{mask}queries_embedder.")
        | state(nn.Conv2d(PYRAMID[-1], DECODER, 1), f"{mask}in_proj_visual_feats.")
        | state(nn.Linear(WIDTH, DECODER), f"{mask}in_proj_queries.")
        | state(nn.Embedding(3, DECODER), f"{mask}query_position_embeddings.")
        | detr_as_it_was(f"{mask}query_decoder.")
        | state(MaskformerMLPPredictionHead(DECODER, DECODER, 32), f"{mask}mask_embedder.")
        | box_decoder_of_refvlm(f"{pose}box_decoder.", 4)
        | joints_of_refvlm(f"{pose}kpt_decoder.", 4)
    )


PUBLISHED: dict[str, Callable[[], State]] = {"pink": pink, "refvlm": refvlm, "ullava": ullava}


def shapes(tensors: State) -> dict[str, tuple[int, ...]]:
    return {key: tuple(tensor.shape) for key, tensor in tensors.items()}


def imported(system: str, source: Path, out: Path, *, partial: bool = False) -> ImportReport:
    out.mkdir()
    activation: Activation | None = "identity" if system == "pink" else None
    return import_weights(system, source, out, partial=partial, activation=activation)


@pytest.mark.parametrize("system", sorted(SYSTEMS))
def test_every_key_of_the_public_code_has_a_place(system: str) -> None:
    tensors = PUBLISHED[system]()
    report = match_keys(SYSTEMS[system], shapes(tensors))
    assert report.complete, report.problems()
    assert {each.key for each in report.mapped} | report.left_out.keys() == tensors.keys()
    assert len({(each.part, each.name) for each in report.mapped}) == len(report.mapped)
    assert report.unlike_released["language"] == f"{WIDTH} instead of 4096"


def test_names_of_parts_equal_those_of_their_modules() -> None:
    placed: dict[str, dict[str, set[str]]] = {}
    for system, make in PUBLISHED.items():
        for each in match_keys(SYSTEMS[system], shapes(make())).mapped:
            placed.setdefault(system, {}).setdefault(each.part, set()).add(each.name)
    language, vision = set(llama().state_dict()), {f"model.{key}" for key in clip().state_dict()}
    for system in PUBLISHED:
        assert placed[system]["language_model"] == language
    assert placed["pink"]["vision_encoder"] == placed["ullava"]["vision_encoder"] == vision
    linear, mlp = (Projector(VISUAL, WIDTH, layers=layers).state_dict() for layers in (1, 2))
    assert placed["pink"]["projector"] == placed["ullava"]["projector"] == set(linear)
    assert placed["refvlm"]["projector"] == set(mlp)
    # transformers stores the same matrix twice
    segmenter = {f"segmenter.{key}" for key in sam().state_dict() if "shared_image" not in key}
    projector = {f"projector.{way}.{each}" for way in ("up", "down") for each in ("weight", "bias")}
    assert placed["ullava"]["prompted_decoder"] == segmenter | projector
    decoder = {
        f"decoder.{key}"
        for key in DetrDecoder(transformers.DetrConfig(d_model=8, decoder_layers=2)).state_dict()
    }
    assert decoder <= placed["refvlm"]["box_decoder"]


def test_an_import_combines_shards_with_trained_weights(
    tmp_path: Path,
) -> None:
    source = tmp_path / "pink"
    source.mkdir()
    tensors = pink()
    trained = {**pink_adapters(), "lm_head.weight": torch.ones(40, WIDTH)}
    base = {key: value for key, value in tensors.items() if key not in pink_adapters()}
    keys = sorted(base)
    index: dict[str, str] = {}
    for number, some in enumerate((keys[::2], keys[1::2])):
        name = f"pytorch_model-0000{number + 1}-of-00002.bin"
        torch.save({key: base[key] for key in some}, source / name)
        index |= dict.fromkeys(some, name)
    (source / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": index}))
    torch.save(trained, source / "saved_parameters.pth")
    (source / "training_args.bin").write_bytes(b"whatever")
    report = imported("pink", source, tmp_path / "out")
    assert report.passed_over == {"training_args.bin": "settings of a training run"}
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"report.json", *(f"{part}.safetensors" for part in report.parts)}
    told = json.loads((tmp_path / "out" / "report.json").read_text())
    assert told["complete"]
    assert len(told["mapped"]) == len(tensors) - 1
    model = llama()
    model.load_state_dict(load_file(tmp_path / "out" / "language_model.safetensors"))
    assert torch.equal(model.state_dict()["lm_head.weight"], trained["lm_head.weight"])
    adapters = load_file(tmp_path / "out" / "vision_adapters.safetensors")
    key = "vision_model.vision_model.encoder.layers.1.adapter_attn.tune_adapter_b.weight"
    assert torch.equal(adapters["model.encoder.layers.1.self_attn.adapter.up.weight"], trained[key])


def test_adapters_alone_can_be_imported(tmp_path: Path) -> None:
    torch.save(pink_adapters(), tmp_path / "saved_parameters.pth")
    report = imported("pink", tmp_path, tmp_path / "out")
    assert report.groups == ["projector", "language adapters", "vision adapters"]
    assert list(report.parts) == ["language_adapters", "projector", "vision_adapters"]


def test_weights_under_state_dict_are_found_and_shared_ones_written_whole(
    tmp_path: Path,
) -> None:
    tensors = pink_adapters()
    tensors["mm_projector.weight"] = torch.randn(2 * WIDTH, VISUAL)[:WIDTH]
    tensors["model.layers.1.adapter_attn.tune_adapter_b.bias"] = tensors[
        "model.layers.0.adapter_attn.tune_adapter_b.bias"
    ]
    kept: dict[str, Any] = {"state_dict": {**tensors, "epoch": 3}, "meta": {"time": "now"}}
    torch.save(kept, tmp_path / "epoch.pth")
    report = imported("pink", tmp_path, tmp_path / "out")
    assert report.left_out == {
        "epoch.pth: meta": "not a tensor",
        "epoch.pth: epoch": "not a tensor",
    }
    projector = load_file(tmp_path / "out" / "projector.safetensors")
    assert torch.equal(projector["layers.0.weight"], tensors["mm_projector.weight"])


def test_unmapped_and_missing_keys_are_all_reported() -> None:
    tensors = refvlm()
    tensors["vd_adapter.in_proj_text.lin1.weight"] = torch.ones(2)
    del tensors["llm.model.layers.1.mlp.up_proj.weight"]
    del tensors["visual_decoder.box.decoder.layernorm.bias"]
    tensors["projector.model.2.bias"] = torch.ones(WIDTH + 1)
    tensors["projector.model.0.bias"] = torch.ones(WIDTH, 1)
    report = match_keys(SYSTEMS["refvlm"], shapes(tensors))
    assert not report.complete
    assert report.unmapped == ["vd_adapter.in_proj_text.lin1.weight"]
    assert report.missing == [
        "llm.model.layers.1.mlp.up_proj.weight",
        "visual_decoder.box.decoder.layernorm.bias",
    ]
    assert report.mismatched == {
        "projector.model.0.bias": f"expected 1 axes, got [{WIDTH}, 1]",
        "projector.model.2.bias": f"expected [{WIDTH}], got [{WIDTH + 1}]",
    }
    assert report.left_out.keys() == {"visual_decoder.mask.queries_embedder.weight"}
    assert "1 unmapped: vd_adapter" in report.problems()
    assert "2 missing: llm.model" in report.problems()


def test_keys_that_do_not_fit_are_refused_unless_partial(tmp_path: Path) -> None:
    tensors = pink_adapters()
    del tensors["mm_projector.bias"]
    save_file(tensors | {"extra": torch.ones(1)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="not the weights of pink: 1 unmapped: extra; 1 miss"):
        imported("pink", tmp_path, tmp_path / "refused")
    assert list((tmp_path / "refused").iterdir()) == []
    report = imported("pink", tmp_path, tmp_path / "out", partial=True)
    assert not report.complete
    assert load_file(tmp_path / "out" / "projector.safetensors").keys() == {"layers.0.weight"}


def test_keys_that_do_not_fit_are_reported_with_a_hint(tmp_path: Path) -> None:
    save_file({k: v.contiguous() for k, v in ullava().items()}, tmp_path / "model.safetensors")
    count = len(ullava())
    hint = rf"\nhint: {count - 1} of its {count} keys are those of ullava$"
    with pytest.raises(CheckpointError, match=f"not the weights of refvlm: .*{hint}"):
        imported("refvlm", tmp_path, tmp_path / "other")
    tensors = pink_adapters()
    del tensors["mm_projector.bias"]
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"\nhint: --partial writes the parts that fit$"):
        imported("pink", tmp_path, tmp_path / "part")
    (tmp_path / "model.safetensors").unlink()
    torch.save(pink_adapters(), tmp_path / "saved_parameters.pth")
    index = {"weight_map": {"model.layers.0.mlp.up_proj.weight": "saved_parameters.pth"}}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    with pytest.raises(
        CheckpointError, match=r"1 missing: model\.layers\.0\.mlp\.up_proj\.weight \(of saved_par"
    ):
        imported("pink", tmp_path, tmp_path / "index")


def test_folders_without_weights_are_refused_with_the_reason(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "checkpoint-9").mkdir(parents=True)
    with pytest.raises(CheckpointError, match=r"no \.pth, .* file in it$"):
        imported("pink", source, tmp_path / "empty")
    torch.save(pink_adapters(), source / "checkpoint-9" / "saved_parameters.pth")
    with pytest.raises(CheckpointError, match=r"\nhint: its folders \['check"):
        imported("pink", source, tmp_path / "inside")
    file = source / "checkpoint-9" / "saved_parameters.pth"
    with pytest.raises(CheckpointError, match=r"\nhint: name the folder of that file, .*point-9$"):
        imported("pink", file, tmp_path / "file")
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 13476835328\n"
    for name in ("pytorch_model.bin", "model.safetensors"):
        (source / name).write_text(pointer)
        with pytest.raises(CheckpointError, match=rf"{name}: a pointer of Git LFS.*\nhint: fetch"):
            import_weights("pink", source, tmp_path / "empty")
        (source / name).unlink()
    save_file(pink_adapters(), source / "model.safetensors")
    whole = (source / "model.safetensors").read_bytes()
    (source / "model.safetensors").write_bytes(whole[:-5])
    with pytest.raises(
        CheckpointError, match=r"model\.safetensors: .* damaged: \d+ bytes, expected \d+"
    ):
        import_weights("pink", source, tmp_path / "empty")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("added_tokens.json", '["[SEG]"]', "expected a JSON object"),
        ("added_tokens.json", '{"[SEG]": "last"}', "expected added tokens with indices"),
        ("tokenizer.json", '{"added_tokens": [{"id": 3}]}', "expected added tokens with indices"),
        ("tokenizer_config.json", '{"added_tokens_decoder": []}', "expected added tokens with ind"),
        ("config.json", "{", "config.json: Expecting"),
    ],
)
def test_other_damaged_files_are_named(tmp_path: Path, name: str, content: str, words: str) -> None:
    save_file(pink_adapters(), tmp_path / "model.safetensors")
    (tmp_path / name).write_text(content)
    with pytest.raises(CheckpointError, match=words):
        imported("pink", tmp_path, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_tokens_are_read_from_each_file_that_has_them_and_must_agree(tmp_path: Path) -> None:
    assert added_tokens(tmp_path) == {}
    (tmp_path / "added_tokens.json").write_text('{"[SEG]": 7}')
    one = {"8": {"content": "[LOC]", "special": True}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": one}))
    more = [{"id": 1, "content": "<s>"}, {"id": 7, "content": "[SEG]"}]
    (tmp_path / "tokenizer.json").write_text(json.dumps({"added_tokens": more}))
    assert added_tokens(tmp_path) == {"[SEG]": 7, "[LOC]": 8, "<s>": 1}
    (tmp_path / "added_tokens.json").write_text('{"[SEG]": 9}')
    with pytest.raises(CheckpointError, match=r"token '\[SEG\]' has index 7, in another file 9"):
        added_tokens(tmp_path)


def test_token_indices_are_found_in_the_configuration(tmp_path: Path) -> None:
    tensors = {k: v.contiguous() for k, v in ullava().items() if k.startswith("llm.")}
    save_file(tensors, tmp_path / "model.safetensors")
    mm = {"IMG_START": 33, "IMG_END": 34, "VID_START": 35, "VID_END": 36, "IMG_PATCH": 31}
    config = {"seg_token_idx": 37, "loc_token_idx": 38, "llm_config": {"mm_token_ids": mm}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    report = imported("ullava", tmp_path, tmp_path / "out")
    assert report.tokens == {
        "[SEG]": 37,
        "[LOC]": 38,
        "<img_beg>": 33,
        "</img_end>": 34,
        "<vid_beg>": 35,
        "</vid_end>": 36,
    }
    assert report.settings == {"offset": "prev"}


def test_weights_of_another_system_lack_their_projector() -> None:
    report = match_keys(SYSTEMS["pink"], shapes(refvlm()))
    assert report.missing == ["projector"]
    assert not report.mapped


class Poison:
    """Create a file when unpickled."""

    def __init__(self, canary: Path, how: str) -> None:
        self.canary, self.how = canary, how

    def __reduce__(self) -> tuple[Any, ...]:
        command = f"touch {self.canary}"
        match self.how:
            case "eval":
                return (eval, (f"__import__('os').system({command!r})",))
            case "path":
                return (Path.touch, (self.canary,))
            case _:
                return (os.system, (command,))


def poisoned_pickle(canary: Path, how: str) -> bytes:
    return pickle.dumps({"mm_projector.weight": Poison(canary, how)}, protocol=2)


def poisoned_archive(canary: Path, how: str) -> bytes:
    buffer = io.BytesIO()
    torch.save({"mm_projector.weight": torch.ones(2), "more": Poison(canary, how)}, buffer)
    return buffer.getvalue()


def poisoned_legacy(canary: Path, how: str) -> bytes:
    buffer = io.BytesIO()
    poison = {"more": Poison(canary, how)}
    torch.save(poison, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def test_code_in_pickles_never_runs(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    poisoned = [poisoned_pickle, poisoned_archive, poisoned_legacy]
    paths = []
    for number, make in enumerate(poisoned):
        for how in ("system", "eval", "path"):
            for suffix in (".pth", ".bin", ".pt"):
                paths.append(tmp_path / f"{how}{number}{suffix}")
                paths[-1].write_bytes(make(canary, how))
    told = unpickled(paths, tmp_path)
    for path, answer in zip(paths, told, strict=True):
        assert re.match("it (refers to|is not a file)", answer["refused"]), path
    assert not canary.exists()
    with pytest.raises(CheckpointError, match=r"eval0.bin: refused: it refers to"):
        imported("pink", tmp_path, tmp_path / "out")
    assert not canary.exists()
    assert list((tmp_path / "out").iterdir()) == []


def test_the_code_in_pickles_runs_if_a_pickle_is_trusted(tmp_path: Path) -> None:
    for how in ("system", "eval", "path"):
        canary = tmp_path / how
        pickle.loads(poisoned_pickle(canary, how))  # noqa: S301
        assert canary.exists()


def compressed(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as given, zipfile.ZipFile(buffer, "w") as made:
        for entry in given.infolist():
            made.writestr(entry.filename, given.read(entry), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def saved(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


BROKEN: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "it is not a file of tensors, or damaged"),
    "text": (b"<html></html>", "it is not a file of tensors, or damaged"),
    "cut off": (saved({"a": torch.ones(99)})[:-400], "it is not a file of tensors, or damaged"),
    "compressed": (compressed(saved({"a": torch.ones(9)})), "its archive is compressed"),
    "wide": (saved({"a": torch.ones(1).expand(10**9)}), "claims more numbers than it stores"),
    "not finite": (
        saved({"a": torch.tensor([torch.nan])}),
        "'a' holds numbers that are not finite",
    ),
    "sparse": (saved({"a": torch.eye(3).to_sparse()}), "'a' is not a plain dense tensor"),
    "list": (saved([torch.ones(1)]), "expected tensors by name"),
    "no tensors": (saved({"a": 1}), "it has no tensor with a name"),
}


def test_invalid_files_are_refused_one_by_one(tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.pth" for name in BROKEN]
    for path, (content, _) in zip(paths, BROKEN.values(), strict=True):
        path.write_bytes(content)
    told = unpickled(paths, tmp_path)
    for (name, (_, reason)), answer in zip(BROKEN.items(), told, strict=True):
        assert reason in answer["refused"], name


def test_files_whose_reader_dies_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "dies.py"
    program.write_text("print('{\"beside\": []}', flush=True); import os; os.abort()")
    monkeypatch.setattr(reading, "_PROGRAM", program)
    told = unpickled([tmp_path / f"{n}.pth" for n in range(3)], tmp_path)
    assert told == [{"beside": []}, *2 * [{"refused": "its reader ended with -6"}]]
    program.write_text("import time; time.sleep(60)")
    monkeypatch.setattr(reading, "SECONDS", 1)
    assert unpickled([tmp_path / "0.pth"], tmp_path) == [
        {"refused": "its reader took more than 1 seconds"}
    ]


def safetensors_file(header: str, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header.encode() + data


ENTRY = '"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'


@pytest.mark.parametrize(
    "content",
    [
        b"",
        struct.pack("<Q", 2**63),
        struct.pack("<Q", 10**8 + 1) + b"{}",
        safetensors_file("no JSON"),
        safetensors_file(f"{{{ENTRY},{ENTRY}}}", b"\0" * 4),
        safetensors_file(f"{{{ENTRY}}}", b"\0" * 3),
    ],
)
def test_damaged_safetensors_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        imported("pink", tmp_path, tmp_path / "out")


def test_safetensors_must_be_finite(tmp_path: Path) -> None:
    tensors = pink_adapters()
    tensors["mm_projector.bias"][0] = torch.inf
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"not finite in \['layers.0.bias'\]"):
        imported("pink", tmp_path, tmp_path / "out")


def test_files_must_exist_in_the_folder(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="expected a folder of published weights"):
        imported("pink", tmp_path / "nothing", tmp_path / "out")
    source = tmp_path / "source"
    source.mkdir()
    (source / "notes.txt").write_text("")
    with pytest.raises(CheckpointError, match=r"no \.pth, \.pt, \.bin or \.safetensors file"):
        imported("pink", source, tmp_path / "none")
    torch.save(pink_adapters(), tmp_path / "elsewhere.pth")
    link = source / "saved_parameters.pth"
    link.symlink_to(tmp_path / "elsewhere.pth")
    with pytest.raises(CheckpointError, match="expected a regular file"):
        imported("pink", source, tmp_path / "linked")
    link.unlink()
    (tmp_path / "elsewhere.pth").rename(link)
    index = source / "pytorch_model.bin.index.json"
    for content, reason in {
        json.dumps(
            {"weight_map": {"a": "../elsewhere.pth"}}
        ): "expected names of files in its folder",
        json.dumps({"weight_map": {"a": "shard.bin"}}): r"shards are missing: \['shard.bin'\]",
        json.dumps({"weight_map": ["shard.bin"]}): "expected a weight_map",
        "{": "Expecting",
    }.items():
        index.write_text(content)
        with pytest.raises(CheckpointError, match=reason):
            import_weights("pink", source, tmp_path / "linked")


def test_a_key_in_two_shards_is_refused(tmp_path: Path) -> None:
    for name in ("one", "two"):
        save_file(pink_adapters(), tmp_path / f"{name}.safetensors")
    with pytest.raises(CheckpointError, match=r"is in one.safetensors and in two.safetensors"):
        imported("pink", tmp_path, tmp_path / "out")


def test_an_unknown_system_and_a_missing_folder_are_refused(tmp_path: Path) -> None:
    torch.save(pink_adapters(), tmp_path / "saved_parameters.pth")
    with pytest.raises(ModelError, match="weights of 'blip': expected one of"):
        import_weights("blip", tmp_path, tmp_path)
    with pytest.raises(StorageError, match="nowhere: cannot write: no such file"):
        import_weights("pink", tmp_path, tmp_path / "nowhere")
