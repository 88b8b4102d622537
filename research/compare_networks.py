"""Early, late, attention and joint fusion compared on the same rows, with different amounts of training data.

``python -m research.compare_networks --data DIR [--only mosi-words] [--seeds 3] [--json]``

Every method is trained on the same rows, groups (videos, actors) are never split, and parameters are the defaults: no
method is tuned on the test rows. Four tables: CMU-MOSI, trained on train and tested on the hold-out videos, with the
published features (whose networks for text and video were trained on the train labels), with the embedding of the
shipped text expert (which was trained on the train labels too) and with words alone (latent semantic analysis without
labels, the only text features here that do not know the labels); and RAVDESS in five folds over actors, with log-mel
statistics and action units.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC

from affuse.data.corpora import load
from affuse.data.corpora.base import find_folder
from affuse.errors import AssetError
from affuse.evaluation.experts import waveform
from affuse.evaluation.formatting import ResultTable
from affuse.evaluation.intervals import cluster_bootstrap
from affuse.fusion.early import CCAFusion, Concatenation, ProductFusion, SumFusion, WeightedConcatenation
from affuse.fusion.late import LateFusion
from affuse.fusion.networks import NetworkFuser
from affuse.media import SAMPLE_RATE
from affuse.training.networks.voice_layers import HOP, MelBands, Spectrum, normalise
from recipes.command import data_parser, errors_as_sentences
from research.ravdess_fusion import action_units

__all__ = ["Outcome", "Setting", "Task", "compare", "main"]

SHARES = (0.25, 0.5, 1.0)
_STEP = 0.25  # seconds of sound a step
_STEPS = 21  # of the longest clip of RAVDESS
_N_MELS = 40
_TOPICS = 100  # of the latent semantic analysis


@dataclass(frozen=True)
class Task:
    """Rows to train on and rows to test on, as indices of a setting."""

    train: np.ndarray
    test: np.ndarray


@dataclass(frozen=True)
class Setting:
    """One table: features X (n, d) with ``blocks``, labels, groups, and how to split; rows of a group in time order.

    ``sequences`` are blocks for networks over steps, where there are any, with the ``steps`` of each.
    """

    name: str
    X: np.ndarray
    y: np.ndarray
    groups: np.ndarray
    blocks: Mapping[str, slice]
    tasks: Callable[[int], Sequence[Task]]
    sequences: Mapping[str, slice] | None = None
    steps: Mapping[str, int] | None = None
    contexts: bool = False


Make = Callable[[Setting, int], Any]


def _methods(setting: Setting) -> dict[str, tuple[str, Make]]:
    """Family and maker of every method that can read the setting."""
    singles: dict[str, tuple[str, Make]] = {f"only {m}": ("single", _single(m)) for m in setting.blocks}
    early: dict[str, tuple[str, Make]] = {
        "concatenation, logistic": ("early", lambda s, seed: Concatenation(s.blocks)),
        "concatenation, SVM": ("early", lambda s, seed: Concatenation(s.blocks, SVC())),
        "weighted concatenation": ("early", lambda s, seed: WeightedConcatenation(s.blocks)),
        "sum": ("early", lambda s, seed: SumFusion(s.blocks)),
        "product": ("early", lambda s, seed: ProductFusion(s.blocks)),
        "CCA": ("early", lambda s, seed: CCAFusion(s.blocks)),
    }
    late: dict[str, tuple[str, Make]] = {
        f"experts, {rule}": ("late", _experts(rule)) for rule in ("mean", "product", "log_pool", "stacking", "auto")
    }
    rows = ("late", "tensor", "low_rank", "gated", "autoencoder")
    joint: dict[str, tuple[str, Make]] = {name: ("joint", _network(name)) for name in rows}
    if setting.sequences is not None:
        joint |= {
            "cnn_lstm": ("joint", _network("cnn_lstm")),
            "cross_attention": ("attention", _network("cross_attention")),
        }
    if setting.contexts:
        joint["contextual"] = ("joint, context", _network("contextual"))
        joint["contextual_attention"] = ("attention, context", _network("contextual_attention"))
    return {**singles, **early, **late, **joint}


def _single(modality: str) -> Make:
    return lambda setting, seed: Concatenation({modality: setting.blocks[modality]})


def _experts(rule: str) -> Make:
    return lambda setting, seed: LateFusion(setting.blocks, rule)


def _network(name: str) -> Make:
    def make(setting: Setting, seed: int) -> NetworkFuser:
        if name in {"cnn_lstm", "cross_attention"} and setting.sequences is not None:
            return NetworkFuser(setting.sequences, name, steps=setting.steps, random_state=seed, progress=False)
        return NetworkFuser(setting.blocks, name, random_state=seed, progress=False)

    return make


@dataclass(frozen=True)
class Outcome:
    """What one method reached with one share of the training groups: means over seeds, interval over groups."""

    setting: str
    method: str
    family: str
    share: float
    accuracy: float
    ci95: tuple[float, float]
    fit_seconds: float


def compare(setting: Setting, seeds: Sequence[int], shares: Sequence[float] = SHARES) -> Iterator[Outcome]:
    """Every method on every share of the setting's groups; a share is drawn once a seed, the same for all methods."""
    for name, (family, make) in _methods(setting).items():
        for share in shares:
            hits, seconds, groups = [], [], []
            for seed in seeds:
                for task in setting.tasks(seed):
                    rows = _share_of(task.train, setting.groups, share, seed)
                    started = time.process_time()
                    model = make(setting, seed).fit(setting.X[rows], setting.y[rows], groups=setting.groups[rows])
                    seconds.append(time.process_time() - started)
                    hits.append(_predict(model, setting, task.test) == setting.y[task.test])
                    groups.append(setting.groups[task.test])
            right, who = np.concatenate(hits).astype(float), np.concatenate(groups)
            interval = cluster_bootstrap(right, who)
            yield Outcome(setting.name, name, family, share, float(right.mean()), interval, float(np.mean(seconds)))


def _predict(model: Any, setting: Setting, rows: np.ndarray) -> np.ndarray:
    if isinstance(model, NetworkFuser):
        return model.predict(setting.X[rows], groups=setting.groups[rows])
    return np.asarray(model.predict(setting.X[rows]))


def _share_of(rows: np.ndarray, groups: np.ndarray, share: float, seed: int) -> np.ndarray:
    names = np.unique(groups[rows])
    drawn = np.random.default_rng(seed).permutation(names)[: max(2, round(share * len(names)))]
    return rows[np.isin(groups[rows], drawn)]


def mosi(data: Path, text: str) -> Setting:
    """CMU-MOSI with the published text features ("published"), "words" or the "shipped" text expert's embedding.

    Utterances are put in the order of their segments: the files are sorted by label within a video.
    """
    folder = find_folder(data, "mosi", "*_utterances.csv")
    parts = {split: load("mosi", data, split) for split in ("train", "dev")}
    files = {"train": "train", "dev": "holdout"}
    read = {
        name: np.concatenate([np.load(folder / f"{files[s]}_{name}.npy", allow_pickle=False) for s in parts])
        for name in ("text", "audio", "video")
    }
    texts = [t for part in parts.values() for t in part.inputs]
    n_train = len(parts["train"])
    if text == "published":
        blocks = read
    elif text == "words":
        blocks = {"words": _topics(texts, n_train), "audio": read["audio"]}
    else:
        blocks = {"transcript": _embeddings(texts), "audio": read["audio"], "video": read["video"]}
    groups = np.concatenate([part.groups for part in parts.values()])
    order = np.lexsort([_segments(folder, files), groups])
    held_out = (np.arange(len(texts)) >= n_train)[order]
    task = Task(np.flatnonzero(~held_out), np.flatnonzero(held_out))
    X, places = _side_by_side(blocks)
    y = np.concatenate([part.targets for part in parts.values()])
    return Setting(f"mosi-{text}", X[order], y[order], groups[order], places, lambda seed: [task], contexts=True)


def _segments(folder: Path, files: Mapping[str, str]) -> np.ndarray:
    import pandas as pd

    return np.concatenate([pd.read_csv(folder / f"{name}_utterances.csv")["segment"] for name in files.values()])


def _topics(texts: Sequence[str], n_train: int) -> np.ndarray:
    """Latent semantic analysis (n, 100), fitted on the training texts without labels."""
    model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), TruncatedSVD(_TOPICS, random_state=0))
    model.fit(list(texts[:n_train]))
    return np.asarray(model.transform(list(texts)))


def _embeddings(texts: Sequence[str]) -> np.ndarray:
    """Embeddings (n, d) of the shipped English text expert. Raises AssetError where it is not installed."""
    from affuse import weights
    from affuse.experts.text.english import EnglishText

    return EnglishText(weights.shipped("text_en")).embed(texts)


def ravdess(data: Path) -> Setting:
    """RAVDESS: log-mel of the voice (statistics, and 0.25 s steps) and action units, in five folds over actors."""
    parts = [load("ravdess", data, split) for split in ("train", "dev")]
    paths = [path for part in parts for path in part.inputs]
    voice = [_voice(path) for path in paths]
    X, places = _side_by_side(
        {
            "voice": np.array([statistics for statistics, _ in voice]),
            "face": action_units(data, [path.stem for path in paths]),
            "steps": np.array([steps for _, steps in voice]),
        }
    )
    y, groups = (np.concatenate([getattr(part, name) for part in parts]) for name in ("targets", "groups"))

    def tasks(seed: int) -> list[Task]:
        folds = GroupKFold(5, shuffle=True, random_state=seed).split(X, y, groups)
        return [Task(train, test) for train, test in folds]

    blocks = {"voice": places["voice"], "face": places["face"]}
    sequences = {"voice": places["steps"], "face": places["face"]}
    return Setting("ravdess", X, y, groups, blocks, tasks, sequences, {"voice": _STEPS})


def _voice(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Mean, deviation and deciles of the log-mel bands (160,), and their means over steps of 0.25 s (840,)."""
    with torch.no_grad():
        power = MelBands(_N_MELS)(Spectrum()(torch.from_numpy(waveform(path))[None]))
        frames = normalise(power)[0].double().numpy()
    statistics = [frames.mean(axis=0), frames.std(axis=0), *np.quantile(frames, [0.1, 0.9], axis=0)]
    width = round(_STEP * SAMPLE_RATE / HOP)
    steps = np.full((_STEPS, _N_MELS), np.nan)
    for i in range(min(_STEPS, len(frames) // width)):
        steps[i] = frames[i * width : (i + 1) * width].mean(axis=0)
    return np.concatenate(statistics), steps.ravel()


def _side_by_side(blocks: Mapping[str, np.ndarray]) -> tuple[np.ndarray, dict[str, slice]]:
    ends = np.cumsum([block.shape[1] for block in blocks.values()]).tolist()
    places = {name: slice(a, b) for name, a, b in zip(blocks, [0, *ends], ends, strict=False)}
    return np.concatenate(list(blocks.values()), axis=1).astype(float), places


SETTINGS: dict[str, Callable[[Path], Setting]] = {
    "mosi-published": lambda data: mosi(data, "published"),
    "mosi-shipped": lambda data: mosi(data, "shipped"),
    "mosi-words": lambda data: mosi(data, "words"),
    "ravdess": ravdess,
}


def _table(outcomes: Sequence[Outcome]) -> ResultTable:
    """One row a method, best first."""
    shares = sorted({o.share for o in outcomes})
    by_method: dict[str, dict[float, Outcome]] = {}
    for outcome in outcomes:
        by_method.setdefault(outcome.method, {})[outcome.share] = outcome
    last = shares[-1]
    table = ResultTable(("method", "family", *(f"{share:.0%}" for share in shares), "95 % interval", "fit s"))
    for name, found in sorted(by_method.items(), key=lambda item: -item[1][last].accuracy):
        o = found[last]
        low, high = (100 * value for value in o.ci95)
        figures = (f"{100 * found[share].accuracy:.1f}" for share in shares)
        table.add(name, o.family, *figures, f"{low:.1f} to {high:.1f}", f"{o.fit_seconds:.2f}")
    return table


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the comparison and print a table a setting, or with ``--json`` one object a line."""
    parser = data_parser(__doc__)
    parser.add_argument("--only", choices=sorted(SETTINGS), action="append", help="a table (default: all)")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds (%(default)s)")
    parser.add_argument("--json", action="store_true", help="one JSON object a method and share")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    with errors_as_sentences(parser):
        for name in options.only or SETTINGS:
            try:
                setting = SETTINGS[name](options.data)
            except AssetError as error:
                print(f"{name} is left out: {error}", file=sys.stderr)
            else:
                _report(setting, options.seeds, options.json)


def _report(setting: Setting, seeds: int, as_json: bool) -> None:
    outcomes = []
    for outcome in compare(setting, range(seeds)):
        outcomes.append(outcome)
        if as_json:
            print(json.dumps(vars(outcome)), flush=True)
    if not as_json:
        groups = len(np.unique(setting.groups))
        print(f"\n{setting.name}: {len(setting.y)} rows, {groups} groups, {seeds} seeds\n")
        print(_table(outcomes).markdown(), flush=True)


if __name__ == "__main__":
    main()
