"""Encode text and markers as token ids, so that text is never encoded as a marker."""

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import groupby, pairwise
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from deixis.errors import CheckpointError, ModelError, PromptError
from deixis.notation import Marker
from deixis.notation.markers import spellings

USER = "<|user|>"
ASSISTANT = "<|assistant|>"
PAD, BEGIN, END = "<pad>", "<s>", "</s>"

SAMPLE = "a picture of 7 cats"
"""A text that every usable vocabulary encodes."""


class MarkedTokenizer:
    """A tokenizer with one token for each marker.

    Literal text is encoded by the vocabulary without the added tokens: ``<REF>``, or the chat tokens
    of a language model, in a user's text become characters and never control tokens; decoding
    returns the text. ``begin_id`` is None if sequences have no begin token, as in Qwen.

    Args:
        tokenizer: A tokenizer of transformers with the markers added.
        spelling: The notation's spellings of markers; their values by default.

    Raises:
        ModelError: The tokenizer lacks a marker, a padding token or an end token.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, spelling: Mapping[Marker, str] | None = None
    ) -> None:
        self.tokenizer = tokenizer
        vocabulary = tokenizer.get_vocab()
        spelled = spellings(spelling)
        wanted = [USER, ASSISTANT, *spelled.values()]
        missing = [token for token in wanted if token not in vocabulary]
        if missing:
            raise ModelError(f"tokenizer has no tokens {missing}; expected all markers added")
        if tokenizer.pad_token_id is None or tokenizer.eos_token_id is None:
            raise ModelError("tokenizer: expected a padding token and an end token, got None")
        self.marker_ids = {marker: vocabulary[text] for marker, text in spelled.items()}
        self._markers = {index: marker for marker, index in self.marker_ids.items()}
        # some tokenizers add tokens for runs of blanks, which are text
        added = {token: at for token, at in tokenizer.get_added_vocab().items() if token.strip()}
        self._added = sorted(added, key=len, reverse=True)
        self._control = frozenset(added.values()) | frozenset(tokenizer.all_special_ids)
        self.pad_id = int(tokenizer.pad_token_id)
        self.begin_id = None if tokenizer.bos_token_id is None else int(tokenizer.bos_token_id)
        self.end_id = int(tokenizer.eos_token_id)
        self.user_id = vocabulary[USER]
        self.assistant_id = vocabulary[ASSISTANT]
        self._plain = _without_added(tokenizer)
        self._cached = lru_cache(maxsize=65_536)(self._encode)

    def __len__(self) -> int:
        """Return the number of embedding rows: one more than the largest id."""
        return 1 + max(self.tokenizer.get_vocab().values())

    def encode_text(self, text: str) -> tuple[int, ...]:
        """Encode literal text; the result holds no control token.

        Raises:
            PromptError: The text has a lone surrogate.
        """
        return self._cached(text)

    def _encode(self, text: str) -> tuple[int, ...]:
        if not text.isprintable() and any("\ud800" <= letter <= "\udfff" for letter in text):
            raise PromptError(f"text {text[:40]!r} has a lone surrogate; expected valid Unicode")
        if self._plain is not None:
            ids = self._plain.encode(text, add_special_tokens=False).ids
            if not self._control.intersection(ids):
                return tuple(ids)
        ids = []
        for piece in self._split(text):
            ids += self.tokenizer.encode(piece, add_special_tokens=False)
        forged = self._control.intersection(ids)
        if forged:
            raise ModelError(f"text {text[:40]!r} was encoded to control tokens {sorted(forged)}")
        return tuple(ids)

    def _split(self, text: str) -> list[str]:
        """Split text inside every spelling of an added token, after the first character."""
        cuts = {0, len(text)}
        for token in self._added:
            at = text.find(token)
            while at >= 0:
                cuts.add(at + 1)
                at = text.find(token, at + 1)
        bounds = sorted(cuts)
        return [text[a:b] for a, b in pairwise(bounds)]

    def encode_pieces(self, pieces: Iterable[Marker | str]) -> list[int]:
        """Encode pieces of a notation: markers as their tokens, text as literal text."""
        ids: list[int] = []
        for is_marker, run in groupby(pieces, key=lambda piece: isinstance(piece, Marker)):
            if is_marker:
                ids += [self.marker_ids[Marker(piece)] for piece in run]
            else:
                ids += self.encode_text("".join(run))
        return ids

    def decode_pieces(self, ids: Sequence[int]) -> list[Marker | str]:
        """Decode generated ids to markers and text; other control tokens are dropped."""
        pieces: list[Marker | str] = []
        run: list[int] = []

        def flush() -> None:
            if run:
                pieces.append(str(self.tokenizer.decode(run, clean_up_tokenization_spaces=False)))
                run.clear()

        for index in ids:
            marker = self._markers.get(index)
            if marker is not None:
                flush()
                pieces.append(marker)
            elif index not in self._control:
                run.append(index)
        flush()
        return pieces

    def save(self, folder: Path) -> None:
        """Write the tokenizer's files."""
        self.tokenizer.save_pretrained(folder)

    @classmethod
    def load(cls, folder: Path, spelling: Mapping[Marker, str] | None = None) -> "MarkedTokenizer":
        """Read a tokenizer that `save` wrote, for a notation with a ``spelling``.

        Raises:
            ModelError: The tokenizer lacks required tokens or needs custom code.
            CheckpointError: A file is damaged, or the vocabulary is empty.
            OSError: The folder has no tokenizer.
        """
        loaded = cls(read_tokenizer(folder), spelling)
        if not loaded.encode_text(SAMPLE):
            raise CheckpointError(
                f"tokenizer {folder}: its vocabulary is empty: {SAMPLE!r} has no tokens"
            )
        return loaded


def read_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Read a tokenizer of transformers from a folder, as a fast tokenizer if possible.

    Raises:
        ModelError: The tokenizer needs custom code.
        CheckpointError: A file is damaged.
        OSError: The folder has no tokenizer.
    """
    described = folder / "tokenizer_config.json"
    try:
        fields = json.loads(described.read_text()) if described.is_file() else {}
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{described}: damaged: {str(error).splitlines()[0]}") from error
    if not isinstance(fields, dict):
        raise CheckpointError(f"{described}: damaged: expected an object")
    if "auto_map" in fields:
        raise ModelError(f"tokenizer {folder} needs custom code: expected a class of transformers")
    if (folder / "tokenizer.json").is_file():
        # the generic class: some specific classes would rebuild the tokenizer with other rules
        reader: type[PreTrainedTokenizerFast] | type[AutoTokenizer] = PreTrainedTokenizerFast
    else:
        reader = AutoTokenizer
    try:
        tokenizer: PreTrainedTokenizerBase = reader.from_pretrained(folder)
    except OSError:
        raise
    except Exception as error:
        words = " ".join(str(error).split())[:200]
        raise CheckpointError(f"tokenizer {folder}: damaged: {words}") from error
    return tokenizer


def add_markers(
    tokenizer: PreTrainedTokenizerBase, spelling: Mapping[Marker, str] | None = None
) -> MarkedTokenizer:
    """Add markers to a language model's tokenizer, and padding and end tokens if it lacks them.

    Existing tokens keep their ids. ``spelling`` is as in `MarkedTokenizer`.
    """
    named = {"pad_token": PAD} if tokenizer.pad_token_id is None else {}
    if tokenizer.eos_token_id is None:
        named["eos_token"] = END
    if named:
        tokenizer.add_special_tokens(dict(named))
    wanted = [USER, ASSISTANT, *spellings(spelling).values()]
    tokenizer.add_tokens(
        [AddedToken(token, special=True, normalized=False) for token in wanted],
        special_tokens=True,
    )
    return MarkedTokenizer(tokenizer, spelling)


def _without_added(tokenizer: PreTrainedTokenizerBase) -> Tokenizer | None:
    """Return the vocabulary's encoder without added tokens; None for a slow tokenizer."""
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        return None
    fields = json.loads(tokenizer.backend_tokenizer.to_str())
    kept = [token for token in fields["added_tokens"] if not token["content"].strip()]
    plain = Tokenizer.from_str(
        json.dumps({**fields, "added_tokens": kept, "truncation": None, "padding": None})
    )
    plain.post_processor = None
    return plain


def train_tokenizer(
    texts: Iterable[str], *, size: int, spelling: Mapping[Marker, str] | None = None
) -> MarkedTokenizer:
    """Train a byte-level BPE vocabulary of at most ``size`` tokens, markers included.

    Every byte is a token, so decoding returns any text unchanged. ``spelling`` is as in
    `MarkedTokenizer`.
    """
    special = [PAD, BEGIN, END, USER, ASSISTANT, *spellings(spelling).values()]
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    return MarkedTokenizer(
        PreTrainedTokenizerFast(
            tokenizer_object=bpe,
            pad_token=PAD,
            bos_token=BEGIN,
            eos_token=END,
            extra_special_tokens=special[3:],
        ),
        spelling,
    )
