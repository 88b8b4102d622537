"""What a service is for: declared when it starts, stated in every answer, refused where the law forbids it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator

from affuse.errors import ConfigError
from affuse.purpose import FORBIDDEN
from affuse.report.schema import schema
from command import Run, caller

pytest.importorskip("fastapi", reason="the service needs the extra serve")

from affuse.service import Settings
from serving import Server

DECLARED = {"purpose": "work", "exemption": "safety"}
FUSE = {"labels": ["sad", "happy"], "predictions": {"face": [[0.2, 0.8]], "voice": [[0.4, 0.6]]}}
TABLES = {"face.csv": "id,sad,happy\n0,0.2,0.8\n", "voice.csv": "id,sad,happy\n0,0.4,0.6\n"}
WORDS = {"text": "I lost my job today. I feel terrible.", "language": "en"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    place = tmp_path_factory.mktemp("purpose") / "service"
    with Server(place, "--purpose", "work", "--exemption", "safety") as running:
        yield running
        assert "Traceback" not in running.log


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.delenv("AFFUSE_TOKEN", raising=False)
    return caller(monkeypatch, capfd, "serve")


def said(answer: dict[str, Any]) -> dict[str, Any]:
    return {key: answer[key] for key in DECLARED}


def done(server: Server) -> str:
    """The id of a text that a worker of the server has analysed."""
    number = str(httpx.post(f"{server.url}/v1/analyses", json=WORDS, timeout=60).json()["id"])
    deadline = time.monotonic() + 120
    while (job := httpx.get(f"{server.url}/v1/analyses/{number}", timeout=60).json())["state"] != "done":
        assert job["state"] != "failed", job["error"]
        assert time.monotonic() < deadline, "the job did not come to an end"
        time.sleep(0.1)
    return number


def test_an_analysis_states_it_in_every_shape(server: Server) -> None:
    place = f"{server.url}/v1/analyses/{done(server)}"
    result = httpx.get(place, timeout=60).json()["result"]
    assert said(result["settings"]) == DECLARED
    Draft202012Validator(schema()).validate(result)
    (source,) = httpx.get(place, params={"shape": "hume"}, timeout=60).json()["result"]
    (prediction,) = source["results"]["predictions"]
    assert said(prediction) == DECLARED
    page = httpx.get(f"{place}/report.html", timeout=60).text
    assert "Declared purpose: work, for safety reasons</p>" in page


def test_fused_predictions_state_it(server: Server) -> None:
    by_numbers = httpx.post(f"{server.url}/v1/fuse", json=FUSE, timeout=60).json()
    tables = [
        ("files", (f"{name}.csv", f"id,sad,happy\n0,{1 - p},{p}\n")) for name, p in (("face", 0.8), ("voice", 0.6))
    ]
    by_files = httpx.post(f"{server.url}/v1/fuse/files", files=tables, timeout=60).json()
    for answer in (by_numbers, by_files):
        assert said(answer) == DECLARED
        assert answer["rows"][0]["happy"] == pytest.approx(0.48 / (0.48 + 0.08))  # 0.8 · 0.6 against 0.2 · 0.4


def test_every_step_of_a_stream_states_it(server: Server) -> None:
    sync = pytest.importorskip("websockets.sync.client", reason="live streams need the extra serve")
    with sync.connect(f"{server.url.replace('http', 'ws')}/v1/live", open_timeout=30) as stream:
        stream.send(json.dumps({"type": "start", "language": "en", "step": 0.5, "window": 3}))
        while json.loads(stream.recv(120))["type"] != "ready":
            pass
        for time_of, text in ((1.5, "I am so sad about it."), (3.0, "What a day!")):
            stream.send(json.dumps({"type": "text", "text": text, "time": time_of}))
            step = json.loads(stream.recv(30))
            assert step["type"] == "step"
            assert said(step) == DECLARED


@pytest.mark.parametrize("name", FORBIDDEN)
def test_what_is_forbidden_is_refused_before_it_listens(serve: Run, tmp_path: Path, name: str) -> None:
    code, out, err = serve("--folder", tmp_path / "f", "--purpose", name)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("affuse: inferring the emotions of people ")
    assert "Art. 5(1)(f)" in err
    assert not (tmp_path / "f").exists()


def test_other_refusals_are_those_of_an_analysis(serve: Run, tmp_path: Path) -> None:
    refused = {
        ("--purpose", "hiring"): "unknown purpose 'hiring'; known: research, ",
        ("--purpose", "work", "--exemption", "consent"): "unknown exemption 'consent'; known: medical, safety",
        ("--exemption", "medical"): "--exemption is about the purposes work and education; got the purpose none",
    }
    for options, sentence in refused.items():
        code, _, err = serve("--folder", tmp_path / "f", *options)
        assert (code, err.count("\n")) == (2, 1)
        assert sentence in err
    with pytest.raises(ConfigError, match="forbidden in the European Union"):
        Settings(tmp_path / "f", purpose="education")
    assert not (tmp_path / "f").exists()
