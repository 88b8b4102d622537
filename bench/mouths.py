"""Measure how surely it is told in windows of 1 and 2 s whether a mouth speaks.

``python -m bench.mouths --data DIR [--seed 1] [--run runs/synchrony]``

A face's mouth always moves as in speech; what is heard is its own sound, that of somebody else, or (for *off screen*)
that of somebody who is not among the two faces. Everybody is judged by the one of the three pairs of networks that met
neither them nor the sentence that is said; ``--run`` takes those of a finished run of `recipes.synchrony`. The clips of
another corpus (short talking heads, ``clips/*.mpg``) are judged by the shipped networks.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from affuse.experts.face import FaceExpert
from affuse.media import Recording
from affuse.people.mouths import MOUTH_RATE, FacePath, mouths
from affuse.people.synchrony import LAGS, Agreement, SynchronyNetworks
from affuse.timeline import Timeline
from recipes.synchrony import FOLDS, SynchronyConfig, read_talkers, score_talker, speakers_of_fold
from recipes.synchrony_folds import networks_of_fold
from recipes.synchrony_turns import Scored, area

_DRAWN = 4000
_MOST_OFF = 5  # pictures: 0.2 s


def scored_by_fold(data: Path, run: Path | None) -> list[Scored]:
    """Clips with the sentence that no fold met, by the networks of every fold."""
    talkers = read_talkers(data)
    speakers = sorted({talker.speaker for talker in talkers})
    found = []
    for fold in range(FOLDS):
        networks, new = networks_of_fold(fold, run), speakers_of_fold(speakers, fold)
        for talker in talkers:
            if talker.sentence == SynchronyConfig.left_out:
                found.append(replace(score_talker(talker, networks), fold=fold, met=talker.speaker not in new))
    return found


def scored_elsewhere(data: Path) -> list[Scored]:
    """Talking heads of another corpus by the shipped networks."""
    found, expert, networks = [], FaceExpert(), SynchronyNetworks()
    for path in sorted((data / "clips").glob("*.mpg")):
        recording = Recording.open(path)
        span = Timeline((recording.span,))
        rows = list(mouths(recording, [FacePath.of(expert.read(recording, span)[0])]))
        pictures = np.stack([row[0] for row in rows if row[0] is not None])
        samples = np.concatenate(list(recording.sound(span)))
        found.append(Scored.of(path.stem, path.stem, pictures, samples, networks))
    return found


def window_figures(clips: Sequence[Scored], n: int, draw: np.random.Generator) -> dict[str, float]:
    """Accuracy and areas under the ROC curve for windows of n pictures.

    Both faces are new to the networks; of those that are heard off screen some are known to them.
    """
    better, speaks, on_screen = [], [], []
    for _ in range(_DRAWN):
        one, other = _two_faces(clips, draw)
        own, foreign = _score(one, one, n, draw), _score(other, one, n, draw)
        if own is None or foreign is None:
            continue
        better.append(own > foreign)
        speaks += [(own, True), (foreign, False)]
        others = [c for c in clips if c.fold == one.fold and c.speaker not in (one.speaker, other.speaker)]
        third = others[draw.integers(len(others))]
        away = [_score(face, third, n, draw) for face in (one, other)]
        if None not in away:
            on_screen += [(max(own, foreign), True), (max(away), False)]  # type: ignore[type-var]
    return {
        "which of two": round(float(np.mean(better)), 4),
        "speaks, AUC": round(area(speaks), 4),
        "on screen, AUC": round(area(on_screen), 4),
    }


def _two_faces(clips: Sequence[Scored], draw: np.random.Generator) -> tuple[Scored, Scored]:
    """Clips of two people whom the networks that embedded them never met."""
    new = [clip for clip in clips if not clip.met]
    one = new[draw.integers(len(new))]
    others = [clip for clip in new if clip.fold == one.fold and clip.speaker != one.speaker]
    return one, others[draw.integers(len(others))]


def _score(face: Scored, voice: Scored, n: int, draw: np.random.Generator) -> float | None:
    """Agreement of a window; None where the clips are too short, or less than half of the window is speech."""
    last = min(len(face.seen), len(voice.heard)) - n
    if last < 0:
        return None
    first = int(draw.integers(last + 1))
    at = first if face is voice else int(draw.integers(len(face.seen) - n + 1))
    if voice.speech[first : first + n].mean() < 0.5:
        return None
    agreed = (face.seen[at : at + n] * voice.heard[first : first + n]).sum(axis=1).mean()
    return float(agreed - face.seen.mean(axis=0) @ voice.heard.mean(axis=0))


def shifted(clips: Sequence[Scored], n: int, draw: np.random.Generator, around: int = 4) -> float:
    """Share of windows given to the right one of two, where the sound of ten seconds is off by up to 0.2 s."""
    right: list[bool] = []
    for _ in range(_DRAWN // 20):
        own, foreign = (
            [c for c in clips if c.speaker == face.speaker and c.fold == face.fold] for face in _two_faces(clips, draw)
        )
        speaking, heard, speech = _row(own, around, draw)
        moving, _, _ = _row(foreign, around, draw)
        length = min(len(speaking), len(moving))
        by = int(draw.integers(-_MOST_OFF, _MOST_OFF + 1))
        agreement = _agreement([speaking[:length], moving[:length]], heard[:length], speech[:length], by)
        scores = agreement.at_lag(agreement.best_lag()) * agreement.speech[:, None]
        sums = [
            scores[i : i + n].sum(axis=0) for i in range(0, length - n, n) if agreement.speech[i : i + n].mean() > 0.5
        ]
        right += [bool(a > b) for a, b in sums]
    return round(float(np.mean(right)), 4)


def _row(own: Sequence[Scored], count: int, draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    drawn = [own[i] for i in draw.integers(len(own), size=count)]
    return (
        np.concatenate([clip.seen for clip in drawn]),
        np.concatenate([clip.heard for clip in drawn]),
        np.concatenate([clip.speech for clip in drawn]),
    )


def _agreement(faces: Sequence[np.ndarray], heard: np.ndarray, speech: np.ndarray, by: int) -> Agreement:
    """As the product measures it, with a sound that is late by a number of pictures."""
    heard, speech = np.roll(heard, by, axis=0), np.roll(speech, by)
    middle = speech @ heard / speech.sum()
    scores = np.empty((len(heard), len(faces), len(LAGS)))
    for number, seen in enumerate(faces):
        for column, lag in enumerate(LAGS):
            scores[:, number, column] = (seen * np.roll(heard, -lag, axis=0)).sum(axis=1) - seen.mean(axis=0) @ middle
    return Agreement(scores, speech)


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the datasets")
    parser.add_argument("--run", type=Path, help="finished run of recipes.synchrony; what ships without it")
    parser.add_argument("--seed", type=int, default=1, help="seed of what is drawn (%(default)s)")
    options = parser.parse_args()
    draw = np.random.default_rng(options.seed)
    figures = {}
    for name, clips in (
        ("unseen people and sentence", scored_by_fold(options.data, options.run)),
        ("another corpus", scored_elsewhere(options.data)),
    ):
        figures[name] = {f"{s} s": window_figures(clips, s * MOUTH_RATE, draw) for s in (1, 2)}
        figures[name]["2 s, sound late or early"] = {"which of two": shifted(clips, 2 * MOUTH_RATE, draw)}
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
