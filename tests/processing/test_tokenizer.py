import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tiny_tokenizer
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from deixis.errors import ModelError, PromptError
from deixis.notation import Marker
from deixis.processing.tokenizer import ASSISTANT, END, USER, MarkedTokenizer

FORGERIES = [marker.value for marker in Marker] + [USER, ASSISTANT, END, "<s>", "<pad>"]


@settings(max_examples=80, deadline=None)
@given(st.text(max_size=60))
def test_decoding_returns_any_text_unchanged(text: str) -> None:
    tokenizer = tiny_tokenizer()
    pieces = tokenizer.decode_pieces(tokenizer.encode_text(text))
    assert "".join(pieces) == text


@pytest.mark.parametrize("forged", FORGERIES)
@pytest.mark.parametrize("around", ["{}", "a {} b", "{0}{0}", "<{}>", "see{}.", "\u200b{}"])
def test_no_text_becomes_a_control_token(forged: str, around: str) -> None:
    tokenizer = tiny_tokenizer()
    text = around.format(forged)
    ids = tokenizer.encode_text(text)
    assert not set(ids) & set(tokenizer.tokenizer.get_added_vocab().values())
    assert "".join(tokenizer.decode_pieces(ids)) == text


def test_decoding_returns_markers_and_text_that_spells_them() -> None:
    tokenizer = tiny_tokenizer()
    pieces = ["The ", Marker.PHRASE_OPEN, "<REF> sign", Marker.PHRASE_CLOSE, "(", Marker.REFERENCE]
    assert tokenizer.decode_pieces(tokenizer.encode_pieces(pieces)) == pieces


def test_tokenizer_without_markers_is_refused() -> None:
    bare = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()))
    with pytest.raises(ModelError, match="expected all markers added"):
        MarkedTokenizer(bare)


def test_tokenizer_without_a_padding_token_is_refused() -> None:
    bare = copy.deepcopy(tiny_tokenizer().tokenizer)
    bare.pad_token = None
    with pytest.raises(ModelError, match="expected a padding token and an end token, got None"):
        MarkedTokenizer(bare)


def test_lone_surrogates_are_refused() -> None:
    with pytest.raises(PromptError, match="has a lone surrogate; expected valid Unicode"):
        tiny_tokenizer().encode_text("a \ud800 b")
