"""Fusion of voice and facial action units on RAVDESS, tested on actors that neither expert was trained on.

``python -m research.ravdess_fusion --data DIR --voice runs/voice/unseen.npz [--report docs/ravdess.md]``

The voice's answers come from a run of ``recipes.voice``: unseen.npz, or held_out.npz of one with
``--folds-over-all``. Each actor is judged by networks that never heard them. The action units (OpenFace, averaged over
a clip) are read by a classifier that is trained in every fold on the other actors; its answers for those, from which
the fuser learns, are cross-validated among them. So no answer that a fuser learns from is one on a training row of an
expert, and the actors of the test are new to all three.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from affuse.data.corpora.base import find_folder
from affuse.errors import DataError
from affuse.evaluation.comparison import compare_fusers
from affuse.evaluation.formatting import ResultTable, percent
from affuse.evaluation.protocol import Fold, PredictionData, Protocol
from affuse.files import write_text
from affuse.fusion import registry
from affuse.labels import RAVDESS, VOICE, restrict
from recipes.command import data_parser, errors_as_sentences

__all__ = ["METHODS", "Clips", "action_unit_classifier", "action_units", "main", "page", "protocol", "read_clips"]

METHODS = ("auto", "log_pool", "product", "stacking", "mean", "weighted", "vote")


@dataclass(frozen=True)
class Clips:
    """Clips of RAVDESS.

    ``voice`` (n, 8) are held-out probabilities, ``units`` (n, d) action units, ``folds`` (n,) those of the actors,
    ``y`` (n,) columns of `labels.RAVDESS`, ``actors`` (n,) names.
    """

    voice: np.ndarray
    units: np.ndarray
    y: np.ndarray
    actors: np.ndarray
    folds: np.ndarray


def read_clips(data: Path, voice: Path) -> Clips:
    """Join the voice's held-out answers with the action units of the same clips, by name.

    Raises DataError where either file is missing or a clip has no action units.
    """
    if not voice.is_file():
        raise DataError(f"{voice} is missing; `python -m recipes.voice` writes it")
    with np.load(voice, allow_pickle=False) as arrays:
        own = arrays["corpus"] == "ravdess"
        held = {name: arrays[name][own] for name in ("probabilities", "groups", "folds", "clips")}
    names = held["clips"].astype(str).tolist()
    return Clips(
        voice=restrict(held["probabilities"], VOICE, RAVDESS.labels),
        units=action_units(data, names),
        y=np.array([int(name.split("-")[2]) - 1 for name in names]),
        actors=held["groups"],
        folds=held["folds"],
    )


def action_units(data: Path, clips: Sequence[str]) -> np.ndarray:
    """Action units (n, d) of clips, given by the names of their files, averaged over the video by OpenFace.

    Raises DataError where face_action_units.csv is missing or has no row for a clip.
    """
    path = find_folder(data, "ravdess", "face_action_units.csv") / "face_action_units.csv"
    table = pd.read_csv(path)
    # Modality, vocal channel, emotion, intensity, sentence, repetition, actor: the first tells video from sound.
    table.index = pd.Index(table["name"].str.slice(3))
    names = [clip[3:] for clip in clips]
    missing = sorted(set(names) - set(table.index))
    if missing:
        raise DataError(f"{path} has no row for {len(missing)} clips, the first of them 01-{missing[0]}")
    units = table.loc[names, [column for column in table.columns if column.startswith("AU")]]
    return units.to_numpy(dtype=float)


def action_unit_classifier(seed: int = 0) -> Any:
    """Trees and a perceptron over action units, their probabilities averaged; chosen on the actors of train alone."""
    from sklearn.ensemble import ExtraTreesClassifier, VotingClassifier
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    trees = ExtraTreesClassifier(500, min_samples_leaf=2, random_state=seed)
    perceptron = MLPClassifier((128,), alpha=10.0, max_iter=400, random_state=seed)
    return VotingClassifier([("trees", trees), ("mlp", make_pipeline(StandardScaler(), perceptron))], voting="soft")


def protocol(clips: Clips, classifier: Any) -> Protocol:
    """A fold for each of the voice's: fusers learn on the cross-validated answers for the other actors."""
    from sklearn.base import clone
    from sklearn.model_selection import PredefinedSplit, cross_val_predict

    folds = []
    for k in np.unique(clips.folds).tolist():
        train, test = clips.folds != k, clips.folds == k
        X, y = clips.units[train], clips.y[train]
        seen = cross_val_predict(
            clone(classifier), X, y, cv=PredefinedSplit(clips.folds[train]), method="predict_proba"
        )
        new = clone(classifier).fit(X, y).predict_proba(clips.units[test])
        folds.append(
            Fold(
                f"fold {k}",
                PredictionData(np.stack([clips.voice[train], seen], axis=1), y, clips.actors[train]),
                PredictionData(np.stack([clips.voice[test], new], axis=1), clips.y[test], clips.actors[test]),
            )
        )
    return Protocol("ravdess, voice and action units", ("voice", "action units"), RAVDESS.labels, tuple(folds))


def page(facts: Mapping[str, Any], measured: Protocol) -> str:
    """The comparison as a page of Markdown."""
    actors = {group for fold in measured.folds for group in fold.test.groups.tolist()}
    text = (
        f"{measured.n_rows} clips of {len(actors)} actors in {len(measured.folds)} folds; every actor is judged by a "
        "voice network, an action-unit classifier and a fuser that never met them, and a fuser learns from answers "
        "that were made in the same way. Intervals of 95 % draw whole actors; p swaps fused and best single answer "
        "for whole actors, and p (Holm) allows for the number of methods. In unseen.npz the last fold holds the actors "
        "of dev, whom the shipped ensemble judges; the others are judged by one head."
    )
    parts = [
        "# RAVDESS: voice and action units, fused",
        "Written by `python -m research.ravdess_fusion --data DIR --voice runs/voice/unseen.npz "
        "--report docs/ravdess.md`.",
        text,
        _methods(facts).markdown(),
        _by_fold(facts, measured).markdown(),
    ]
    return "\n\n".join(parts) + "\n"


def _methods(facts: Mapping[str, Any]) -> ResultTable:
    table = ResultTable(("", "accuracy", "95 % interval", "macro F1", "ECE", "to the best single", "p", "p (Holm)"))
    for name, one in sorted(facts["methods"].items(), key=lambda item: -item[1]["accuracy"]):
        shown = f"{name} ({facts['auto']['method']})" if name == "auto" else name
        table.add(shown, *_figures(one), f"{100 * one['difference']:+.1f}", f"{one['p']:.4f}", f"{one['p_holm']:.4f}")
    for name, one in facts["single"].items():
        table.add(f"only {name}", *_figures(one))
    return table


def _by_fold(facts: Mapping[str, Any], measured: Protocol) -> ResultTable:
    table = ResultTable(("accuracy by fold", *(fold.name for fold in measured.folds)))
    rows = {"auto": facts["methods"]["auto"]} | {f"only {name}": one for name, one in facts["single"].items()}
    for name, one in rows.items():
        table.add(name, *map(percent, one["folds"]))
    return table


def _figures(one: Mapping[str, Any]) -> tuple[str, ...]:
    low, high = (100 * value for value in one["ci95"])
    accuracy, interval = percent(one["accuracy"]), f"{low:.1f} to {high:.1f}"
    return accuracy, interval, f"{one['macro_f1']:.3f}", f"{one['ece']:.3f}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare the methods and print the page."""
    parser = data_parser(__doc__)
    parser.add_argument("--voice", type=Path, required=True, help="held-out answers of the voice over all actors")
    parser.add_argument("--report", type=Path, help="page of Markdown to write")
    options = parser.parse_args(arguments)
    with errors_as_sentences(parser):
        measured = protocol(read_clips(options.data, options.voice), action_unit_classifier())
        facts = compare_fusers(measured, {name: registry.make(name) for name in METHODS}, "auto").to_dict()
        text = page(facts, measured)
        if options.report is not None:
            write_text(options.report, text)
        print(text)


if __name__ == "__main__":
    main()
