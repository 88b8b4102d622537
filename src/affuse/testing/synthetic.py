"""Fixed sounds, pictures, sentences and a clip that need no data: for parity tests and benchmarks, not for accuracy."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

import numpy as np

from affuse.media import SAMPLE_RATE

__all__ = ["SENTENCES", "drawn_face", "pictures", "speech", "waveforms", "write_clip"]

SENTENCES: Mapping[str, tuple[str, ...]] = {
    "en": (
        "I can't believe you did this for me, thank you so much!",
        "He slammed the door and never said a word.",
        "The meeting starts at nine in the large room.",
        "I am so scared of what they will find tomorrow.",
        "What a boring film, two hours of my life are gone, and nobody will ever give them back to me.",
        "That smell is disgusting.",
        "Wow, I did not expect that at all.",
        "I miss her every single day.",
    ),
    "zh": (
        "今天真的太开心了，谢谢大家！",
        "你怎么能这样对我，我很生气。",
        "会议明天上午九点开始。",
        "我好害怕，不知道该怎么办。",
        "房间很脏，服务态度也很差，下次再也不会来了。",
        "没想到居然是这样的结果！",
        "她走了以后，我每天都很难过。",
    ),
}
"""Sentences of several moods and lengths, by language."""

_FPS = 25
_SIZE = (480, 360)  # width and height in pixels
_FORMANTS = ((600.0, 120.0), (1300.0, 160.0), (2500.0, 250.0))  # centre and width in Hz, of a neutral vowel


def waveforms() -> list[np.ndarray]:
    """Sounds of half a second to four: tones, a chirp, noise, and speech-like ones.

    Returns
    -------
    list of array of shape (n_samples,), float32
        Mono, 16 kHz.

    Examples
    --------
    >>> len(waveforms())
    12
    """
    rng = np.random.default_rng(0)

    def seconds(length: float) -> np.ndarray:
        return np.arange(round(length * SAMPLE_RATE)) / SAMPLE_RATE

    tones = [0.3 * np.sin(2 * np.pi * f * seconds(length)) for f, length in ((110, 0.5), (440, 1.5), (1800, 3.0))]
    chirp = 0.3 * np.sin(2 * np.pi * (100 + 400 * seconds(2.0)) * seconds(2.0))
    noise = [level * rng.standard_normal(round(length * SAMPLE_RATE)) for level, length in ((0.01, 1.0), (0.2, 3.0))]
    spoken = [speech(length, pitch) for length, pitch in ((0.7, 90), (1.5, 240), (3.0, 120), (3.0, 200), (4.0, 160))]
    noisy = speech(3.0, 180) + 0.02 * rng.standard_normal(3 * SAMPLE_RATE)
    return [np.asarray(w, dtype=np.float32) for w in (*tones, chirp, *noise, *spoken, noisy)]


def speech(seconds: float, pitch: float) -> np.ndarray:
    """Something like speech: a voice that rises and falls, in syllables.

    Parameters
    ----------
    seconds : float
        How long it is.
    pitch : float
        Mean fundamental frequency in Hz.

    Returns
    -------
    array of shape (n_samples,), float32
        Mono, 16 kHz: harmonics of a gliding pitch, weighted by the resonances of a neutral vowel.

    References
    ----------
    Fant (1960), Acoustic Theory of Speech Production.

    Examples
    --------
    >>> speech(seconds=0.5, pitch=140).shape
    (8000,)
    """
    t = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    glide = pitch * (1 + 0.15 * np.sin(2 * np.pi * 0.8 * t))
    phase = 2 * np.pi * np.cumsum(glide) / SAMPLE_RATE
    wave = np.zeros_like(t)
    for harmonic in range(1, int(4000 / pitch)):
        weight = sum(1 / (1 + ((harmonic * pitch - centre) / width) ** 2) for centre, width in _FORMANTS)
        wave += (weight + 0.02) * np.sin(harmonic * phase)
    syllables = np.clip(np.sin(2 * np.pi * 2 * t), 0, None) ** 0.5
    return np.asarray(0.3 * wave * syllables / np.abs(wave).max(), dtype=np.float32)


def pictures() -> np.ndarray:
    """Grey pictures, framed as in FER2013: drawn faces of several expressions, patterns, noise.

    Returns
    -------
    array of shape (n, 48, 48), uint8

    Examples
    --------
    >>> pictures().shape
    (20, 48, 48)
    """
    import cv2

    rng = np.random.default_rng(0)
    drawn = [
        _crop(drawn_face(smile=smile, eyes=eyes, light=light))
        for smile in (-1.0, 0.0, 1.0)
        for eyes in (0.6, 1.4)
        for light in (0.5, 1.0)
    ]
    smooth = [
        cv2.resize(rng.integers(0, 256, (6, 6)).astype(np.uint8), (48, 48), interpolation=cv2.INTER_CUBIC)
        for _ in range(6)
    ]
    noise = [rng.integers(0, 256, (48, 48)).astype(np.uint8) for _ in range(2)]
    return np.stack([*drawn, *smooth, *noise])


def drawn_face(smile: float = 0.5, eyes: float = 1.0, light: float = 1.0, shift: int = 0) -> np.ndarray:
    """A drawn face that face detectors find.

    Parameters
    ----------
    smile : float
        -1 (corners of the mouth down) to 1 (up).
    eyes : float
        How far they are open; 1 is usual.
    light : float
        0 (black) to 1.
    shift : int
        To the right, in pixels.

    Returns
    -------
    array of shape (360, 480, 3), uint8
        RGB.

    Examples
    --------
    >>> drawn_face(smile=1.0).shape
    (360, 480, 3)
    """
    import cv2

    width, height = _SIZE
    image = np.full((height, width, 3), (120, 140, 150), dtype=np.uint8)
    x, y = width // 2 + shift, height // 2
    skin, shade, hair, lips = (224, 180, 150), (190, 145, 120), (60, 42, 30), (170, 70, 70)
    cv2.ellipse(image, (x, y - 20), (92, 120), 0, 0, 360, hair, -1)
    cv2.ellipse(image, (x, y), (80, 105), 0, 0, 360, skin, -1)
    for side in (-1, 1):
        eye = (x + side * 32, y - 22)
        cv2.ellipse(image, eye, (24, 14), 0, 0, 360, shade, -1)
        cv2.ellipse(image, eye, (17, max(2, round(8 * eyes))), 0, 0, 360, (245, 245, 245), -1)
        cv2.circle(image, eye, 7, (40, 30, 25), -1)
        cv2.ellipse(image, (eye[0], eye[1] - 18), (24, 8), 0, 180, 360, hair, 6)
    cv2.ellipse(image, (x, y + 32), (14, 6), 0, 0, 180, shade, 4)
    bend = max(2, round(14 * abs(smile)))
    start, lift = (0, 0) if smile >= 0 else (180, bend)
    cv2.ellipse(image, (x, y + 58 + lift), (32, bend), 0, start, start + 180, lips, 6)
    return np.asarray(cv2.GaussianBlur(image, (7, 7), 2) * light, dtype=np.uint8)


def write_clip(path: Path, seconds: float = 6.0) -> Path:
    """Write a clip of a drawn face that moves its mouth to something like speech.

    Parameters
    ----------
    path : Path
        Where to write; H.264 and AAC in MP4.
    seconds : float
        How long it is.

    Returns
    -------
    Path
        The same path.

    Examples
    --------
    >>> from pathlib import Path
    >>> write_clip(Path("clip.mp4"), seconds=1.0).name
    'clip.mp4'
    """
    import av

    frames = round(seconds * _FPS)
    voice = (speech(seconds, 140) * 32767).astype(np.int16)
    with av.open(str(path), "w") as output:
        video = output.add_stream("libx264", rate=_FPS)
        video.width, video.height, video.pix_fmt = *_SIZE, "yuv420p"
        sound = output.add_stream("aac", rate=SAMPLE_RATE)
        for i in range(frames):
            t = i / _FPS
            face = drawn_face(smile=float(np.sin(2 * np.pi * 0.3 * t)), shift=round(20 * np.sin(t)))
            frame = av.VideoFrame.from_ndarray(face, format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, _FPS)
            output.mux(video.encode(frame))
        output.mux(video.encode())
        for start in range(0, len(voice), 1024):
            piece = av.AudioFrame.from_ndarray(voice[None, start : start + 1024], format="s16", layout="mono")
            piece.sample_rate, piece.pts, piece.time_base = SAMPLE_RATE, start, Fraction(1, SAMPLE_RATE)
            output.mux(sound.encode(piece))
        output.mux(sound.encode())
    return path


def _crop(image: np.ndarray) -> np.ndarray:
    import cv2

    width, height = _SIZE
    middle = image[:, (width - height) // 2 : (width + height) // 2]
    return cv2.resize(cv2.cvtColor(middle[40:320, 40:320], cv2.COLOR_RGB2GRAY), (48, 48), interpolation=cv2.INTER_AREA)
