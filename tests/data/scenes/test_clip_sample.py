import re
from collections import Counter
from functools import cache

import numpy as np

from deixis.data.scenes import Clip, clip_sample, draw_clip
from deixis.data.scenes.describe import Facts, short_phrase
from deixis.structures import Sample, Video

COUNT = 30
VERBS = (
    *("moves left", "moves right", "moves up", "moves down", "grows", "shrinks"),
    *("appears", "disappears", "passes in front of"),
)


@cache
def told() -> tuple[tuple[Clip, Sample], ...]:
    clips = [draw_clip(37, index, long_side=128) for index in range(COUNT)]
    return tuple((clip, clip_sample(clip)) for clip in clips)


def names(clip: Clip) -> dict[int, str]:
    """Return the name of each track, from any frame that shows it."""
    found = {}
    for track, places in enumerate(clip.tracks):
        frame, place = next((f, p) for f, p in enumerate(places) if p is not None)
        found[track] = short_phrase(Facts(clip.frames[frame]), place)[0]
    return found


def claims(text: str) -> list[tuple[str, str, str]]:
    """Return subject, verb and object of a sentence of a caption."""
    thing = r"(?:a|an|another|the) (.+?)"
    found = []
    for clause in re.split(
        r"(?<=\.) | and (?=(?:a|an|another|the) .+? (?:moves|grows|shrinks|app|dis|pass))", text
    ):
        bare = re.sub(r"^(?:at the same time, |meanwhile, |then )", "", clause.rstrip(".").lower())
        match = re.fullmatch(rf"{thing} ({'|'.join(VERBS)})(?: {thing})?", bare)
        if match:
            found.append((match[1], match[2], match[3] or ""))
        else:
            assert bare.startswith(("there is ", "all the time there is ")), clause
    return found


def events(clip: Clip) -> set[tuple[str, str, str]]:
    called = names(clip)
    return {
        (
            called[one.subject].lower(),
            one.verb,
            "" if one.object is None else called[one.object].lower(),
        )
        for one in clip.events
    }


def test_captions_mention_only_events_that_happen() -> None:
    said = Counter[str]()
    for clip, sample in told():
        known = events(clip)
        for caption in sample.captions:
            for claim in claims(caption.text):
                assert claim in known, caption.text
                said[claim[1]] += 1
    assert set(said) == set(VERBS)


def test_permanent_instances_are_visible_in_every_frame() -> None:
    checked = 0
    for clip, sample in told():
        called = names(clip)
        for caption in sample.captions:
            found = re.search(r"(?:All the time there|^There) is (.+)\.$", caption.text)
            if found:
                for thing in re.split(r", | and ", found[1]):
                    name = re.sub(r"^an? ", "", thing)
                    (track,) = [one for one, other in called.items() if other == name]
                    assert None not in clip.tracks[track]
                    checked += 1
    assert checked > 30


def test_questions_about_an_instance_are_answered_by_its_events() -> None:
    asked = Counter[str]()
    for clip, sample in told():
        called, known = names(clip), events(clip)
        for one in sample.questions:
            assert one.instance is None
            if match := re.fullmatch(r"What does the (.+) do\?", one.question):
                doings = {(verb, what) for who, verb, what in known if who == match[1].lower()}
                assert any(verb in one.answer for verb, _ in doings)
                assert one.answer.startswith(f"The {match[1]} ")
            elif match := re.fullmatch(r"Which way does the (.+) move\?", one.question):
                way = one.answer.rstrip(".").lower()
                assert (match[1].lower(), f"moves {way}", "") in known
            else:
                match = re.fullmatch(r"What passes in front of the (.+)\?", one.question)
                assert match is not None
                who = re.sub(r"^An? ", "", one.answer.rstrip("."))
                assert (who.lower(), "passes in front of", match[1].lower()) in known
            assert Counter(called.values())[match[1]] == 1
            asked[one.question.split()[0] + one.question.split()[1]] += 1
    assert set(asked) == {"Whatdoes", "Whichway", "Whatpasses"}


def test_most_clips_have_texts_and_equal_clips_have_equal_texts() -> None:
    assert sum(bool(sample.captions) for _, sample in told()) > 0.9 * COUNT
    assert sum(bool(sample.questions) for _, sample in told()) > 0.5 * COUNT
    for clip, sample in told()[:5]:
        again = clip_sample(clip)
        assert (again.captions, again.questions) == (sample.captions, sample.questions)


def test_the_frames_are_those_of_the_clip() -> None:
    clip, sample = told()[0]
    assert isinstance(sample.image, Video)
    assert callable(sample.image.content)
    frames = sample.image.content()
    assert len(frames) == sample.image.num_frames == 8
    np.testing.assert_array_equal(frames[3], clip.frames[3].image)
