"""Measure how well voices are told apart in one sound without a picture, on conversations composed of real clips.

``python bench/voices.py --data DIR [--conversations 6] [--seed 7] [--choose]``

Two or three speakers of one corpus talk in turns of .5 to 3 s, or 2 to 6 s, with pauses of up to .4 s, for 40 s. Each
turn is cut out of acted or spontaneous clips in mixed emotions. Everything goes through a WAV file and
`affuse.people.clustering`. The parameters of its model were chosen by log loss on 64 such conversations of half of the
speakers of RAVDESS and EMO-DB; ``--choose`` compares them again (on 24 of its own, trust 0.7 is better by 0.012).
Figures are of the other half, and of the Javanese and Urdu speakers, who took part in no choice. The speaker encoder is
needed (``affuse people setup``).
"""

from __future__ import annotations

import argparse
import itertools
import json
import wave
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from scipy.optimize import linear_sum_assignment

from affuse.experts.voice import VAD_FRAME, speech_frames
from affuse.media import SAMPLE_RATE, Recording
from affuse.people.clustering import STEP, HeardVoices, VoiceTurnModel, hear_voices
from affuse.people.voices import VoiceEncoder
from affuse.timeline import Timeline

SECONDS = 40.0  # of a conversation
LENGTHS = ((0.5, 3.0), (2.0, 6.0))  # seconds of a turn
COUNTS = (2, 3)  # speakers
FEWEST = 6  # clips of a speaker
HISS = 3e-4  # of full scale, so that pauses are not digital silence
PATTERNS = {
    "ravdess": "ravdess/Actor_*/*.flac",
    "emodb": "emodb/*.flac",
    "javanese": "javanese_speech/*.flac",
    "urdu": "urdu_speech/*.flac",
}
GRID = {"gain": (2.0, 3.0, 4.0), "stay": (2.0, 2.5), "trust": (0.7, 0.8, 0.9)}


@dataclass(frozen=True)
class Conversation:
    """Sound (n,) at 16 kHz, its turns (start, end, speaker), and how many speak."""

    samples: np.ndarray
    turns: list[tuple[float, float, int]]
    count: int


@dataclass(frozen=True)
class Heard:
    """What the encoder hears in a conversation, and who speaks at its steps (n,): -1 in pauses."""

    voices: HeardVoices
    truth: np.ndarray
    turns: list[tuple[float, float, int]]
    count: int


def speakers_of(data: Path, corpus: str, half: int | None) -> dict[str, list[Path]]:
    """Clips by speaker, of all speakers or of every other one: half 0 was chosen on, half 1 is measured."""
    found: dict[str, list[Path]] = {}
    for path in sorted(data.glob(PATTERNS[corpus])):
        name = {"ravdess": path.parent.name, "urdu": path.name.split("_")[0]}.get(corpus, path.name[:2])
        found.setdefault(name, []).append(path)
    names = sorted(name for name, clips in found.items() if len(clips) >= FEWEST)
    if corpus == "ravdess":  # men have odd numbers: each half has as many of both
        names = [name for rest in (1, 0) for name in _by_sex(names, rest, half)]
    elif half is not None:
        names = names[half::2]
    return {name: found[name] for name in names}


def _by_sex(names: Sequence[str], rest: int, half: int | None) -> list[str]:
    own = [name for name in names if int(name[-2:]) % 2 == rest]
    return own if half is None else own[half::2]


@cache
def clip(path: Path) -> np.ndarray:
    """Samples of a clip from the first to the last speech in it."""
    recording = Recording.open(path)
    (samples,) = recording.sound(Timeline((recording.span,)))
    spoken = np.flatnonzero(speech_frames(samples))
    return samples[spoken[0] * VAD_FRAME : (spoken[-1] + 1) * VAD_FRAME] if len(spoken) else samples[:0]


def compose(
    pool: dict[str, list[Path]], count: int, lengths: tuple[float, float], draw: np.random.Generator
) -> Conversation:
    """A conversation of speakers of a pool who take turns at random."""
    cast = draw.choice(sorted(pool), count, replace=False)
    parts: list[np.ndarray] = []
    turns: list[tuple[float, float, int]] = []
    who, now = int(draw.integers(count)), 0
    while now < SECONDS * SAMPLE_RATE:
        length, pause = int(draw.uniform(*lengths) * SAMPLE_RATE), int(draw.uniform(0, 0.4) * SAMPLE_RATE)
        parts += [_running(pool[cast[who]], length, draw), np.zeros(pause, dtype=np.float32)]
        turns.append((now / SAMPLE_RATE, (now + length) / SAMPLE_RATE, who))
        now, who = now + length + pause, (who + int(draw.integers(1, count))) % count
    samples = np.concatenate(parts)
    return Conversation(samples + draw.normal(0, HISS, len(samples)), turns, count)


def _running(clips: Sequence[Path], length: int, draw: np.random.Generator) -> np.ndarray:
    """Clips of one speaker, one after the other."""
    samples = np.empty(0, dtype=np.float32)
    while len(samples) < length:
        samples = np.concatenate([samples, clip(clips[draw.integers(len(clips))])])
    return samples[:length]


def hear(conversation: Conversation, encoder: VoiceEncoder, folder: Path) -> Heard:
    """What the encoder hears of a conversation in a WAV file."""
    path = folder / "conversation.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes((np.clip(conversation.samples, -1, 1) * 32767).astype("<i2").tobytes())
    voices = hear_voices(Recording.open(path), encoder)
    middles, truth = (voices.steps + 0.5) * STEP, np.full(len(voices.steps), -1)
    for start, end, who in conversation.turns:
        truth[(middles >= start) & (middles < end)] = who
    return Heard(voices, truth, conversation.turns, conversation.count)


def judge(heard: Heard, model: VoiceTurnModel) -> dict[str, float]:
    """Shares of steps and of turns that go to the right speaker, and what the probabilities say.

    Voices are matched with speakers by the assignment with most right steps.
    """
    known = heard.truth >= 0
    found, truth = model.posteriors(heard.voices, heard.count)[heard.voices.steps][known], heard.truth[known]
    together = np.zeros((heard.count, heard.count))
    np.add.at(together, (found.argmax(axis=1), truth), 1)
    voices, speakers = linear_sum_assignment(-together)
    found = found[:, voices[np.argsort(speakers)]]
    best, middles = found.argmax(axis=1), (heard.voices.steps[known] + 0.5) * STEP
    inside = [(middles >= start) & (middles < end) for start, end, _ in heard.turns]
    votes = [
        np.bincount(best[own], minlength=heard.count).argmax() == who
        for own, (_, _, who) in zip(inside, heard.turns, strict=True)
        if own.any()
    ]
    return {
        "speech": float(np.mean(best == truth)),
        "turns": float(np.mean(votes)),
        "stated": float(found.max(axis=1).mean()),
        "log loss": float(-np.log(found[np.arange(len(truth)), truth]).mean()),
        "one voice": float(np.bincount(truth).max() / len(truth)),
    }


def conversations(
    data: Path, half: int, corpora: Sequence[str], number: int, seed: int
) -> Iterator[tuple[str, int, tuple[float, float], Heard]]:
    """Conversations of every corpus, number of speakers and length of turns."""
    draw, encoder = np.random.default_rng(seed), VoiceEncoder()
    with TemporaryDirectory() as folder:
        for corpus in corpora:
            pool = speakers_of(data, corpus, half if corpus in ("ravdess", "emodb") else None)
            for count, lengths in itertools.product(COUNTS, LENGTHS):
                for _ in range(number):
                    made = compose(pool, count, lengths, draw)
                    yield corpus, count, lengths, hear(made, encoder, Path(folder))


def mean(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """Means of figures."""
    return {name: round(float(np.mean([row[name] for row in rows])), 4) for name in rows[0]}


def measure(data: Path, number: int, seed: int) -> dict[str, dict[str, float]]:
    """Figures of the model that ships, on speakers whom no choice has met."""
    found: dict[str, list[dict[str, float]]] = {}
    for corpus, count, lengths, heard in conversations(data, 1, tuple(PATTERNS), number, seed):
        own = judge(heard, VoiceTurnModel())
        for key in (f"{corpus}, {count} speakers", f"{count} speakers, turns of {lengths[0]:g} to {lengths[1]:g} s"):
            found.setdefault(key, []).append(own)
    return {key: mean(rows) for key, rows in found.items()}


def choose(data: Path, number: int, seed: int) -> list[dict[str, float]]:
    """The ten models of the grid with the least log loss, on the other half of the speakers."""
    heard = [own for *_, own in conversations(data, 0, ("ravdess", "emodb"), number, seed)]
    rows = []
    for values in itertools.product(*GRID.values()):
        settings = dict(zip(GRID, values, strict=True))
        rows.append(settings | mean([judge(own, VoiceTurnModel(**settings)) for own in heard]))
    return sorted(rows, key=lambda row: row["log loss"])[:10]


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the datasets")
    parser.add_argument("--conversations", type=int, default=6, help="of each kind (%(default)s)")
    parser.add_argument("--seed", type=int, default=7, help="seed of what is drawn (%(default)s)")
    parser.add_argument("--choose", action="store_true", help="compare parameters, on the other half of the speakers")
    options = parser.parse_args()
    task = choose if options.choose else measure
    print(json.dumps(task(options.data, options.conversations, options.seed), indent=2))


if __name__ == "__main__":
    main()
