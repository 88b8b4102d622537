"""Accuracy of the product on every speaker of RAVDESS and EMO-DB, by networks and a fuser that never heard them.

``python -m recipes.voice --data DIR --out runs/voice_folds --folds-over-all`` trains one network a fold;
``python -m research.unseen_voices --data DIR --runs runs/voice_folds`` then runs the path of ``affuse evaluate``
on every speaker with the network that lacks them and with a fuser that was learned without them, and prints the
report of each corpus as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from affuse.analyzer.analyzer import Analyzer
from affuse.evaluation.corpora import corpus_manifest
from affuse.evaluation.manifest import Manifest
from affuse.evaluation.product import evaluate_product
from affuse.evaluation.product_measures import product_report
from affuse.experts.voice import VoiceExpert
from affuse.labels import EKMAN
from recipes.command import data_parser, errors_as_sentences
from recipes.fuser import LabelledOutputs, learn, voice_rows

__all__ = ["main", "measure"]

CORPORA = ("ravdess", "emodb")


def measure(data: Path, runs: Path, adapt: str = "none") -> dict[str, Any]:
    """Reports (`product_report`) by corpus, and the accuracy of the bare network among the seven emotions."""
    with np.load(runs / "unseen.npz", allow_pickle=False) as arrays:
        unseen = {name: arrays[name] for name in ("clips", "corpus", "folds")}
    rows = voice_rows(runs / "unseen.npz")
    analyzers = [
        _analyzer(rows, unseen["folds"] == k, runs / f"fold{k}.onnx") for k in range(unseen["folds"].max() + 1)
    ]
    fold_of = dict(zip(unseen["clips"].tolist(), unseen["folds"].tolist(), strict=True))
    reports = {}
    for corpus in CORPORA:
        own = unseen["corpus"] == corpus
        report = _report(data, corpus, fold_of, analyzers, adapt)
        reports[corpus] = report | {"bare": float((rows.P.argmax(axis=1) == rows.y)[own].mean())}
    return reports


def _analyzer(rows: LabelledOutputs, held_out: np.ndarray, weights: Path) -> Analyzer:
    kept = ~held_out
    fuser = learn({"voice": LabelledOutputs(rows.P[kept], rows.y[kept], rows.persons[kept])})
    return Analyzer({"voice": VoiceExpert(weights)}, fuser=fuser)


def _report(data: Path, corpus: str, fold_of: dict[str, int], analyzers: list[Analyzer], adapt: str) -> dict[str, Any]:
    clips = [clip for split in ("train", "dev") for clip in corpus_manifest(corpus, data, split).clips]
    P, fused, targets, persons = [], [], [], []
    for k, analyzer in enumerate(analyzers):
        own = [clip for clip in clips if clip.path is not None and fold_of[clip.path.stem] == k]
        for answer in evaluate_product(Manifest(f"{corpus}, fold {k}", own), analyzer, adapt=adapt, draws=10).answers:
            P.append(answer.P)
            fused.append(answer.fused)
            targets.append(EKMAN.index(answer.clip.label))
            persons.append(answer.clip.person)
    return product_report(np.array(P), np.array(fused), np.array(targets), np.array(persons), ("voice",), EKMAN.labels)[
        "as_answered"
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print the reports."""
    parser = data_parser(__doc__)
    parser.add_argument("--runs", type=Path, required=True, help="folder of the run with --folds-over-all")
    parser.add_argument(
        "--adapt", default="none", choices=("none", "person", "collection"), help="as in affuse evaluate"
    )
    options = parser.parse_args(arguments)
    with errors_as_sentences(parser):
        print(json.dumps(measure(options.data, options.runs, options.adapt), indent=2))


if __name__ == "__main__":
    main()
