"""The store of weights: checksums, the order of places, and downloads that fail whole."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from affuse import weights
from affuse.errors import AssetError, ConfigError

PAYLOAD = bytes(range(256)) * 2000  # 512 kB: more than fits one read of a socket


def _remote(name: str, payload: bytes) -> weights.Remote:
    digest = hashlib.sha256(payload).hexdigest()
    return weights.Remote(name, digest, len(payload), f"https://nowhere.invalid/{name}", "MIT")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache and a model of known content, reachable only through a mirror."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("AFFUSE_CACHE", str(folder))
    for name in ("AFFUSE_MODELS", "AFFUSE_MODELS_URL", "AFFUSE_OFFLINE", "AFFUSE_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setitem(weights.DOWNLOADS, "thing", (_remote("thing.onnx", PAYLOAD),))
    return folder


class _Mirror(BaseHTTPRequestHandler):
    files: dict[str, tuple[bytes, int]]  # path -> bytes sent, length announced

    def do_GET(self) -> None:
        if self.path not in self.files:
            self.send_error(404)
            return
        body, announced = self.files[self.path]
        self.send_response(200)
        self.send_header("Content-Length", str(announced))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # the test's output stays its own
        return


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, tuple[bytes, int]]]:
    """A local HTTP server; the test fills the dictionary of what it serves."""
    content: dict[str, tuple[bytes, int]] = {}
    handler = type("Handler", (_Mirror,), {"files": content})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setenv("AFFUSE_MODELS_URL", f"http://127.0.0.1:{server.server_port}/models/")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        yield content
        server.shutdown()
        thread.join()


def test_download_writes_the_file_into_the_cache(cache: Path, mirror: dict[str, tuple[bytes, int]]) -> None:
    mirror["/models/thing.onnx"] = (PAYLOAD, len(PAYLOAD))
    assert weights.find("thing") is None
    path = weights.download("thing")
    assert path == cache / "thing.onnx"
    assert path.read_bytes() == PAYLOAD
    assert weights.find("thing") == path
    assert [p.name for p in cache.iterdir()] == ["thing.onnx"]


@pytest.mark.parametrize(
    ("served", "announced"),
    [
        (PAYLOAD[:1000], 1000),  # another, shorter file
        (PAYLOAD[:1000], len(PAYLOAD)),  # cut off on the way
        (b"x" + PAYLOAD[1:], len(PAYLOAD)),  # one byte changed
        (PAYLOAD + b"x", len(PAYLOAD) + 1),  # something appended
        (b"", 0),
    ],
)
def test_a_wrong_download_leaves_nothing_behind(
    cache: Path, mirror: dict[str, tuple[bytes, int]], served: bytes, announced: int
) -> None:
    mirror["/models/thing.onnx"] = (served, announced)
    with pytest.raises(AssetError, match=r"thing could not be .*/thing\.onnx: wrong checksum: expected"):
        weights.download("thing")
    assert list(cache.iterdir()) == []


def test_a_failed_download_keeps_the_file_that_was_there(cache: Path, mirror: dict[str, tuple[bytes, int]]) -> None:
    cache.mkdir()
    (cache / "thing.onnx").write_bytes(PAYLOAD)
    with pytest.raises(AssetError, match="404"):
        weights.download("thing")
    assert weights.find("thing") == cache / "thing.onnx"


def test_a_download_replaces_a_corrupted_file(cache: Path, mirror: dict[str, tuple[bytes, int]]) -> None:
    cache.mkdir()
    (cache / "thing.onnx").write_bytes(b"garbage")
    mirror["/models/thing.onnx"] = (PAYLOAD, len(PAYLOAD))
    with pytest.raises(AssetError, match="affuse models download"):
        weights.find("thing")
    weights.download("thing")
    assert weights.find("thing") == cache / "thing.onnx"


def test_the_next_source_is_tried(
    cache: Path, mirror: dict[str, tuple[bytes, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(weights.DOWNLOADS, "thing", (_remote("a.onnx", PAYLOAD), _remote("b.onnx", PAYLOAD[1:])))
    mirror["/models/b.onnx"] = (PAYLOAD[1:], len(PAYLOAD) - 1)
    assert weights.fetch("thing") == cache / "b.onnx"


def test_an_unreachable_server_is_one_clear_sentence(cache: Path) -> None:
    def refuse(url: str) -> None:
        raise ConnectionRefusedError(111, "Connection refused")

    with pytest.raises(
        AssetError, match=r"thing could not be downloaded; https://nowhere\.invalid/thing\.onnx: .*refused"
    ):
        weights.download("thing", refuse)  # type: ignore[arg-type]
    assert list(cache.iterdir()) == []


def test_a_cache_that_cannot_be_written_is_named(cache: Path, mirror: dict[str, tuple[bytes, int]]) -> None:
    cache.write_text("a file where the folder should be")
    with pytest.raises(AssetError, match="thing could not be downloaded"):
        weights.download("thing")


def test_other_schemes_are_refused(cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "thing.onnx").write_bytes(PAYLOAD)
    monkeypatch.setenv("AFFUSE_MODELS_URL", tmp_path.as_uri())
    with pytest.raises(AssetError, match="only http and https"):
        weights.download("thing")


def test_fetch_stays_offline_when_told(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(url: str) -> None:
        raise AssertionError(f"{url} was opened")

    monkeypatch.setenv("AFFUSE_OFFLINE", "1")
    assert weights.fetch("thing", fail) is None  # type: ignore[arg-type]


def test_the_users_folder_goes_before_the_cache(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "own"
    for folder in (own, cache):
        folder.mkdir()
        (folder / "thing.onnx").write_bytes(PAYLOAD)
    assert weights.find("thing") == cache / "thing.onnx"
    monkeypatch.setenv("AFFUSE_MODELS", str(own))
    assert weights.find("thing") == own / "thing.onnx"


def test_a_corrupted_file_is_never_used(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.mkdir()
    (cache / "thing.onnx").write_bytes(PAYLOAD)
    (tmp_path / "thing.onnx").write_bytes(PAYLOAD[:-1])
    monkeypatch.setenv("AFFUSE_MODELS", str(tmp_path))
    expected, found = (hashlib.sha256(p).hexdigest() for p in (PAYLOAD, PAYLOAD[:-1]))
    with pytest.raises(
        AssetError, match=f"thing.onnx has the wrong checksum: expected SHA-256 {expected}, found {found}"
    ):
        weights.find("thing")


def test_a_package_may_carry_the_file(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is found without being imported, after the user's folder and the cache, and is checked as they are."""
    package = tmp_path / "site" / "carrier"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('this package is never imported')")
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setitem(weights.DOWNLOADS, "thing", (replace(weights.DOWNLOADS["thing"][0], package="carrier"),))
    assert weights.find("thing") is None  # the package holds no such file
    (package / "thing.onnx").write_bytes(PAYLOAD)
    assert weights.find("thing") == package / "thing.onnx"
    (package / "thing.onnx").write_bytes(b"another version")
    remedy = "install carrier again, or run: affuse models download thing"
    with pytest.raises(AssetError, match=f"thing.onnx has the wrong checksum: .*; {remedy}"):
        weights.find("thing")
    cache.mkdir()
    (cache / "thing.onnx").write_bytes(PAYLOAD)
    assert weights.find("thing") == cache / "thing.onnx"


def test_an_unknown_model_lists_the_known(cache: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown model 'yolo'; known: .*yunet"):
        weights.find("yolo")


def _assets(folder: Path, payload: bytes, **changes: object) -> Path:
    entry = {
        "file": "face.onnx",
        "sha256": hashlib.sha256(PAYLOAD).hexdigest(),
        "bytes": len(PAYLOAD),
        "version": "1",
        "licence": "research use",
    }
    (folder / "manifest.json").write_text(json.dumps({"face": entry | changes}))
    (folder / "face.onnx").write_bytes(payload)
    return folder


def test_shipped_weights_are_verified(tmp_path: Path) -> None:
    assert weights.shipped("face", _assets(tmp_path, PAYLOAD)) == tmp_path / "face.onnx"


def test_wrong_shipped_weights_name_file_and_both_digests(tmp_path: Path) -> None:
    expected, found = (hashlib.sha256(p).hexdigest() for p in (PAYLOAD, b"other"))
    with pytest.raises(
        AssetError, match=f"face.onnx has the wrong checksum: expected SHA-256 {expected}, found {found}"
    ):
        weights.shipped("face", _assets(tmp_path, b"other"))


def test_missing_shipped_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(AssetError, match=r"gone\.onnx is missing"):
        weights.shipped("face", _assets(tmp_path, PAYLOAD, file="gone.onnx"))
    with pytest.raises(AssetError, match="no weights named 'smell' come with affuse; there are: face"):
        weights.shipped("smell", tmp_path)


def test_a_broken_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AssetError, match=r"manifest\.json is missing"):
        weights.manifest(tmp_path)
    (tmp_path / "manifest.json").write_text('{"face": {"file": "face.onnx"}}')
    with pytest.raises(AssetError, match=r"manifest\.json is not a list of weights"):
        weights.manifest(tmp_path)


def test_every_shipped_file_matches_its_manifest() -> None:
    for name, entry in weights.manifest().items():
        path = weights.shipped(name)
        assert path.stat().st_size == entry.bytes
        assert weights.digest(name) == entry.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("threads", ["0", "-1", "two", "1.5", "²"])
def test_a_wrong_number_of_threads_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: str) -> None:
    monkeypatch.setenv("AFFUSE_THREADS", threads)
    with pytest.raises(ConfigError, match="AFFUSE_THREADS must be a whole number above 0"):
        weights.session(tmp_path / "any.onnx")


def test_weights_that_are_not_onnx_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "text.onnx"
    path.write_text("not a model")
    with pytest.raises(AssetError, match=r"text\.onnx cannot be loaded as ONNX weights"):
        weights.session(path)
