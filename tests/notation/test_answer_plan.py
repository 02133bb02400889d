import pytest

from deixis.geometry import ImageSize
from deixis.notation import (
    Decoded,
    PlanEntry,
    Triplets,
    format_plan,
    join_pieces,
    plan_of,
    split_markers,
)
from deixis.notation.answer_plan import parse_plan
from deixis.notation.problems import ProblemLog
from deixis.structures import GroundedPhrase, GroundedText, Reference, UnitGroup

SIZE = ImageSize(10, 10)
HEADER = "\nUnit decode (True). Class name, target unit and number:\n"


def answer(count: int) -> GroundedText:
    groups = (
        UnitGroup(("box", "mask"), (Reference((None, None)),) * count),
        UnitGroup(("depth",), ()),
    )
    return GroundedText("two\nred dogs", (GroundedPhrase("two\nred dogs", 0, 12, groups),))


def read(raw: str) -> Decoded:
    return Triplets().decode(split_markers(raw, Triplets().spelling), SIZE)


def codes(decoded: Decoded) -> list[str]:
    return [problem.code for problem in decoded.problems]


def test_a_plan_stands_before_the_answer() -> None:
    notation = Triplets(plan=True)
    encoded = notation.encode(answer(2), SIZE)
    assert join_pieces(encoded.pieces, notation.spelling) == (
        "<Task>\nUnit decode (True). Class name, target unit and number:\n"
        "- Name: two red dogs Unit: box,mask Num: 2\n- Name: two red dogs Unit: depth Num: 0\n"
        "</Task>\n<Phrase>two\nred dogs</Phrase>(<Unit>box,mask</Unit>[0]<REF>[1]<REF>,"
        "<Unit>depth</Unit>)"
    )
    decoded = notation.decode(encoded.pieces, SIZE)
    assert decoded.text == answer(2)
    assert decoded.problems == ()


def test_an_answer_that_points_at_nothing_plans_nothing() -> None:
    notation = Triplets(plan=True)
    encoded = notation.encode(GroundedText("\nYes."), SIZE)
    assert (
        join_pieces(encoded.pieces, notation.spelling)
        == "<Task>\nUnit decode (False).\n</Task>\n\nYes."
    )
    assert notation.decode(encoded.pieces, SIZE) == Decoded(GroundedText("\nYes."))


def test_a_plan_is_read_back() -> None:
    entries = plan_of(answer(3))
    problems = ProblemLog()
    assert parse_plan(format_plan(entries), problems) == entries
    assert entries[0] == PlanEntry("two red dogs", "box,mask", 3)
    assert problems.listed() == ()


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (
            "- Name: dog Unit: box Num: 2\n",
            "'dog' with unit 'box': the plan says 2, the answer has 1",
        ),
        ("- Name: cat Unit: box Num: 1\n- Name: dog Unit: box Num: 1", "the answer has nothing"),
        (
            "- Name: cat Unit: box Num: 1",
            "'cat' with unit 'box': the plan says 1, the answer has no",
        ),
    ],
)
def test_a_plan_that_the_answer_does_not_fulfil_is_a_problem(plan: str, message: str) -> None:
    decoded = read(f"<Task>{HEADER}{plan}</Task>\n<Phrase>dog</Phrase>(<Unit>box</Unit>[0]<REF>)")
    assert decoded.text.text == "dog"
    assert set(codes(decoded)) == {"plan_mismatch"}
    assert message in decoded.problems[0].message


def test_a_plan_counts_one_name_in_several_phrases_together() -> None:
    group = "(<Unit>box</Unit>[0]<REF>)"
    raw = (
        f"<Task>{HEADER}- Name: dog Unit: bbox Num: 2\n</Task>\n"
        + f"<Phrase>dog</Phrase>{group}" * 2
    )
    assert codes(read(raw)) == []


def test_a_cut_answer_is_not_held_against_its_plan() -> None:
    decoded = read(f"<Task>{HEADER}- Name: dog Unit: box Num: 2\n</Task>\n<Phrase>do")
    assert codes(decoded) == ["unclosed_phrase", "truncated"]


@pytest.mark.parametrize(
    "plan",
    [
        "",
        "nonsense\n",
        f"{HEADER}",
        "\nUnit decode (False).\n- Name: dog Unit: box Num: 0\n",
        f"{HEADER}- Name: dog Unit: box Num: 0\n- Name: dog Num: 3\n",
        f"{HEADER}- Name: dog Unit: box Num: 0\ndog Unit: box Num: 3\n",
        f"{HEADER}- Name: dog Unit: box Num: 0\n- Name: dog Unit: box Num: -1\n",
        f"{HEADER}- Name: dog Unit: box Num: 0\n- Name: dog Unit: box Num: {'9' * 5000}\n",
        f"{HEADER}- Name: dog Unit: box Num: 0\n- Name: dog Unit: box Num: \uff14\n",
    ],
)
def test_a_plan_that_says_nothing_sound_is_a_problem(plan: str) -> None:
    decoded = read(f"<Task>{plan}</Task>\nYes.")
    assert decoded.text.text == "Yes."
    assert "malformed_plan" in codes(decoded)


def test_a_unit_that_is_no_name_still_has_its_entry() -> None:
    problems = ProblemLog()
    assert parse_plan(f"{HEADER}- Name: a Unit: (x), pose Num: 1", problems) == (
        PlanEntry("a", "(x),keypoint", 1),
    )


def test_a_plan_without_an_end_ends_at_the_first_phrase() -> None:
    decoded = read(
        f"<Task>{HEADER}- Name: dog Unit: box Num: 1\n<Phrase>dog</Phrase>(<Unit>box</Unit>[0]<REF>)"
    )
    assert codes(decoded) == ["unclosed_plan"]
    assert decoded.text.text == "dog"


def test_a_second_plan_is_left_out() -> None:
    plan = "<Task>\nUnit decode (False).\n</Task>\n"
    raw = f"{plan}<Phrase>dog</Phrase>{plan} runs"
    decoded = read(raw)
    assert codes(decoded) == ["repeated_plan"]
    assert decoded.problems[0].position == raw.rindex("</Task>")
    assert decoded.text.text == "dog runs"


def test_a_reference_inside_a_plan_counts_and_is_left_out() -> None:
    decoded = read(
        "<Task>\nUnit decode (False).<REF><Unit>\n</Task>\n<Phrase>a</Phrase>(<Unit>box</Unit>[0]<REF>)"
    )
    assert codes(decoded) == ["reference_without_unit", "unexpected_marker", "plan_mismatch"]
    assert [slot.position for slot in decoded.slots] == [1]
