"""Pictures of live streams, decoded in processes that reach no file and no network.

Every stream has a process of its own, so that a picture made to take over a decoder takes over nothing but the decoder
of whoever sent it. They are forked by one that has loaded the libraries, given up files and network, and never sees a
picture: a fork takes milliseconds, a start half a second.

To a decoder: four bytes of length and a picture. Back: `_ANSWER`, and the rows of a picture as RGB or the sentence that
refuses it. To the process that forks: "f" with both ends of pipes, or "e" and a number; back: the number.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from typing import IO, Any
from weakref import finalize

import numpy as np

from affuse.errors import MediaError
from affuse.service.confinement import Confinement, system_paths
from affuse.service.runner import limit_memory

__all__ = ["DecoderHost", "PictureDecoder", "main", "shut_in"]

_LENGTH = struct.Struct("<I")
_ANSWER = struct.Struct("<?II")  # whether it is a picture; its height and width, or the length of a sentence and 0
_ORDER = struct.Struct("<ci")  # "f" and 0, or "e" and the number of a decoder
_LONGEST_SENTENCE = 500  # bytes

_STARTING = 60.0  # seconds that the first process may take to begin
_PATIENCE = 5.0  # seconds that a picture may take; one of four million pixels takes a tenth of a second
_MEMORY = 400_000_000  # bytes beyond those at the start; a picture of four million pixels takes 50 million
_PIPE = 1 << 20  # bytes: the most that Linux gives a user

_ENDED = "a picture that could not be decoded in the time and memory it may take"
_COMMAND = (sys.executable, "-P", "-m", "affuse.service.pictures")  # -P: not from the folder it is started in

# What Python and its libraries need to be found and to run as the server does; secrets are in none of them.
_KEPT = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TZ")


class DecoderHost:
    """Makes decoders of pictures, each a process of its own that is confined (see `affuse.service.confinement`).

    Parameters
    ----------
    max_side : int
        Longer side in pixels that a picture is reduced to.
    max_pixels : int
        The most that a picture may have.
    hidden : Path
        A folder that the processes may not read even while they start.
    apart : sequence of str
        What is put before the command, such as a network of its own (`affuse.service.worker.without_network`).

    Examples
    --------
    >>> from PIL import Image
    >>> Image.new("RGB", (64, 48), "red").save(payload := BytesIO(), "PNG")
    >>> host = DecoderHost(960, 4_000_000, Path("jobs"))
    >>> decoder = host.decoder()
    >>> decoder(payload.getvalue())[0, 0].tolist()
    [255, 0, 0]
    >>> host.close()
    """

    def __init__(self, max_side: int, max_pixels: int, hidden: Path, apart: Sequence[str] = ()) -> None:
        self.max_side = max_side
        confinement = Confinement(read=system_paths((), hidden))
        self._command = [*apart, *_COMMAND, json.dumps(asdict(confinement)), str(max_side), str(max_pixels)]
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._stop: Any = None

    def start(self) -> None:
        """Let the process that forks load its libraries, so that the first picture does not wait for them."""
        with self._lock:
            self._started()

    def decoder(self) -> PictureDecoder:
        """A decoder, whose process begins with its first picture."""
        return PictureDecoder(self)

    def fork(self, inward: int, outward: int) -> int:
        """Begin a decoder that reads from one descriptor and writes to another; its number. Raises MediaError."""
        with self._lock:
            control = self._started()
            try:
                socket.send_fds(control, [_ORDER.pack(b"f", 0)], [inward, outward])
                return self._number(control)
            except OSError as error:
                raise MediaError("the decoder of pictures does not start") from error

    def end(self, number: int) -> None:
        """End a decoder at once."""
        with self._lock, suppress(OSError, MediaError):  # it ended with its host
            if self._control is not None:
                self._control.sendall(_ORDER.pack(b"e", number))
                self._number(self._control)

    def close(self) -> None:
        """End everything; a later decoder begins anew."""
        with self._lock:
            if self._stop is not None:
                self._stop()
            self._control = self._process = self._stop = None

    def _started(self) -> socket.socket:
        if self._control is not None and self._process is not None and self._process.poll() is None:
            return self._control
        if self._stop is not None:  # it has ended by itself
            self._stop()
        own, theirs = socket.socketpair()
        own.settimeout(_STARTING)
        with theirs:
            self._process = subprocess.Popen(
                [*self._command, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=_environment(os.environ),
            )
        self._control = own
        self._stop = finalize(self, _stop, self._process, own)  # called at the latest when nobody needs it any more
        return own

    @staticmethod
    def _number(control: socket.socket) -> int:
        answer = control.recv(_ORDER.size, socket.MSG_WAITALL)
        if len(answer) < _ORDER.size:
            raise MediaError("the decoder of pictures does not start")
        return int(_ORDER.unpack(answer)[1])


def _stop(process: subprocess.Popen[bytes], control: socket.socket) -> None:
    control.close()  # upon which it ends its decoders and itself
    with suppress(subprocess.TimeoutExpired):
        process.wait(_PATIENCE)
    process.kill()
    process.wait()


def _environment(own: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in own.items() if name in _KEPT or name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    return kept | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


class PictureDecoder:
    """Decodes pictures of unknown origin as `affuse.media.pictures.decode_picture` does, in a process of its own.

    Parameters
    ----------
    host : DecoderHost
        Makes the process.
    """

    def __init__(self, host: DecoderHost) -> None:
        self.host = host
        self._end: Any = None
        self._closed = False

    def __call__(self, payload: bytes) -> np.ndarray:
        """RGB uint8 (h, w, 3) of a picture. Raises MediaError where it is none, and where the process ends over it."""
        if self._closed:
            raise MediaError(_ENDED)
        if self._end is None:
            self._begin()
        try:
            with _Watch(self.host, self._number):
                self._pictures.write(_LENGTH.pack(len(payload)) + payload)
                self._pictures.flush()
                decoded, first, second = _ANSWER.unpack(self._read(_ANSWER.size))
                # Nothing that the process says is taken for granted.
                if not decoded:
                    raise MediaError(self._read(min(first, _LONGEST_SENTENCE)).decode(errors="replace"))
                if not (0 < first <= self.host.max_side and 0 < second <= self.host.max_side):
                    raise MediaError(_ENDED)
                rows = np.frombuffer(self._read(3 * first * second), dtype=np.uint8)
        except (BrokenPipeError, ValueError) as error:  # it has ended, or was ended and closed
            raise MediaError(_ENDED) from error
        return rows.reshape(first, second, 3)

    def close(self) -> None:
        """End the process; what comes later is refused."""
        self._closed = True
        if self._end is not None:
            self._end()

    def _begin(self) -> None:
        theirs, ours = os.pipe()
        answers, told = os.pipe()
        self._pictures, self._answers = os.fdopen(ours, "wb"), os.fdopen(answers, "rb")
        try:
            for pipe in (ours, answers):
                _widen(pipe)
            self._number = self.host.fork(theirs, told)
        except MediaError:
            _close(self._pictures, self._answers)
            raise
        finally:
            os.close(theirs)
            os.close(told)
        # Called at the latest when the stream is forgotten
        self._end = finalize(self, _finish, self.host, self._number, self._pictures, self._answers)

    def _read(self, n: int) -> bytes:
        read = self._answers.read(n)
        if len(read) < n:
            raise MediaError(_ENDED)
        return read


class _Watch:
    """Ends a decoder that takes longer than it may; whoever reads from it then reads no more."""

    def __init__(self, host: DecoderHost, number: int) -> None:
        self._timer = threading.Timer(_PATIENCE, host.end, [number])
        self._timer.daemon = True

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()


def _finish(host: DecoderHost, number: int, *pipes: IO[bytes]) -> None:
    host.end(number)
    _close(*pipes)


def _close(*pipes: IO[bytes]) -> None:
    for pipe in pipes:
        with suppress(BrokenPipeError):
            pipe.close()


def _widen(pipe: int) -> None:
    """Let a pipe hold a whole picture, so that both sides do not wait for each other twenty times."""
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with suppress(OSError):  # the user's pipes hold as much as they may already
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE)


# --- the processes ----------------------------------------------------------------------------------------------------


def main() -> None:
    """Fork decoders until the control ends; arguments: a `Confinement` in JSON, both limits, and the control."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C in a terminal is for the server alone
    control = socket.socket(fileno=int(sys.argv[4]))
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    shut_in(json.loads(sys.argv[1]))
    children: set[int] = set()
    while True:
        order, given, _, _ = socket.recv_fds(control, _ORDER.size, 2)
        if len(order) < _ORDER.size:
            break
        kind, number = _ORDER.unpack(order)
        if kind == b"f":
            number = os.fork()
            if number == 0:
                control.close()
                _serve(given[0], given[1], int(sys.argv[2]), int(sys.argv[3]))
            children.add(number)
            for descriptor in given:
                os.close(descriptor)
        elif number in children:  # not waited for until now, so the number is still its own
            _reap(number)
            children.discard(number)
        control.sendall(_ORDER.pack(kind, number))
    for number in children:
        _reap(number)


def _reap(number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(number, signal.SIGKILL)
    os.waitpid(number, 0)


def shut_in(values: Mapping[str, Any]) -> None:
    """Read what is needed within a `Confinement`, and give up files, network and memory for good."""
    Confinement(tuple(values["write"]), tuple(values["read"]), tuple(values["devices"])).enter()
    _load()
    limit_memory(_MEMORY, _MEMORY)
    Confinement(devices=()).enter()  # from here on no file at all


def _load() -> None:
    """Decode one picture of every kind, so that all that this needs is read from the disk."""
    from PIL import Image

    from affuse.media.pictures import decode_picture

    for kind in ("JPEG", "PNG", "WEBP"):
        whole = BytesIO()
        try:
            Image.new("RGB", (8, 8)).save(whole, kind)
        except (KeyError, OSError):  # WebP is an optional part of Pillow
            continue
        decode_picture(whole.getvalue(), 4, 64)
    with suppress(MediaError):
        decode_picture(b"none", 4, 64)


def _serve(inward: int, outward: int, max_side: int, max_pixels: int) -> None:
    """Decode pictures until no more come, and end; once more confined, so as not to signal the others."""
    from affuse.media.pictures import decode_picture

    try:
        Confinement(devices=()).enter()
        pictures, answers = os.fdopen(inward, "rb"), os.fdopen(outward, "wb")
        while len(head := pictures.read(_LENGTH.size)) == _LENGTH.size:
            (length,) = _LENGTH.unpack(head)
            try:
                picture = decode_picture(pictures.read(length), max_side, max_pixels)
            except MediaError as error:
                sentence = str(error).encode()[:_LONGEST_SENTENCE]
                answers.write(_ANSWER.pack(False, len(sentence), 0) + sentence)
            else:
                answers.write(_ANSWER.pack(True, *picture.shape[:2]))
                answers.write(np.ascontiguousarray(picture).data)
            answers.flush()
    finally:
        os._exit(0)  # whatever happened: nothing of what follows a fork is for it


if __name__ == "__main__":
    main()
