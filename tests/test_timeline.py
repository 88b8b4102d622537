"""Windows, overlaps and cropping on one clock."""

import numpy as np
import pytest

from affuse.errors import ConfigError
from affuse.timeline import Segment, Timeline


def test_segment_refuses_to_end_before_it_starts() -> None:
    with pytest.raises(ConfigError, match=r"got 2\.0 to 1\.0"):
        Segment(2.0, 1.0)
    with pytest.raises(ConfigError, match="finite"):
        Segment(0.0, float("nan"))


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


def test_short_recording_is_one_window() -> None:
    assert Timeline.windows(0.7, 3.0, 1.0).segments == (Segment(0.0, 0.7),)


def test_windows_refuse_gaps_and_nonsense() -> None:
    with pytest.raises(ConfigError, match="hop of at most 1 s"):
        Timeline.windows(10, window=1.0, hop=2.0)
    with pytest.raises(ConfigError, match="above 0 s"):
        Timeline.windows(10, window=-1.0)


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
