"""Accuracy of the product on speakers, and on whole corpora, that neither its voice nor its fuser ever heard.

``python -m recipes.voice --data DIR --out runs/voice_folds --folds-over-all`` trains one head a fold;
``python -m research.unseen_voices --data DIR --runs runs/voice_folds`` then runs the path of ``affuse evaluate``
on every speaker with the head that lacks them and with a fuser that was learned without them, and prints the report
of each corpus as JSON.

With ``--left-out runs/voice_without_javanese``, a run of ``python -m recipes.voice --without javanese``, the voice and
the fuser never heard the whole corpus, nor its speakers. Faces are those of the shipped expert, which learned from
FER+ alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from affuse.analyzer.analyzer import Analyzer
from affuse.evaluation.corpora import corpus_manifest
from affuse.evaluation.manifest import Clip, Manifest
from affuse.evaluation.product import evaluate_product
from affuse.evaluation.product_measures import product_report
from affuse.experts.voice import VoiceExpert
from affuse.labels import EKMAN
from affuse.packages import load_expert
from recipes.command import data_parser, errors_as_sentences
from recipes.fuser import LabelledOutputs, face_rows, learn, orl_faces, spread_of_persons, voice_rows

__all__ = ["main", "measure", "measure_left_out"]

SETS = {"ravdess": ("ravdess",), "emodb": ("emodb",), "javanese": ("javanese_speech", "javanese_av")}
"""Sets of every corpus that the voice recipe knows."""

_MODALITIES = ("face", "voice")


class _Product:
    """Makes analyzers of face and voice; what the fuser knows of faces is always the same."""

    def __init__(self, data: Path) -> None:
        self._faces, self._spread = face_rows(data), spread_of_persons(*orl_faces(data))
        self._face = load_expert("face")

    def of(self, voices: LabelledOutputs, weights: Path) -> Analyzer:
        """A product whose voice are the ``weights`` and whose fuser learned what voices sound like from ``voices``."""
        fuser = learn({"face": self._faces, "voice": voices}, self._spread)
        return Analyzer({"face": self._face, "voice": VoiceExpert(weights)}, fuser=fuser)


def measure(data: Path, runs: Path, adapt: str = "none") -> dict[str, Any]:
    """Reports (`product_report`) by set, every speaker answered by a voice and a fuser that never heard them."""
    with np.load(runs / "unseen.npz", allow_pickle=False) as arrays:
        clips, folds = arrays["clips"].tolist(), arrays["folds"]
    rows, product = voice_rows(runs / "unseen.npz"), _Product(data)
    analyzers = [product.of(_part(rows, folds != k), runs / f"fold{k}.onnx") for k in range(int(folds.max()) + 1)]
    fold_of = dict(zip(clips, folds.tolist(), strict=True))
    return {
        name: _report(name, _clips(name, data), {k: analyzers[k] for k in range(len(analyzers))}, fold_of, adapt)
        for sets in SETS.values()
        for name in sets
    }


def measure_left_out(data: Path, run: Path, adapt: str = "none") -> dict[str, Any]:
    """Reports by set of the corpus that a run of ``recipes.voice --without`` left out."""
    corpus = json.loads((run / "report.json").read_text(encoding="utf-8"))["left_out"]
    analyzer = _Product(data).of(voice_rows(run / "held_out.npz"), run / "voice.onnx")
    reports = {}
    for name in SETS[corpus]:
        clips = _clips(name, data)
        fold_of = {clip.path.stem: 0 for clip in clips if clip.path is not None}
        reports[name] = _report(name, clips, {0: analyzer}, fold_of, adapt)
    return reports


def _part(rows: LabelledOutputs, chosen: np.ndarray) -> LabelledOutputs:
    return LabelledOutputs(rows.P[chosen], rows.y[chosen], rows.persons[chosen])


def _clips(name: str, data: Path) -> list[Clip]:
    return list(corpus_manifest(name, data, "open").clips)


def _report(
    name: str, clips: Sequence[Clip], analyzers: Mapping[int, Analyzer], fold_of: Mapping[str, int], adapt: str
) -> dict[str, Any]:
    P, fused, targets, persons = [], [], [], []
    for k, analyzer in analyzers.items():
        own = [clip for clip in clips if clip.path is not None and fold_of[clip.path.stem] == k]
        if not own:
            continue
        for answer in evaluate_product(Manifest(f"{name}, fold {k}", own), analyzer, adapt=adapt, draws=10).answers:
            P.append(answer.P)
            fused.append(answer.fused)
            targets.append(EKMAN.index(answer.clip.label))
            persons.append(answer.clip.person)
    stacked, answers, columns, groups = (np.array(part) for part in (P, fused, targets, persons))
    report = product_report(stacked, answers, columns, groups, _MODALITIES, EKMAN.labels)
    return dict(report["as_answered"])


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print the reports."""
    parser = data_parser(__doc__)
    parser.add_argument("--runs", type=Path, help="folder of the run with --folds-over-all")
    parser.add_argument("--left-out", type=Path, help="folder of a run with --without")
    parser.add_argument(
        "--adapt", default="none", choices=("none", "person", "collection"), help="as in affuse evaluate"
    )
    options = parser.parse_args(arguments)
    if (options.runs is None) == (options.left_out is None):
        parser.error("name one run: --runs or --left-out")
    with errors_as_sentences(parser):
        if options.runs is not None:
            print(json.dumps(measure(options.data, options.runs, options.adapt), indent=2))
        else:
            print(json.dumps(measure_left_out(options.data, options.left_out, options.adapt), indent=2))


if __name__ == "__main__":
    main()
