"""The one door to containers: only formats and decoders that people record in, and nothing that outgrows its file."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import av
from av.container import InputContainer

from affuse.budget import Budget, budget_in_use
from affuse.errors import MediaError

__all__ = ["AUDIO_DECODERS", "CONTAINERS", "SAMPLE_RATES", "VIDEO_DECODERS", "is_taken", "open_container"]

CONTAINERS = (
    *("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi", "mpeg", "mpegts", "mpegvideo", "m4v", "flv", "asf", "rm"),
    *("ogg", "wav", "w64", "aiff", "au", "caf", "flac", "mp3", "aac", "loas", "ac3", "eac3", "dts", "amr", "wv"),
    *("gif", "apng", "h263", "h264", "hevc", "ivf", "dv", "mxf", "nistsphere"),
)
"""Formats as FFmpeg names them. It has 300 more: of games, raw data, lists that open other files, and generators that
make hours of sound out of a line of text."""

VIDEO_DECODERS = frozenset(
    (
        *("h264", "hevc", "vvc", "av1", "libdav1d", "vp3", "vp6", "vp6a", "vp6f", "vp8", "vp9", "libvpx", "libvpx-vp9"),
        *("mpeg1video", "mpeg2video", "mpegvideo", "mpeg4", "msmpeg4v1", "msmpeg4v2", "msmpeg4", "theora"),
        *("wmv1", "wmv2", "wmv3", "vc1", "flv", "h261", "h263", "h263i", "h263p", "rv10", "rv20", "rv30", "rv40"),
        *("mjpeg", "prores", "dnxhd", "dvvideo", "cfhd", "ffv1", "huffyuv", "ffvhuff", "utvideo", "rawvideo"),
        *("svq1", "svq3", "cinepak", "indeo3", "indeo4", "indeo5", "msvideo1", "msrle", "qtrle", "png", "apng", "gif"),
    )
)
"""Decoders of moving pictures, as FFmpeg names them."""

AUDIO_DECODERS = frozenset(
    (
        *("aac", "aac_latm", "ac3", "eac3", "dca", "mp1", "mp1float", "mp2", "mp2float", "mp3", "mp3float", "opus"),
        *("libopus", "vorbis", "speex", "flac", "alac", "wavpack", "shorten", "amrnb", "amrwb", "libopencore_amrnb"),
        *("libopencore_amrwb", "wmav1", "wmav2", "wmapro", "wmavoice", "wmalossless", "nellymoser", "cook", "sipr"),
        *("real_144", "real_288", "truehd", "dvaudio", "qdm2", "qdmc", "mace3", "mace6", "g722", "g726", "gsm"),
        *("gsm_ms", "adpcm_ms", "adpcm_swf", "adpcm_yamaha", "adpcm_ima_wav", "adpcm_ima_qt"),
        *("pcm_alaw", "pcm_mulaw", "pcm_bluray", "pcm_dvd", "pcm_s8", "pcm_u8", "pcm_s16le", "pcm_s16be"),
        *("pcm_s24le", "pcm_s24be", "pcm_s32le", "pcm_s32be", "pcm_f32le", "pcm_f32be", "pcm_f64le", "pcm_f64be"),
        *("pcm_s16be_planar", "pcm_s16le_planar", "pcm_u16le", "pcm_u16be", "pcm_s64le", "pcm_s64be"),
    )
)
"""Decoders of sound, as FFmpeg names them."""

SAMPLE_RATES = (1_000, 1_000_000)
"""Samples per second that sound may have; others would grow without bound when they are brought to 16 kHz."""

_MARGIN = 100_000  # pixels
_TAKEN = ",".join(CONTAINERS)
_DECODERS = ",".join(sorted(VIDEO_DECODERS | AUDIO_DECODERS))


def open_container(path: Path, budget: Budget | None = None) -> InputContainer:
    """Open a file for reading, with decoders that refuse frames well above ``budget.max_pixels``.

    Decoding starts later, so that the caller can check what the header states. Streams whose decoder is not taken are
    among those of the container; `is_taken` tells them.

    Raises MediaError where it is no recording in one of `CONTAINERS`, or states more than the budget allows.
    """
    budget = budget_in_use() if budget is None else budget
    _check_boxes(path, budget)
    # Also for the frames that FFmpeg decodes while it opens. It counts whole blocks, hence the margin.
    pixels = {"max_pixels": str(round(1.05 * budget.max_pixels) + _MARGIN)}
    options = {"protocol_whitelist": "file", "format_whitelist": _TAKEN, "codec_whitelist": _DECODERS}
    try:
        # The explicit protocol keeps a file called "concat:…" from being read as a command.
        container = av.open(f"file:{path}", "r", options=pixels, container_options=options, metadata_errors="replace")
    except av.error.ArgumentError as error:
        raise MediaError(
            f"{path} is no recording in a format that is read here, but a text, a list of files or something else; "
            "MP4, MOV, MKV, WebM, AVI, MPEG, WAV, FLAC, MP3, OGG and the like are"
        ) from error
    except av.error.FFmpegError as error:
        raise MediaError(
            f"{path} is damaged, cut off or not a recording at all: FFmpeg cannot read it ({error.strerror})"
        ) from error
    for stream in container.streams.video:
        if stream.codec_context is not None:
            stream.codec_context.options = pixels
    return container


def is_taken(stream: Any) -> bool:
    """Whether a stream of video or sound has a decoder, and one that is taken."""
    known = VIDEO_DECODERS if stream.type == "video" else AUDIO_DECODERS
    return stream.codec_context is not None and stream.codec_context.name in known


# MP4 keeps an index in boxes. A few bytes of it can state more entries than memory holds, all of which FFmpeg makes
# when it opens the file. These boxes hold others:
_PARENTS = frozenset((b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"moof", b"traf", b"udta", b"gmhd"))
_FIRST = frozenset((b"ftyp", b"moov", b"mdat", b"moof", b"free", b"skip", b"wide", b"pnot", b"styp", b"sidx", b"uuid"))
_MOST_BOXES = 1_000_000
_DEEPEST = 16

# Boxes that state a number of samples, and where in their contents it stands.
_COUNTS = {b"stsz": 8, b"stz2": 8, b"trun": 4}


def _check_boxes(path: Path, budget: Budget) -> None:
    """Raise MediaError where the index of an MP4 or MOV file states more packets than the budget has."""
    try:
        with path.open("rb") as file:
            if file.read(8)[4:] in _FIRST:
                _check_index(path, file, budget)
    except OSError:
        return  # who opens it next says why


def _check_index(path: Path, file: BinaryIO, budget: Budget) -> None:
    before = samples = edits = 0  # samples of other tracks; samples and edits of this one
    for number, (kind, start) in enumerate(_boxes(file, 0, file.seek(0, 2), 0)):
        if kind == b"cmov" or number > _MOST_BOXES:
            raise MediaError(f"{path} packs its index in a way that is not read; convert it with FFmpeg")
        if kind in (b"trak", b"traf"):
            before, samples, edits = before + samples * max(1, edits), 0, 0
        elif kind in _COUNTS:
            samples += _number(file, start + _COUNTS[kind])
        elif kind == b"elst":
            edits += _number(file, start + 4)
        total = before + samples * max(1, edits)  # each edit may take all samples of its track
        if why := budget.excess("max_packets", total):
            raise MediaError(f"{path} has an index of up to {total:,} packets; {why}")


def _number(file: BinaryIO, place: int) -> int:
    file.seek(place)
    return int.from_bytes(file.read(4), "big")


def _boxes(file: BinaryIO, start: int, end: int, depth: int) -> Iterator[tuple[bytes, int]]:
    """Kind and beginning of the contents of every box between two places, parents first."""
    while start + 8 <= end:
        file.seek(start)
        size, kind = struct.unpack(">I4s", file.read(8))
        head = 8
        if size == 1:
            size, head = int.from_bytes(file.read(8), "big"), 16
        stop = end if size == 0 else min(end, start + size)
        if stop < start + head:
            return
        yield kind, start + head
        if kind in _PARENTS and depth < _DEEPEST:
            yield from _boxes(file, start + head, stop, depth + 1)
        start = stop
