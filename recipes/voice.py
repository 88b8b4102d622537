"""Recipe of the voice expert: residual networks over log-mel and perceptrons over functionals, on RAVDESS and EMO-DB.

``python -m recipes.voice --data DIR --out runs/voice [--resume]``
``python -m recipes.voice --data DIR --out runs/voice_folds --folds-over-all [--resume]``

Train is cut into folds of whole speakers. One network of each kind is fitted on every fold's complement; what they say
about the speakers of the fold itself is honest and gives the temperature and the fuser's rows, and together they are
the shipped ensemble. Valid only reports. The front end was chosen by these folds. Masks after Park et al. 2019
(SpecAugment, arXiv:1904.08779), mixup after Zhang et al. 2018 (arXiv:1710.09412), warping of frequency after Jaitly &
Hinton 2013 (vocal tract length perturbation). A share of what both kinds hear came through a telephone, stands in a
room or among other voices (`DAMAGE`).

The second command ships nothing: it measures the recipe on all speakers of train and valid, each of them judged by
networks that never heard them.
"""

from __future__ import annotations

import argparse
import copy
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from scipy.signal import fftconvolve, firwin2, resample_poly
from scipy.special import softmax
from torch import nn
from torch.nn import functional as F

from affuse.data.corpora import load
from affuse.evaluation.experts import waveform as read_waveform
from affuse.evaluation.intervals import cluster_bootstrap
from affuse.experts.voice import MIN_SPEECH, speech_seconds
from affuse.labels import EMODB, RAVDESS, VOICE, LabelSpace, restrict
from affuse.media import SAMPLE_RATE
from affuse.training.augment.sound import SoundAugmentation
from affuse.training.common import (
    ema_update,
    fit_temperature,
    one_cycle,
    seed_everything,
    write_card,
    write_held_out,
    write_json,
)
from affuse.training.networks.voice_layers import (
    HOP,
    Functionals,
    FunctionalsNetwork,
    MelBands,
    Spectrum,
    VoiceEnsemble,
    VoiceNetwork,
    normalise,
)
from recipes.checkpoints import load_checkpoint, restore_optimizer, save_checkpoint

__all__ = ["Rows", "VoiceConfig", "assign_folds", "compact", "export", "measure", "read_rows", "train"]

CORPORA: dict[str, LabelSpace] = {"ravdess": RAVDESS, "emodb": EMODB}
# Logits of the labels that a corpus does not have, so that a network never learns "German, so not surprised".
_IMPOSSIBLE = -1e4
_ABOUT = ("targets", "groups", "corpus", "clips")  # what is known of a row besides its sound
_ALWAYS = 1.0
DAMAGE = (
    SoundAugmentation(codec=("telephone",), probability=_ALWAYS),
    SoundAugmentation(codec=("amr",), probability=_ALWAYS),
    SoundAugmentation(reverberation=(0.2, 1.3), probability=_ALWAYS),
    SoundAugmentation(reverberation=(0.2, 1.3), probability=_ALWAYS),
    SoundAugmentation(noise_snr=(3.0, 20.0), noises=("babble",), probability=_ALWAYS),
)
"""What a share of the clips goes through: lines, rooms, and other people who talk."""
_QUIET = -16.1  # log power of the frames that pad a short clip: 70 dB below the clip's mean


@dataclass(frozen=True)
class VoiceConfig:
    """Everything that shapes a run."""

    epochs: int = 45
    batch_size: int = 32
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    ema_decay: float = 0.995
    dropout: float = 0.3
    label_smoothing: float = 0.1
    mixup: float = 0.3
    mixup_share: float = 0.5
    n_mels: int = 80
    widths: tuple[int, ...] = (24, 32, 64, 96)
    frames: tuple[int, int] = (160, 320)
    speeds: tuple[float, ...] = (1.0, 0.85, 0.925, 1.075, 1.175)
    damaged_share: float = 0.3
    functionals_copies: int = 8
    functionals_epochs: int = 20
    functionals_batch: int = 128
    functionals_hidden: int = 128
    functionals_dropout: float = 0.5
    functionals_weight_decay: float = 0.1
    folds: int = 5
    embedding: int = 64
    checkpoint_every: int = 5
    seed: int = 1
    threads: int = 1
    bfloat16: bool = True  # matrix units of recent processors; others compute the same, slower


@dataclass(frozen=True)
class Rows:
    """Clips of both corpora: ``targets`` (n,) are columns of `labels.VOICE`, ``groups`` (n,) "corpus/speaker".

    ``clips`` (n,) are the names of their files.
    """

    waveforms: Sequence[np.ndarray]
    targets: np.ndarray
    groups: np.ndarray
    corpus: np.ndarray
    clips: np.ndarray

    def __len__(self) -> int:
        return len(self.targets)


def read_rows(data: Path, *splits: str) -> Rows:
    """Decode splits of RAVDESS and EMO-DB to 16 kHz mono."""
    waveforms, targets, groups, corpus, clips = [], [], [], [], []
    for split in splits:
        for name, labels in CORPORA.items():
            rows = load(name, data, split)
            waveforms += [read_waveform(path) for path in rows.inputs]
            targets += [VOICE.index(labels.labels[target]) for target in rows.targets]
            groups += [f"{name}/{group}" for group in rows.groups]
            corpus += [name] * len(rows)
            clips += [path.stem for path in rows.inputs]
    return Rows(waveforms, np.array(targets), np.array(groups), np.array(corpus), np.array(clips))


def assign_folds(groups: np.ndarray, n: int) -> np.ndarray:
    """Fold (n,) of every row: whole speakers dealt out in turn, the women of RAVDESS (even numbers) before its men."""
    folds: dict[str, int] = {}
    for name in CORPORA:
        speakers = sorted({g for g in groups if g.startswith(f"{name}/")})
        if name == "ravdess":
            speakers.sort(key=lambda g: (int(g.split("/")[1]) % 2, g))
        folds |= {speaker: i % n for i, speaker in enumerate(speakers)}
    return np.array([folds[g] for g in groups])


def _masks(corpus: np.ndarray) -> torch.Tensor:
    """Additive mask (n, 9) that takes away the labels which a row's corpus does not have."""
    masks = {
        name: torch.tensor([0.0 if label in labels.labels else _IMPOSSIBLE for label in VOICE.labels])
        for name, labels in CORPORA.items()
    }
    return torch.stack([masks[name] for name in corpus])


def _smoothed_loss(logits: torch.Tensor, targets: torch.Tensor, masks: torch.Tensor, smoothing: float) -> torch.Tensor:
    """Cross-entropy (n,) over the labels that the mask leaves; the smoothing is shared among them only."""
    log_p = F.log_softmax(logits + masks, dim=1)
    possible = (masks == 0).float()
    even = (log_p * possible).sum(dim=1) / possible.sum(dim=1)
    return -(1 - smoothing) * log_p.gather(1, targets[:, None])[:, 0] - smoothing * even


def damaged(rows: Rows, folds: np.ndarray, seed: int) -> list[list[np.ndarray]]:
    """Every clip through each of `DAMAGE`; the voices behind it are those of its own fold, so that none is betrayed."""
    found = []
    for row, waveform in enumerate(rows.waveforms):
        rng = np.random.default_rng((seed, row))
        found.append([damage(waveform, rng, _others(rows, folds, row, rng)) for damage in DAMAGE])
    return found


def _others(rows: Rows, folds: np.ndarray, row: int, rng: np.random.Generator, n: int = 6) -> list[np.ndarray]:
    """Clips of other speakers in the fold of ``row``."""
    places = np.flatnonzero((folds == folds[row]) & (rows.groups != rows.groups[row]))
    return [rows.waveforms[i] for i in rng.choice(places, min(n, len(places)), replace=False)]


class Features:
    """Log-mel of every clip at several speeds and of its ``damaged`` copies, held in half precision.

    ``damaged_share`` of what is drawn is damaged.
    """

    def __init__(
        self,
        waveforms: Sequence[np.ndarray],
        damaged: Sequence[Sequence[np.ndarray]],
        speeds: Sequence[float],
        n_mels: int,
        damaged_share: float,
    ) -> None:
        self._spectrum, self._bands = Spectrum(), MelBands(n_mels)
        self._held = [[self._log_mel(_change_speed(waveform, speed)) for speed in speeds] for waveform in waveforms]
        self._damaged = [[self._log_mel(copy) for copy in copies] for copies in damaged]
        self._share = damaged_share

    def _log_mel(self, waveform: np.ndarray) -> torch.Tensor:
        power = self._bands(self._spectrum(torch.from_numpy(waveform)[None]))[0]
        return torch.log(power / (power.mean() + 1e-12) + 1e-7).half()

    def draw(self, rows: torch.Tensor, n_frames: int, generator: torch.Generator) -> torch.Tensor:
        """Log power (batch, n_frames, n_mels): a random copy and stretch of each clip, short ones amid silence."""
        batch = torch.full((len(rows), n_frames, self._held[0][0].shape[1]), _QUIET)
        for into, row in zip(batch, rows.tolist(), strict=True):
            spoiled = float(torch.rand(1, generator=generator)) < self._share
            variants = self._damaged[row] if spoiled else self._held[row]
            clip = variants[_integer(0, len(variants) - 1, generator)]
            spare = len(clip) - n_frames
            start = _integer(0, abs(spare), generator)
            if spare >= 0:
                into.copy_(clip[start : start + n_frames])
            else:
                into[start : start + len(clip)] = clip
        return batch

    def whole(self, row: int) -> torch.Tensor:
        """Normalised features (1, frames, n_mels) of an unchanged clip."""
        return normalise(self._held[row][0].float().exp()[None])


def _change_speed(waveform: np.ndarray, speed: float) -> np.ndarray:
    ratio = Fraction(speed).limit_denominator(40)
    changed = resample_poly(waveform, ratio.denominator, ratio.numerator) if ratio != 1 else waveform
    return np.ascontiguousarray(changed, dtype=np.float32)


def _integer(low: int, high: int, generator: torch.Generator) -> int:
    return int(torch.randint(low, high + 1, (1,), generator=generator))


def augment(log_power: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Another voice in another room: (n, frames, bands) log power in, normalised features with masks out."""
    log_power = _warp(log_power, generator)
    log_power = _reverberate(log_power, generator)
    log_power = _equalise(log_power, generator)
    power = _add_noise(log_power.exp(), generator)
    return _mask(normalise(power), generator)


def _uniform(shape: tuple[int, ...], low: float, high: float, generator: torch.Generator) -> torch.Tensor:
    return torch.rand(shape, generator=generator) * (high - low) + low


def _warp(log_power: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Change tempo by up to 15 %, stretch the mel axis by up to 10 % and move it by up to 2 %: another vocal tract."""
    n = len(log_power)
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0] = _uniform((n,), 0.9, 1.1, generator)
    theta[:, 0, 2] = _uniform((n,), -0.04, 0.04, generator)
    theta[:, 1, 1] = _uniform((n,), 0.85, 1.15, generator)
    grid = F.affine_grid(theta, [n, 1, *log_power.shape[1:]], align_corners=False)
    return F.grid_sample(log_power[:, None], grid, padding_mode="border", align_corners=False)[:, 0]


def _reverberate(log_power: torch.Tensor, generator: torch.Generator, share: float = 0.25) -> torch.Tensor:
    """Smear a share of the clips by a tail that dies away in 0.15 to 0.65 s."""
    chosen = torch.nonzero(torch.rand(len(log_power), generator=generator) < share).flatten()
    if len(chosen) == 0:
        return log_power
    seconds, strength = _uniform((2,), 0.0, 1.0, generator).tolist()
    length = 40
    decay = 13.8 * (HOP / SAMPLE_RATE) / (0.15 + 0.5 * seconds)  # 60 dB of power within the reverberation time
    tail = torch.exp(-decay * torch.arange(length)) * (0.05 + 0.25 * strength)
    tail[0] = 1.0
    power = log_power[chosen].exp().transpose(1, 2)
    smeared = F.conv1d(F.pad(power.flatten(0, 1)[:, None], (length - 1, 0)), tail.flip(0)[None, None])
    result = log_power.clone()
    result[chosen] = torch.log(smeared.view_as(power).transpose(1, 2) + 1e-8)
    return result


def _equalise(log_power: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Add a smooth random curve over the bands: microphones, codecs and distance colour a voice."""
    n, _, n_bands = log_power.shape
    band = torch.linspace(0, 1, n_bands)
    phase = _uniform((n, 4, 1), 0, 2 * math.pi, generator)
    ripples = _uniform((n, 4, 1), 0, 2.5, generator)
    heights = torch.randn((n, 4, 1), generator=generator) * 0.35
    tilt = torch.randn((n, 1), generator=generator) * 0.7 * (band - 0.5)
    curve = (heights * torch.cos(2 * math.pi * ripples * band + phase)).sum(dim=1) + tilt
    return log_power + curve[:, None]


def _add_noise(power: torch.Tensor, generator: torch.Generator, share: float = 0.5) -> torch.Tensor:
    """Add noise of a random spectral slope to a share of the clips, 5 to 45 dB below them."""
    n, n_frames, n_bands = power.shape
    noisy = (torch.rand(n, generator=generator) < share).float()
    ratio = 10 ** (-_uniform((n,), 0.5, 4.5, generator)) * noisy
    slope = torch.randn((n, 1), generator=generator) * 2 - 2
    shape = torch.exp(slope * torch.linspace(-0.5, 0.5, n_bands))
    shape = shape / shape.mean(dim=1, keepdim=True)
    # The power of a noise in one band and frame is exponentially distributed; a band of several bins varies less.
    flicker = 0.4 - 0.6 * torch.log(_uniform((n, n_frames, n_bands), 1e-3, 1.0, generator))
    scale = power.mean(dim=(1, 2)) * ratio
    return power + scale[:, None, None] * shape[:, None] * flicker


def _mask(features: torch.Tensor, generator: torch.Generator, bands: int = 10, frames: int = 25) -> torch.Tensor:
    """Blank two bands and two stretches of time in every clip."""
    _, n_frames, n_bands = features.shape
    for clip in features:
        blank = clip.mean()
        for _ in range(2):
            width, length = _integer(0, bands, generator), _integer(0, frames, generator)
            low, start = _integer(0, n_bands - width - 1, generator), _integer(0, n_frames - length - 1, generator)
            clip[:, low : low + width] = blank
            clip[start : start + length] = blank
    return features


def train(data: Path, out: Path, config: VoiceConfig, resume: bool) -> None:
    """Train, export and measure; leaves voice.onnx, card.json, held_out.npz and every fold's network in ``out``.

    Besides, unseen.npz holds what was said about every speaker of train and valid by networks that never heard them:
    a fold's about its own speakers, and what is shipped about those of valid, the last fold.
    """
    rows = read_rows(data, "train")
    fitted = _cross_fit(rows, out, config, resume)
    temperature = fit_temperature(fitted.logits + _masks(rows.corpus).numpy(), rows.targets)
    ensemble = VoiceEnsemble(fitted.networks, fitted.perceptrons, config.n_mels, temperature)
    embeddings = torch.cat([_embeddings(fitted.networks, fitted.features, row) for row in range(len(rows))])
    ensemble.fit_projection(embeddings, config.embedding)
    weights = out / "voice.onnx"
    export(ensemble, weights)
    P = softmax(fitted.logits / temperature, axis=1)
    write_held_out(out / "held_out.npz", probabilities=P, targets=rows.targets, groups=rows.groups, corpus=rows.corpus)
    valid = read_rows(data, "valid")
    classify = _classifier(weights)
    P_valid = np.stack([classify(waveform) for waveform in valid.waveforms])
    both = {name: np.concatenate([getattr(part, name) for part in (rows, valid)]) for name in _ABOUT}
    last = np.full(len(valid), config.folds)
    write_held_out(
        out / "unseen.npz",
        probabilities=np.concatenate([P, P_valid]),
        folds=np.concatenate([fitted.folds, last]),
        **both,
    )
    facts = {
        "config": asdict(config),
        "rows": {"train": len(rows)},
        "speakers_of_folds": _speakers(rows, fitted.folds),
        "parameters": sum(p.numel() for p in ensemble.parameters()),
        "temperature": temperature,
        "held_out_accuracy": _accuracies(fitted.logits, rows, np.arange(len(rows))),
        **_report(P_valid, valid),
        "valid_ravdess_windows": _window_accuracies(classify, valid),
    }
    write_card(out / "card.json", weights, facts)
    print(facts)


def measure(data: Path, out: Path, config: VoiceConfig, members: int, resume: bool) -> None:
    """Cross-fit the recipe over the speakers of train and valid.

    Leaves report.json, held_out.npz, unseen.npz and what the first run says of a fold as fold0.onnx, … in ``out``.

    Nothing of it is shipped. ``members`` runs, which differ by seed, are averaged besides being reported one by one.
    """
    rows = read_rows(data, "train", "valid")
    scores: dict[str, np.ndarray] = {}
    total = np.zeros((len(rows), len(VOICE)))
    for member in range(members):
        own = replace(config, seed=config.seed + member)
        fitted = _cross_fit(rows, out / f"member{member}", own, resume)
        scores |= {f"{name}, seed {own.seed}": value for name, value in fitted.by_kind.items()}
        total += fitted.logits / members
        if member == 0:
            first = fitted
    scores[f"mean of {members}"] = total
    masks = _masks(rows.corpus).numpy()
    temperature = fit_temperature(total + masks, rows.targets)
    about = {name: getattr(rows, name) for name in _ABOUT}
    write_held_out(out / "unseen.npz", probabilities=softmax(total / temperature, axis=1), folds=fitted.folds, **about)
    for k in range(config.folds):
        single = VoiceEnsemble([first.networks[k]], [first.perceptrons[k]], config.n_mels, temperature)
        learned = np.flatnonzero(fitted.folds != k).tolist()
        single.fit_projection(
            torch.cat([_embeddings(single.networks, first.features, row) for row in learned]), config.embedding
        )
        export(single, out / f"fold{k}.onnx")
    write_held_out(
        out / "held_out.npz",
        probabilities=softmax((total + masks) / temperature, axis=1),
        folds=fitted.folds,
        **about,
    )
    report = {
        "config": asdict(config),
        "speakers_of_folds": _speakers(rows, fitted.folds),
        "temperature": temperature,
        "scores": {name: _by_corpus(value, rows, fitted.folds) for name, value in scores.items()},
    }
    write_json(out / "report.json", report)
    print(report["scores"])


def _by_corpus(logits: np.ndarray, rows: Rows, folds: np.ndarray) -> dict[str, dict[str, Any]]:
    """Accuracy of each corpus with an interval that draws speakers (Field & Welsh 2007), and that of every fold."""
    right = (logits + _masks(rows.corpus).numpy()).argmax(axis=1) == rows.targets
    table = {}
    for name in CORPORA:
        own = rows.corpus == name
        parts = {k: right[own & (folds == k)] for k in np.unique(folds).tolist()}
        table[name] = {
            "n": int(own.sum()),
            "accuracy": round(float(right[own].mean()), 4),
            "ci95": [round(bound, 4) for bound in cluster_bootstrap(right[own], rows.groups[own])],
            "by_fold": {str(k): round(float(part.mean()), 4) for k, part in parts.items() if len(part)},
        }
    return table


def _speakers(rows: Rows, folds: np.ndarray) -> dict[str, list[str]]:
    return {str(k): sorted(set(rows.groups[folds == k].tolist())) for k in np.unique(folds).tolist()}


@dataclass(frozen=True)
class _Fitted:
    """One network of each kind a fold, and what each said (n, 9) about the speakers that it never heard."""

    folds: np.ndarray
    features: Features
    networks: Sequence[VoiceNetwork]
    perceptrons: Sequence[FunctionalsNetwork]
    by_kind: dict[str, np.ndarray]

    @property
    def logits(self) -> np.ndarray:
        return self.by_kind["both"]


def _cross_fit(rows: Rows, out: Path, config: VoiceConfig, resume: bool) -> _Fitted:
    out.mkdir(parents=True, exist_ok=True)
    seed_everything(config.seed, config.threads)
    folds = assign_folds(rows.groups, config.folds)
    copies = damaged(rows, folds, config.seed)
    features = Features(rows.waveforms, copies, config.speeds, config.n_mels, config.damaged_share)
    functionals = _functionals_table(rows, folds, out / "functionals.safetensors", config, resume)
    masks = _masks(rows.corpus)
    networks, perceptrons = [], []
    by_kind = {kind: np.zeros((len(rows), len(VOICE))) for kind in ("network", "functionals", "both")}
    for k in range(config.folds):
        fit, held_out = np.flatnonzero(folds != k), np.flatnonzero(folds == k)
        problem = _Problem(rows, masks, fit)
        perceptrons.append(_fit_perceptron(functionals, problem, config, k))
        networks.append(_fit_network(features, problem, config, k, out / f"fold{k}.safetensors", resume))
        by_kind["network"][held_out] = _logits(networks[k], features, held_out)
        by_kind["functionals"][held_out] = _perceptron_logits(perceptrons[k], functionals[held_out, 0])
        by_kind["both"][held_out] = (by_kind["network"][held_out] + by_kind["functionals"][held_out]) / 2
        held = {kind: _accuracies(logits[held_out], rows, held_out) for kind, logits in by_kind.items()}
        print(f"fold {k}: {held}", flush=True)
    return _Fitted(folds, features, networks, perceptrons, by_kind)


@dataclass(frozen=True)
class _Problem:
    """What one fold's models are fitted on: all rows, their masks, and which of them (m,) may be used."""

    rows: Rows
    masks: torch.Tensor
    chosen: np.ndarray

    @property
    def targets(self) -> torch.Tensor:
        return torch.from_numpy(self.rows.targets)


def _fit_network(
    features: Features, problem: _Problem, config: VoiceConfig, fold: int, path: Path, resume: bool
) -> VoiceNetwork:
    seed = config.seed * 100 + fold
    torch.manual_seed(seed)
    network = VoiceNetwork(config.n_mels, config.widths, len(VOICE), config.dropout)
    network = network.to(memory_format=torch.channels_last)
    average = copy.deepcopy(network)
    decayed = [p for p in network.parameters() if p.ndim > 1]
    free = [p for p in network.parameters() if p.ndim <= 1]  # norms and biases
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": free, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, config.learning_rate)
    first = _restore(path, network, average, optimizer) if resume and path.is_file() else 0
    for epoch in range(first, config.epochs):
        started = time.monotonic()
        # Seeded anew each epoch, so that a resumed run draws what an undisturbed one draws.
        generator = torch.Generator().manual_seed(seed * 1000 + epoch)
        torch.manual_seed(seed * 1000 + epoch)
        loss = 0.0
        batches = torch.from_numpy(problem.chosen)[torch.randperm(len(problem.chosen), generator=generator)]
        steps = batches.split(config.batch_size)[:-1]
        for step, batch in enumerate(steps):
            factor = one_cycle((epoch + step / len(steps)) / config.epochs)
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate * factor
            value = _step_loss(network, features, problem, batch, config, generator)
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            optimizer.step()
            done = step + epoch * len(steps)
            ema_update(average, network, min(config.ema_decay, (1 + done) / (10 + done)))
            loss += value.item() / len(steps)
        if (epoch + 1) % config.checkpoint_every == 0 or epoch + 1 == config.epochs:
            _save(path, network, average, optimizer, epoch + 1)
            seconds = time.monotonic() - started
            print(f"fold {fold} epoch {epoch + 1}/{config.epochs} loss {loss:.3f} {seconds:.0f} s", flush=True)
    return average.eval()


def _step_loss(
    network: VoiceNetwork,
    features: Features,
    problem: _Problem,
    batch: torch.Tensor,
    config: VoiceConfig,
    generator: torch.Generator,
) -> torch.Tensor:
    inputs = augment(features.draw(batch, _integer(*config.frames, generator), generator), generator)
    partner, share = torch.arange(len(batch)), 1.0
    if float(torch.rand(1, generator=generator)) < config.mixup_share:
        partner = torch.randperm(len(batch), generator=generator)
        share = float(torch.distributions.Beta(config.mixup, config.mixup).sample())
        inputs = share * inputs + (1 - share) * inputs[partner]
    with torch.autocast("cpu", torch.bfloat16, enabled=config.bfloat16):
        _, logits = network(inputs)
    logits, targets, masks = logits.float(), problem.targets[batch], problem.masks[batch]
    own = _smoothed_loss(logits, targets, masks, config.label_smoothing)
    other = _smoothed_loss(logits, targets[partner], masks[partner], config.label_smoothing)
    return (share * own + (1 - share) * other).mean()


def _save(path: Path, network: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer, epoch: int) -> None:
    parts = {
        "network": network.state_dict(),
        "average": average.state_dict(),
        "optimizer": {"state": optimizer.state_dict()["state"]},
    }
    save_checkpoint(path, parts, {"epoch": epoch})


def _restore(path: Path, network: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    parts, progress = load_checkpoint(path)
    network.load_state_dict(parts["network"])
    average.load_state_dict(parts["average"])
    restore_optimizer(optimizer, parts["optimizer"])
    return int(progress["epoch"])


@torch.no_grad()
def _functionals_table(rows: Rows, folds: np.ndarray, path: Path, config: VoiceConfig, resume: bool) -> torch.Tensor:
    """Functionals (n, 1 + copies, d) of every clip as it is and of changed copies of it."""
    if resume and path.is_file():
        return load_file(path)["table"]
    spectrum, functionals = Spectrum(), Functionals()
    generator = np.random.default_rng(config.seed)

    def measure(waveform: np.ndarray) -> torch.Tensor:
        return functionals(spectrum(torch.from_numpy(np.ascontiguousarray(waveform, dtype=np.float32))[None]))[0]

    def disguised(row: int) -> np.ndarray:
        changed = disguise(rows.waveforms[row], generator)
        if generator.random() >= config.damaged_share:
            return changed
        damage = DAMAGE[int(generator.integers(len(DAMAGE)))]
        return damage(changed.astype(np.float32), generator, _others(rows, folds, row, generator))

    table = torch.stack(
        [
            torch.stack([measure(w), *(measure(disguised(row)) for _ in range(config.functionals_copies))])
            for row, w in enumerate(rows.waveforms)
        ]
    )
    temporary = path.with_suffix(".part")
    save_file({"table": table}, temporary)
    os.replace(temporary, path)
    return table


def disguise(waveform: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Change speed by up to 15 %, and by chance cut to 1.6 s or more, filter smoothly and add white or brown noise.

    The noise lies 5 to 40 dB below the clip.
    """
    changed = _change_speed(waveform, generator.uniform(0.87, 1.17))
    if generator.random() < 0.6:
        n = min(len(changed), int(generator.uniform(1.6, 3.2) * SAMPLE_RATE))
        start = generator.integers(0, len(changed) - n + 1)
        changed = changed[start : start + n]
    if generator.random() < 0.7:
        grid = np.linspace(0, 1, 33)
        gain = 10 ** (np.interp(grid, np.linspace(0, 1, 6), generator.normal(0, 4, 6)) / 20)
        changed = fftconvolve(changed, firwin2(129, grid, gain), "same")
    if generator.random() < 0.5:
        noise = generator.normal(size=len(changed))
        if generator.random() < 0.5:
            noise = np.cumsum(noise)
            noise -= np.convolve(noise, np.full(400, 1 / 400), "same")
        changed = changed + noise * changed.std() / noise.std() * 10 ** (-generator.uniform(5, 40) / 20)
    return changed


def _fit_perceptron(table: torch.Tensor, problem: _Problem, config: VoiceConfig, fold: int) -> FunctionalsNetwork:
    torch.manual_seed(config.seed * 100 + fold)
    chosen = torch.from_numpy(problem.chosen)
    inputs = table[chosen].flatten(0, 1)
    owners = chosen.repeat_interleave(table.shape[1])
    targets, masks = problem.targets[owners], problem.masks[owners]
    perceptron = FunctionalsNetwork(
        inputs.mean(dim=0),
        inputs.std(dim=0) + 1e-3,
        len(VOICE),
        config.functionals_hidden,
        config.functionals_dropout,
    )
    rate = 2e-3
    optimizer = torch.optim.AdamW(perceptron.parameters(), rate, weight_decay=config.functionals_weight_decay)
    steps = config.functionals_epochs * (len(inputs) // config.functionals_batch)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * one_cycle(step / steps, warmup=0.01)
        batch = torch.randint(len(inputs), (config.functionals_batch,))
        loss = _smoothed_loss(perceptron(inputs[batch]), targets[batch], masks[batch], config.label_smoothing).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return perceptron.eval()


@torch.no_grad()
def _logits(network: VoiceNetwork, features: Features, chosen: np.ndarray) -> np.ndarray:
    return torch.cat([network(features.whole(row))[1] for row in chosen.tolist()]).numpy()


@torch.no_grad()
def _perceptron_logits(perceptron: FunctionalsNetwork, functionals: torch.Tensor) -> np.ndarray:
    return np.asarray(perceptron(functionals).numpy())


@torch.no_grad()
def _embeddings(networks: Sequence[VoiceNetwork], features: Features, row: int) -> torch.Tensor:
    return torch.cat([network(features.whole(row))[0] for network in networks], dim=1)


def _accuracies(scores: np.ndarray, rows: Rows, chosen: np.ndarray) -> dict[str, float]:
    """Accuracy by corpus among the labels that it has; ``scores`` belong to the rows ``chosen``."""
    best = (scores + _masks(rows.corpus[chosen]).numpy()).argmax(axis=1)
    right = best == rows.targets[chosen]
    corpus = rows.corpus[chosen]
    return {name: round(float(right[corpus == name].mean()), 4) for name in CORPORA if (corpus == name).any()}


def export(ensemble: VoiceEnsemble, path: Path) -> None:
    """Write the ensemble as ONNX: "waveform" (n, samples) in, "probabilities" (n, 9) and "embedding" (n, d) out."""
    import onnx

    temporary = path.with_suffix(".part")
    torch.onnx.export(
        ensemble.eval(),
        (torch.zeros(1, 3 * SAMPLE_RATE),),
        str(temporary),
        input_names=["waveform"],
        output_names=["probabilities", "embedding"],
        dynamic_axes={"waveform": {0: "n", 1: "samples"}, "probabilities": {0: "n"}, "embedding": {0: "n"}},
        opset_version=17,
        dynamo=False,
    )
    model = compact(onnx.load(str(temporary)))
    onnx.checker.check_model(model)
    onnx.save(model, str(temporary))
    os.replace(temporary, path)


def compact(model: Any, at_least: int = 1024) -> Any:
    """Store large float32 constants of an ONNX model as int16 with a scale; the runtime undoes it once, while loading.

    The rounding is 90 dB below the largest entry, far below what the log-mel floor lets through.
    """
    import onnx
    from onnx import helper, numpy_helper

    constants = {i.name: i for i in model.graph.initializer}
    constants |= {n.output[0]: n.attribute[0].t for n in model.graph.node if n.op_type == "Constant"}
    large = {name: numpy_helper.to_array(tensor) for name, tensor in constants.items()}
    large = {name: v for name, v in large.items() if v.dtype == np.float32 and v.size >= at_least}
    nodes = []
    for name, values in large.items():
        scale = np.float32(np.abs(values).max() / 32767)
        short, factor, wide = (f"{name}_{part}" for part in ("int16", "scale", "float"))
        rounded = np.round(values / scale).astype(np.int16)
        model.graph.initializer.append(numpy_helper.from_array(rounded, short))
        model.graph.initializer.append(numpy_helper.from_array(scale.reshape(()), factor))
        nodes.append(helper.make_node("Cast", [short], [wide], to=onnx.TensorProto.FLOAT))
        nodes.append(helper.make_node("Mul", [wide, factor], [name]))
    initializers = [i for i in model.graph.initializer if i.name not in large]
    kept = [n for n in model.graph.node if not (n.op_type == "Constant" and n.output[0] in large)]
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.initializer.extend(initializers)
    model.graph.node.extend([*nodes, *kept])
    return model


def _classifier(weights: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Probabilities (9,) of one clip by the exported graph."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(weights), providers=["CPUExecutionProvider"])
    return lambda waveform: np.asarray(session.run(["probabilities"], {"waveform": waveform[None]})[0][0])


def _report(P: np.ndarray, valid: Rows) -> dict[str, Any]:
    """Accuracy of answers (n, 9) about whole clips that nothing was fitted on or chosen by, corpus by corpus."""
    facts: dict[str, Any] = {"valid_rows": len(valid)}
    for name, labels in CORPORA.items():
        chosen = valid.corpus == name
        own = restrict(P[chosen], VOICE, labels.labels)
        columns = np.array([labels.index(VOICE.labels[t]) for t in valid.targets[chosen]])
        recalls = [float((own[columns == c].argmax(axis=1) == c).mean()) for c in range(len(labels))]
        facts[f"valid_{name}"] = {
            "n": int(chosen.sum()),
            "accuracy": float((own.argmax(axis=1) == columns).mean()),
            "uar": float(np.mean(recalls)),
            "recalls": dict(zip(labels.labels, recalls, strict=True)),
            "mean_confidence": float(own.max(axis=1).mean()),
        }
    return facts


def _window_accuracies(classify: Callable[[np.ndarray], np.ndarray], rows: Rows) -> dict[str, dict[str, float]]:
    """Accuracy on two random windows a clip of RAVDESS, by their length; windows without speech are not judged."""
    generator = np.random.default_rng(0)
    chosen = np.flatnonzero(rows.corpus == "ravdess").tolist()
    table = {}
    for seconds in (1.0, 1.5, 2.0, 3.0, 4.0):
        right = [
            restrict(classify(window), VOICE, RAVDESS.labels).argmax() == RAVDESS.index(VOICE.labels[rows.targets[row]])
            for row in chosen
            for window in _windows(rows.waveforms[row], seconds, generator)
            if speech_seconds(window) >= MIN_SPEECH
        ]
        table[f"{seconds:g} s"] = {"judged": len(right) / (2 * len(chosen)), "accuracy": float(np.mean(right))}
    return table


def _windows(waveform: np.ndarray, seconds: float, generator: np.random.Generator) -> Iterator[np.ndarray]:
    n = min(len(waveform), int(seconds * SAMPLE_RATE))
    for start in generator.integers(0, len(waveform) - n + 1, 2):
        yield waveform[start : start + n]


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the data sets")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--epochs", type=int, default=VoiceConfig.epochs)
    parser.add_argument("--threads", type=int, default=VoiceConfig.threads)
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoints in --out")
    parser.add_argument("--folds-over-all", action="store_true", help="measure on all speakers instead of shipping")
    parser.add_argument("--members", type=int, default=1, help="runs by different seeds for --folds-over-all")
    options = parser.parse_args()
    config = VoiceConfig(epochs=options.epochs, threads=options.threads)
    if options.folds_over_all:
        measure(options.data, options.out, config, options.members, options.resume)
    else:
        train(options.data, options.out, config, options.resume)


if __name__ == "__main__":
    _main()
