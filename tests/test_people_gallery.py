"""The gallery on disk, and the commands that fill it, ask it and empty it."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from affuse.errors import ConfigError, DataError, MediaError
from affuse.media import Recording
from affuse.people import recognition
from affuse.people.gallery import Gallery, Person
from affuse.people.identity import Identity
from affuse.people.recognition import Appearance, enrol_recordings, find_people
from affuse.timeline import Segment
from command import Run, caller

KEY = "correct horse battery"


def rows(seed: int, n: int = 2, width: int = 128) -> np.ndarray:
    """One person's embeddings: near each other and of length 1, far from those of other seeds."""
    rng = np.random.default_rng(seed)
    found = rng.normal(size=width) + 0.05 * rng.normal(size=(n, width))
    return found / np.linalg.norm(found, axis=1, keepdims=True)


# --- the folder -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [None, KEY])
def test_people_come_back_as_they_were(tmp_path: Path, key: str | None) -> None:
    if key is not None:
        pytest.importorskip("cryptography", reason="cryptography, of the extra people, encrypts")
    Gallery(tmp_path / "g", key).enrol("Änne", rows(1), rows(2, 3, 256))
    Gallery(tmp_path / "g", key).enrol("Änne", rows(1, 1))
    Gallery(tmp_path / "g", key).enrol("Ben", voices=rows(3, 1, 256))
    people = Gallery(tmp_path / "g", key).people()
    assert sorted(people) == ["Ben", "Änne"]
    np.testing.assert_allclose(people["Änne"].faces, np.concatenate([rows(1), rows(1, 1)]), atol=1e-6)
    assert people["Änne"].voices.shape == (3, 256)
    assert people["Ben"].identity.face is None


def test_nothing_is_written_before_somebody_is_enrolled(tmp_path: Path) -> None:
    gallery = Gallery(tmp_path / "g")
    assert gallery.names == []
    with pytest.raises(ConfigError, match="cannot be the name of a person"):
        gallery.enrol(" ", rows(1))
    with pytest.raises(DataError, match="a person needs rows of faces or of voices"):
        gallery.enrol("Anna")
    assert not (tmp_path / "g").exists()


def test_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    if os.name == "nt":
        pytest.skip("Windows has other rights")
    Gallery(tmp_path / "g").enrol("Anna", rows(1))
    assert (tmp_path / "g").stat().st_mode & 0o077 == 0
    assert (tmp_path / "g" / "people.npz").stat().st_mode & 0o077 == 0


def test_who_was_forgotten_leaves_no_trace(tmp_path: Path) -> None:
    gallery = Gallery(tmp_path / "g")
    gallery.enrol("Anna-Lena", rows(1))
    gallery.enrol("Ben", rows(2))
    gallery.forget("Anna-Lena")
    written = b"".join(path.read_bytes() for path in (tmp_path / "g").iterdir())
    assert gallery.names == ["Ben"]
    for trace in ("Anna-Lena".encode("utf-32-le"), b"Anna-Lena", rows(1).astype(np.float32)[0].tobytes()):
        assert trace not in written
    gallery.forget("Ben")
    assert list((tmp_path / "g").iterdir()) == []


def test_an_encrypted_gallery_shows_neither_names_nor_numbers(tmp_path: Path) -> None:
    pytest.importorskip("cryptography", reason="cryptography, of the extra people, encrypts")
    Gallery(tmp_path / "g", KEY).enrol("Anna", rows(1))
    written = b"".join(path.read_bytes() for path in (tmp_path / "g").iterdir())
    assert "Anna".encode("utf-32-le") not in written
    assert rows(1).astype(np.float32)[0].tobytes() not in written


@pytest.mark.parametrize(
    ("made", "asked", "message"),
    [(KEY, None, "is encrypted; give its key"), (None, KEY, "is not encrypted"), (KEY, KEY + "!", "does not open")],
)
def test_the_key_must_fit(tmp_path: Path, made: str | None, asked: str | None, message: str) -> None:
    pytest.importorskip("cryptography", reason="cryptography, of the extra people, encrypts")
    Gallery(tmp_path, made).enrol("Anna", rows(1))
    for act in (lambda g: g.people(), lambda g: g.enrol("Ben", rows(2)), lambda g: g.forget("Anna")):
        with pytest.raises(ConfigError, match=message):
            act(Gallery(tmp_path, asked))


def test_a_short_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a key needs at least 8 characters; got 3"):
        Gallery(tmp_path / "g", "abc").enrol("Anna", rows(1))
    assert not (tmp_path / "g").exists()


@pytest.mark.parametrize("file", ["gallery.json", "people.npz"])
@pytest.mark.parametrize("content", [b"", b"{}", b"PK\x03\x04 broken"])
def test_broken_files_are_named(tmp_path: Path, file: str, content: bytes) -> None:
    Gallery(tmp_path).enrol("Anna", rows(1))
    (tmp_path / file).write_bytes(content)
    with pytest.raises(DataError, match=file):
        Gallery(tmp_path).people()


def test_a_gallery_never_unpickles(tmp_path: Path) -> None:
    Gallery(tmp_path).enrol("Anna", rows(1))
    np.savez(tmp_path / "people.npz", names=np.array([{"a": 1}], dtype=object))
    with pytest.raises(DataError, match=r"people\.npz is broken"):
        Gallery(tmp_path).people()


def test_a_person_of_nothing_is_refused() -> None:
    with pytest.raises(DataError, match="must be finite"):
        Person(np.full((1, 128), np.nan), np.empty((0, 256)))


# --- recordings -------------------------------------------------------------------------------------------------------

# The people of recordings by name, so that neither dlib nor a film is needed here.
CAST: dict[str, list[int]] = {"anna": [1], "ben": [2], "meeting": [2, 7, 1], "empty": []}


@pytest.fixture
def cast(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(recording: Recording, *_: Any) -> list[Appearance]:
        persons = CAST[recording.name.removesuffix(".txt")]
        return [
            Appearance(rows(p), rows(p, 1, 256) if len(persons) == 1 else np.empty((0, 256)), Segment(0.0, 2.0))
            for p in persons
        ]

    monkeypatch.setattr(recognition, "read_people", read)


def recording(name: str) -> Recording:
    return Recording.from_text("hello", name)


@pytest.mark.usefixtures("cast")
def test_people_who_are_enrolled_are_found_and_others_are_unknown(tmp_path: Path) -> None:
    gallery = Gallery(tmp_path)
    for name in ("anna", "ben"):
        enrol_recordings(gallery, name, [recording(name)])
    found = find_people(gallery, recording("meeting"))
    assert [own.match.name for own in found] == ["ben", "unknown", "anna"]
    assert all(own.match.probability > 0.9 for own in found)
    assert {own.evidence for own in found} == {("face",)}
    assert find_people(gallery, recording("anna"))[0].evidence == ("face", "voice")


@pytest.mark.usefixtures("cast")
def test_enrolling_needs_a_recording_of_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="meeting shows 3 people; enrol Anna from a recording that shows nobody else"):
        enrol_recordings(Gallery(tmp_path), "Anna", [recording("anna"), recording("meeting")])
    with pytest.raises(MediaError, match="empty: nobody is seen or heard in it"):
        enrol_recordings(Gallery(tmp_path), "Anna", [recording("empty")])
    assert Gallery(tmp_path).names == []


@pytest.mark.usefixtures("cast")
def test_an_empty_gallery_and_a_wrong_rate_are_told_first(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nobody is enrolled in"):
        find_people(Gallery(tmp_path), recording("anna"))
    Gallery(tmp_path).enrol("Anna", rows(1))
    with pytest.raises(ConfigError, match="a false-accept rate lies above 0 and below 1; got 2"):
        find_people(Gallery(tmp_path), recording("anna"), false_accept_rate=2.0)


def test_real_people_are_told_apart(tmp_path: Path) -> None:
    for library in ("dlib", "face_recognition_models"):
        if not _installed(library):
            pytest.skip(f"{library}, of the extra people, is missing")
    data = os.environ.get("AFFUSE_DATA")
    if not data or not (Path(data) / "javanese_av").is_dir():
        pytest.skip("AFFUSE_DATA does not name a folder with javanese_av")
    clips = Path(data) / "javanese_av"
    gallery = Gallery(tmp_path)
    for actor in ("01", "03"):
        enrol_recordings(gallery, actor, [Recording.open(clips / f"{actor}-01-01_01.mp4")])
    answers = {a: find_people(gallery, Recording.open(clips / f"{a}-02-02_01.mp4")) for a in ("01", "03", "05")}
    assert {actor: [own.match.name for own in found] for actor, found in answers.items()} == {
        "01": ["01"],
        "03": ["03"],
        "05": ["unknown"],
    }


def _installed(library: str) -> bool:
    from importlib.util import find_spec

    return find_spec(library) is not None


# --- commands ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    return caller(monkeypatch, capfd)


@pytest.mark.usefixtures("cast")
def test_the_commands_from_enrolling_to_forgetting(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("cryptography", reason="cryptography, of the extra people, encrypts")
    for name in CAST:
        (tmp_path / f"{name}.txt").write_text("hello")
    (tmp_path / "key.txt").write_text(KEY + "\n")
    place = ("--gallery", tmp_path / "g", "--key-file", tmp_path / "key.txt")
    enrolled = run("people", "enrol", "Anna", tmp_path / "anna.txt", *place)
    assert enrolled.code == 0, enrolled.err
    assert "Anna: 2 faces and 1 stretches of speech added" in enrolled.out
    assert run("people", "list", *place).out == "Anna: 2 faces, 1 stretches of speech\n"
    assert json.loads(run("people", "list", *place, "--json").out) == [{"name": "Anna", "faces": 2, "voices": 1}]
    found = json.loads(run("people", "find", tmp_path / "meeting.txt", *place, "--json").out)
    assert [row["name"] for row in found] == ["unknown", "unknown", "Anna"]
    told = run("people", "find", tmp_path / "anna.txt", *place).out
    assert told.startswith("person 1, 0.0 to 2.0 s: Anna (")
    assert "by face and voice" in told
    wrong = run("people", "list", "--gallery", tmp_path / "g")
    assert (wrong.code, wrong.err) == (2, f"affuse: {tmp_path / 'g'} is encrypted; give its key (--key-file)\n")
    assert run("people", "forget", "Anna", *place).code == 0
    assert list((tmp_path / "g").iterdir()) == []
    assert run("people", "forget", "Anna", *place).code == 2


def test_a_missing_key_file_is_told(run: Run, tmp_path: Path) -> None:
    result = run("people", "list", "--key-file", tmp_path / "absent.txt")
    assert result.code == 2
    assert "cannot be read" in result.err


def test_an_appearance_is_the_mean_of_its_parts() -> None:
    own = Appearance(np.array([[1.0, 0.0], [0.0, 1.0]]), np.empty((0, 2)), Segment(0.0, 1.0)).identity
    assert isinstance(own, Identity)
    assert own.face is not None
    np.testing.assert_allclose(own.face, [0.5, 0.5])
