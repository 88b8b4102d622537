"""Pictures of live streams: decoded in a process that reaches nothing, and that the server does not trust."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from io import BytesIO
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="the service needs the extra serve")

from affuse.errors import MediaError
from affuse.media.pictures import decode_picture
from affuse.service import pictures
from affuse.service.confinement import Confinement, landlock_version, seccomp_is_known, system_paths
from affuse.service.pictures import DecoderHost, PictureDecoder

LIMITS = (200, 1_000_000)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DecoderHost]:
    made = DecoderHost(*LIMITS, tmp_path_factory.mktemp("jobs"))
    yield made
    made.close()


@pytest.fixture
def decoder(host: DecoderHost) -> Iterator[PictureDecoder]:
    made = host.decoder()
    yield made
    made.close()


def decoders() -> list[psutil.Process]:
    """The processes that decode, and not the one that forks them."""
    every = psutil.Process().children(True)
    return [own for own in every if own.ppid() != os.getpid() and "affuse.service.pictures" in " ".join(own.cmdline())]


def sent(kind: str, size: tuple[int, int] = (320, 240)) -> bytes:
    """A picture of a slope, as a client sends it."""
    slope = np.add.outer(np.arange(size[1]), np.arange(size[0])) % 256
    Image.fromarray(np.stack([slope, slope, 255 - slope], axis=2).astype(np.uint8)).save(whole := BytesIO(), kind)
    return whole.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_picture_is_the_one_that_is_decoded_here(decoder: PictureDecoder, kind: str) -> None:
    found = decoder(sent(kind))
    assert found.shape == (150, 200, 3)
    np.testing.assert_array_equal(found, decode_picture(sent(kind), *LIMITS))


@pytest.mark.parametrize("payload", [b"", b"none", sent("PNG", (1001, 1000)), sent("JPEG")[:400], sent("BMP")])
def test_what_is_refused_is_refused_by_the_same_sentence(decoder: PictureDecoder, payload: bytes) -> None:
    with pytest.raises(MediaError) as here:
        decode_picture(payload, *LIMITS)
    with pytest.raises(MediaError) as there:
        decoder(payload)
    assert str(there.value) == str(here.value)
    assert decoder(sent("PNG")).shape == (150, 200, 3)  # and the stream could go on


@pytest.mark.skipif(not (landlock_version() and seccomp_is_known()), reason="this system has no Landlock or seccomp")
def test_whoever_takes_over_the_process_reaches_nothing(tmp_path: Path) -> None:
    attempts = [
        f"open({str(tmp_path / 'new')!r}, 'w')",
        f"open({sys.executable!r}, 'rb')",
        "open('/etc/passwd')",
        "open('/dev/null', 'w')",
        "os.listdir('/')",
        "open(f'/proc/{os.getppid()}/environ')",
        "socket.create_connection(('127.0.0.1', 9), 1)",
        "subprocess.run(['true'])",
    ]
    code = (
        "import json, os, socket, subprocess, sys\n"
        "from affuse.service.pictures import shut_in\n"
        "shut_in(json.loads(sys.argv[1]))\n"
        "for attempt in sys.argv[2:]:\n"
        "    try:\n        exec(attempt)\n        print('done')\n"
        "    except OSError as error:\n        print(error.strerror)\n"
        "try:\n    bytearray(500_000_000)\nexcept MemoryError:\n    print('no memory')\n"
    )
    confinement = json.dumps(asdict(Confinement(read=system_paths((), tmp_path))))
    told = subprocess.run(
        [sys.executable, "-c", code, confinement, *attempts], capture_output=True, text=True, timeout=60
    )
    assert told.stdout.splitlines() == ["Permission denied"] * len(attempts) + ["no memory"], told.stderr


def test_a_process_that_does_not_answer_is_ended_and_no_other(
    host: DecoderHost, decoder: PictureDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder(sent("PNG"))
    (child,) = decoders()
    other = host.decoder()
    other(sent("PNG"))
    assert len(decoders()) == 2
    os.kill(child.pid, signal.SIGSTOP)
    monkeypatch.setattr(pictures, "_PATIENCE", 0.3)
    for _ in range(2):
        with pytest.raises(MediaError, match="could not be decoded in the time"):
            decoder(sent("PNG"))
    monkeypatch.undo()
    child.wait(timeout=10)  # its host collects it a moment after it was ended
    assert other(sent("PNG")).shape == (150, 200, 3)
    other.close()
    decoder.close()
    assert decoders() == []
    with pytest.raises(MediaError):
        decoder(sent("PNG"))


def test_a_stream_that_is_forgotten_leaves_no_process_and_a_host_that_ended_begins_anew(tmp_path: Path) -> None:
    host = DecoderHost(*LIMITS, tmp_path)
    forgotten = host.decoder()
    forgotten(sent("PNG"))
    assert len(decoders()) == 1
    del forgotten
    assert decoders() == []
    last = host.decoder()
    last(sent("PNG"))
    host.close()
    with pytest.raises(MediaError):
        last(sent("PNG"))
    assert host.decoder()(sent("PNG")).shape == (150, 200, 3)
    host.close()


@pytest.mark.parametrize("answer", [(True, 2**31, 2**31), (True, 0, 5), (True, 201, 10), (False, 2**31, 0)])
def test_what_a_process_says_is_not_taken_for_granted(
    host: DecoderHost, monkeypatch: pytest.MonkeyPatch, answer: tuple[bool, int, int]
) -> None:
    def lie(inward: int, outward: int) -> int:
        os.write(outward, pictures._ANSWER.pack(*answer) + bytes(10_000))
        return 0

    monkeypatch.setattr(host, "fork", lie)
    liar = host.decoder()
    with pytest.raises(MediaError) as refused:
        liar(sent("PNG", (8, 8)))
    assert len(str(refused.value)) <= 500


def test_secrets_of_the_server_are_not_in_its_environment() -> None:
    own = {"PATH": "/usr/bin", "AFFUSE_TOKEN": "secret", "AWS_SECRET_ACCESS_KEY": "secret", "PYTHONPATH": "src"}
    assert "secret" not in pictures._environment(own).values()
    assert set(own) & set(pictures._environment(own)) == {"PATH", "PYTHONPATH"}
