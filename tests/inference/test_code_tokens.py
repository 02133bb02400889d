"""The tokens of u-LLaVA's public code in rows, in a saved model and in answers."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import TEXTS, tiny_choice, tiny_recipe, tiny_tokenizer

from deixis.errors import ModelError
from deixis.geometry import Box, ImageSize, Mask
from deixis.inference import load
from deixis.models.config import PointingVLMConfig
from deixis.models.vision.video import VIDEO_PRESETS, VideoPooling
from deixis.notation import Marker, Tokens, join_pieces, notation_named, split_markers
from deixis.processing.batch import collate
from deixis.processing.processor import Processor
from deixis.processing.tokenizer import train_tokenizer
from deixis.recipes import apply_overrides
from deixis.structures import (
    Conversation,
    GroundedPhrase,
    GroundedText,
    Reference,
    Turn,
    UnitGroup,
    Video,
)
from deixis.training.build import build_model

IMAGE = np.zeros((40, 80, 3), np.uint8)
SIZE = ImageSize(40, 80)
BOX = Box(10, 10, 30, 30)
BOTH = UnitGroup(("box", "mask"), (Reference((BOX, Mask.from_box(BOX, SIZE))),))
DOG = GroundedText("dog", (GroundedPhrase("dog", 0, 3, (BOTH,)),))


def processor(notation: str, video: VideoPooling | None = None) -> Processor:
    spelling = notation_named(notation).spelling
    tokenizer = train_tokenizer(TEXTS * 20, size=400, spelling=spelling)
    return Processor(
        tokenizer,
        notation_named(notation),
        canvas=64,
        image_tokens=4,
        regions={},
        pixel_grid=16,
        cell_grid=4,
        video=video,
    )


def words(made: Processor, source: object) -> list[str]:
    """Return the tokens of a row up to the end of its question, with text as one token."""
    turn = Turn(("Where is it?",), DOG)
    row = made.row(Conversation("q", source, SIZE, (turn,)))  # type: ignore[arg-type]
    named = {number: text for text, number in made.tokenizer.tokenizer.get_vocab().items()}
    return [named[number] for number in row.input_ids.tolist()]


def test_images_and_videos_are_enclosed_by_the_tokens_of_the_public_code() -> None:
    shown = ["<image>"] * 4
    found = words(processor("tokens_code"), IMAGE)
    assert found[:8] == ["<s>", "<img_beg>", *shown, "</img_end>", "<|user|>"]
    assert found[-3:] == ["[LOC]", "[SEG]", "</s>"]
    assert found.count("[tag]") == found.count("[/tag]") == 1
    found = words(processor("tokens"), IMAGE)
    assert found[:6] == ["<s>", *shown, "<|user|>"]
    assert found[-3:] == ["<LOC>", "<SEG>", "</s>"]
    frames = np.zeros((2, 40, 80, 3), np.uint8)
    video = replace(VIDEO_PRESETS["code"], num_frames=2)
    found = words(processor("tokens_code", video), Video(lambda: frames))
    # after the question, as in the public code
    start, end = found.index("<vid_beg>"), found.index("</vid_end>")
    assert found[start + 1 : end] == ["<image>"] * 6
    assert found[end + 1] == "<|assistant|>"
    assert "<img_beg>" not in found


def test_every_answer_round_trips_through_the_tokens_of_the_public_code() -> None:
    made = processor("tokens_code")
    written = made.notation.encode(DOG, SIZE)
    ids = made.tokenizer.encode_pieces(written.pieces)
    pieces = made.tokenizer.decode_pieces(ids)
    assert pieces == list(written.pieces)
    notation = made.notation
    assert join_pieces(pieces, notation.spelling) == "[tag]dog[/tag][LOC][SEG]"
    assert split_markers("[tag]dog[/tag][LOC][SEG]", notation.spelling) == pieces
    assert notation.decode(pieces, SIZE).text.phrases[0].groups[0].unit_types == ("box", "mask")
    # in the order of that code: tokens before the tag
    said = split_markers("Sure. Mask: [SEG]; Location: [LOC]; [tag]dog[/tag].", notation.spelling)
    phrases = [phrase for phrase in notation.decode(said, SIZE).text.phrases if phrase.groups]
    assert [phrase.text for phrase in phrases] == ["dog"]
    # user input is text
    typed = made.tokenizer.encode_text("[SEG] <img_beg>")
    assert made.tokenizer.decode_pieces(typed) == ["[SEG] <img_beg>"]
    # the notation refuses a tokenizer without these tokens
    with pytest.raises(ModelError, match=r"tokenizer has no tokens \['\[tag\]', .*'<img_beg>'"):
        type(made.tokenizer)(tiny_tokenizer().tokenizer, Tokens("code").spelling)


def test_a_model_with_the_tokens_of_the_public_code_is_saved_and_asked(tmp_path: Path) -> None:
    recipe = apply_overrides(
        tiny_recipe(model=replace(tiny_choice(), concepts=False)),
        ["model.notation=tokens_code", "model.offset=prev"],
    )
    model, made = build_model(recipe)
    assert model.config.offset == "prev"
    row = made.row(Conversation("q", IMAGE, SIZE, (Turn(("Where is it?",), DOG),)))
    batch = collate([row], pad_id=made.tokenizer.pad_id)
    model.train(mode=False)
    output = model(batch)
    output.loss.backward()
    # only the state before the token gets a gradient
    model.config.offset = "at"
    assert not torch.isclose(model(batch).parts["box"], output.parts["box"])
    assert torch.isclose(model(batch).parts["language"], output.parts["language"])
    model.config.offset = "prev"
    model.save_pretrained(tmp_path)
    made.save(tmp_path)
    loaded = load(tmp_path, device="cpu")
    assert loaded.model.config.offset == "prev"
    assert loaded.processor.tokenizer.marker_ids == made.tokenizer.marker_ids
    assert Marker.IMAGE_OPEN in loaded.processor.tokenizer.marker_ids
    answer = loaded.ask(IMAGE, "Where is it?", max_new_tokens=4)
    assert "<LOC>" not in answer.raw
    assert answer.size == SIZE


def test_an_unknown_offset_is_refused_and_an_old_configuration_has_the_default() -> None:
    with pytest.raises(ModelError, match=r"offset: expected one of .*, got 'next'"):
        PointingVLMConfig(offset="next")
    assert PointingVLMConfig().offset == "at"
