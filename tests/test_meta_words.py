"""The code uses the words of the glossary: one term for one thing."""

import io
import re
import tokenize
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "src" / "deixis"

EVERYWHERE = (
    *("batch", "cli", "evaluation", "geometry", "inference", "media", "metrics", "notation"),
    *("models/losses", "models/regions", "models/vision", "overlay", "recipes", "storage"),
    "structures",
)
"""Packages in which every rule holds."""


def data(*names: str) -> tuple[str, ...]:
    """Return the paths of packages inside ``data``."""
    return tuple(f"data/{name}" for name in names)


WHOLE = ("",)
"""The whole package."""

DATA = data("bootstrap", "build", "export", "salient", "scenes", "tasks", "wording")


@dataclass(frozen=True)
class Rule:
    """A word that is not used: the glossary's term, and where the rule holds.

    ``allowed`` matches other meanings of the word; names of fields in files are always allowed.
    """

    term: str
    packages: tuple[str, ...] = EVERYWHERE
    allowed: str = r"(?!)"


GLOSSARY: Mapping[str, Rule] = {
    "thing": Rule("instance", (*EVERYWHERE, *data("build", "export", "wording"))),
    "object": Rule(
        "instance",
        (*EVERYWHERE, *data("build", "salient", "wording")),
        allowed=r"JSON object|objects? (?:of|with)|predicate object|Object\.",
    ),
    "fault": Rule("problem", WHOLE),
    "faulty": Rule("problem", WHOLE),
    "defect": Rule("problem", WHOLE),
    "defective": Rule("problem", WHOLE),
}
"""Rules by word, in the singular."""

FOREIGN = {"object", "object_pairs_hook", "max_objects"}
"""Names of Python and of command line options."""


def texts(source: str) -> Iterator[tuple[int, str]]:
    """Yield names, comments and strings with their lines.

    Imports are left out, and strings of one word: they are keys of files and of other libraries.
    """
    imported = False
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        line = token.start[0]
        if token.type in {tokenize.NEWLINE, tokenize.NL}:
            imported = imported and token.type == tokenize.NL
        elif token.type == tokenize.NAME:
            imported = imported or (token.string in {"import", "from"} and token.start[1] == 0)
            if not imported and token.string not in FOREIGN:
                yield line, token.string
        elif token.type == tokenize.COMMENT:
            yield line, token.string
        elif token.type == tokenize.STRING and not re.fullmatch(
            r"""\w*['"]\w*['"]""", token.string
        ):
            # fields of f-strings are code
            yield line, re.sub(r"\{[^{}]*\}", " ", token.string)


def words_of(text: str) -> set[str]:
    """Words of names and prose in lower case and in the singular."""
    found = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", text)
    return {word.lower().removesuffix("s") for word in found}


@pytest.mark.parametrize("word", GLOSSARY)
def test_the_code_says_what_the_glossary_says(word: str) -> None:
    rule = GLOSSARY[word]
    found = [
        f"{path.relative_to(PACKAGE)}:{line}"
        for package in rule.packages
        for path in sorted((PACKAGE / package).rglob("*.py"))
        for line, text in texts(path.read_text())
        if word in words_of(re.sub(rule.allowed, " ", text))
    ]
    assert not found, f"{word!r}: expected {rule.term!r}, the term of docs/glossary.md: {found}"


def test_the_words_of_names_strings_and_comments_are_found() -> None:
    source = 'from things import a\nclass OldThings:\n    """Some faults."""\n    x = "defects"  # an object\n'
    found = set[str]().union(*(words_of(text) for _, text in texts(source)))
    assert found & set(GLOSSARY) == {"thing", "fault", "object"}
