"""Feature sets and networks compared: accuracy, number of weights, training time and time an answer, on the same rows.

``python -m research.compare_methods --data DIR [--only face] [--out docs/training.md] [--quick]``

Every method is trained on the same small part of a corpus and tested on the same other rows, of other people where the
corpus names them. Nothing is tuned on the test rows: support vector machines have scikit-learn's defaults, networks the
defaults of ``affuse train`` but for what `BENCHMARKS` says, and are trained for a fixed number of epochs. Networks
answer as exported, row by row in full length, as an expert does. Times are those of one processor core. Results are
kept in ``--results``, so that an interrupted command goes on.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from affuse import __version__, features
from affuse.errors import AssetError, MissingExtraError
from affuse.evaluation.formatting import ResultTable
from affuse.files import write_json
from affuse.training.inputs import Store
from recipes.command import data_parser, errors_as_sentences
from research.measure_methods import ENLARGED, Benchmark, ByFeatures, ByNetwork, Method, Result, measure, samples_of
from research.pages import write_between

__all__ = ["BENCHMARKS", "Table", "main", "table"]


_CRNN = {"n_mels": 32, "widths": (12, 24, 48), "hidden": 32}
_SEEN = "its network was trained on the whole train split of this corpus"
_PRETRAINED = "MiniLM, pretrained on other sentences"

_TEXT: dict[str, Method] = {
    "bag of words + SVM": ByFeatures("bag-of-words"),
    "TF-IDF of words + SVM": ByFeatures("tf-idf"),
    "TF-IDF of characters + SVM": ByFeatures("tf-idf-char"),
    "sentence embedding + SVM": ByFeatures("sentence-embedding", note=_SEEN),
    "bag of n-grams": ByNetwork("bag", 12),
    "text CNN": ByNetwork("text-cnn", 8),
    **{
        f"Transformer, {what}": ByNetwork(
            "transformer",
            epochs,
            options={"tuning": tuning},
            training={"learning_rate": rate, "batch_size": 32},
            note=_PRETRAINED,
        )
        for what, tuning, epochs, rate in (
            ("last layer", "head", 4, 1e-2),
            ("LoRA", "lora", 2, 2e-3),
            ("all layers", "full", 2, 2e-4),
        )
    },
}

_VOICE: dict[str, Method] = {
    "STFT + SVM": ByFeatures("stft"),
    "log-mel + SVM": ByFeatures("log-mel"),
    "MFCC + SVM": ByFeatures("mfcc"),
    "chroma + SVM": ByFeatures("chroma"),
    "prosody + SVM": ByFeatures("prosody"),
    "voice embedding + SVM": ByFeatures("voice-embedding", note=_SEEN),
    "BiLSTM over log-mel": ByNetwork("bilstm", 20, options={"width": 64}),
    "CRNN": ByNetwork("crnn", 10, options=_CRNN),
    "wav2vec 2.0": ByNetwork(
        "wav2vec2",
        6,
        options={"pretrained": "none"},
        training={"learning_rate": 1e-3},
        note="a small one from scratch, without the pre-training that it is made for",
    ),
}

_TASKS: dict[str, Method] = {
    "emotions alone": ByNetwork("crnn", 10, options=_CRNN),
    **{
        f"with action units, weight {alpha:g}": ByNetwork(
            "multi-task", 10, options={"network": {"name": "crnn", **_CRNN}, "alpha": alpha}, units=True
        )
        for alpha in (0.3, 1.0)
    },
}

_FACE: dict[str, Method] = {
    "HOG + SVM": ByFeatures("hog"),
    "SIFT + SVM": ByFeatures("sift"),
    "landmarks + SVM": ByFeatures("landmarks"),
    "action units + SVM": ByFeatures("action-units"),
    "face embedding + SVM": ByFeatures("face-embedding", note=_SEEN),
    "graph over landmarks": ByNetwork(
        "landmark-graph", 20, note=f"dlib's landmarks of the picture enlarged {ENLARGED} times"
    ),
    "small residual network": ByNetwork("small-face", 8),
    "ResNet-50 with CBAM": ByNetwork(
        "resnet50-cbam", 8, options={"width": 16, "size": 48, "channels": 1}, note="a quarter of the paper's width"
    ),
    "C3D": ByNetwork(
        "c3d",
        6,
        options={"width": 8, "size": 32},
        note="real faces, artificial motion: the camera passes over every picture, since no labelled film is at hand; "
        "an eighth of the paper's width",
    ),
}

BENCHMARKS: Mapping[str, Benchmark] = {
    "text": Benchmark("Text: GoEmotions, 7 emotions", "goemotions", "text", 2000, 1000, _TEXT),
    "voice": Benchmark("Voice: RAVDESS, 8 emotions, unseen actors", "ravdess", "voice", 900, 300, _VOICE),
    "tasks": Benchmark(
        "One task or two: RAVDESS, voice, and as a second task the action units of the same clips' faces",
        *("ravdess", "voice", 900, 300, _TASKS),
        reading="joint",
        seeds=(0, 1),
    ),
    "face": Benchmark("Face: FER+, 8 emotions", "ferplus", "face", 2500, 1000, _FACE),
}


def _quick(benchmark: Benchmark) -> Benchmark:
    """A tenth of the rows and one epoch, to see that everything runs; the figures mean nothing."""
    methods = {
        name: replace(method, epochs=1) if isinstance(method, ByNetwork) else method
        for name, method in benchmark.methods.items()
    }
    n_train, n_test = benchmark.n_train // 10, benchmark.n_test // 10
    return replace(benchmark, methods=methods, n_train=n_train, n_test=n_test, seeds=benchmark.seeds[:1])


@dataclass(frozen=True)
class Table:
    """Results of a benchmark by method, and why others are missing."""

    benchmark: Benchmark
    results: Mapping[str, Result]
    missing: Mapping[str, str]

    def markdown(self) -> str:
        """A row a method, and the notes."""
        benchmark = self.benchmark
        figures = ResultTable(("method", "accuracy", "95 % interval", "weights", "training, s", "an answer, ms"))
        for name, result in self.results.items():
            figures.add(*self._row(name, result))
        rows = f"{benchmark.n_train:,} training rows, {benchmark.n_test:,} test rows."
        noted: dict[str, list[str]] = {}
        for name in self.results:
            noted.setdefault(benchmark.methods[name].note, []).append(name)
        notes = [f"- {', '.join(names)}: {note}." for note, names in noted.items() if note]
        notes += [f"- {name} is left out: {reason}." for name, reason in self.missing.items()]
        parts = [f"### {benchmark.title}", rows, figures.markdown(), "\n".join(notes)]
        return "\n\n".join(part for part in parts if part)

    @staticmethod
    def _row(name: str, result: Result) -> tuple[str, ...]:
        low, high = (100 * value for value in result.interval)
        seeds = ", ".join(f"{100 * value:.1f}" for value in result.seeds) if len(result.seeds) > 1 else ""
        accuracy = f"{100 * result.accuracy:.1f}" + (f" ({seeds})" if seeds else "")
        training = _short(result.seconds) if result.passes == 1 else f"{result.passes} × {_short(result.seconds)}"
        figures = (f"{low:.1f} to {high:.1f}", f"{result.weights:,}", training, _short(result.milliseconds))
        return name, accuracy, *figures


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def table(benchmark: Benchmark, data: Path, kept: Path) -> Table:
    """Measure what the folder ``kept`` does not hold yet. Raises DataError where the corpus is not in ``data``."""
    results: dict[str, Result] = {}
    missing: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        drawn = cache(lambda: samples_of(benchmark, data, Store(Path(folder))))  # not read where all results are kept
        for name, method in benchmark.methods.items():
            place = kept / f"{_slug(f'{benchmark.corpus} {name}')}.json"
            try:
                settings = _settings(benchmark, method)
                known = _recalled(place, settings)
                if known is None:
                    known = measure(method, benchmark, drawn())
                    _keep(place, settings, known)
                    print(" | ".join(Table._row(name, known)), file=sys.stderr, flush=True)
            except (AssetError, MissingExtraError) as error:
                missing[name] = str(error)
            else:
                results[name] = known
    return Table(benchmark, results, missing)


def _settings(benchmark: Benchmark, method: Method) -> str:
    """What decides a result."""
    facts = {key: value for key, value in asdict(benchmark).items() if key not in ("methods", "title")}
    shipped = features.make(method.extractor).weights() if isinstance(method, ByFeatures) else {}
    own = asdict(replace(method, note=""))
    return json.dumps([__version__, facts, type(method).__name__, own, shipped], sort_keys=True)


def _recalled(place: Path, settings: str) -> Result | None:
    try:
        found = json.loads(place.read_text(encoding="utf-8"))
        return Result(**_as_tuples(found["result"])) if found["settings"] == settings else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _as_tuples(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()}


def _keep(place: Path, settings: str, result: Result) -> None:
    write_json(place, {"settings": settings, "result": asdict(result)}, indent=None)


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print the tables; exits with 2 and a sentence where data are missing."""
    parser = data_parser(__doc__)
    parser.add_argument("--out", type=Path, help="page to write the tables to, between its marks")
    parser.add_argument("--only", choices=sorted(BENCHMARKS), action="append", help="a table (default: all)")
    parser.add_argument("--results", type=Path, default=Path("runs/methods"), help="folder of earlier results")
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows, one epoch: only to see it run")
    options = parser.parse_args(arguments)
    chosen = [BENCHMARKS[name] for name in options.only or BENCHMARKS]
    with errors_as_sentences(parser):
        tables = list(_tables([_quick(b) for b in chosen] if options.quick else chosen, options.data, options.results))
        if options.out is not None:
            write_between(options.out, "methods", "\n\n".join(tables))


def _tables(benchmarks: Sequence[Benchmark], data: Path, kept: Path) -> Iterator[str]:
    for benchmark in benchmarks:
        text = table(benchmark, data, kept).markdown()
        print(text, end="\n\n", flush=True)
        yield text


if __name__ == "__main__":
    main()
