"""A service with a key file: nothing of a recording, of its words or of an answer is readable on disk."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="the service needs the extra serve")
pytest.importorskip("httpx", reason="the tests of the service ask it by httpx (extra dev)")

from affuse.batch.forgetting import target_of
from affuse.encryption import Sealer
from affuse.errors import ConfigError, DataError
from affuse.service.forgetting import forget_jobs
from affuse.service.settings import Settings
from affuse.service.storage import EncryptedStorage, _is_in_memory, open_storage, staging_folder
from serving import LocalService

KEY = "a key that nobody guesses"
MakeService = Callable[..., LocalService]

needs_memory = pytest.mark.skipif(not _is_in_memory(Path("/dev/shm")), reason="this system has no /dev/shm in memory")


@pytest.fixture
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr("affuse.service.storage.SCRYPT", {"n": 16, "r": 8, "p": 1})  # quick
    before = set(Path("/dev/shm").glob("affuse-*"))
    path = tmp_path / "key.txt"
    path.write_text(f"{KEY}\n")
    yield str(path)
    for made in set(Path("/dev/shm").glob("affuse-*")) - before:
        if not any(made.iterdir()):
            made.rmdir()


def on_disk(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def readable(folder: Path, *secrets: bytes) -> list[tuple[str, bytes]]:
    """Where in a folder, in the names of files too, one of some texts can be read."""
    return [
        (name, secret)
        for name, data in on_disk(folder).items()
        for secret in secrets
        if secret in data or secret in name.encode()
    ]


@needs_memory
def test_nothing_of_a_job_is_readable_on_disk(key: str, make_service: MakeService, tone: Path, tmp_path: Path) -> None:
    words = tmp_path / "words.srt"
    words.write_text("1\n00:00:00,000 --> 00:00:00,900\nZanzibar is lovely, I am so happy.\n")
    secrets = (b"Zanzibar", b"Annabella", b"happiness", b"RIFF", b"sha256", tone.read_bytes()[2000:2016], b"language")
    open_service = make_service(keep_uploads=True)
    open_service.done(tone, "Annabella.wav", transcript=words)
    assert {secret for _, secret in readable(open_service.settings.folder, *secrets)} == set(secrets)  # they would be

    service = make_service(key_file=key, keep_uploads=True)
    waiting = service.send(tone, "Annabella.wav", transcript=words).json()["id"]
    assert not readable(service.settings.folder, *secrets)
    service.work()
    job = service.job(waiting)
    assert (job["state"], job["name"]) == ("done", "Annabella.wav")
    assert job["result"]["source"]["name"] == "Annabella.wav"
    table = service.http.get(f"/v1/analyses/{waiting}/table.csv")
    assert "happiness" in table.text
    assert table.headers["Content-Disposition"] == "attachment; filename*=utf-8''Annabella.csv"
    assert len(service.files()) > 6
    assert not readable(service.settings.folder, *secrets)
    assert {path.name for path in service.worker.staging.rglob("*")} == {"in", "out"}
    service.worker.close()
    assert not service.worker.staging.exists()


@needs_memory
def test_why_a_job_failed_is_not_readable_either(key: str, make_service: MakeService, tmp_path: Path) -> None:
    broken = tmp_path / "Annabella.wav"
    broken.write_bytes(b"nothing of the kind")
    service = make_service(key_file=key)
    job = service.done(broken)
    assert job["error"].startswith("Annabella.wav")
    assert not readable(service.settings.folder, b"Annabella")


@needs_memory
def test_the_key_must_be_there_and_the_right_one(key: str, make_service: MakeService, tmp_path: Path) -> None:
    folder = make_service(key_file=key).settings.folder
    other = tmp_path / "other.txt"
    other.write_text("another key altogether")
    short = tmp_path / "short.txt"
    short.write_text("short")
    plain = make_service().settings.folder
    for settings, says in (
        (Settings(folder), "is encrypted; give its key: --key-file FILE"),
        (Settings(folder, key_file=str(other)), "the key does not open"),
        (Settings(folder, key_file=str(short)), "a key needs at least 8 characters"),
        (Settings(folder, key_file=str(tmp_path / "none")), "cannot be read"),
        (Settings(plain, key_file=key), "are not encrypted; choose a new --folder"),
    ):
        with pytest.raises(ConfigError, match=says) as caught:
            open_storage(settings)
        assert "\n" not in str(caught.value)
    assert isinstance(open_storage(Settings(folder, key_file=key)), EncryptedStorage)


@needs_memory
def test_what_was_changed_or_exchanged_on_disk_is_not_taken(key: str, make_service: MakeService, tone: Path) -> None:
    service = make_service(key_file=key)
    one, other = (service.done(tone)["id"] for _ in range(2))
    results = service.settings.results
    (results / one / "analysis.json").write_bytes((results / other / "analysis.json").read_bytes())
    data = bytearray((results / one / "analysis.csv").read_bytes())
    data[40] ^= 1
    (results / one / "analysis.csv").write_bytes(data)
    for path in ("", "/table.csv"):
        answer = service.http.get(f"/v1/analyses/{one}{path}")
        assert answer.status_code == 422
        assert "the key does not open it, or it was changed" in answer.json()["detail"]
    assert service.job(other)["state"] == "done"


@needs_memory
def test_a_recording_is_forgotten_in_an_encrypted_service(key: str, make_service: MakeService, tone: Path) -> None:
    service = make_service(key_file=key)
    job = service.done(tone, "Annabella.wav")["id"]
    target = target_of(str(tone), [])
    with pytest.raises(ConfigError, match="is encrypted; give its key"):
        forget_jobs(service.settings.folder, target)
    assert [removal.what for removal in forget_jobs(service.settings.folder, target, key_file=key)] == [
        "jobs of a service"
    ]
    assert service.http.get(f"/v1/analyses/{job}").status_code == 404
    assert not (service.settings.results / job).exists()


def test_a_staging_folder_of_a_process_that_was_killed_is_deleted(tmp_path: Path) -> None:
    import os

    settings = Settings(tmp_path / "jobs")
    settings.make_folders()
    storage = open_storage(settings)
    left = settings.staging / "left"
    left.mkdir()
    (left / "recording").write_bytes(b"x")
    with staging_folder(storage) as mine:
        assert left.exists()  # it may be another's that has only begun
        os.utime(left, (0, 0))
        os.utime(mine, (0, 0))
        with staging_folder(storage):
            assert not left.exists()
            assert mine.exists()
    assert not mine.exists()


def test_files_of_many_pieces_come_back_whole_or_not_at_all(tmp_path: Path) -> None:
    import io
    import os

    sealer = Sealer(os.urandom(32))
    for size in (0, 1, (1 << 20) - 1, 1 << 20, (1 << 21) + 5):
        plain, sealed = os.urandom(size), tmp_path / "sealed"
        with sealed.open("wb") as target:
            sealer.seal_file(io.BytesIO(plain), target, "a")
        found = io.BytesIO()
        sealer.open_file(sealed, found, "a")
        assert found.getvalue() == plain
        for wrong in (sealed.read_bytes()[:-1], sealed.read_bytes() + b"x", b"", plain):
            (tmp_path / "wrong").write_bytes(wrong)
            with pytest.raises(DataError):
                sealer.open_file(tmp_path / "wrong", io.BytesIO(), "a")
        with pytest.raises(DataError):
            sealer.open_file(sealed, io.BytesIO(), "b")


@needs_memory
def test_tables_to_fuse_lie_in_memory_too(key: str, make_service: MakeService, monkeypatch: pytest.MonkeyPatch) -> None:
    from affuse.service import fusion

    seen: list[Path] = []
    table = fusion._table

    def noted(file: object, folder: Path, number: int) -> object:
        seen.append(folder)
        return table(file, folder, number)  # type: ignore[arg-type]

    monkeypatch.setattr(fusion, "_table", noted)
    service = make_service(key_file=key)
    rows = b"id,anger,happiness\na,0.5,0.5\n"
    answer = service.http.post("/v1/fuse/files", files=[("files", ("face.csv", rows)), ("files", ("voice.csv", rows))])
    assert answer.status_code == 200, answer.text
    assert json.loads(answer.text)["rows"]
    assert seen
    assert all(str(folder).startswith("/dev/shm/") for folder in seen)
