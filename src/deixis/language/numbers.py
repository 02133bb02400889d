"""Numbers as words."""

_COUNTED = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen"),
    *("eighteen", "nineteen", "twenty"),
)
NUMBER_WORDS = {word: number for number, word in enumerate(_COUNTED)} | {"no": 0, "none": 0}
"""Numbers by word."""


def count_word(count: int) -> str:
    """Return a number in words up to twenty, in digits above."""
    return _COUNTED[count] if count < len(_COUNTED) else str(count)
