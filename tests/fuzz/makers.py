"""Small files by hand: what their headers state is whatever a test wants them to state."""

from __future__ import annotations

import io
import struct
import wave
import zlib
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

__all__ = ["avi", "mkv", "mp4", "png", "seeds", "srt_time", "transcripts", "wav"]


def png(width: int, height: int, channels: int = 3, depth: int = 8) -> bytes:
    """A black PNG; a row of zeros compresses a thousandfold, so that few bytes make many pixels."""
    row = bytes(1 + width * channels * depth // 8)
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    colour = {1: 0, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def mkv(packets: Sequence[bytes], width: int, height: int, code: bytes = b"MPNG") -> bytes:
    """A Matroska video of one packet every 40 ms, whose header states a size and the codec of a four-letter code."""
    picture = struct.pack("<IiiHH4sIiiII", 40, width, height, 1, 24, code, 0, 0, 0, 0, 0)
    size = _element("E0", _element("B0", width) + _element("BA", height))
    codec = _element("86", b"V_MS/VFW/FOURCC") + _element("63A2", picture)
    track = _element("D7", 1) + _element("73C5", 1) + _element("83", 1) + _element("23E383", 40_000_000) + codec + size
    blocks = b"".join(
        _element("A3", b"\x81" + struct.pack(">hB", 40 * number, 0x80) + packet)
        for number, packet in enumerate(packets)
    )
    length = _element("4489", struct.pack(">d", 40.0 * len(packets)))
    parts = _element("1549A966", _element("2AD7B1", 1_000_000) + length)
    parts += _element("1654AE6B", _element("AE", track)) + _element("1F43B675", _element("E7", 0) + blocks)
    return _element("1A45DFA3", _element("4282", b"matroska")) + _element("18538067", parts)


def _element(code: str, data: bytes | int) -> bytes:
    data = data.to_bytes(8, "big") if isinstance(data, int) else data
    return bytes.fromhex(code) + (len(data) | 1 << 56).to_bytes(8, "big") + data


def mp4(samples: int, edits: int = 0, fragment: int = 0) -> bytes:
    """A QuickTime video whose index states a number of samples, of edits, and of samples in a fragment."""
    matrix = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
    movie = _full(b"mvhd", struct.pack(">4IIH10x", 0, 0, 1000, 1000, 0x10000, 0x100), matrix, bytes(24), _u32(2))
    head = _full(b"tkhd", _u32(0, 0, 1, 0, 1000), bytes(16), matrix, _u32(64 << 16, 64 << 16), flags=7)
    entries = b"".join(struct.pack(">IiHH", 1000, 0, 1, 0) for _ in range(edits))
    edit = _box(b"edts", _full(b"elst", _u32(edits), entries)) if edits else b""
    look = struct.pack(">6xH16xHHIIIH32xHh", 1, 64, 64, 0x480000, 0x480000, 0, 1, 24, -1)
    runs = [_full(b"stts", _u32(1, samples, 1)), _full(b"stsc", _u32(1, 1, samples, 1)), _full(b"stco", _u32(1, 40))]
    if not samples:
        runs = [_full(kind, _u32(0)) for kind in (b"stts", b"stsc", b"stco")]
    table = _box(b"stbl", _full(b"stsd", _u32(1), _box(b"jpeg", look)), *runs, _full(b"stsz", _u32(2, samples)))
    where = _box(b"dinf", _full(b"dref", _u32(1), _full(b"url ", flags=1)))
    inner = _box(b"minf", _full(b"vmhd", bytes(8), flags=1), where, table)
    media = _box(
        b"mdia", _full(b"mdhd", _u32(0, 0, 16_000, samples, 0)), _full(b"hdlr", _u32(0), b"vide", bytes(13)), inner
    )
    extends = _box(b"mvex", _full(b"trex", _u32(1, 1, 1, 2, 0))) if fragment else b""
    whole = _box(b"ftyp", b"isom", _u32(0x200), b"isom") + _box(b"mdat", bytes(64))
    whole += _box(b"moov", movie, _box(b"trak", head, edit, media), extends)
    if fragment:
        run = _box(b"traf", _full(b"tfhd", _u32(1), flags=0x20000), _full(b"trun", _u32(fragment)))
        whole += _box(b"moof", _full(b"mfhd", _u32(1)), run)
    return whole


def _box(kind: bytes, *parts: bytes) -> bytes:
    data = b"".join(parts)
    return struct.pack(">I4s", 8 + len(data), kind) + data


def _full(kind: bytes, *parts: bytes, flags: int = 0) -> bytes:
    return _box(kind, _u32(flags), *parts)


def _u32(*numbers: int) -> bytes:
    return struct.pack(f">{len(numbers)}I", *numbers)


def wav(samples: bytes, rate: int = 16_000) -> bytes:
    """A WAV of 8 bits and one channel."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(1)
        out.setframerate(rate)
        out.writeframes(samples)
    return file.getvalue()


def avi(path: Path, scale: int) -> Path:
    """Sixteen frames whose header states that each lasts ``scale`` / 25 seconds."""
    _film(path, "mpeg4", "", frames=16)
    data = bytearray(path.read_bytes())
    at = data.index(b"strh") + 8 + 20  # the stream's scale and rate
    data[at : at + 8] = struct.pack("<II", scale, 25)
    path.write_bytes(data)
    return path


def _film(path: Path, video: str, sound: str, frames: int = 8) -> Path:
    with av.open(str(path), "w") as out:
        seen = out.add_stream(video, rate=25) if video else None
        heard = out.add_stream(sound, rate=48_000 if sound == "libopus" else 16_000, layout="mono") if sound else None
        if seen is not None:
            seen.width, seen.height = 64, 48
            seen.pix_fmt = {"gif": "rgb8", "apng": "rgb24", "mjpeg": "yuvj420p"}.get(video, "yuv420p")
            for number in range(frames):
                frame = av.VideoFrame.from_ndarray(_bars(number), format="rgb24").reformat(format=seen.pix_fmt)
                frame.pts, frame.time_base = number, Fraction(1, 25)
                out.mux(seen.encode(frame))
            out.mux(seen.encode())
        if heard is not None:
            for piece in _tone(heard):
                out.mux(heard.encode(piece))
            out.mux(heard.encode())
    return path


def _bars(number: int) -> np.ndarray:
    image = np.full((48, 64, 3), 20 * number % 256, dtype=np.uint8)
    image[:, :32] = 255 - image[:, :32]
    return image


def _tone(stream: av.AudioStream) -> list[av.AudioFrame]:
    """A third of a second in the form that the encoder of a stream takes."""
    rate = stream.rate
    size = stream.codec_context.frame_size or 1024
    resampler = av.AudioResampler(stream.codec_context.format, "mono", rate, frame_size=size)
    samples = (8000 * np.sin(np.arange(rate // 3) * 0.1)).astype(np.int16)
    frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
    return [*resampler.resample(frame), *(piece for piece in resampler.resample(None) if piece is not None)]


_FILMS = {
    "clip.mp4": ("mpeg4", "aac"),
    "h264.mp4": ("libx264", ""),
    "clip.mkv": ("mpeg4", "flac"),
    "vp8.webm": ("libvpx", "libopus"),
    "clip.avi": ("mpeg4", "mp2"),
    "clip.mov": ("mjpeg", "pcm_s16le"),
    "clip.mpg": ("mpeg1video", "mp2"),
    "clip.ts": ("mpeg2video", "mp2"),
    "clip.flv": ("flv", "aac"),
    "clip.wmv": ("wmv2", ""),
    "clip.gif": ("gif", ""),
    "clip.apng": ("apng", ""),
    "tone.mp3": ("", "libmp3lame"),
    "tone.ogg": ("", "libopus"),
    "tone.flac": ("", "flac"),
    "tone.m4a": ("", "aac"),
    "tone.aiff": ("", "pcm_s16be"),
    "tone.au": ("", "pcm_s16be"),
    "tone.caf": ("", "pcm_s16le"),
    "tone.aac": ("", "aac"),
}
_PICTURES = {
    "photo.jpg": {"progressive": True},
    "photo.png": {},
    "photo.webp": {},
    "photo.bmp": {},
    "photo.tiff": {"compression": "tiff_lzw"},
    "photo.gif": {},
    "photo.ppm": {},
}


def seeds(folder: Path) -> dict[str, bytes]:
    """Whole recordings, pictures and transcripts by their names; what FFmpeg cannot encode here is left out."""
    for name, (video, sound) in _FILMS.items():
        if {video, sound} - {""} <= av.codecs_available:
            _film(folder / name, video, sound)
    noise = np.random.default_rng(0).integers(0, 255, (24, 32, 3)).astype(np.uint8)
    for name, options in _PICTURES.items():
        Image.fromarray(noise).save(folder / name, **options)
    found = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    made = {"tone.wav": wav(bytes(range(256)) * 8), "png.mkv": mkv([png(8, 8)] * 3, 8, 8), "index.mov": mp4(5, 2)}
    return found | made | {name: text.encode() for name, text in transcripts().items()}


def transcripts() -> dict[str, str]:
    """Transcripts of every kind by their names."""
    words = '{"word": " What", "start": 0.0, "end": 0.4, "speaker": "A"}, {"word": " a day.", "start": 0.4, "end": 1e0}'
    srt = "1\n00:00:00,000 --> 00:00:01,500\nAnna: What a day. <i>Yes!</i>\n\n2\n00:00:02,0 --> 00:00:03,5\n- No.\n"
    vtt = "WEBVTT\n\nNOTE x\n\nintro\n00:00.000 --> 00:01.500 align:left\n<v.loud Anna>What a day.</v> <00:01.000>Yes\n"
    txt = "Customer: What a day. Really?\nand on it goes\n\n客服：今天天气很好。谢谢！\n[Bob] (angry): No...\n"
    segments = f'{{"segments": [{{"start": 0, "end": 2.5, "text": "Hello.", "words": [{words}]}}]}}'
    return {
        "talk.srt": srt,
        "talk.vtt": vtt,
        "talk.txt": txt,
        "talk.json": segments,
        "words.json": f"[{words}]",
    }


def srt_time(seconds: int) -> str:
    """A time as SubRip writes it."""
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d},000"
