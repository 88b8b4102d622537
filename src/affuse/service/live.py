"""``WS /v1/live``: pictures, sound and words go in as they come, and every step an answer comes out.

The client begins with ``{"type": "start", "language": null, "step": 0.5, "window": 3}`` (language "en" or "zh" where it
shall not be recognised; seconds), and then sends in any order, any of them missing,

* binary messages: one byte, 1 for a picture (JPEG, PNG or WebP) or 2 for sound (16-bit little-endian samples, mono, 16
  kHz); the time of the picture or the first sample as a little-endian float64, seconds on the client's clock; the rest;
* ``{"type": "text", "text": "…", "time": 4.2, "duration": 1.7}``: words that ended at ``time`` and took ``duration``
  (1 s where it is left out);
* ``{"type": "stop"}``.

The server says ``{"type": "loading"}`` where networks must be loaded first, ``{"type": "ready", …}`` with the labels,
their colours and the modalities, then
``{"type": "step", "time": …, "evidence": …, "fused": …, "label": …, "delay_ms": …, "dropped": …}`` at most once a step
and only where something came since; the rest of a step is as in the windows of an analysis, ``evidence.face.box`` is
where the face is, and ``dropped`` counts the pictures that were given up for newer ones since the stream began.
``purpose`` and ``exemption`` are what the service is declared to be for, null where nothing is. What does not fit ends
the stream with ``{"type": "error", "detail": …}``.

From 12 pictures a second on a step tells who speaks: ``speaking``, null where nothing tells, is how probable it is that
what is heard in the window is of ``person``, whom the step is about. ``speakers`` is null likewise, or a list of
``{"name": "person 1", "probability": 0.97, "box": {…}}``: everybody who was seen in the last seconds, and "off screen",
with the probability that they speak at the newest moment that is known; ``box`` is null for who is not in the last
picture. ``note`` says once, where it is so, that too few pictures come; else it is null.

Nothing waits in a long queue: two pictures at the most wait, and newer ones take their place; sound and words are kept
for the window alone, or some seconds more to tell who speaks; a step that is not sent yet holds up the next one, and no
client has more than one piece of work under way.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import numpy as np
from fastapi import APIRouter, WebSocket, WebSocketDisconnect
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError

from affuse.errors import AffuseError, AssetError, MediaError
from affuse.experts.transcribe import Transcriber
from affuse.labels import LabelSpace
from affuse.media import Words
from affuse.purpose import Purpose
from affuse.report.palette import palette
from affuse.service.metrics import Metrics
from affuse.service.pictures import DecoderHost, PictureDecoder
from affuse.service.security import SUBPROTOCOL
from affuse.service.settings import Settings
from affuse.service.uploads import first_problem
from affuse.service.worker import without_network

if TYPE_CHECKING:
    from affuse.service.stream import Answer, LiveExperts, Moment, Stream
    from affuse.timeline import Segment

__all__ = ["make_router"]

_LOG = logging.getLogger("affuse.service")

_PICTURE, _SOUND = 1, 2
_HEADER = struct.Struct("<Bd")
_LARGEST = {_PICTURE: 2_000_000, _SOUND: 320_000}  # bytes: the sound is of ten seconds
_LARGEST_TEXT = 8_000  # characters of JSON

_MESSAGES_A_SECOND = 100
_BURST = 300  # messages that may come at once, such as after a stall of the network
_PATIENCE = 10.0  # seconds to wait for the start, and for an error to be read
_IDLE = 60.0  # seconds without a message
_LISTEN = 0.25  # seconds between looks whether there is sound to recognise words in
_GATHER = 0.1  # seconds that a step which is due waits for newer samples, which usually follow

_UNSUPPORTED, _POLICY, _TOO_BIG, _DEFECT, _LATER = 1003, 1008, 1009, 1011, 1013  # RFC 6455, section 7.4.1

_T = TypeVar("_T")


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Start(_Message):
    """What a stream begins with."""

    type: Literal["start"]
    language: Annotated[str, StringConstraints(max_length=8)] | None = None
    step: float = Field(0.5, ge=0.1, le=2.0)
    window: float = Field(3.0, ge=1.0, le=10.0)


class Text(_Message):
    """Words that ended at ``time`` and took ``duration``, in seconds."""

    type: Literal["text"]
    text: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]
    time: float
    duration: float = Field(1.0, gt=0.0, le=30.0)


class Stop(_Message):
    """The end."""

    type: Literal["stop"]


_MESSAGES: TypeAdapter[Start | Text | Stop] = TypeAdapter(Annotated[Start | Text | Stop, Field(discriminator="type")])


class _RefusalError(Exception):
    """Why a stream ends, as the code of RFC 6455 and one sentence."""

    def __init__(self, code: int, detail: str) -> None:
        super().__init__(detail)
        self.code = code


def make_router(settings: Settings, metrics: Metrics) -> APIRouter:
    """The route of live streams."""
    router = APIRouter()
    live = _Live(settings, metrics)

    @router.websocket("/v1/live")
    async def stream(socket: WebSocket) -> None:
        await live.serve(socket)

    return router


class _Live:
    """What all streams of a process share: the experts, the threads, and how many there may be."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.settings, self.metrics = settings, metrics
        self.experts: LiveExperts | None = None
        self.purpose = Purpose(settings.purpose, settings.exemption).to_dict()
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(os.cpu_count() or 1, "live")
        self._listener = ThreadPoolExecutor(1, "words")
        self._open = 0
        self._making = threading.Lock()
        self._host: DecoderHost | None = None

    async def serve(self, socket: WebSocket) -> None:
        """Serve one stream to its end, whatever its client does."""
        await socket.accept(SUBPROTOCOL if SUBPROTOCOL in socket.scope["subprotocols"] else None)
        try:
            with self._place():
                await _Client(self, socket).run()
            ending = _RefusalError(1000, "")
        except WebSocketDisconnect:
            return
        except _RefusalError as refusal:
            ending = refusal
        except AssetError:
            _LOG.exception("live streams have no experts")
            ending = _RefusalError(_DEFECT, "the experts cannot be loaded; the log of the service tells more")
        except AffuseError as error:
            ending = _RefusalError(_UNSUPPORTED if isinstance(error, MediaError) else _POLICY, str(error))
        except Exception as error:
            _LOG.exception("a live stream failed")
            ending = _RefusalError(_DEFECT, f"an internal error ({type(error).__name__}); the log tells more")
        await _end(socket, ending)

    async def run(self, work: Callable[..., _T], *arguments: Any) -> _T:
        """Do work that takes time in one of as many threads as there are cores."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work, *arguments)

    def load(self) -> LiveExperts:
        """The experts, loaded by the first stream. Raises AssetError where weights are missing."""
        from affuse.service.stream import LiveExperts  # brings the libraries for pictures, which only this needs

        with self._lock:
            settings = self.settings
            self.experts = self.experts or LiveExperts(
                settings.package, self._transcriber(), settings.fuser, settings.prior, self._decoder, settings.weights
            )
            return self.experts

    def _decoder(self, max_side: int, max_pixels: int) -> PictureDecoder:
        """What decodes the pictures of one stream, which may hold what takes over a decoder: a confined process."""
        with self._making:
            if self._host is None:
                self._host = DecoderHost(max_side, max_pixels, self.settings.folder, without_network())
                self._host.start()
            return self._host.decoder()

    def _transcriber(self) -> Transcriber | None:
        return Transcriber(self.settings.asr_model) if self.settings.transcribe else None

    async def recognise(self, transcriber: Transcriber, segment: Segment, samples: np.ndarray) -> list[Words]:
        """Words in a piece of sound, recognised in a thread of their own: it takes longer than a step may."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._listener, lambda: list(transcriber.hear(samples, segment)))

    @contextmanager
    def _place(self) -> Iterator[None]:
        if self._open >= self.settings.max_live:
            raise _RefusalError(
                _LATER, f"{self.settings.max_live} live streams are the most at a time; try again later"
            )
        self._open += 1
        self.metrics.live.inc()
        try:
            yield
        finally:
            self._open -= 1
            self.metrics.live.dec()


class _Client:
    """One stream: a task takes in what comes, another answers about it."""

    def __init__(self, live: _Live, socket: WebSocket) -> None:
        self.live, self.socket = live, socket
        self._news = asyncio.Event()
        self._rate = _Rate(_MESSAGES_A_SECOND, _BURST)
        self._dropped = 0

    async def run(self) -> None:
        """Serve until the client stops. Raises _RefusalError, WebSocketDisconnect or an AffuseError."""
        start = await self._started()
        if self.live.experts is None:
            await self._send({"type": "loading"})
        experts = await self.live.run(self.live.load)
        stream = experts.stream(start.window, start.language)
        try:
            await self._follow(stream, start)
        finally:
            await asyncio.to_thread(stream.close)  # not behind work that other streams wait for

    async def _follow(self, stream: Stream, start: Start) -> None:
        """Take in and answer until one of both ends."""
        labels = stream.labels.labels
        about = {"labels": labels, "modalities": ("face", "voice", "text"), "palette": palette(labels).to_dict()}
        await self._send({"type": "ready", **about, "step": start.step, "window": start.window})
        tasks = {asyncio.create_task(self._receive(stream)), asyncio.create_task(self._answer(stream, start.step))}
        if stream.transcriber is not None:
            tasks.add(asyncio.create_task(self._hear(stream, stream.transcriber)))
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    # --- in -----------------------------------------------------------------------------------------------------------

    async def _started(self) -> Start:
        message = await self._next(_PATIENCE)
        first = _parsed(message) if isinstance(message, str) else None
        if not isinstance(first, Start):
            raise _RefusalError(_POLICY, 'the first message must be {"type": "start"}')
        return first

    async def _receive(self, stream: Stream) -> None:
        while True:
            message = await self._next(_IDLE)
            arrived = time.perf_counter()
            if not self._rate.allows(arrived):
                raise _RefusalError(_POLICY, f"more than {_MESSAGES_A_SECOND} messages a second")
            if isinstance(message, bytes):
                _take_in(stream, message, arrived)
            else:
                parsed = _parsed(message)
                if isinstance(parsed, Stop):
                    return
                if isinstance(parsed, Start):
                    raise _RefusalError(_POLICY, "the stream has started already")
                stream.add_words(parsed.text, parsed.time, parsed.duration, arrived)
            self._news.set()

    async def _hear(self, stream: Stream, transcriber: Transcriber) -> None:
        """Put the words that are heard among those that a client may send itself, a piece of sound after the other."""
        while True:
            await asyncio.sleep(_LISTEN)
            piece = stream.unheard()
            if piece is None:
                continue
            for words in await self.live.recognise(transcriber, *piece):
                span = words.segment
                stream.add_words(words.text, span.end, span.duration, time.perf_counter())
                self._news.set()

    async def _next(self, patience: float) -> str | bytes:
        try:
            async with asyncio.timeout(patience):
                message = await self.socket.receive()
        except TimeoutError:
            raise _RefusalError(_POLICY, f"nothing came for {patience:g} s") from None
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1006))
        text: str | None = message.get("text")
        return bytes(message["bytes"]) if text is None else text

    # --- out ----------------------------------------------------------------------------------------------------------

    async def _answer(self, stream: Stream, step: float) -> None:
        due = time.perf_counter()
        while True:
            await self._wait(stream, due)
            now = time.perf_counter()
            if now < due:
                pictures = stream.next_pictures()
                if pictures:
                    await self.live.run(stream.look, pictures)
                continue
            due = max(due, now - step) + step
            moment = stream.moment()
            answer = await self.live.run(stream.answer, moment)
            await self._tell(moment, answer, stream.labels)
            await self.live.run(stream.listen, moment)

    async def _wait(self, stream: Stream, due: float) -> None:
        """Until something comes; or until the step is due, and a little longer, where something has come before."""
        left = max(0.0, due + _GATHER - time.perf_counter()) if stream.is_fresh else None
        with suppress(TimeoutError):
            async with asyncio.timeout(left):
                await self._news.wait()
        self._news.clear()

    async def _tell(self, moment: Moment, answer: Answer, labels: LabelSpace) -> None:
        verdict = answer.verdict.to_dict(labels)
        verdict["evidence"]["face"]["box"] = _box(answer.box)
        delay = time.perf_counter() - moment.arrived
        self.live.metrics.live_delay.observe(delay)
        self.live.metrics.live_dropped.inc(moment.dropped - self._dropped)
        self._dropped = moment.dropped
        who = {"speakers": _speakers(answer), "note": answer.note}
        figures = {"delay_ms": round(1000 * delay, 1), "dropped": moment.dropped}
        await self._send({"type": "step", "time": verdict["end"]} | verdict | who | figures | self.live.purpose)

    async def _send(self, message: dict[str, Any]) -> None:
        try:
            await self.socket.send_text(json.dumps(message, ensure_ascii=False, allow_nan=False))
        except RuntimeError:  # closed already, such as for a frame that is none
            raise WebSocketDisconnect(1006) from None


class _Rate:
    """A bucket of messages that a client may send: it holds ``burst`` and is filled by ``a_second`` each second."""

    def __init__(self, a_second: float, burst: float) -> None:
        self.a_second, self.burst = a_second, burst
        self._left = burst
        self._last = time.perf_counter()

    def allows(self, now: float) -> bool:
        """Whether one more may come at ``now`` seconds."""
        self._left = min(self.burst, self._left + (now - self._last) * self.a_second) - 1
        self._last = now
        return self._left >= 0


def _speakers(answer: Answer) -> list[dict[str, Any]] | None:
    if answer.speakers is None:
        return None
    return [{"name": s.name, "probability": round(s.probability, 6), "box": _box(s.box)} for s in answer.speakers]


def _box(box: np.ndarray | None) -> dict[str, float] | None:
    if box is None:
        return None
    return {name: round(float(v), 6) for name, v in zip(("x", "y", "width", "height"), box, strict=True)}


def _parsed(text: str) -> Start | Text | Stop:
    if len(text) > _LARGEST_TEXT:
        raise _RefusalError(_TOO_BIG, f"a text message of {len(text):,} characters; {_LARGEST_TEXT:,} are the most")
    try:
        return _MESSAGES.validate_json(text)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False, include_input=False)
        raise _RefusalError(_POLICY, first_problem(problems)) from None


def _take_in(stream: Stream, message: bytes, arrived: float) -> None:
    if len(message) <= _HEADER.size or message[0] not in _LARGEST:
        raise _RefusalError(
            _UNSUPPORTED, "a binary message is a byte (1 picture, 2 sound), its time as a float64 and the samples"
        )
    kind, moment = _HEADER.unpack_from(message)
    payload = message[_HEADER.size :]
    if len(payload) > _LARGEST[kind]:
        name = "picture" if kind == _PICTURE else "piece of sound"
        raise _RefusalError(_TOO_BIG, f"a {name} of {len(payload):,} bytes; {_LARGEST[kind]:,} are the most")
    if not np.isfinite(moment):
        raise _RefusalError(_POLICY, f"times are seconds since the start of the stream; got {moment}")
    if kind == _PICTURE:
        stream.add_picture(moment, payload, arrived)
    elif len(payload) % 2:
        raise _RefusalError(_UNSUPPORTED, f"sound is in samples of 16 bits; got {len(payload)} bytes")
    else:
        stream.add_sound(moment, np.frombuffer(payload, dtype="<i2").astype(np.float32) / 32768, arrived)


async def _end(socket: WebSocket, ending: _RefusalError) -> None:
    """Say why and close, to whoever is still there and reads."""
    detail = str(ending)
    with suppress(WebSocketDisconnect, RuntimeError, TimeoutError):
        async with asyncio.timeout(_PATIENCE):
            if detail:
                await socket.send_text(json.dumps({"type": "error", "detail": detail}, ensure_ascii=False))
            # A reason has room for 123 bytes.
            await socket.close(ending.code, detail.encode()[:120].decode(errors="ignore"))
