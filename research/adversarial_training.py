"""What adversarial training gains and costs: a small network on faces, with and without, as it is and under attack.

``python -m research.adversarial_training --data DIR [--rows 3000] [--epochs 8] [--strength 0.05] [--out PAGE]``

The network "small-face" of `affuse.training` learns from the first rows of FER+ train by the loop of ``affuse train``,
without and with its option ``training.adversarial``; dev reports. The opponent is that of `research.attacks`
(PGD of 10 steps), and has the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from affuse.data.corpora import load
from affuse.evaluation.formatting import ResultTable, percent
from affuse.loop import LoopConfig, fit
from affuse.training.augment import PictureAugmentation
from affuse.training.config import TrainingConfig
from affuse.training.inputs import Pictures
from affuse.training.module import Classification, Data, Split
from affuse.training.networks.catalogue import make
from recipes.command import data_parser, errors_as_sentences
from research.curves import share
from research.gradient_attacks import pgd
from research.pages import write_between

__all__ = ["main", "measure"]

_STRENGTHS = (0.05,)
_LEVELS = (1, 2, 4)
_TESTED = 300
_STEPS = 10


def measure(data: Path, rows: int, epochs: int, strengths: Sequence[float]) -> ResultTable:
    """Accuracy on faces as they are and attacked, without and with adversarial training of each strength."""
    train, dev = load("ferplus", data, "train"), load("ferplus", data, "dev")
    images = np.asarray(train.inputs)[:rows, None]
    targets = np.asarray(train.targets)[:rows]
    targets = targets if targets.ndim == 2 else np.eye(len(train.labels))[targets]
    part = Split(Pictures(images, PictureAugmentation(flip=0.5, rotation=15, scale=0.15, shift=0.1)), targets)
    x = np.asarray(dev.inputs, dtype=np.float32)[:_TESTED, None]
    y = np.asarray(dev.targets)[:_TESTED]
    y = y if y.ndim == 1 else y.argmax(axis=1)
    changes = [f"attacked by {level} of 255" for level in _LEVELS]
    table = ResultTable(["strength of adversarial training", "as they are", *changes])
    for strength in (0.0, *strengths):
        ask = _learned(part, len(train.labels), strength, epochs)
        versions = [x, *(pgd(ask, x, y, level, (0, 255), _STEPS, enough=0.1) for level in _LEVELS)]
        found = []
        for own in versions:
            with torch.no_grad():
                right = ask(torch.from_numpy(own)).argmax(dim=1).numpy() == y
            found.append(_written(right))
        table.add("none" if strength == 0 else f"{strength:g}", *found)
        print(strength, found, flush=True)
    table.add("always the most frequent label", *[_written(y == targets.sum(axis=0).argmax())] * (1 + len(_LEVELS)))
    return table


def _written(right: np.ndarray) -> str:
    value, low, high = share(right, np.arange(len(right)))
    return f"{percent(value)} ({100 * low:.0f} to {100 * high:.0f})"


def _learned(part: Split, n_labels: int, strength: float, epochs: int) -> Any:
    config = TrainingConfig(epochs=epochs, batch_size=64, learning_rate=2e-3, adversarial=strength, imbalance="none")
    torch.manual_seed(0)
    network = make("small-face", n_labels)
    plan = LoopConfig(max_epochs=epochs, seed=0, accelerator="cpu", ema_decay=0.99, progress=False)
    fit(Classification(network, config), Data(part, None, config), plan, monitor=None)
    network.eval().requires_grad_(False)

    def ask(images: Tensor) -> Tensor:
        return torch.softmax(network(images=images).logits, dim=1)

    return ask


def main() -> None:
    """Train and attack; print the table, or put it into a page."""
    parser = data_parser(__doc__)
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--strength", type=float, action="append", help="of training.adversarial; may be repeated")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    with errors_as_sentences(parser):
        table = measure(chosen.data, chosen.rows, chosen.epochs, chosen.strength or _STRENGTHS)
        if chosen.out is not None:
            write_between(chosen.out, "adversarial", table.markdown())
    if chosen.out is None:
        print(table.markdown())


if __name__ == "__main__":
    main()
