from functools import cache

import numpy as np
import pytest

from deixis.data.scenes import Clip, Event, Thing, draw_clip
from deixis.data.scenes.scene_facts import contact_lengths, covers
from deixis.errors import GeometryError

COUNT = 40


@cache
def clips() -> tuple[Clip, ...]:
    return tuple(draw_clip(31, index, long_side=128) for index in range(COUNT))


def events_called(*verbs: str) -> list[tuple[Clip, Event]]:
    found = [(clip, event) for clip in clips() for event in clip.events if event.verb in verbs]
    assert found
    return found


def thing_at(clip: Clip, track: int, frame: int) -> Thing:
    index = clip.tracks[track][frame]
    assert index is not None
    return clip.frames[frame].things[index]


def test_the_same_call_gives_the_same_clip() -> None:
    again = draw_clip(31, 3, long_side=128)
    assert again.events == clips()[3].events
    assert again.tracks == clips()[3].tracks
    for first, second in zip(again.frames, clips()[3].frames, strict=True):
        np.testing.assert_array_equal(first.image, second.image)
        np.testing.assert_array_equal(first.labels, second.labels)


@pytest.mark.parametrize("frames", [4, 9])
def test_clips_have_the_requested_number_of_frames(frames: int) -> None:
    clip = draw_clip(31, 0, frames=frames, long_side=96)
    assert len(clip.frames) == frames
    assert all(len(track) == frames for track in clip.tracks)


def test_every_instance_of_a_frame_is_on_exactly_one_track() -> None:
    for clip in clips():
        for frame, scene in enumerate(clip.frames):
            places = [track[frame] for track in clip.tracks]
            indices = [index for index in places if index is not None]
            assert sorted(indices) == list(range(len(scene.things)))
            assert scene.things


def test_annotations_of_frames_are_exact() -> None:
    for clip in clips()[:10]:
        for scene in clip.frames:
            for index, thing in enumerate(scene.things):
                rows, columns = np.nonzero(scene.mask(index))
                box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
                assert thing.box == box


def test_attributes_of_a_track_do_not_change() -> None:
    for clip in clips():
        for track in range(len(clip.tracks)):
            frames = [f for f, index in enumerate(clip.tracks[track]) if index is not None]
            things = [thing_at(clip, track, frame) for frame in frames]
            words = {(t.name, t.symbol, t.color, t.size, t.texture) for t in things}
            assert len(words) == 1


@pytest.mark.parametrize(
    ("verb", "axis", "sign"),
    [("moves left", 0, -1), ("moves right", 0, 1), ("moves up", 1, -1), ("moves down", 1, 1)],
)
def test_movers_go_where_the_event_says(verb: str, axis: int, sign: int) -> None:
    for clip, event in events_called(verb):
        start = thing_at(clip, event.subject, event.from_frame).center
        end = thing_at(clip, event.subject, event.to_frame).center
        size = clip.frames[0].size
        length = (size.width, size.height)[axis]
        assert sign * (end[axis] - start[axis]) > 0.06 * length
        assert abs(end[1 - axis] - start[1 - axis]) < 0.05 * length


def test_movers_move_smoothly() -> None:
    for clip, event in events_called("moves left", "moves right"):
        frames = range(event.from_frame, event.to_frame + 1)
        # the measured centre jumps if the instance is cut by the canvas or hidden
        if any(clip.tracks[event.subject][frame] is None for frame in frames):
            continue
        places = [thing_at(clip, event.subject, frame).center[0] for frame in frames]
        steps = np.diff(places)
        total = abs(places[-1] - places[0])
        assert (np.sign(steps[abs(steps) > 1.5]) == np.sign(places[-1] - places[0])).all()
        assert abs(steps).max() < 0.75 * total + 2


def test_instances_grow_and_shrink() -> None:
    for clip, event in events_called("grows", "shrinks"):
        boxes = [
            thing_at(clip, event.subject, frame).full_box
            for frame in (event.from_frame, event.to_frame)
        ]
        widths = [box[2] - box[0] for box in boxes]
        assert (widths[1] > widths[0]) == (event.verb == "grows")


def test_instances_appear_and_disappear() -> None:
    for clip, event in events_called("appears"):
        track = clip.tracks[event.subject]
        assert track[event.to_frame] is not None
        assert all(index is None for index in track[: event.to_frame])
    for clip, event in events_called("disappears"):
        track = clip.tracks[event.subject]
        assert track[event.from_frame] is not None
        assert all(index is None for index in track[event.to_frame :])


def test_a_passing_instance_covers_the_other_only_during_the_event() -> None:
    for clip, event in events_called("passes in front of"):
        assert event.object is not None
        for frame, scene in enumerate(clip.frames):
            near, far = clip.tracks[event.subject][frame], clip.tracks[event.object][frame]
            if near is None or far is None:
                continue
            covered = covers(scene, near, far, contact_lengths(scene))
            assert covered == (event.from_frame <= frame <= event.to_frame)


def test_tracks_without_motion_keep_their_position() -> None:
    for clip in clips():
        movers = {event.subject for event in clip.events}
        for track in set(range(len(clip.tracks))) - movers:
            frames = [f for f, index in enumerate(clip.tracks[track]) if index is not None]
            boxes = {thing_at(clip, track, frame).full_box for frame in frames}
            # a mover has no event if its motion is not visible from start to end
            assert len(boxes) == 1 or len(frames) < len(clip.frames)


def test_too_few_frames_are_refused() -> None:
    with pytest.raises(GeometryError, match="a clip of 2 frames: expected at least 4"):
        draw_clip(0, 0, frames=2)
