"""Measure who speaks, and the answer for each person, on dialogues composed of real clips.

``python -m bench.speakers --data DIR [--dialogues 30] [--seed 1] [--haar] [--run runs/synchrony]``

Two actors of `javanese_av` are put side by side; in turn they say something, while the other one holds still, or goes
on moving the mouth without being heard. Three pairs of networks ship, which learned without two actors each: every
pair of actors is judged by the pair of networks that met neither of them, or by that of ``--run``, a finished run of
`recipes.synchrony`. Everything goes through an MP4 file and the product's own path.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from affuse.analyzer import Analyzer
from affuse.analyzer import speech as speech_module
from affuse.data.corpora import load_open
from affuse.experts.face import FaceExpert
from affuse.experts.face.detect import HaarDetector
from affuse.media import SAMPLE_RATE, Recording
from affuse.people.mouths import MOUTH_RATE
from affuse.people.speaking import TurnModel, who_speaks
from affuse.people.synchrony import SynchronyNetworks
from affuse.timeline import Segment, Timeline
from recipes.synchrony import FOLDS, speakers_of_fold
from recipes.synchrony_folds import networks_of_fold

_STEP = SAMPLE_RATE // MOUTH_RATE
_SHORTEST, _LONGEST = 0.5, 2.0  # seconds of a turn
_MOST_OFF = 0.2  # seconds by which the sound is shifted at most


@dataclass(frozen=True)
class Clip:
    """A clip: pictures (t, h, w, 3), sound (n,) at 16 kHz, who it is, and the emotion meant."""

    frames: np.ndarray
    samples: np.ndarray
    actor: str
    emotion: str


@dataclass(frozen=True)
class Dialogue:
    """Pictures and sound of a composed dialogue, and its turns: who (0 left, 1 right), from which picture to which."""

    frames: list[np.ndarray]
    samples: np.ndarray
    turns: list[tuple[int, int, int]]


def read_clips(data: Path, pattern: str = "*") -> list[Clip]:
    """Clips of `javanese_av` that lie here and whose names match a pattern."""
    dataset = load_open("javanese_av", data)
    found = []
    for path, target in zip(dataset.inputs, dataset.targets, strict=True):
        if not Path(str(path)).match(pattern):
            continue
        recording = Recording.open(Path(str(path)))
        times = np.arange(int(recording.duration * MOUTH_RATE)) / MOUTH_RATE
        frames = np.stack([frame.image for frame in recording.frames(times)])
        samples = np.concatenate(list(recording.sound(Timeline((recording.span,)))))
        n = min(len(frames), len(samples) // _STEP)
        emotion = dataset.labels.labels[int(target)]
        found.append(Clip(frames[:n], samples[: n * _STEP], recording.name[:2], emotion))
    return found


def compose(cast: Sequence[Sequence[Clip]], count: int, draw: np.random.Generator, still: bool = False) -> Dialogue:
    """Turns of half a second to two seconds.

    Who does not speak goes on moving the mouth as if he did, or holds still.
    """
    lengths = [int(draw.uniform(_SHORTEST, _LONGEST) * MOUTH_RATE) for _ in range(count)]
    shown = [_running(own, sum(lengths), draw) for own in cast]
    samples, turns, first = np.zeros(sum(lengths) * _STEP, dtype=np.float32), [], 0
    for number, length in enumerate(lengths):
        who, heard = number % 2, slice(first * _STEP, (first + length) * _STEP)
        samples[heard] = shown[who][1][heard]
        turns.append((who, first, first + length))
        if still:
            listener = shown[1 - who][0]
            listener[first : first + length] = [listener[first]] * length
        first += length
    frames = [np.concatenate([a, b], axis=1) for a, b in zip(shown[0][0], shown[1][0], strict=True)]
    return Dialogue(frames, samples, turns)


def _running(own: Sequence[Clip], length: int, draw: np.random.Generator) -> tuple[list[np.ndarray], np.ndarray]:
    """Clips of one actor, one after the other: pictures, and their sound."""
    frames: list[np.ndarray] = []
    samples: list[np.ndarray] = []
    while len(frames) < length:
        clip = own[draw.integers(len(own))]
        frames += list(clip.frames)
        samples.append(clip.samples)
    return frames[:length], np.concatenate(samples)[: length * _STEP]


def whole_clips(cast: Sequence[Clip]) -> Dialogue:
    """One clip after the other, each heard whole; who does not speak holds still."""
    frames, samples, turns = [], [], []
    for who, clip in enumerate(cast):
        still = np.repeat(cast[1 - who].frames[-1 if who else 0][None], len(clip.frames), axis=0)
        pair = [clip.frames, still] if who == 0 else [still, clip.frames]
        frames += [np.concatenate([a, b], axis=1) for a, b in zip(*pair, strict=True)]
        samples.append(clip.samples)
        turns.append((who, len(frames) - len(clip.frames), len(frames)))
    return Dialogue(frames, np.concatenate(samples), turns)


def write_video(dialogue: Dialogue, path: Path, shift: float = 0.0) -> None:
    """An MP4 file (H.264, AAC) whose sound is late by ``shift`` seconds."""
    with av.open(str(path), "w") as container:
        height, width = (side // 2 * 2 for side in dialogue.frames[0].shape[:2])
        picture = container.add_stream("libx264", rate=MOUTH_RATE, options={"crf": "20"})
        picture.width, picture.height, picture.pix_fmt = width, height, "yuv420p"
        sound = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
        for image in dialogue.frames:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image[:height, :width]), format="rgb24")
            container.mux(picture.encode(frame))
        container.mux(picture.encode(None))
        moved = _shifted(dialogue.samples, round(shift * SAMPLE_RATE))
        whole = av.AudioFrame.from_ndarray(moved[None].astype(np.float32), format="fltp", layout="mono")
        whole.sample_rate, whole.time_base, whole.pts = SAMPLE_RATE, Fraction(1, SAMPLE_RATE), 0
        container.mux(sound.encode(whole))
        container.mux(sound.encode(None))


def _shifted(samples: np.ndarray, by: int) -> np.ndarray:
    return np.pad(samples, (max(by, 0), max(-by, 0)))[max(-by, 0) :][: len(samples)]


def attributed(
    path: Path, dialogue: Dialogue, expert: FaceExpert, networks: SynchronyNetworks, model: TurnModel, shift: float
) -> list[bool]:
    """Whether every turn is given to the face that speaks, by who is most probable over the time of its sound."""
    recording = Recording.open(path)
    faces = expert.read(recording, Timeline.windows(recording.duration))
    if faces[0].person is None:
        return [False] * len(dialogue.turns)
    left = [float(np.median(face.boxes[:, 0] + face.boxes[:, 2] / 2)) < 0.5 for face in faces]
    speakers = who_speaks(recording, faces, networks, model)
    right = []
    for who, first, last in dialogue.turns:
        start, end = (min(max(0.0, at / MOUTH_RATE + shift), recording.duration) for at in (first, last))
        span = Segment(start, end)
        shares = [np.nan_to_num(speakers.share(name, span)) for name in speakers.names]
        best = int(np.argmax(shares))
        right.append(best < len(left) and left[best] == (who == 0))
    return right


def turns_of(
    clips: Sequence[Clip],
    run: Path | None,
    count: int,
    seed: int,
    expert: FaceExpert,
    late: bool = False,
    still: bool = False,
) -> dict[str, float]:
    """Share of the turns that go to the right face; with ``late``, the sound is shifted by up to 0.2 s."""
    draw, model = np.random.default_rng(seed), _turn_model(run)
    right: list[bool] = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(count):
            pair, networks = fold_of(clips, run, number)
            dialogue = compose([[c for c in clips if c.actor == actor] for actor in pair], 10, draw, still)
            path = Path(folder) / f"{number}.mp4"
            shift = float(draw.uniform(-_MOST_OFF, _MOST_OFF)) if late else 0.0
            write_video(dialogue, path, shift)
            right += attributed(path, dialogue, expert, networks, model, shift)
            path.unlink()
    return {"turns": len(right), "right": round(float(np.mean(right)), 4)}


def _turn_model(run: Path | None) -> TurnModel:
    return TurnModel.read(None if run is None else run / "turns.json")


def fold_of(clips: Sequence[Clip], run: Path | None, number: int) -> tuple[list[str], SynchronyNetworks]:
    """Two actors, and the networks that met neither of them."""
    actors = sorted({clip.actor for clip in clips})
    fold = number % FOLDS
    return list(speakers_of_fold(actors, fold)), networks_of_fold(fold, run)


def emotions_of(clips: Sequence[Clip], run: Path | None, count: int, seed: int) -> dict[str, float]:
    """Accuracy of the emotion of each person: the clip alone, the dialogue told apart, and the voice shared by both."""
    draw, model, analyzer = np.random.default_rng(seed), _turn_model(run), Analyzer()
    found: dict[str, list[bool]] = {"alone": [], "apart": [], "shared": []}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(count):
            pair, networks = fold_of(clips, run, number)
            # What was measured in the first pass is of the shipped networks, which know these actors.
            speech_module.who_speaks = lambda r, f, agreement=None, n=networks, m=model: who_speaks(r, f, n, m)
            cast = _different(clips, pair, draw)
            path = Path(folder) / f"{number}.mp4"
            write_video(whole_clips(cast), path)
            observation = analyzer.observe(Recording.open(path))
            for kind, seen in (("apart", observation), ("shared", _shared(observation))):
                found[kind] += _right(analyzer.answer(seen), cast)
            for clip in cast:
                write_video(Dialogue(list(clip.frames), clip.samples, []), path)
                found["alone"].append(analyzer.analyze(path).summary.label == clip.emotion)
    return {kind: round(float(np.mean(own)), 4) for kind, own in found.items()} | {"persons": len(found["alone"])}


def _different(clips: Sequence[Clip], pair: Sequence[str], draw: np.random.Generator) -> list[Clip]:
    while True:
        cast = [own[draw.integers(len(own))] for own in ([c for c in clips if c.actor == a] for a in pair)]
        if cast[0].emotion != cast[1].emotion:
            return cast


def _shared(observation):  # type: ignore[no-untyped-def]
    from dataclasses import replace

    return replace(observation, speech=None)


def _right(analysis, cast: Sequence[Clip]) -> list[bool]:  # type: ignore[no-untyped-def]
    middles = {p.id: float(np.median(p.boxes[:, 0] + p.boxes[:, 2] / 2)) for p in analysis.persons if len(p.boxes)}
    answers = {summary.person: summary.label for summary in analysis.summaries}
    right = []
    for who, clip in enumerate(cast):
        own = [answers[name] for name, middle in middles.items() if (middle < 0.5) == (who == 0)]
        right.append(bool(own) and own[0] == clip.emotion)
    return right


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the datasets")
    parser.add_argument("--run", type=Path, help="finished run of recipes.synchrony; what ships without it")
    parser.add_argument("--dialogues", type=int, default=30, help="composed dialogues (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="seed of what is drawn (%(default)s)")
    parser.add_argument("--haar", action="store_true", help="find faces by the Haar cascade")
    options = parser.parse_args()
    clips = read_clips(options.data)
    expert = FaceExpert(HaarDetector()) if options.haar else FaceExpert()
    count, seed = options.dialogues, options.seed
    figures = {
        "turns": turns_of(clips, options.run, count, seed, expert),
        "turns, who listens holds still": turns_of(clips, options.run, count, seed, expert, still=True),
        "turns, sound late or early": turns_of(clips, options.run, count, seed + 1, expert, late=True),
        "emotions": emotions_of(clips, options.run, count, seed + 2),
    }
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
