"""Redaction: nobody is recognised in what is written, and all numbers stay."""

from __future__ import annotations

import base64
import json
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from affuse.batch import read
from affuse.cli import main
from affuse.errors import OutputError
from affuse.experts.face.detect import Detections, default_detector
from affuse.labels import EKMAN
from affuse.media import Recording
from affuse.media.blurring import FacePlaces, blurred, film_frames, is_blurred_copy
from affuse.people.turns import Turn
from affuse.report import blurred_copy, redact
from affuse.results import Analysis, Cue, Person, Source
from affuse.timeline import Segment
from clips import DEMO, short_demo
from command import Run, caller
from samples import two_persons

pytestmark = pytest.mark.usefixtures("batches_here")

WORDS = (b"lost my job", b"tell my family", b"so sad")


@pytest.fixture
def affuse(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    return caller(monkeypatch, capfd)


def recording_of(folder: Path, name: str = "petra") -> Path:
    """A clip under a name of somebody, with a transcript that names somebody else."""
    path = short_demo(folder, name)
    transcript = path.with_suffix(".srt")
    words = transcript.read_text(encoding="utf-8").replace("Guest", "Annabel")
    transcript.write_text(words, encoding="utf-8")
    return path


def assert_nowhere(folder: Path, *secrets: bytes) -> None:
    for path in (path for path in folder.rglob("*") if path.is_file()):
        content = path.read_bytes().lower()
        found = [secret for secret in secrets if secret.lower() in content]
        assert not found, f"{path} holds {found}"


# --- pictures ---------------------------------------------------------------------------------------------------------


def test_a_blurred_box_keeps_sixteen_means_at_most_and_nothing_else_changes() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (200, 300, 3), dtype=np.uint8)
    box = np.array([[0.25, 0.3, 0.2, 0.4]])
    out = blurred(image, box)
    # 300 x 200 pixels, 35 % of the box's 60 x 80 on each side: x 54...156, y 32...168.
    changed = (out != image).any(axis=2)
    assert not changed[:31].any()
    assert not changed[169:].any()
    assert not changed[:, :53].any()
    assert not changed[:, 157:].any()
    # Whoever has the same 3 x 4 means gives the same picture: here the pixels of every cell in another order.
    other, (top, bottom, left, right) = image.copy(), (32, 168, 54, 156)
    for y in range(4):
        for x in range(3):
            cell = other[top + y * 34 : top + (y + 1) * 34, left + x * 34 : left + (x + 1) * 34]
            cell[:] = rng.permutation(cell.reshape(-1, 3)).reshape(cell.shape)
    assert (bottom - top, right - left) == (4 * 34, 3 * 34)
    assert (other != image).any()
    assert np.abs(blurred(other, box).astype(int) - out)[top:bottom, left:right].max() <= 1


def test_boxes_at_the_edge_and_outside_of_a_picture_are_no_error() -> None:
    image = np.full((40, 40, 3), 7, np.uint8)
    for box in ([-0.5, -0.5, 0.2, 0.2], [0.9, 0.9, 0.5, 0.5], [0, 0, 0, 0], [-1, -1, 3, 3]):
        assert (blurred(image, np.array([box])) == 7).all()


def test_between_two_detections_everything_between_them_is_blurred() -> None:
    places = FacePlaces()
    places.add(2.0, np.array([[0.1, 0.1, 0.1, 0.2]]))
    places.add(3.0, np.array([[0.3, 0.2, 0.1, 0.2]]))
    np.testing.assert_allclose(places.at(2.5), [[0.1, 0.1, 0.3, 0.3]])
    np.testing.assert_allclose(places.at(1.0), [[0.1, 0.1, 0.1, 0.2]])  # a second before
    np.testing.assert_allclose(places.at(4.0), [[0.3, 0.2, 0.1, 0.2]])  # and after
    assert len(places.at(0.9)) == len(places.at(4.1)) == 0


def test_two_faces_are_two_places_and_one_that_comes_back_late_is_another() -> None:
    places = FacePlaces()
    pair = np.array([[0.1, 0.1, 0.05, 0.05], [0.8, 0.1, 0.05, 0.05]])
    for time in (0.0, 0.1):
        places.add(time, pair)
    places.add(9.0, pair[:1])
    assert len(places.at(0.05)) == 2
    assert len(places.at(5.0)) == 0
    assert len(places.at(9.0)) == 1


SIDE = 48  # pixels of the pattern that stands for a face


def write_moving_pattern(path: Path, seconds: float = 4.0) -> Path:
    """A pattern of black and white stripes, which nothing else in the picture has, crosses a grey picture."""
    with av.open(str(path), "w") as film:
        stream: Any = film.add_stream("libx264", rate=25, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for number in range(round(25 * seconds)):
            image = np.full((240, 320, 3), 128, np.uint8)
            x = 20 + 2 * number
            image[90 : 90 + SIDE, x : x + SIDE] = np.where(np.arange(SIDE) % 8 < 4, 0, 255)[:, None, None]
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            film.mux(stream.encode(frame))
        film.mux(stream.encode())
    return path


class Blinking:
    """Finds the pattern in every seventh picture only, and never in the first fifteen."""

    def __init__(self) -> None:
        self.asked = 0

    def detect(self, image: np.ndarray) -> Detections:
        self.asked += 1
        rows = np.ptp(image[..., 0].astype(int), axis=0) > 200
        if self.asked % 7 or self.asked < 8 or not rows.any():
            return Detections.none()
        box = [float(np.flatnonzero(rows)[0]), 90.0, float(SIDE), float(SIDE)]
        return Detections(np.array([box]), np.full((1, 5, 2), np.nan), np.ones(1))


def test_no_frame_between_detections_shows_the_face(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_moving_pattern(tmp_path / "moving.mp4")
    monkeypatch.setattr("affuse.experts.face.detect.default_detector", lambda detail: Blinking())
    analysis = _bare(path)
    copy = blurred_copy(analysis, tmp_path / "copy.mp4")
    contrast = {f.start: int(np.ptp(f.image[:, :, 0].astype(int))) for f in film_frames(Recording.open(copy))}
    shown = {f.start: int(np.ptp(f.image[:, :, 0].astype(int))) for f in film_frames(Recording.open(path))}
    assert len(contrast) >= len(shown) == 100
    assert min(shown.values()) > 220
    # Detections are 0.84 s apart, from 0.9 to 3.4 s or so; their places hold for a second before and after.
    covered = [value for time, value in contrast.items() if 1.0 < time < 3.0]
    assert len(covered) > 45
    assert max(covered) < 120


def _bare(path: Path) -> Analysis:
    recording = Recording.open(path)
    return Analysis(Source(path.name, path, recording.duration, recording.kind), [], [], [], [], ())


def test_faces_that_the_analysis_followed_are_blurred_where_no_detector_finds_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Blind:
        def detect(self, image: np.ndarray) -> Detections:
            return Detections.none()

    monkeypatch.setattr("affuse.experts.face.detect.default_detector", lambda detail: Blind())
    rng = np.random.default_rng(1)
    Image.fromarray(rng.integers(0, 256, (100, 100, 3), dtype=np.uint8)).save(tmp_path / "noise.png")
    analysis = _bare(tmp_path / "noise.png")
    person = Person("person 1", np.zeros(2), np.array([[0.4, 0.4, 0.2, 0.2], [np.nan] * 4]))
    copy = blurred_copy(Analysis(analysis.source, [], [], [person], [], ()), tmp_path / "copy.jpg")
    out = np.asarray(Image.open(copy))
    assert out[42:58, 42:58].std() < 20 < out[:20, :20].std()


def test_another_file_in_the_place_of_the_copy_stays(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / "dark.png")
    (tmp_path / "dark.redacted.jpg").write_bytes(b"mine")
    with pytest.raises(OutputError, match="not written by affuse"):
        blurred_copy(_bare(tmp_path / "dark.png"), tmp_path / "dark.redacted.jpg")
    assert (tmp_path / "dark.redacted.jpg").read_bytes() == b"mine"


# --- analyses ---------------------------------------------------------------------------------------------------------


def test_words_and_names_are_hidden_and_numbers_stay() -> None:
    whole = two_persons()
    cues = [Cue(Segment(0.5, 2.0), "I am Anna.", "en", "Anna"), Cue(Segment(2.0, 3.0), "Hi.", "en", "person 1")]
    turns = [Turn(Segment(0.5, 2.0), "Anna"), Turn(Segment(2.0, 3.0), "Ben", 0.7)]
    whole = Analysis(
        whole.source, whole.verdicts, whole.summaries, whole.persons, cues, whole.modalities,
        {"adaptation": [{"to": "Anna", "shift": 0.1}]}, turns=turns,
    )  # fmt: skip
    hidden = redact(whole)
    assert [(c.segment, c.text, c.speaker) for c in hidden.cues] == [
        (Segment(0.5, 2.0), "[hidden]", "speaker 1"),
        (Segment(2.0, 3.0), "[hidden]", "person 1"),
    ]
    assert [(t.segment, t.speaker, t.probability) for t in hidden.turns] == [
        (Segment(0.5, 2.0), "speaker 1", 1.0),
        (Segment(2.0, 3.0), "speaker 2", 0.7),
    ]
    assert hidden.settings["adaptation"] == [{"to": "person 1", "shift": 0.1}]
    assert hidden.source.path is None
    columns = [f"fused_{label}" for label in EKMAN.labels]
    pd.testing.assert_frame_equal(hidden.to_frame()[columns], whole.to_frame()[columns])
    text = hidden.to_json()
    assert "Anna" not in text
    assert "Ben" not in text


@pytest.fixture(scope="module")
def redacted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The demo clip analysed as it is, and redacted."""
    folder = tmp_path_factory.mktemp("redacted")
    path = recording_of(folder / "in")
    with pytest.MonkeyPatch.context() as patch:
        for option in ("plain", "--redact"):
            more = ["--redact", "--format", "json,csv,parquet,html,elan,labelstudio,srt,vtt"]
            words = ["analyze", path, "--transcript", path.with_suffix(".srt"), "--out", folder / option.strip("-")]
            patch.setattr("sys.argv", ["affuse", *map(str, words), *(more if option == "--redact" else [])])
            with pytest.raises(SystemExit) as end:
                main()
            assert end.value.code in (0, None)
    return folder / "plain", folder / "redact"


def test_nothing_that_is_written_holds_words_or_speakers(redacted: tuple[Path, Path]) -> None:
    plain, hidden = redacted
    assert_nowhere(hidden, b"Annabel", *WORDS)
    assert b"Annabel" in (plain / "petra.json").read_bytes()  # it is there where nobody asks for redaction
    assert str(plain.parent / "in").encode() not in (hidden / "petra.eaf").read_bytes()


def test_the_numbers_of_a_redacted_analysis_are_the_same(redacted: tuple[Path, Path]) -> None:
    plain, hidden = (json.loads((folder / "petra.json").read_text(encoding="utf-8")) for folder in redacted)
    names = {verdict["person"] for verdict in hidden["windows"]}
    assert names == {"speaker 1"}
    for answers in ("windows", "summary"):
        kept = [{**verdict, "person": None} for verdict in hidden[answers]]
        assert kept == [{**verdict, "person": None} for verdict in plain[answers]]
    assert [(c["start"], c["end"]) for c in hidden["cues"]] == [(c["start"], c["end"]) for c in plain["cues"]]
    assert {c["text"] for c in hidden["cues"]} == {"[hidden]"}
    assert any("names of files stay" in note for note in hidden["notes"])


def test_the_report_plays_a_copy_without_faces_and_sound(redacted: tuple[Path, Path]) -> None:
    plain, hidden = redacted
    copy = hidden / "petra.redacted.mp4"
    page = (hidden / "petra.html").read_text(encoding="utf-8")
    (embedded,) = re.findall(r'src="data:video/mp4;base64,([^"]+)"', page)
    assert base64.b64decode(embedded) == copy.read_bytes()
    assert is_blurred_copy(copy)
    first, second = Recording.open(plain.parent / "in" / "petra.mp4"), Recording.open(copy)
    assert second.duration == pytest.approx(first.duration, abs=0.05)
    assert first.has_sound
    assert not second.has_sound


def test_no_face_is_found_in_the_copy(redacted: tuple[Path, Path]) -> None:
    plain, hidden = redacted
    detector = default_detector(2.0)
    pairs = zip(
        film_frames(Recording.open(plain.parent / "in" / "petra.mp4")),
        film_frames(Recording.open(hidden / "petra.redacted.mp4")),
        strict=False,
    )
    seen = 0
    for number, (before, after) in enumerate(pairs):
        assert before.start == pytest.approx(after.start, abs=0.002)
        if number % 5:
            continue
        faces = detector.detect(before.image)
        seen += len(faces) > 0
        assert len(detector.detect(after.image)) == 0
        difference = np.abs(before.image.astype(int) - after.image)
        x, y, w, h = faces.boxes[0].astype(int)
        assert difference[y : y + h, x : x + w].mean() > 15  # grey values of a face are gone
        assert difference[:, -40:].mean() < 6  # and what is beside it is coded anew only
    assert seen >= 18  # of twenty


def test_a_picture_is_shown_without_its_face(affuse: Run, tmp_path: Path) -> None:
    frame = next(film_frames(Recording.open(DEMO / "clip.mp4")))
    Image.fromarray(frame.image).save(tmp_path / "still.png")
    assert affuse("analyze", tmp_path / "still.png", "--redact", "--report", tmp_path / "out" / "r.html").code == 0
    page = (tmp_path / "out" / "r.html").read_text(encoding="utf-8")
    (shown,) = re.findall(r'<img src="data:image/jpeg;base64,([^"]+)"', page)
    (tmp_path / "shown.jpg").write_bytes(base64.b64decode(shown))
    for path in (tmp_path / "shown.jpg", tmp_path / "out" / "r.redacted.jpg"):
        image = np.asarray(Image.open(path).convert("RGB"))
        assert image.shape == frame.image.shape
        assert len(default_detector(2.0).detect(image)) == 0


def test_sound_alone_is_not_part_of_a_redacted_report(affuse: Run, tmp_path: Path, tone: Path) -> None:
    assert affuse("analyze", tone, "--redact", "--out", tmp_path / "out").code == 0
    assert "<audio" not in (tmp_path / "out" / "tone.html").read_text(encoding="utf-8")
    assert sorted(path.suffix for path in (tmp_path / "out").iterdir()) == [".csv", ".html", ".json", ".parquet"]


def test_no_copy_is_left_where_the_results_cannot_be_written(affuse: Run, tmp_path: Path) -> None:
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / "dark.png")
    (tmp_path / "page.html").symlink_to("dark.png")
    result = affuse("analyze", tmp_path / "dark.png", "--redact", "--report", tmp_path / "page.html")
    assert result.code == 2
    assert "recording itself" in result.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dark.png", "page.html"]


def test_a_redacted_batch_holds_no_words_and_no_speakers(affuse: Run, tmp_path: Path) -> None:
    recording_of(tmp_path / "in")
    (tmp_path / "in" / "bad.wav").write_bytes((DEMO / "clip.mp4").read_bytes())
    (tmp_path / "in" / "bad.srt").write_text("1\n00:00:00,000 -> 00:00:02\nAnnabel said so sad\n", encoding="utf-8")
    done = affuse("batch", tmp_path / "in", "--out", tmp_path / "out", "--redact", "--experts", "text,voice")
    assert done.code == 0, done.err
    assert_nowhere(tmp_path / "out", b"Annabel", *WORDS)
    assert set(read(tmp_path / "out")["person"].dropna()) == {"speaker 1"}
    plain = affuse("batch", tmp_path / "in", "--out", tmp_path / "plain", "--experts", "text,voice")
    assert plain.code == 0
    numbers = read(tmp_path / "plain", "windows").filter(regex="^(start|end|fused_|confidence)")
    pd.testing.assert_frame_equal(read(tmp_path / "out", "windows")[list(numbers)], numbers)
    reasons = read(tmp_path / "out", "errors")["reason"].tolist()
    assert reasons == ["the transcript cannot be read or does not fit"]
