"""The recording inside the page: as it is where a browser can play it, else as a small copy, else as stills."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from affuse.errors import MediaError
from affuse.report.highlights import highlights
from affuse.results import Analysis, Source

if TYPE_CHECKING:
    import av
    from PIL import Image

    from affuse.report.proxy import Proxy

__all__ = ["EMBED_LIMIT", "PLACE", "Medium", "encoded", "frame_near", "medium_of", "upright"]

EMBED_LIMIT = 25_000_000
"""Bytes above which a recording is linked instead of embedded."""

PLACE = "<recording>"
"""Stands in a page where an embedded recording goes; user text cannot hold it, since its "<" is escaped."""

_CHUNK = 3 << 18  # bytes; a multiple of 3, so that pieces of Base64 join without padding

# Container by suffix, and codecs that current Chromium, Firefox and Safari all decode.
_MIME = {
    ".mp4": "video/mp4",
    ".m4v": "video/mp4",
    ".webm": "video/webm",
    ".mp3": "audio/mpeg",
    ".m4a": "audio/mp4",
    ".wav": "audio/wav",
    ".ogg": "audio/ogg",
    ".oga": "audio/ogg",
    ".flac": "audio/flac",
}
_CODECS = frozenset(
    ("h264", "vp8", "vp9", "av1", "libdav1d", "aac", "mp3", "mp3float", "opus", "vorbis", "flac", "pcm_s16le", "pcm_u8")
)
_STILLS = 12
_STILL_SIDE = 480  # pixels
_THUMBNAIL_SIDE = 240
_PICTURED = 4  # persons whose highlights have thumbnails
_NEAR = 1.0  # seconds
_MOST_DECODED = 90  # pictures, to reach one
_PICTURE_SIDE = 1600


@dataclass(frozen=True)
class Medium:
    """What the page shows: ``kind`` is video, audio, stills, picture or none.

    ``uri`` is a data URI or a link; that of a recording that is to be embedded holds `PLACE` for the contents of the
    file ``embedded``, which are only read while the page is written. ``original`` is a link to the recording and its
    type, for browsers that play it although others do not. ``ratio`` is width over height of the picture. ``stills``
    holds pairs of a time in seconds and a data URI, ``thumbnails`` of the start of a highlight and a data URI. ``note``
    is a key of `messages`, filled in from ``details``; empty where there is nothing to explain.
    """

    kind: str
    uri: str = ""
    ratio: float | None = None
    stills: tuple[tuple[float, str], ...] = ()
    note: str = ""
    details: dict[str, str] = field(default_factory=dict)
    embedded: Path | None = None
    original: tuple[str, str] | None = None
    thumbnails: tuple[tuple[float, str], ...] = ()

    @property
    def linked(self) -> bool:
        """Whether the page reaches for a file beside itself."""
        return self.original is not None or (bool(self.uri) and not self.uri.startswith("data:"))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the page's script, without the recording itself, which stands in an element of its own."""
        values = asdict(self)
        del values["uri"], values["embedded"], values["original"]
        return values


def medium_of(analysis: Analysis, folder: Path, scratch: Path) -> Medium:
    """What a page in ``folder`` shows of the recording; one that cannot be read again is no error, but a note.

    ``scratch`` is an empty folder for a copy that browsers can play; it is needed until the page is written.
    """
    source = analysis.source
    if source.kind == "text" or source.path is None:
        return Medium("none", note="" if source.kind == "text" else "media.none")
    from av.error import FFmpegError

    try:
        if source.kind == "picture":
            return _picture(source.path)
        medium = _stream(source, source.path, folder, scratch)
        return replace(medium, thumbnails=_thumbnails(analysis, source.path)) if medium.ratio else medium
    except (MediaError, FFmpegError, OSError, ValueError):
        return Medium("none", note="media.missing")


def _picture(path: Path) -> Medium:
    from PIL import Image

    from affuse.media.pictures import read_picture

    # Made anew: upright, small, in a format of browsers, and without the place and time that cameras add.
    image = Image.fromarray(read_picture(path, _PICTURE_SIDE))
    return Medium("picture", _jpeg(image, _PICTURE_SIDE), image.width / image.height)


def _stream(source: Source, path: Path, folder: Path, scratch: Path) -> Medium:
    from affuse.media.containers import open_container  # brings PyAV

    with open_container(path) as container:
        playable = path.suffix.lower() in _MIME and _codecs(container) <= _CODECS
        ratio = _ratio(container)
        copied = None if playable else _copy(source, container, bool(ratio), scratch / "proxy.mp4")
        if copied is not None:
            kind, key = ("video", "media.proxy") if ratio else ("audio", "media.proxy_sound")
            uri = f"data:{kind}/mp4;base64,{PLACE}"
            details = {"format": path.suffix.lstrip(".")}
            note = key if copied.smooth else "media.proxy_slow"
            return Medium(
                kind,
                uri,
                ratio,
                note=note,
                details=details,
                embedded=copied.path,
                original=_original(path, container, folder),
            )
        if not playable:
            stills = _stills(container, source.duration) if ratio else ()
            key = "media.unplayable" if stills else "media.mute_unplayable"
            return Medium("stills" if stills else "none", "", ratio, stills, key, {"format": path.suffix.lstrip(".")})
    kind = "video" if ratio else "audio"
    if path.stat().st_size > EMBED_LIMIT:
        return Medium(kind, _link(path, folder), ratio, note="media.linked", details={"name": path.name})
    return Medium(kind, f"data:{_mime(path, kind)};base64,{PLACE}", ratio, embedded=path)


def _copy(source: Source, container: av.container.InputContainer, moves: bool, path: Path) -> Proxy | None:
    """A copy that browsers can play; None where it would be too large or cannot be made."""
    from av.error import FFmpegError

    from affuse.media.containers import is_taken
    from affuse.report.proxy import write_proxy  # brings PyAV

    sound = next((stream for stream in container.streams.audio if is_taken(stream)), None)
    video = _moving(container)[0] if moves else None
    original = source.path
    if original is None or (sound is None and video is None):
        return None
    try:
        pictures, heard = (None if stream is None else stream.index for stream in (video, sound))
        return write_proxy(original, path, pictures, heard, source.duration, EMBED_LIMIT)
    except (FFmpegError, OSError, ValueError):
        return None


def _original(path: Path, container: av.container.InputContainer, folder: Path) -> tuple[str, str] | None:
    """Link and type of HEVC in MP4, which Safari plays, and others where the machine does."""
    moving = _moving(container)
    if path.suffix.lower() not in (".mp4", ".mov", ".m4v") or not moving or moving[0].codec_context.name != "hevc":
        return None
    profile = "2.4" if "10" in (moving[0].codec_context.pix_fmt or "") else "1.6"
    return _link(path, folder), f'video/mp4; codecs="hvc1.{profile}.L123.B0"'


def encoded(path: Path) -> Iterator[str]:
    """The contents of a file in Base64, piece by piece."""
    with path.open("rb") as file:
        while piece := file.read(_CHUNK):
            yield base64.b64encode(piece).decode("ascii")


def _codecs(container: av.container.InputContainer) -> set[str]:
    return {s.codec_context.name for s in (*_moving(container), *container.streams.audio) if s.codec_context}


def _moving(container: av.container.InputContainer) -> list[av.VideoStream]:
    """Streams of moving pictures: the cover of an album is a video stream as well, but none of these."""
    from av.stream import Disposition

    from affuse.media.containers import is_taken

    return [s for s in container.streams.video if not s.disposition & Disposition.attached_pic and is_taken(s)]


def _ratio(container: av.container.InputContainer) -> float | None:
    """Width over height as displayed: with the shape of its pixels, upright. None without a moving picture."""
    frame = next(_frames(container), None)
    if frame is None:
        return None
    container.seek(0)
    wide: float = frame.width * float(_moving(container)[0].sample_aspect_ratio or 1)
    return frame.height / wide if frame.rotation % 180 else wide / frame.height


def _frames(container: av.container.InputContainer) -> Iterator[av.VideoFrame]:
    from affuse.media.decoding import good_frames

    moving = _moving(container)
    return good_frames(container, moving[0]) if moving else iter(())


def _stills(container: av.container.InputContainer, duration: float) -> tuple[tuple[float, str], ...]:
    """Up to twelve frames from equal steps of the recording, read at the key frames nearest to them."""
    origin = (container.start_time or 0) / 1_000_000
    found: dict[float, str] = {}
    for step in range(_STILLS):
        container.seek(int((origin + duration * step / _STILLS) * 1_000_000))
        frame = next(_frames(container), None)
        if frame is None or frame.time is None:
            continue
        found.setdefault(round(max(0.0, frame.time - origin), 3), _jpeg(upright(frame), _STILL_SIDE))
    return tuple(sorted(found.items()))


def _thumbnails(analysis: Analysis, path: Path) -> tuple[tuple[float, str], ...]:
    """Small pictures of the highlights of the first persons, by their start; not those that take long to get."""
    from affuse.media.containers import open_container

    persons = [summary.person for summary in analysis.summaries[:_PICTURED]]
    moments = {m.start: (m.start + m.end) / 2 for person in persons for m in highlights(analysis, person)}
    found = {}
    with open_container(path) as container:
        for start, middle in sorted(moments.items()):
            frame = frame_near(container, middle)
            if frame is not None:
                found[start] = _jpeg(upright(frame), _THUMBNAIL_SIDE)
    return tuple(found.items())


def frame_near(container: av.container.InputContainer, time: float, near: float = _NEAR) -> av.VideoFrame | None:
    """A picture at most ``near`` seconds before a time, or after; few are decoded for it."""
    origin = (container.start_time or 0) / 1_000_000
    container.seek(int((origin + time) * 1_000_000))
    found = None
    for frame in islice(_frames(container), _MOST_DECODED):
        found = None if frame.time is None else frame
        if found is not None and found.time - origin >= time - near:
            break
    return found if found is not None and abs(found.time - origin - time) <= 2 * _NEAR else None


def upright(frame: av.VideoFrame) -> Image.Image:
    """The picture of a frame, turned as the recording says."""
    from PIL import Image

    image = Image.fromarray(frame.to_ndarray(format="rgb24"))
    return image.rotate(frame.rotation, expand=True) if frame.rotation else image


def _jpeg(image: Image.Image, side: int) -> str:
    small = image.copy()
    small.thumbnail((side, side))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=82)
    return _data_uri("image/jpeg", buffer.getvalue())


def _mime(path: Path, kind: str) -> str:
    return _MIME[path.suffix.lower()].replace("video/", "audio/" if kind == "audio" else "video/")


def _data_uri(mime: str, data: bytes) -> str:
    return f"data:{mime};base64,{base64.b64encode(data).decode('ascii')}"


def _link(path: Path, folder: Path) -> str:
    try:
        return quote(Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix())
    except ValueError:  # on another drive of Windows
        return path.resolve().as_uri()
