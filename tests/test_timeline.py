"""Windows, overlaps and cropping on one clock."""

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from affuse.errors import ConfigError
from affuse.timeline import Segment, Timeline


def test_segment_refuses_to_end_before_it_starts() -> None:
    with pytest.raises(ConfigError, match=r"got 2\.0 to 1\.0"):
        Segment(2.0, 1.0)
    with pytest.raises(ConfigError, match="finite"):
        Segment(0.0, float("nan"))


@pytest.mark.parametrize(("start", "end"), [(1.0, 1.0), (float("-inf"), 0.0), (float("nan"), 1.0), (0.0, float("inf"))])
def test_segment_needs_two_finite_times_apart(start: float, end: float) -> None:
    with pytest.raises(ConfigError, match=f"got {start} to {end}"):
        Segment(start, end)


def test_segment_is_half_open_ordered_and_measures() -> None:
    segment = Segment(1.0, 3.0)
    assert 1.0 in segment
    assert 3.0 not in segment
    assert segment.duration == 2.0
    assert segment.middle == 2.0
    assert sorted([Segment(2, 3), Segment(1, 5)])[0] == Segment(1, 5)


@pytest.mark.parametrize(
    ("other", "shared"), [(Segment(2, 4), 1.0), (Segment(3, 4), 0.0), (Segment(0, 9), 2.0), (Segment(5, 6), 0.0)]
)
def test_overlap(other: Segment, shared: float) -> None:
    assert Segment(1.0, 3.0).overlap(other) == shared
    assert other.overlap(Segment(1.0, 3.0)) == shared


def test_windows_cover_the_recording_and_all_have_the_same_length() -> None:
    timeline = Timeline.windows(8.5, window=3.0, hop=1.0)
    assert timeline.starts.tolist() == [0, 1, 2, 3, 4, 5, 5.5]
    assert timeline.ends[-1] == 8.5
    assert np.allclose(timeline.ends - timeline.starts, 3.0)


def test_windows_that_fit_exactly_get_no_extra_one() -> None:
    assert Timeline.windows(3.0, 1.0, 1.0).starts.tolist() == [0, 1, 2]
    assert len(Timeline.windows(0.3, 0.1, 0.1)) == 3  # 0.3 / 0.1 is not a whole number in floats


@pytest.mark.parametrize(
    ("duration", "starts"),
    [
        (5.2, [0, 1, 2.2]),  # in place of 2 and 2.2
        (5.3, [0, 1, 2, 2.3]),
        (3.1, [0, 0.1]),  # the first one always begins with the recording
        (4.1, [0, 1.1]),
    ],
)
def test_the_last_window_takes_the_place_of_one_that_is_nearly_the_same(duration: float, starts: list[float]) -> None:
    assert Timeline.windows(duration).starts == pytest.approx(starts)


def test_windows_that_hardly_overlap_keep_the_last_but_one() -> None:
    assert Timeline.windows(4.1, 1.0, 1.0).starts == pytest.approx([0, 1, 2, 3, 3.1])


def test_short_recording_is_one_window() -> None:
    assert Timeline.windows(0.7, 3.0, 1.0).segments == (Segment(0.0, 0.7),)


def test_windows_refuse_gaps_and_nonsense() -> None:
    with pytest.raises(ConfigError, match="hop of at most 1 s"):
        Timeline.windows(10, window=1.0, hop=2.0)
    with pytest.raises(ConfigError, match="above 0 s"):
        Timeline.windows(10, window=-1.0)


@pytest.mark.parametrize("lengths", [(0.0, 3.0, 1.0), (10.0, 0.0, 1.0), (10.0, 3.0, 0.0), (-1.0, 3.0, 1.0)])
def test_no_length_may_be_zero(lengths: tuple[float, float, float]) -> None:
    with pytest.raises(ConfigError, match="must be above 0 s"):
        Timeline.windows(*lengths)


def test_windows_are_three_seconds_every_second_unless_said_otherwise() -> None:
    assert Timeline.windows(6.0).segments == tuple(Segment(s, s + 3.0) for s in (0.0, 1.0, 2.0, 3.0))


def test_times_are_floats_whatever_the_segments_hold() -> None:
    timeline = Timeline((Segment(0, 1), Segment(0, 2), Segment(1, 3)))
    assert (timeline[1], len(timeline), list(timeline)[2]) == (Segment(0, 2), 3, Segment(1, 3))
    for one in (timeline, Timeline(())):
        assert one.starts.dtype == one.ends.dtype == one.overlaps([Segment(0, 1)]).dtype == float
    assert timeline.overlaps([Segment(1, 2), Segment(5, 6)]).tolist() == [[0, 0], [1, 0], [1, 0]]


def test_crop_drops_what_is_shorter_than_a_sample() -> None:
    timeline = Timeline.windows(4.0, 2.0, 2.0)
    assert timeline.crop(Segment(0.0, 2.0 + 5e-7)).segments == (Segment(0.0, 2.0),)
    assert timeline.crop(Segment(0.0, 2.0 + 5e-6)).segments == (Segment(0.0, 2.0), Segment(2.0, 2.0 + 5e-6))


def test_crop_keeps_the_inside() -> None:
    cropped = Timeline.windows(6.0, 2.0, 2.0).crop(Segment(1.0, 4.0))
    assert cropped.segments == (Segment(1.0, 2.0), Segment(2.0, 4.0))


def test_overlaps_agree_with_segments_one_by_one() -> None:
    timeline = Timeline.windows(10.0, 3.0, 1.0)
    cues = [Segment(0.5, 2.5), Segment(2.0, 9.0)]
    expected = [[window.overlap(cue) for cue in cues] for window in timeline]
    assert np.allclose(timeline.overlaps(cues), expected)
    assert timeline.overlaps([]).shape == (len(timeline), 0)


def test_unordered_segments_are_refused() -> None:
    with pytest.raises(ConfigError, match="ordered"):
        Timeline((Segment(2, 3), Segment(0, 1)))


SECONDS = st.floats(0.05, 500.0)
TIMES = st.floats(-1e4, 1e4)


@st.composite
def segments(draw: st.DrawFn) -> Segment:
    start = draw(TIMES)
    return Segment(start, start + draw(st.floats(0.01, 1e3)))


@given(duration=SECONDS, window=SECONDS, share=st.floats(0.02, 1.0))
@example(duration=0.05000000000000001, window=0.05, share=1.0)  # longer than a window by a rounding error
@settings(max_examples=60, deadline=None)
def test_windows_cover_a_recording_without_gaps_and_never_leave_it(
    duration: float, window: float, share: float
) -> None:
    hop = max(window * share, duration / 200)  # a few hundred windows at most
    hop = min(hop, window)
    assume(duration / hop < 2000)
    timeline = Timeline.windows(duration, window, hop)
    starts, ends = timeline.starts, timeline.ends
    assert starts[0] == 0.0
    assert ends[-1] == pytest.approx(duration, abs=1e-9)
    assert (starts >= 0).all()
    assert (ends <= duration + 1e-9).all()
    assert (starts[1:] <= ends[:-1] + 2e-6).all(), "no gap between a window and the next one"
    assert np.diff(starts).max(initial=0.0) <= 1.25 * hop + 2e-6
    np.testing.assert_allclose(ends - starts, min(window, duration), atol=1e-6)
    assert len(timeline) == 1 or (np.diff(starts) > 0).all(), "no window stands twice"


@given(a=segments(), b=segments())
@settings(max_examples=60, deadline=None)
def test_overlap_is_symmetric_bounded_and_agrees_with_the_union(a: Segment, b: Segment) -> None:
    shared = a.overlap(b)
    assert shared == b.overlap(a)
    assert 0.0 <= shared <= min(a.duration, b.duration) * (1 + 1e-12)
    assert a.overlap(a) == a.duration
    if shared > 0:  # what overlaps has no gap: the hull is as long as both together, less what they share
        hull = Segment(min(a.start, b.start), max(a.end, b.end))
        assert hull.duration == pytest.approx(a.duration + b.duration - shared, rel=1e-9, abs=1e-9)


@given(a=segments(), time=TIMES)
@settings(max_examples=60, deadline=None)
def test_a_segment_holds_its_middle_and_not_its_end(a: Segment, time: float) -> None:
    assert a.start in a
    assert a.middle in a
    assert a.end not in a
    assert (time in a) == (a.start <= time < a.end)


@given(bounds=segments(), windows=st.lists(segments(), max_size=8))
@settings(max_examples=60, deadline=None)
def test_cropped_windows_lie_inside_and_keep_what_they_shared(bounds: Segment, windows: list[Segment]) -> None:
    timeline = Timeline(tuple(sorted(windows)))
    cropped = timeline.crop(bounds)
    assert all(bounds.start <= s.start < s.end <= bounds.end for s in cropped)
    shared = [s.overlap(bounds) for s in timeline]
    kept = sum(s.duration for s in cropped)
    assert kept == pytest.approx(sum(shared), abs=1e-5)
    assert cropped.crop(bounds) == cropped
    np.testing.assert_allclose(timeline.overlaps([bounds])[:, 0], shared)
