"""The tokenizer of the encoder that reads descriptions of regions, where it is another than the model's."""

from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from deixis.errors import ModelError

FOLDER = "text_encoder"
"""Where it lies in a model's folder."""


class TextEncoderTokenizer:
    """Descriptions to the tokens that a text encoder such as BERT was trained with.

    Its own control tokens stand around a description; one that is longer than the encoder reads is
    an error, not cut.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self.longest = int(tokenizer.model_max_length)

    def encode_text(self, text: str) -> tuple[int, ...]:
        """Encode a description; what looks like a control token is text.

        Raises:
            ModelError: The encoder does not read texts as long as this.
        """
        ids = tuple(self.tokenizer.encode(text, split_special_tokens=True))
        if len(ids) > self.longest:
            raise ModelError(
                f"description {text[:40]!r} has {len(ids)} tokens; expected at most {self.longest}"
            )
        return ids

    def save(self, folder: Path) -> None:
        """Write it into a model's folder."""
        self.tokenizer.save_pretrained(folder / FOLDER)

    @classmethod
    def load(cls, folder: Path) -> "TextEncoderTokenizer":
        """Read the tokenizer in the folder of a text encoder.

        Raises:
            ModelError: There is none.
        """
        try:
            return cls(AutoTokenizer.from_pretrained(folder, local_files_only=True))
        except (OSError, ValueError, KeyError, TypeError) as error:
            message = str(error).splitlines()[0]
            raise ModelError(f"tokenizer of the text encoder in {folder}: {message}") from error
