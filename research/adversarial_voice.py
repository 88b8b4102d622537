"""What adversarial training of the voice's heads gains and costs, by the recipe with and without it.

``python -m research.adversarial_voice --data DIR --work FOLDER [--copies 3] [--clips 8]``

The heads of `recipes.voice` learn from statistics of a frozen encoder. With adversarial training the perceptrons learn
half of their rows moved against them by so many standard deviations (FGSM, Goodfellow et al. 2015, arXiv:1412.6572).
Reported is accuracy by cross-validation over the training speakers, on dev, and on some dev clips of every RAVDESS
actor whose sound is attacked through the whole network (`research.gradient_attacks`). Statistics are kept in
``FOLDER``. Fewer copies than the recipe takes (8) make it quick and cost a little accuracy.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from affuse.evaluation.formatting import ResultTable, percent
from recipes import voice_training
from recipes.command import data_parser, errors_as_sentences
from recipes.voice_data import Clips, assign_folds, read_clips, statistics_table
from recipes.voice_network import VoiceArousal, VoiceEnsemble
from recipes.voice_training import Fold, VoiceConfig, VoiceTraining, label_masks, learn_head, masked_loss
from recipes.whisper import SpeechEncoder
from research.gradient_attacks import lead, pgd

__all__ = ["main", "measure"]

_STRENGTHS = (0.0, 0.3)
_RATIOS = (60, 50)  # dB
_STEPS = 10
_SHARE = 0.5  # of the rows of a batch


class _Adversarial(VoiceTraining):
    """The recipe's training, with a share of the rows moved against the network by ``strength``."""

    strength = 0.0

    def training_step(self, batch: dict[str, Any], index: int) -> Tensor:
        if self.strength:
            batch = {**batch, "inputs": _moved(self.network, batch, self.strength)}
        return super().training_step(batch, index)


def _moved(network: nn.Module, batch: dict[str, Any], strength: float) -> Tensor:
    x = batch["inputs"].detach().clone().requires_grad_(True)
    network.eval()
    loss = masked_loss(network(x).float(), batch["targets"], batch["masks"], 0.0).sum()
    (gradient,) = torch.autograd.grad(loss, x)
    network.train()
    chosen = torch.rand(len(x), 1) < _SHARE
    return torch.where(chosen, x.detach() + strength * gradient.sign(), x.detach())


def measure(data: Path, work: Path, copies: int, of_each: int) -> ResultTable:
    """Accuracy by strength: clean by corpus, and of attacked clips."""
    config, encoder = VoiceConfig(copies=copies), SpeechEncoder.pretrained(VoiceConfig().layers)
    train, dev = read_clips(data, "train"), read_clips(data, "dev")
    folds = assign_folds(train.groups, config.folds)
    table = _kept(work / "train.npy", train, folds, encoder, config)
    plain = _kept(work / "dev.npy", dev, np.zeros(len(dev), int), encoder, replace(config, copies=0))[:, 0]
    chosen = _drawn(dev, of_each)
    attacked = [f"{len(chosen)} clips at {ratio} dB" for ratio in _RATIOS]
    head = ["strength", "RAVDESS", "EMO-DB", "Javanese", "RAVDESS dev", "EMO-DB dev", "the clips", *attacked]
    found = ResultTable(head)
    voice_training.VoiceTraining = _Adversarial  # type: ignore[misc]  # `learn_head` makes it by this name
    for strength in _STRENGTHS:
        _Adversarial.strength = strength
        parts = [Fold(train, np.flatnonzero(folds != k), config.seed * 100 + k) for k in range(config.folds)]
        heads = [learn_head(table, part, config) for part in parts]
        with torch.no_grad():
            held_out = torch.zeros(len(train), len(label_masks(train.corpus)[0]))
            for k, own in enumerate(heads):
                rows = torch.from_numpy(folds == k)
                held_out[rows] = own(table[rows, 0])
            answered = torch.stack([own(plain) for own in heads]).mean(dim=0)
        known, new = _right(held_out, train), _right(answered, dev)
        arousal = VoiceArousal(heads[0].mean, heads[0].spread)
        ensemble = VoiceEnsemble(encoder, heads, 1.0, arousal).eval().requires_grad_(False)
        shares = [known[train.corpus == name].mean() for name in ("ravdess", "emodb", "javanese")]
        shares += [new[dev.corpus == name].mean() for name in ("ravdess", "emodb")]
        shares += [new[chosen].mean(), *(_withstood(ensemble, dev, chosen, ratio) for ratio in _RATIOS)]
        found.add("none" if strength == 0 else f"{strength:g}", *(percent(float(own)) for own in shares))
    return found


def _kept(path: Path, clips: Clips, folds: np.ndarray, encoder: SpeechEncoder, config: VoiceConfig) -> Tensor:
    if not path.is_file():
        table = statistics_table(clips, folds, encoder, config.copies, config.channel_share, config.seed)
        np.save(path, table, allow_pickle=False)
    return torch.from_numpy(np.load(path, allow_pickle=False)).float()


def _right(logits: Tensor, clips: Clips) -> np.ndarray:
    return np.asarray((logits + label_masks(clips.corpus)).argmax(dim=1).numpy() == clips.targets)


def _drawn(clips: Clips, of_each: int) -> np.ndarray:
    """Rows of as many clips of every actor of RAVDESS."""
    rng, actors = np.random.default_rng(0), sorted({g for g in clips.groups if g.startswith("ravdess/")})
    return np.concatenate([rng.permutation(np.flatnonzero(clips.groups == actor))[:of_each] for actor in actors])


def _withstood(ensemble: VoiceEnsemble, clips: Clips, chosen: np.ndarray, ratio: float) -> float:
    """Share of clips that are answered rightly under PGD."""
    mask = label_masks(np.array(["ravdess"]))

    def ask(waveform: Tensor) -> Tensor:
        statistics = ensemble.statistics(waveform)
        return torch.softmax(torch.stack([own(statistics) for own in ensemble.heads]).mean(dim=0) + mask, dim=1)

    right = []
    for row in chosen.tolist():
        x, y = clips.waveforms[row][None].astype(np.float32), clips.targets[[row]]
        size = float(np.sqrt((x**2).mean())) * 10 ** (-ratio / 20)
        changed = torch.from_numpy(pgd(ask, x, y, size, (-1, 1), _STEPS, enough=0.1))
        with torch.no_grad():
            right.append(bool(lead(ask(changed), torch.from_numpy(y))[0] > 0))
    return float(np.mean(right))


def main() -> None:
    """Train the heads at every strength, attack them, and print the table."""
    parser = data_parser(__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder that keeps the statistics")
    parser.add_argument("--copies", type=int, default=3)
    parser.add_argument("--clips", type=int, default=8, help="attacked clips of every actor")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    with errors_as_sentences(parser):
        chosen.work.mkdir(parents=True, exist_ok=True)
        print(measure(chosen.data, chosen.work, chosen.copies, chosen.clips).markdown())


if __name__ == "__main__":
    main()
