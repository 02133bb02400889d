"""Text and markers to token ids, so that no text can ever become a marker."""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import groupby, pairwise
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from deixis.errors import ModelError
from deixis.notation import Marker

USER = "<|user|>"
ASSISTANT = "<|assistant|>"
PAD, BEGIN, END = "<pad>", "<s>", "</s>"


class MarkedTokenizer:
    """A tokenizer with markers as tokens of their own.

    Literal text is encoded piece by piece around every added token's spelling, so a user who
    types ``<REF>`` gets the characters and never the marker; decoding gives the text back.

    Raises:
        ModelError: The tokenizer lacks one of the markers.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        vocabulary = tokenizer.get_vocab()
        missing = [marker.value for marker in Marker if marker.value not in vocabulary]
        if missing:
            raise ModelError(f"tokenizer has no tokens {missing}; expected all markers added")
        self.marker_ids = {marker: vocabulary[marker.value] for marker in Marker}
        self._markers = {index: marker for marker, index in self.marker_ids.items()}
        self._added = sorted(tokenizer.get_added_vocab(), key=len, reverse=True)
        self._control = frozenset(tokenizer.get_added_vocab().values())
        self.pad_id = int(tokenizer.pad_token_id)
        self.begin_id = int(tokenizer.bos_token_id)
        self.end_id = int(tokenizer.eos_token_id)
        self.user_id = vocabulary[USER]
        self.assistant_id = vocabulary[ASSISTANT]
        self._cached = lru_cache(maxsize=65_536)(self._encode)

    def encode_text(self, text: str) -> tuple[int, ...]:
        """Encode literal text; the result holds no control token."""
        return self._cached(text)

    def _encode(self, text: str) -> tuple[int, ...]:
        ids: list[int] = []
        for piece in self._split(text):
            ids += self.tokenizer.encode(piece, add_special_tokens=False)
        forged = self._control.intersection(ids)
        if forged:
            raise ModelError(f"text {text[:40]!r} was encoded to control tokens {sorted(forged)}")
        return tuple(ids)

    def _split(self, text: str) -> list[str]:
        """Cut inside every spelling of an added token, after its first character."""
        cuts = {0, len(text)}
        for token in self._added:
            at = text.find(token)
            while at >= 0:
                cuts.add(at + 1)
                at = text.find(token, at + 1)
        bounds = sorted(cuts)
        return [text[a:b] for a, b in pairwise(bounds)]

    def encode_pieces(self, pieces: Iterable[Marker | str]) -> list[int]:
        """Encode pieces of a notation: markers to their tokens, text as literal text."""
        ids: list[int] = []
        for is_marker, run in groupby(pieces, key=lambda piece: isinstance(piece, Marker)):
            if is_marker:
                ids += [self.marker_ids[Marker(piece)] for piece in run]
            else:
                ids += self.encode_text("".join(run))
        return ids

    def decode_pieces(self, ids: Sequence[int]) -> list[Marker | str]:
        """Cut generated ids into markers and text; other control tokens are left out."""
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
    def load(cls, folder: Path) -> "MarkedTokenizer":
        """Read a tokenizer that `save` wrote."""
        return cls(PreTrainedTokenizerFast.from_pretrained(folder))


def train_tokenizer(texts: Iterable[str], *, size: int) -> MarkedTokenizer:
    """Learn a byte-level BPE vocabulary of at most ``size`` tokens, markers included.

    Any text survives it byte for byte, since every byte is a token.
    """
    special = [PAD, BEGIN, END, USER, ASSISTANT, *(marker.value for marker in Marker)]
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
        )
    )
