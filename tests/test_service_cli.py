"""``affuse serve`` refuses what cannot work, in one sentence, before it listens."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from command import Run, caller

pytest.importorskip("fastapi", reason="the service needs the extra serve")


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.delenv("AFFUSE_TOKEN", raising=False)
    monkeypatch.delenv("AFFUSE_REDIS", raising=False)
    return caller(monkeypatch, capfd, "serve")


def test_a_port_that_is_taken(serve: Run, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, out, err = serve("--folder", tmp_path / "f", "--port", str(port))
    assert (code, out) == (2, "")
    assert err.strip() == (
        f"affuse: cannot listen at 127.0.0.1, port {port} (Address already in use); choose another --port"
    )


def test_an_address_that_is_not_ours(serve: Run, tmp_path: Path) -> None:
    code, _, err = serve("--folder", tmp_path / "f", "--host", "192.0.2.1", "--token-file", _token(tmp_path))
    assert code == 2
    assert "cannot listen at 192.0.2.1" in err


def test_others_are_not_let_in_without_a_token(serve: Run, tmp_path: Path) -> None:
    code, _, err = serve("--folder", tmp_path / "f", "--host", "0.0.0.0")
    assert code == 2
    assert "listening at 0.0.0.0 lets others in; give them a token: --token-file FILE or AFFUSE_TOKEN" in err
    assert not (tmp_path / "f").exists()


def _token(folder: Path, text: str = "correct-horse-battery\n") -> Path:
    path = folder / "token"
    path.write_text(text)
    return path


def test_tokens_that_are_none(serve: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, _, err = serve("--folder", tmp_path / "f", "--token-file", tmp_path / "absent")
    assert code == 2
    assert "absent cannot be read for the token" in err
    code, _, err = serve("--folder", tmp_path / "f", "--token-file", _token(tmp_path, "short"))
    assert code == 2
    assert "a token needs at least 16 characters; make one: openssl rand -hex 24" in err
    monkeypatch.setenv("AFFUSE_TOKEN", "two words make no token")
    code, _, err = serve("--folder", tmp_path / "f")
    assert code == 2
    assert "ASCII" in err


def test_folders_that_cannot_hold_the_jobs(serve: Run, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    code, _, err = serve("--folder", file / "inside")
    assert code == 2
    assert "cannot hold the jobs (Not a directory); choose another --folder" in err
    code, _, err = serve("--folder", tmp_path)
    assert code == 2
    assert "holds other files; choose a new or an empty --folder" in err


def test_redis_is_not_needed_any_more(serve: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sentence = "affuse needs no Redis any more: workers find the jobs in --folder; leave out --redis and AFFUSE_REDIS"
    assert serve("--folder", tmp_path / "f", "--redis", "redis://127.0.0.1:1/0") == (2, "", f"affuse: {sentence}\n")
    monkeypatch.setenv("AFFUSE_REDIS", "redis://127.0.0.1:1/0")
    assert serve("--folder", tmp_path / "f", "--worker").code == 2
    assert "--redis" not in serve("--help").out


def test_without_the_extra_the_command_to_install_it_is_named(
    serve: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "fastapi", None)
    code, _, err = serve("--folder", tmp_path / "f")
    assert code == 2
    assert err.strip() == "affuse: fastapi is not installed; run: pip install 'affuse[serve]'"


@pytest.mark.parametrize(("option", "value"), [("--port", "0"), ("--max-queue", "0"), ("--job-memory", "10")])
def test_numbers_out_of_range(serve: Run, option: str, value: str) -> None:
    assert serve(option, value).code == 2


def test_fusers_and_priors_that_are_none_are_told_before_it_listens(serve: Run, tmp_path: Path) -> None:
    code, _, err = serve("--folder", tmp_path / "f", "--fuser", tmp_path)
    assert (code, err.count("\n")) == (2, 1)
    assert "holds no fuser: No such file or directory (fuser.json)" in err
    code, _, err = serve("--folder", tmp_path / "f", "--prior", "sunny")
    assert code == 2
    assert "the prior 'sunny' is neither a file nor one of dialogue, uniform, tempered" in err


def test_jobs_and_streams_are_answered_by_the_fuser_and_the_prior_of_the_service(tmp_path: Path) -> None:
    pytest.importorskip("websockets", reason="live streams need the extra serve")
    import numpy as np

    from affuse.fusion import NamedFuser, ProductRule
    from affuse.labels import EKMAN
    from affuse.service.runner import JobSpec, _analyzer
    from affuse.service.stream import LiveExperts

    P = np.full((7, 3, 7), 1 / 7)
    fuser = NamedFuser(ProductRule().fit(P, np.arange(7)), ("text", "voice", "face"), EKMAN.labels, "own")
    fuser.write(tmp_path / "own")
    spec = JobSpec("a", "b", "c", fuser=str(tmp_path / "own"), prior="uniform")
    live = LiveExperts(fuser=str(tmp_path / "own"), prior="uniform").analyzer("en")
    for analyzer in (_analyzer(spec, {}), live):
        assert (analyzer.fuser.method, analyzer.prior.name) == ("own", "uniform")
        assert list(analyzer.experts) == ["face", "voice", "text"]
