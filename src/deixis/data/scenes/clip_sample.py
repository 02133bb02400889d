"""Converts a clip to an annotated sample with captions, questions and answers about its events.

Texts mention only visible events: the instances of an event are clear in some frame. Questions are
only about instances whose name is unique in the clip.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from deixis.data.scenes.clips import Clip, Event
from deixis.data.scenes.describe import Facts, bit_indices, short_phrase
from deixis.language import article, join
from deixis.structures import FrameArray, GroundedText, QuestionAnswer, Sample, Video

MAX_SHORT = 2
"""Most events of a short caption."""
_WAYS = ("left", "right", "up", "down")


def clip_sample(clip: Clip) -> Sample:
    """Return the sample of a clip; the same clip always gives the same sample."""
    first = clip.frames[0]
    words = _Words(clip)
    told = [event for event in clip.events if words.can_tell(event)]
    captions = _captions(words, told)
    return Sample(
        id=f"scenes_video/{first.split}/{first.level}/{first.seed}/{first.index}",
        image=Video(lambda: _frames(clip), num_frames=len(clip.frames)),
        size=first.size,
        captions=tuple(map(GroundedText, captions)),
        questions=tuple(_questions(words, told)),
        source="scenes_video",
        split=first.split,
        exhaustive=False,
    )


def _frames(clip: Clip) -> FrameArray:
    return np.stack([scene.image for scene in clip.frames])


class _Words:
    """Names of the tracks of a clip in the singular; a track that is never clear has no name."""

    def __init__(self, clip: Clip) -> None:
        self.names: dict[int, str] = {}
        self.always: list[int] = []
        facts = [Facts(scene) for scene in clip.frames]
        clear = [set(bit_indices(one.clear)) for one in facts]
        for track, places in enumerate(clip.tracks):
            seen = [
                (frame, place)
                for frame, place in enumerate(places)
                if place is not None and place in clear[frame]
            ]
            if seen:
                frame, place = seen[0]
                self.names[track] = short_phrase(facts[frame], place)[0]
            if len(seen) == len(places):
                self.always.append(track)
        called = []
        for track, places in enumerate(clip.tracks):
            # an unclear track has a name, too, and may be confused with another
            frame, place = next((f, p) for f, p in enumerate(places) if p is not None)
            called.append(self.names.get(track) or short_phrase(facts[frame], place)[0])
        self._counts = Counter(called)

    def can_tell(self, event: Event) -> bool:
        return event.subject in self.names and (event.object is None or event.object in self.names)

    def is_only(self, track: int) -> bool:
        """Return whether the name of a track is unique in the clip."""
        return track in self.names and self._counts[self.names[track]] == 1


class _Teller:
    """Makes successive sentences; an instance is introduced only once."""

    def __init__(self, words: _Words) -> None:
        self.words = words
        self.named: list[int] = []

    def name(self, track: int) -> str | None:
        """Return ``a red cup``, ``another red cup`` or ``the red cup``; None if ambiguous."""
        name = self.words.names[track]
        others = [one for one in self.named if one != track and self.words.names[one] == name]
        if track in self.named:
            return None if others else f"the {name}"
        if len(others) > 1:
            return None
        self.named.append(track)
        return f"another {name}" if others else article(name)

    def clause(self, event: Event) -> str | None:
        """Return an event as a clause; None if a name in it would be ambiguous."""
        before = list(self.named)
        subject = self.name(event.subject)
        thing = None if event.object is None else self.name(event.object)
        if subject is None or (event.object is not None and thing is None):
            self.named = before
            return None
        return f"{subject} {event.verb}" + ("" if thing is None else f" {thing}")


def _captions(words: _Words, told: Sequence[Event]) -> list[str]:
    """Return a short and a long caption; without events, one caption that lists the instances."""
    if not told:
        there = _there(words, ())
        return [f"There {there}."] if there else []
    teller = _Teller(words)
    clauses = [clause for event in told[:MAX_SHORT] if (clause := teller.clause(event))]
    short = _capital(f"{' and '.join(clauses)}.")
    teller = _Teller(words)
    sentences: list[str] = []
    last: Event | None = None
    for event in told:
        clause = teller.clause(event)
        if clause is None:
            continue
        if last is None:
            begun = clause
        elif event.from_frame == last.from_frame:
            begun = f"at the same time, {clause}"
        elif event.from_frame <= last.to_frame:
            begun = f"meanwhile, {clause}"
        else:
            begun = f"then {clause}"
        sentences.append(_capital(f"{begun}."))
        last = event if last is None or event.to_frame >= last.to_frame else last
    if there := _there(words, teller.named):
        sentences.append(f"All the time there {there}.")
    long = " ".join(sentences)
    return [short] if long == short else [short, long]


def _there(words: _Words, named: Sequence[int]) -> str:
    """Return ``is a red cup and a blue ball``: unnamed tracks that are always seen and unique."""
    left = [track for track in words.always if words.is_only(track) and track not in named]
    names = [article(words.names[track]) for track in left]
    return f"is {join(names)}" if names else ""


def _questions(words: _Words, told: Sequence[Event]) -> list[QuestionAnswer]:
    """Return questions about actions, directions of motion, and passing in front."""
    asked: list[QuestionAnswer] = []
    for subject in dict.fromkeys(event.subject for event in told):
        if not words.is_only(subject):
            continue
        name = words.names[subject]
        done = [event for event in told if event.subject == subject]
        if all(event.object is None or words.is_only(event.object) for event in done):
            doings = [
                event.verb
                if event.object is None
                else f"{event.verb} the {words.names[event.object]}"
                for event in done
            ]
            asked.append(QuestionAnswer(f"What does the {name} do?", f"The {name} {join(doings)}."))
        ways = [way for event in done for way in _WAYS if event.verb == f"moves {way}"]
        if len(ways) == 1:
            asked.append(
                QuestionAnswer(f"Which way does the {name} move?", _capital(f"{ways[0]}."))
            )
    passes = [event for event in told if event.object is not None]
    for event in passes:
        alone = sum(one.object == event.object for one in passes) == 1
        if event.object is not None and alone and words.is_only(event.object):
            asked.append(
                QuestionAnswer(
                    f"What passes in front of the {words.names[event.object]}?",
                    _capital(f"{article(words.names[event.subject])}."),
                )
            )
    return asked


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
