"""Names instances by the head of the first noun phrase of their description, with rules."""

import re

from deixis.language import head_phrase, sentence

_LEAD = re.compile(
    r"^(?:(?:there|this|it) is |(?:the|this) (?:image|picture|photo) (?:shows|is of) )?"
    r"(?:(?:an? |the )?(?:close[- ]?up(?: \w+)?|photo(?:graph)?|picture|image|view|drawing"
    r"|illustration|cut-?out) (?:of|showing) )?",
    re.IGNORECASE,
)
"""Beginnings of captions that mention the picture before the instance."""

_BACKDROP = re.compile(
    r",?\s*(?:(?:that is |isolated |shown |set )?(?:on|against|over|with|in front of) )"
    r"an? (?:(?:plain|solid|neutral|blank|empty|light|dark) )*(?:gr[ae]y|plain|neutral|blank|empty)"
    r"(?: colou?red)? (?:background|backdrop|surface|wall)",
    re.IGNORECASE,
)
"""Mentions of the cut-out's background, which is not in the original image."""

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")


def clean(description: str) -> str:
    """Return a description as sentences about the instance only; empty without words.

    >>> clean("a close up of a brown dog on a gray background")
    'A brown dog.'
    """
    words = _BACKDROP.sub("", _LEAD.sub("", " ".join(description.split()), count=1))
    words = words.strip(" ,;.")
    if not words or not words.isprintable():
        return ""
    return sentence(words) if words[-1] not in "!?" else words[:1].upper() + words[1:]


def tag_of(description: str) -> str:
    """Return the head of a description's first noun phrase, as a name of the instance.

    >>> tag_of("A brown dog with a red collar."), tag_of("Two traffic lights. They are green.")
    ('brown dog', 'two traffic lights')
    """
    first = _SENTENCE_END.split(clean(description), maxsplit=1)[0].strip(" .!?")
    if not first:
        return ""
    words = head_phrase(first)
    # words of one letter and abbreviations keep their capitals
    capital = len(words) > 1 and words[0].isupper() and words[1].islower()
    return words[0].lower() + words[1:] if capital else words
