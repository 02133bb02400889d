"""Long runs of one character in texts of sources: read in one pass, whatever stands after them."""

import re

import pytest

from deixis.data.sources import llava_grounding, lvis, vcr
from deixis.data.sources.reading import turns

LONG = 300_000
BLANKS = " " * LONG


@pytest.mark.parametrize(
    ("pattern", "text", "left"),
    [
        (vcr._BEFORE, f"a{BLANKS}b", f"a{BLANKS}b"),
        (vcr._BEFORE, f"a{BLANKS}.", "a."),
        (turns._LAST, f"a{BLANKS}b", f"a{BLANKS}b"),
        (turns._LAST, f"a{BLANKS}<image>{BLANKS}", "a"),
        (turns._LAST, "a\n \t<image>\n", "a"),
        (llava_grounding._MARKER, f"a{BLANKS}b", f"a{BLANKS}b"),
        (llava_grounding._MARKER, f"<g_s>{BLANKS}a{BLANKS}<g_e>{BLANKS}<seg>", "a"),
        (llava_grounding._MARKER, f"<g_s>{BLANKS}<g_e>", ""),
        (llava_grounding._ASKED_FOR, f"a{BLANKS}b", f"a{BLANKS}b"),
        (llava_grounding._ASKED_FOR, f"a{BLANKS}(with grounding){BLANKS}", "a"),
        (lvis._BRACKETS, f"a{BLANKS}b", f"a{BLANKS}b"),
        (lvis._BRACKETS, "(" * 20_000, "(" * 20_000),
        (lvis._BRACKETS, "bat  (animal) x", "bat x"),
    ],
)
def test_patterns_look_at_each_character_a_bounded_number_of_times(
    pattern: re.Pattern[str], text: str, left: str
) -> None:
    assert pattern.sub("", text) == left
