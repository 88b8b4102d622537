"""Recipe of the voice of the commercial set: the same encoder and heads, learned from the Javanese clips alone (MIT).

``python -m recipes.voice_commercial --data DIR --out runs/voice_commercial [--resume]``

Encoder, statistics, heads and calibration are those of `recipes.voice`. The actors of train are cut into folds; a head
learns from every fold's complement, and what it answers for the actors of the fold gives the temperature and the rows
for the fuser. Nothing is fitted to the actors of dev. ``--actors`` measures all six of them instead, each judged by a
head that never heard them, and ships nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import softmax

from affuse.data.corpora import load
from affuse.evaluation.experts import waveform
from affuse.evaluation.intervals import cluster_bootstrap
from affuse.files import write_json
from affuse.fusion.temperature import fit_temperature
from affuse.labels import VOICE
from affuse.training.cards import write_card, write_held_out
from recipes.command import errors_as_sentences, recipe_parser, start_run
from recipes.voice import _cross_fit, _ensemble, _known, export
from recipes.voice_data import Clips
from recipes.voice_training import VoiceConfig, label_masks
from recipes.whisper import SpeechEncoder

__all__ = ["CONFIG", "main", "measure", "read_javanese", "train"]

CONFIG = VoiceConfig(copies=1, hidden=24, folds=4, embedding=16)
"""Fewer numbers than in the research set, for a twentieth of the bytes and a third of the clips."""

_SETS = ("javanese_speech", "javanese_av")


def read_javanese(data: Path, *splits: str) -> Clips:
    """Decode splits of both sets of the Javanese actors to 16 kHz mono."""
    parts = [load(name, data, split) for split in splits for name in _SETS]
    paths = [path for rows in parts for path in rows.inputs]
    targets = [VOICE.index(rows.labels.labels[target]) for rows in parts for target in rows.targets]
    groups = [f"javanese/{group}" for rows in parts for group in rows.groups]
    corpus = np.full(len(paths), "javanese")
    names = np.array([path.stem for path in paths])
    return Clips([waveform(path) for path in paths], np.array(targets), np.array(groups), corpus, names)


def train(data: Path, out: Path, config: VoiceConfig, resume: bool) -> None:
    """Train, export and measure; leaves voice_commercial.onnx, card.json and held_out.npz in ``out``."""
    start_run(out, config, resume)
    clips = read_javanese(data, "train")
    encoder = SpeechEncoder.pretrained(config.layers)
    learned = _cross_fit(clips, encoder, out, config)
    masks = label_masks(clips.corpus).numpy()
    temperature = fit_temperature(learned.logits + masks, clips.targets)
    weights = out / "voice_commercial.onnx"
    export(_ensemble(learned, encoder, temperature, config), weights)
    P = softmax((learned.logits + masks) / temperature, axis=1)
    write_held_out(out / "held_out.npz", probabilities=P, **_known(clips))
    facts = {
        "config": asdict(config),
        "rows": {"train": len(clips)},
        "temperature": temperature,
        "held_out": _scores(P, clips),
    }
    write_card(out / "card.json", weights, facts)
    print(facts)


def measure(data: Path, out: Path, config: VoiceConfig, resume: bool) -> None:
    """Judge all actors of train and dev, each by a head that never heard them; leaves report.json in ``out``."""
    start_run(out, config, resume)
    clips = read_javanese(data, "train", "dev")
    own = replace(config, folds=len(np.unique(clips.groups)))
    learned = _cross_fit(clips, SpeechEncoder.pretrained(config.layers), out, own)
    report = _scores(softmax(learned.logits + label_masks(clips.corpus).numpy(), axis=1), clips)
    write_json(out / "report.json", report)
    print(report)


def _scores(P: np.ndarray, clips: Clips) -> dict[str, Any]:
    """Accuracy, with an interval that draws actors, and mean recall of answers (n, 9)."""
    right = P.argmax(axis=1) == clips.targets
    return {
        "n": len(clips),
        "accuracy": round(float(right.mean()), 4),
        "ci95": [round(bound, 4) for bound in cluster_bootstrap(right, clips.groups)],
        "uar": round(float(np.mean([right[clips.targets == k].mean() for k in np.unique(clips.targets)])), 4),
        "by_actor": {name: round(float(right[clips.groups == name].mean()), 4) for name in np.unique(clips.groups)},
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; exits with 2 and a sentence where something is missing."""
    parser = recipe_parser(__doc__, CONFIG)
    parser.add_argument("--actors", action="store_true", help="measure on all actors instead of shipping")
    options = parser.parse_args(arguments)
    config = replace(CONFIG, epochs=options.epochs, seed=options.seed, threads=options.threads)
    with errors_as_sentences(parser):
        (measure if options.actors else train)(options.data, options.out, config, options.resume)


if __name__ == "__main__":
    main()
