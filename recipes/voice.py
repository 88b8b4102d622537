"""Recipe of the voice expert: residual networks over log-mel and perceptrons over functionals, on RAVDESS and EMO-DB.

``python -m recipes.voice --data DIR --out runs/voice [--resume]``
``python -m recipes.voice --data DIR --out runs/voice_folds --folds-over-all [--members 3] [--resume]``

The train split is cut into folds of whole speakers. One network of each kind learns from every fold's complement; what
they answer for the speakers of the fold itself gives the temperature and the rows for the fuser, and together they are
the shipped ensemble. Dev only reports. The front end was chosen by these folds. Augmentations are in `voice_data`.

The second command ships nothing: it measures the recipe on all speakers of train and dev, each of them judged by
networks that never heard them.
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
from affuse.labels import RAVDESS, VOICE, restrict
from affuse.media import SAMPLE_RATE
from affuse.training.cards import write_card, write_held_out
from affuse.training.networks.exporter import export_module
from affuse.training.networks.kinds import AXES
from affuse.training.networks.voice_layers import FunctionalsNetwork, VoiceEnsemble, VoiceNetwork
from affuse.training.seeds import seed_everything
from affuse.weights import session
from recipes.command import errors_as_sentences, recipe_parser, start_run
from recipes.voice_data import CORPORA, Clips, Features, assign_folds, channel_copies, functionals_table, read_clips
from recipes.voice_training import Fold, VoiceConfig, label_masks, learn_functionals, learn_network

__all__ = ["VoiceConfig", "export", "main", "measure", "train"]

_KNOWN = {"targets": "targets", "groups": "groups", "corpus": "corpus", "clips": "names"}
"""Arrays of held_out.npz and unseen.npz, and the fields of `Clips` that they hold."""


def train(data: Path, out: Path, config: VoiceConfig, resume: bool) -> None:
    """Train, export and measure; leaves voice.onnx, card.json, held_out.npz and every fold's checkpoints in ``out``.

    Besides, unseen.npz holds the answers for every speaker of train and dev by networks that never heard them: a fold's
    for its own speakers, and those of the shipped ensemble for dev, the last fold.
    """
    start_run(out, config, resume)
    clips = read_clips(data, "train")
    learned = _cross_fit(clips, out, config)
    temperature = fit_temperature(learned.logits + label_masks(clips.corpus).numpy(), clips.targets)
    ensemble = VoiceEnsemble(learned.networks, learned.perceptrons, config.n_mels, temperature)
    embeddings = torch.cat([_embeddings(learned.networks, learned.features, row) for row in range(len(clips))])
    ensemble.fit_projection(embeddings, config.embedding)
    weights = out / "voice.onnx"
    export(ensemble, weights)
    P = softmax(learned.logits / temperature, axis=1)
    write_held_out(
        out / "held_out.npz", probabilities=P, targets=clips.targets, groups=clips.groups, corpus=clips.corpus
    )
    dev = read_clips(data, "dev")
    classify = _classifier(weights)
    P_dev = np.stack([classify(waveform) for waveform in dev.waveforms])
    first, last = _known(clips), _known(dev)
    write_held_out(
        out / "unseen.npz",
        probabilities=np.concatenate([P, P_dev]),
        folds=np.concatenate([learned.folds, np.full(len(dev), config.folds)]),
        **{name: np.concatenate([first[name], last[name]]) for name in _KNOWN},
    )
    facts = {
        "config": asdict(config),
        "rows": {"train": len(clips)},
        "speakers_of_folds": _speakers(clips, learned.folds),
        "parameters": sum(p.numel() for p in ensemble.parameters()),
        "temperature": temperature,
        "held_out_accuracy": _accuracies(learned.logits, clips, np.arange(len(clips))),
        **_report(P_dev, dev),
        "dev_ravdess_windows": _window_accuracies(classify, dev),
    }
    write_card(out / "card.json", weights, facts)
    print(facts)


def measure(data: Path, out: Path, config: VoiceConfig, members: int, resume: bool) -> None:
    """Cross-fit the recipe over the speakers of train and dev; nothing of it is shipped.

    Leaves report.json, held_out.npz, unseen.npz and the networks of the first run as fold0.onnx, … in ``out``.
    ``members`` runs, which differ by seed, are averaged besides being reported one by one.
    """
    start_run(out, config, resume)
    clips = read_clips(data, "train", "dev")
    scores: dict[str, np.ndarray] = {}
    total = np.zeros((len(clips), len(VOICE)))
    for member in range(members):
        own = replace(config, seed=config.seed + member)
        learned = _cross_fit(clips, out / f"member{member}", own)
        scores |= {f"{name}, seed {own.seed}": value for name, value in learned.by_kind.items()}
        total += learned.logits / members
        if member == 0:
            first = learned
    scores[f"mean of {members}"] = total
    masks = label_masks(clips.corpus).numpy()
    temperature = fit_temperature(total + masks, clips.targets)
    known = _known(clips) | {"folds": first.folds}
    write_held_out(out / "unseen.npz", probabilities=softmax(total / temperature, axis=1), **known)
    write_held_out(out / "held_out.npz", probabilities=softmax((total + masks) / temperature, axis=1), **known)
    for k in range(config.folds):
        _export_fold(first, k, temperature, config, out / f"fold{k}.onnx")
    report = {
        "config": asdict(config),
        "speakers_of_folds": _speakers(clips, first.folds),
        "temperature": temperature,
        "scores": {name: _by_corpus(value, clips, first.folds) for name, value in scores.items()},
    }
    write_json(out / "report.json", report)
    print(report["scores"])


def _known(clips: Clips) -> dict[str, np.ndarray]:
    """What is known of clips besides their sound, by the names of the files' arrays."""
    return {name: getattr(clips, field) for name, field in _KNOWN.items()}


def _export_fold(learned: _Learned, fold: int, temperature: float, config: VoiceConfig, path: Path) -> None:
    """The networks of one fold as an ensemble of their own."""
    networks = [learned.networks[fold]]
    single = VoiceEnsemble(networks, [learned.perceptrons[fold]], config.n_mels, temperature)
    rows = np.flatnonzero(learned.folds != fold).tolist()
    embeddings = torch.cat([_embeddings(networks, learned.features, row) for row in rows])
    single.fit_projection(embeddings, config.embedding)
    export(single, path)


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
    """One network of each kind a fold, and the logits (n, 9) of each kind for the speakers that it never heard."""

    folds: np.ndarray
    features: Features
    networks: Sequence[VoiceNetwork]
    perceptrons: Sequence[FunctionalsNetwork]
    by_kind: dict[str, np.ndarray]

    @property
    def logits(self) -> np.ndarray:
        return self.by_kind["both"]


def _cross_fit(clips: Clips, out: Path, config: VoiceConfig) -> _Learned:
    """Networks of all folds; a fold whose checkpoints are in ``out`` goes on from them."""
    seed_everything(config.seed, config.threads)
    folds = assign_folds(clips.groups, config.folds)
    copies = channel_copies(clips, folds, config.seed)
    features = Features(clips.waveforms, copies, config.speeds, config.n_mels, config.channel_share)
    functionals = _functionals(clips, folds, out / "functionals.npy", config)
    networks, perceptrons = [], []
    by_kind = {kind: np.zeros((len(clips), len(VOICE))) for kind in ("network", "functionals", "both")}
    for k in range(config.folds):
        held_out = np.flatnonzero(folds == k)
        fold = Fold(clips, np.flatnonzero(folds != k), config.seed * 100 + k)
        perceptrons.append(learn_functionals(functionals, fold, config))
        networks.append(learn_network(features, fold, config, out / f"fold{k}"))
        by_kind["network"][held_out] = _logits(networks[k], features, held_out)
        by_kind["functionals"][held_out] = _perceptron_logits(perceptrons[k], functionals[held_out, 0])
        by_kind["both"][held_out] = (by_kind["network"][held_out] + by_kind["functionals"][held_out]) / 2
        held = {kind: _accuracies(logits[held_out], clips, held_out) for kind, logits in by_kind.items()}
        print(f"fold {k}: {held}", flush=True)
    return _Learned(folds, features, networks, perceptrons, by_kind)


def _functionals(clips: Clips, folds: np.ndarray, path: Path, config: VoiceConfig) -> Tensor:
    """Functionals of all clips and of augmented copies (`functionals_table`); a resumed run finds them in ``path``."""
    if not path.is_file():
        table = functionals_table(clips, folds, config.functionals_copies, config.channel_share, config.seed)
        with replacing(path) as (part,), part.open("wb") as file:
            np.save(file, table.numpy(), allow_pickle=False)
    return torch.from_numpy(np.load(path, allow_pickle=False))


@torch.no_grad()
def _logits(network: VoiceNetwork, features: Features, chosen: np.ndarray) -> np.ndarray:
    return torch.cat([network(features.whole(row))[1] for row in chosen.tolist()]).numpy()


@torch.no_grad()
def _perceptron_logits(perceptron: FunctionalsNetwork, functionals: Tensor) -> np.ndarray:
    return np.asarray(perceptron(functionals).numpy())


@torch.no_grad()
def _embeddings(networks: Sequence[VoiceNetwork], features: Features, row: int) -> Tensor:
    return torch.cat([network(features.whole(row))[0] for network in networks], dim=1)


def _accuracies(scores: np.ndarray, clips: Clips, chosen: np.ndarray) -> dict[str, float]:
    """Accuracy by corpus among the labels that it has; ``scores`` are those of the rows ``chosen``."""
    best = (scores + label_masks(clips.corpus[chosen]).numpy()).argmax(axis=1)
    right = best == clips.targets[chosen]
    corpus = clips.corpus[chosen]
    return {name: round(float(right[corpus == name].mean()), 4) for name in CORPORA if (corpus == name).any()}


def export(ensemble: VoiceEnsemble, path: Path) -> None:
    """Write the ensemble as ONNX: "waveform" (n, samples) in, "probabilities" (n, 9) and "embedding" (n, d) out.

    Weights are stored as 16-bit integers with a scale: the rounding is 90 dB below the largest entry, far below the
    floor of the log-mel bands.
    """
    noise = torch.randn(1, 3 * SAMPLE_RATE, generator=torch.Generator().manual_seed(0)) * 0.1
    outputs = ["probabilities", "embedding"]
    export_module(ensemble, path, {"waveform": noise}, outputs, AXES["waveform"], storage="int16")


def _classifier(weights: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Probabilities (9,) of one clip by the exported graph."""
    model = session(weights)
    return lambda waveform: np.asarray(model.run(["probabilities"], {"waveform": waveform[None]})[0][0])


def _report(P: np.ndarray, dev: Clips) -> dict[str, Any]:
    """Accuracy of answers (n, 9) about whole clips that nothing was fitted on or chosen by, corpus by corpus."""
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


def _window_accuracies(classify: Callable[[np.ndarray], np.ndarray], clips: Clips) -> dict[str, dict[str, float]]:
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
    options = parser.parse_args(arguments)
    config = VoiceConfig(epochs=options.epochs, seed=options.seed, threads=options.threads)
    with errors_as_sentences(parser):
        if options.folds_over_all:
            measure(options.data, options.out, config, options.members, options.resume)
        else:
            train(options.data, options.out, config, options.resume)


if __name__ == "__main__":
    main()
