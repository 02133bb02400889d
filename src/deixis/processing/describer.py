"""The tokenizer of a text encoder for descriptions of regions, if it is not the model's."""

from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from deixis.errors import ModelError

FOLDER = "text_encoder"
"""Its folder inside a model's folder."""


class TextEncoderTokenizer:
    """Encode descriptions for a text encoder such as BERT.

    Descriptions are enclosed in the encoder's control tokens. A description that exceeds the
    encoder's length is an error and is not truncated.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self.longest = int(tokenizer.model_max_length)

    def encode_text(self, text: str) -> tuple[int, ...]:
        """Encode a description; spellings of control tokens are encoded as text.

        Raises:
            ModelError: The description is longer than the encoder's limit.
        """
        ids = tuple(self.tokenizer.encode(text, split_special_tokens=True))
        if len(ids) > self.longest:
            raise ModelError(
                f"description {text[:40]!r} has {len(ids)} tokens; expected at most {self.longest}"
            )
        return ids

    def save(self, folder: Path) -> None:
        """Write the tokenizer into a model's folder."""
        self.tokenizer.save_pretrained(folder / FOLDER)

    @classmethod
    def load(cls, folder: Path) -> "TextEncoderTokenizer":
        """Read the tokenizer in the folder of a text encoder.

        Raises:
            ModelError: The folder has no usable tokenizer.
        """
        try:
            return cls(AutoTokenizer.from_pretrained(folder, local_files_only=True))
        except (OSError, ValueError, KeyError, TypeError) as error:
            message = str(error).splitlines()[0]
            raise ModelError(f"tokenizer of the text encoder in {folder}: {message}") from error
