"""Who may ask the service, what names and bodies of strangers can do to it, and the headers of its answers."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the service needs the extra serve")
pytest.importorskip("httpx", reason="the tests of the service ask it by httpx (extra dev)")

import httpx

from affuse.errors import ConfigError
from affuse.service.settings import Settings, is_loopback
from affuse.service.uploads import display_name
from serving import LocalService, Server

TOKEN = "correct-horse-battery"
OPEN = ("/", "/health", "/static/index.html")
CLOSED = ("/v1/analyses", "/v1/analyses/x", "/v1/analyses/x/table.csv", "/v1/models", "/metrics", "/openapi.json")


def test_without_a_token_nothing_but_the_page_is_open(make_service: Callable[..., LocalService]) -> None:
    service = make_service(token=TOKEN)
    for path in OPEN:
        assert service.http.get(path, headers={"Authorization": ""}).status_code == 200, path
    for path in CLOSED:
        refused = service.http.get(path, headers={"Authorization": ""})
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer"), path
    assert service.http.get("/v1/models").status_code == 200


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        (f"Bearer {TOKEN}", 200),
        (f"bearer {TOKEN}", 200),
        (f"Bearer  {TOKEN}", 200),
        (f"Bearer {TOKEN}x", 401),
        (f"Bearer {TOKEN[:-1]}", 401),
        (f"Bearer {TOKEN.upper()}", 401),
        ("Bearer", 401),
        (TOKEN, 401),
        (f"Basic {TOKEN}", 401),
        ("Bearer töken-töken-töken".encode().decode("latin-1"), 401),
    ],
)
def test_only_the_very_token_opens(make_service: Callable[..., LocalService], authorization: str, status: int) -> None:
    service = make_service(token=TOKEN)
    headers = [(b"Authorization", authorization.encode("latin-1"))]
    assert service.http.get("/v1/models", headers=headers).status_code == status


def test_a_token_in_the_address_opens_nothing(make_service: Callable[..., LocalService]) -> None:
    """Addresses end up in logs and histories."""
    answer = make_service(token=TOKEN).http.get(f"/v1/models?token={TOKEN}", headers={"Authorization": ""})
    assert answer.status_code == 401


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("localhost:8000", 200),
        ("LOCALHOST", 200),
        ("[::1]:8000", 200),
        ("affuse.example.org", 200),
        ("evil.example.com", 400),
        ("127.0.0.1.evil.example.com", 400),
        ("localhost@evil.example.com", 400),
        ("", 400),
        ("[", 400),
    ],
)
def test_a_name_that_is_not_ours_is_refused(make_service: Callable[..., LocalService], host: str, status: int) -> None:
    """A page of evil.example.com whose name was made to lead here must not read answers (DNS rebinding)."""
    service = make_service(allowed_hosts=("affuse.example.org",))
    assert service.http.get("/v1/models", headers={"Host": host}).status_code == status


@pytest.mark.parametrize(
    "origin", ["https://evil.example.com", "null", "", "http://[", "http://localhost:1", "file://"]
)
def test_pages_of_other_sites_are_refused(service: LocalService, origin: str) -> None:
    for ask in (service.http.get, service.http.post, service.http.delete, service.http.options):
        refused = ask("/v1/analyses", headers={"Origin": origin})
        assert refused.status_code == 403
        assert not any(name.startswith("access-control") for name in refused.headers)


def test_our_own_page_is_let_in_without_cors(service: LocalService) -> None:
    answer = service.http.get("/v1/analyses", headers={"Origin": service.url})
    assert answer.status_code == 200
    assert not any(name.startswith("access-control") for name in answer.headers)


def test_the_same_name_by_another_scheme_or_port_is_another_site(service: LocalService) -> None:
    """What is loaded over plain HTTP can be changed on the way, so it must not speak for the page over TLS."""
    host = service.url.removeprefix("http://")
    name, port = host.split(":")
    own = {"Host": "localhost:80", "Origin": "http://localhost"}
    assert service.http.get("/v1/analyses", headers=own).status_code == 200
    for origin in (f"https://{host}", f"http://{name}", f"http://{host}/", f"http://u@{host}", f"ftp://{host}"):
        assert service.http.get("/v1/analyses", headers={"Origin": origin}).status_code == 403, origin
    for wrong in (
        {"Host": host, "Origin": f"http://{name}:{port}0"},
        {"Host": "localhost", "Origin": "https://localhost"},
    ):
        assert service.http.get("/v1/analyses", headers=wrong).status_code == 403, wrong


@pytest.mark.parametrize(("trusted", "status"), [("127.0.0.1", 200), ("127.0.0.0/8", 200), ("10.0.0.7", 403)])
def test_a_trusted_proxy_says_by_which_scheme_a_client_came(tmp_path: Path, trusted: str, status: int) -> None:
    told = {"Host": "affuse.example.org", "X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.5"}
    names = ["affuse.example.org"]
    with Server(tmp_path / "service", workers=0, allowed_hosts=names, trusted_proxies=[trusted]) as server:
        own = httpx.get(f"{server.url}/v1/models", headers=told | {"Origin": "https://affuse.example.org"})
        plain = httpx.get(f"{server.url}/v1/models", headers=told | {"Origin": "http://affuse.example.org"})
        untold = httpx.get(f"{server.url}/v1/models", headers={"Host": names[0], "Origin": f"https://{names[0]}"})
    assert (own.status_code, plain.status_code, untold.status_code) == (status, 403 if status == 200 else 200, 403)
    if status == 403:
        assert own.json()["detail"].endswith("a proxy must pass on Host and X-Forwarded-Proto")


def test_every_answer_carries_the_headers(
    make_service: Callable[..., LocalService], monkeypatch: pytest.MonkeyPatch
) -> None:
    service = make_service(token=TOKEN, max_upload=1000)

    def broken(*_: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(service.app.state.store, "recent", broken)
    job = service.done(text="fine")["id"]
    ask = service.http.get
    answers = {
        200: [ask("/"), ask("/health"), ask("/static/main.js"), ask(f"/v1/analyses/{job}"), ask("/openapi.json")],
        202: [service.send(text="fine")],
        204: [service.http.delete(f"/v1/analyses/{job}")],
        400: [ask("/health", headers={"Host": "evil"}), service.http.post("/v1/fuse", content=b"[" * 100_000)],
        401: [ask("/v1/models", headers={"Authorization": ""})],
        403: [ask("/health", headers={"Origin": "null"})],
        404: [ask("/nothing"), ask("/static/nothing"), ask("/v1/analyses/nothing")],
        405: [service.http.put("/v1/analyses"), service.http.post("/health")],
        413: [service.http.post("/v1/analyses", files={"file": ("a", b"x" * 100_000)})],
        415: [service.http.post("/v1/analyses", content=b"x")],
        422: [service.http.post("/v1/fuse", json={})],
        500: [ask("/v1/analyses")],
    }
    for status, given in answers.items():
        for answer in given:
            assert answer.status_code in (status, 422 if status == 400 else status), answer.text
            headers = answer.headers
            assert headers["x-content-type-options"] == "nosniff", answer.request.url
            assert headers["x-frame-options"] == "DENY"
            assert headers["referrer-policy"] == "no-referrer"
            assert headers["cross-origin-resource-policy"] == "same-origin"
            assert "default-src 'none'" in headers["content-security-policy"]
            assert "unsafe" not in headers["content-security-policy"]
            assert headers["cache-control"] in ("no-store", "no-cache")
            assert "server" not in headers or headers["server"] == "uvicorn"
    assert answers[500][0].json() == {"detail": "an internal error (RuntimeError); the log tells more"}


# --- names ------------------------------------------------------------------------------------------------------------

NAMES = [
    ("../../etc/passwd", "passwd"),
    ("/etc/shadow", "shadow"),
    ("..", ".."),
    ("C:\\Windows\\win.ini", "win.ini"),
    ("a\x00b.wav", "ab.wav"),
    ("line\r\nbreak: x.wav", "linebreak: x.wav"),
    ("x" * 5000 + ".wav", "x" * 116 + ".wav"),
    ("<script>alert(1)</script>.wav", "script>.wav"),
    ("'; DROP TABLE jobs; --.wav", "'; DROP TABLE jobs; --.wav"),
    ("发布会 \u202egpj.wav", "发布会 gpj.wav"),
    ("%s%n{0}.wav", "%s%n{0}.wav"),
    ("", "recording"),
    (" \t ", "recording"),
    ("|rm -rf ~.wav", "|rm -rf ~.wav"),
    ("concat:a|b.wav", "concat:a|b.wav"),
]


@pytest.mark.parametrize(("given", "shown"), NAMES)
def test_a_name_is_for_showing_only(given: str, shown: str) -> None:
    assert display_name(given) == shown


def test_no_name_of_a_client_reaches_the_disk(service: LocalService, tone: Path) -> None:
    before = set(service.settings.folder.parent.rglob("*"))
    for name, _ in NAMES:
        body = b'--b\r\nContent-Disposition: form-data; name="file"; filename="%s"\r\n\r\n%s\r\n--b--\r\n' % (
            name.replace('"', "%22").replace("\r\n", "%0D%0A").encode(),
            tone.read_bytes(),
        )
        answer = service.http.post(
            "/v1/analyses", content=body, headers={"Content-Type": "multipart/form-data; boundary=b"}
        )
        assert answer.status_code in (202, 400, 422), answer.text
    new = set(service.settings.folder.parent.rglob("*")) - before
    outside = [path for path in new if not path.is_relative_to(service.settings.folder)]
    assert outside == []
    uploads = [path for path in new if path.parent == service.settings.uploads]
    assert len(uploads) >= 12
    assert all(len(path.stem) == 32 and path.suffix in (".wav", ".ini", "") for path in uploads), uploads
    service.work()
    states = [job["state"] for job in service.http.get("/v1/analyses").json()["analyses"]]
    assert set(states) == {"done"}


@pytest.mark.parametrize(
    "path",
    [
        "/static/../security.py",
        "/static/%2e%2e/security.py",
        "/static/..%2fsecurity.py",
        "/static/%2fetc/passwd",
        "/static//etc/passwd",
        "/static/report/../../page.py",
        "/v1/analyses/../../etc/passwd",
        "/v1/analyses/..%2f..%2fjobs.db/table.csv",
        "/v1/analyses/%00/table.csv",
        "/v1/analyses/x/..%2fanalysis.json",
        "/v1/analyses/x/analysis.json",
    ],
)
def test_no_path_leads_out(service: LocalService, path: str) -> None:
    host, port = service.url.removeprefix("http://").split(":")
    line = http.client.HTTPConnection(host, int(port), timeout=10)
    line.putrequest("GET", path, skip_host=True)
    line.putheader("Host", "127.0.0.1")
    line.endheaders()
    answer = line.getresponse()
    body = answer.read()
    line.close()
    assert answer.status in (404, 422), (answer.status, body[:200])
    assert set(json.loads(body)) == {"detail"}


def test_a_link_in_the_folder_of_results_is_not_followed(
    make_service: Callable[..., LocalService], tone: Path, tmp_path: Path
) -> None:
    service = make_service()
    job = service.done(tone)
    secret = tmp_path / "secret"
    secret.write_text("secret")
    table = service.settings.results / job["id"] / "analysis.csv"
    table.unlink()
    table.symlink_to(secret)
    assert service.http.get(f"/v1/analyses/{job['id']}/table.csv").status_code == 404


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "inside"),
    [
        *[("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True)],
        *[("0.0.0.0", False), ("::", False), ("192.168.1.4", False), ("affuse.example.org", False)],
        ("localhost.evil.com", False),
    ],
)
def test_what_others_can_reach_needs_a_token(tmp_path: Path, host: str, inside: bool) -> None:
    assert is_loopback(host) is inside
    if inside:
        Settings(tmp_path, host=host)
        return
    with pytest.raises(ConfigError, match="give them a token"):
        Settings(tmp_path, host=host)
    Settings(tmp_path, host=host, token=TOKEN)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"token": "short"}, "at least 16 characters"),
        ({"token": "ä" * 20}, "ASCII"),
        ({"token": "two words are not a token"}, "ASCII"),
        ({"max_upload": 0}, "max_upload must be more than 0; got 0"),
        ({"max_queue": -1}, "max_queue must be more than 0; got -1"),
        ({"upload_pause": 0}, "upload_pause must be more than 0; got 0"),
        ({"head_seconds": 0}, "head_seconds must be more than 0; got 0"),
        ({"max_connections": 0}, "max_connections must be more than 0; got 0"),
        ({"trusted_proxies": ("proxy.example",)}, "such as 10.0.0.7 or 10.0.0.0/24; got 'proxy.example'"),
        ({"private": True, "keep_uploads": True}, "--private keeps nothing but scores"),
    ],
)
def test_settings_that_make_no_sense_are_refused(tmp_path: Path, wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        Settings(tmp_path, **wrong)


def test_the_folder_is_nobody_elses(tmp_path: Path) -> None:
    settings = Settings(tmp_path / "service")
    settings.make_folders()
    assert settings.folder.stat().st_mode & 0o777 == 0o700
    settings.make_folders()
    other = tmp_path / "home"
    other.mkdir(mode=0o755)
    (other / "letter.txt").touch()
    with pytest.raises(ConfigError, match="holds other files; choose a new or an empty --folder"):
        Settings(other).make_folders()
    assert other.stat().st_mode & 0o777 == 0o755
