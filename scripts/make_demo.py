"""Make the demo clip: a smiling portrait that says unhappy words, so that what is seen and what is said disagree.

``python scripts/make_demo.py [--out demo]``

Needs affuse itself, scikit-image (``pip install scikit-image``) for the portrait and the program espeak-ng
(``apt-get install espeak-ng``) for the voice. The same versions give the same bytes; `demo/README.md` names sources and
licences. The camera moves gently, as one held by hand would, and the lower lip with the loudness of the voice, so that
who speaks can be seen.
"""

from __future__ import annotations

import argparse
import math
import shutil
import subprocess
import wave
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from pathlib import Path

import av
import cv2
import numpy as np
from skimage.data import astronaut

SENTENCES = (
    "I lost my job today.",
    "I feel terrible,\nand I don't know how to tell my family.",
    "I am so sad about it.",
)
# A female variant of the American English voice, slower and lower than its default, as somebody dejected speaks.
VOICE = ("-v", "en-us+f3", "-s", "140", "-p", "38")

WIDTH, HEIGHT, FPS = 480, 360, 25
LEAD, PAUSE = 0.5, 0.7  # seconds of silence before the first sentence, and after each
FACE = (228.0, 128.0)  # middle of the face in the portrait, in pixels
VIEW = 340.0  # width in pixels of the part of the portrait that the camera sees at first
MOUTH, MOUTH_WIDTH = (223.0, 143.0), 39.0  # its middle and its width, likewise
OPEN = 0.25  # mouth widths by which the lower lip goes down where the voice is loudest
SOFTEST, LOUDEST = -42.0, -18.0  # dB relative to full scale: mouth closed, mouth open
SPEAKER = "Guest"

_WAVE_HEADER = 44  # bytes before the first sample


@dataclass(frozen=True)
class Spoken:
    """One sentence with its samples, and when it starts in seconds."""

    text: str
    start: float
    samples: np.ndarray


def synthesise(text: str) -> tuple[np.ndarray, int]:
    """Speak ``text``; int16 samples without the silence at both ends, and their rate in Hz."""
    program = shutil.which("espeak-ng")
    if program is None:
        raise SystemExit("espeak-ng is not installed; run: apt-get install espeak-ng")
    # What comes through a pipe has a header that cannot know the length yet, so the samples are read past it by hand.
    sound = subprocess.run([program, *VOICE, "--stdout", text.replace("\n", " ")], check=True, capture_output=True)
    with wave.open(BytesIO(sound.stdout)) as file:
        rate = file.getframerate()
    samples = np.frombuffer(sound.stdout[_WAVE_HEADER:], dtype="<i2")
    loud = np.flatnonzero(np.abs(samples) > 200)
    return samples[loud[0] : loud[-1] + 1], rate


def speak(sentences: tuple[str, ...]) -> tuple[list[Spoken], np.ndarray, int]:
    """Speak all sentences with pauses between; each with its real time, the whole sound (n,) int16 and its rate."""
    spoken: list[Spoken] = []
    parts: list[np.ndarray] = []
    rate, length = 0, 0
    for text in sentences:
        samples, rate = synthesise(text)
        silence = np.zeros(int((PAUSE if parts else LEAD) * rate), np.int16)
        spoken.append(Spoken(text, (length + len(silence)) / rate, samples))
        parts += [silence, samples]
        length += len(silence) + len(samples)
    parts.append(np.zeros(int(PAUSE * rate), np.int16))
    return spoken, np.concatenate(parts), rate


def openings(sound: np.ndarray, rate: int) -> np.ndarray:
    """How far the mouth is open in every frame, 0…1, by the loudness of the sound around it."""
    step = rate // FPS
    middles = np.arange(round(len(sound) / rate * FPS)) * step
    power = [np.mean((sound[max(0, m - step // 2) : m + step // 2] / 32768.0) ** 2) + 1e-9 for m in middles]
    return np.asarray(np.clip((10 * np.log10(power) - SOFTEST) / (LOUDEST - SOFTEST), 0, 1))


def speaking(portrait: np.ndarray) -> Callable[[float], np.ndarray]:
    """A function from how far the mouth is open, 0…1, to the portrait with its lower lip and chin that far down."""
    y, x = np.mgrid[: portrait.shape[0], : portrait.shape[1]].astype(np.float32)
    down = (y - MOUTH[1]) / MOUTH_WIDTH
    across = np.exp(-(((x - MOUTH[0]) / (0.62 * MOUTH_WIDTH)) ** 2))
    moves = OPEN * MOUTH_WIDTH * across * smooth(down / 0.22) * (1 - smooth((down - 0.75) / 0.5))

    def show(opening: float) -> np.ndarray:
        return cv2.remap(portrait, x, y - np.float32(opening) * moves, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)

    return show


def smooth(values: np.ndarray) -> np.ndarray:
    """From 0 to 1 without a corner, where the values go from 0 to 1."""
    inside = np.clip(values, 0, 1)
    return np.asarray(inside**2 * (3 - 2 * inside))


def frames(opened: np.ndarray) -> Iterator[np.ndarray]:
    """Look at the portrait with a camera that draws nearer, sways and tilts a little: RGB frames (360, 480, 3)."""
    show, count = speaking(astronaut()), len(opened)
    for i, opening in enumerate(opened):
        portrait = show(float(opening))
        t = i / FPS
        scale = WIDTH / VIEW * (1.0 + 0.12 * i / count)
        roll = 1.8 * math.sin(2 * math.pi * t / 5.3)  # degrees
        sway = (5.0 * math.sin(2 * math.pi * t / 4.1), 3.0 * math.sin(2 * math.pi * t / 3.1))  # pixels of the portrait
        matrix = cv2.getRotationMatrix2D(FACE, roll, scale)
        matrix[:, 2] += (WIDTH * 0.5 - FACE[0] + sway[0] * scale, HEIGHT * 0.5 - FACE[1] + sway[1] * scale)
        yield cv2.warpAffine(
            portrait, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101
        )


def write_clip(path: Path, sound: np.ndarray, rate: int) -> None:
    """Write H.264 and AAC, ready to play before the last byte has come (``faststart``)."""
    with av.open(path, "w", format="mp4", options={"movflags": "+faststart", "fflags": "+bitexact"}) as container:
        video = container.add_stream("libx264", rate=FPS, options={"crf": "24", "preset": "slow", "threads": "1"})
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        video.codec_context.flags |= av.codec.context.Flags.bitexact
        audio = container.add_stream("aac", rate=rate, layout="mono", options={"b": "64k"})
        audio.codec_context.flags |= av.codec.context.Flags.bitexact
        for image in frames(openings(sound, rate)):
            container.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(video.encode(None))
        for start in range(0, len(sound), 1024):
            block = av.AudioFrame.from_ndarray(sound[None, start : start + 1024], format="s16", layout="mono")
            block.sample_rate, block.pts, block.time_base = rate, start, Fraction(1, rate)
            container.mux(audio.encode(block))
        container.mux(audio.encode(None))


def stamp(seconds: float) -> str:
    """Time as SubRip writes it, ``00:00:01,500``."""
    milliseconds = round(seconds * 1000)
    return f"00:{milliseconds // 60_000:02d}:{milliseconds // 1000 % 60:02d},{milliseconds % 1000:03d}"


def write_transcript(path: Path, spoken: list[Spoken], rate: int) -> None:
    """Write one SubRip cue a sentence, from its first sample to its last."""
    cues = [
        f"{number}\n{stamp(s.start)} --> {stamp(s.start + len(s.samples) / rate)}\n{SPEAKER}: {s.text}\n"
        for number, s in enumerate(spoken, start=1)
    ]
    path.write_text("\n".join(cues), encoding="utf-8")


def main() -> None:
    """Write clip.mp4 and clip.srt."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent.parent / "demo", help="folder (default: demo)"
    )
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    spoken, sound, rate = speak(SENTENCES)
    write_clip(out / "clip.mp4", sound, rate)
    write_transcript(out / "clip.srt", spoken, rate)
    print(f"{out / 'clip.mp4'}: {len(sound) / rate:.2f} s, {(out / 'clip.mp4').stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
