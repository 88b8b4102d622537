"""Does it earn its place? Augmentation, pre-training, pseudo-labels and active learning, each with and without.

``python -m research.low_resource --data DIR [--only face] [--seeds 3] [--out tables.md]``

Small networks and few epochs, fixed beforehand: the question is what a method changes, not how far one gets. Every
comparison shares networks, seeds and schedule; valid rows only report, after the last epoch. RAVDESS on unseen actors,
FER+ on a part of its pictures, SMP2020 on its evaluation file.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from affuse.data.corpora import load
from affuse.errors import AffuseError
from affuse.files import replacing
from affuse.loop import LoopConfig, fit
from affuse.media import SAMPLE_RATE, Recording
from affuse.timeline import Timeline
from affuse.training import networks
from affuse.training.augment import PictureAugmentation, SoundAugmentation, WordAugmentation, picture, sound, words
from affuse.training.config import TrainingConfig
from affuse.training.inputs import Draw, Inputs, Pictures, Texts, Waveforms
from affuse.training.low_resource.active import choose_next
from affuse.training.low_resource.pretrain import PretrainOptions, pretrain
from affuse.training.low_resource.pseudo import PseudoOptions, confident_rows
from affuse.training.module import Classification, Data, Split
from affuse.training.networks import tokenizers
from affuse.training.networks.base import Network

__all__ = ["PROBLEMS", "Problem", "Table", "augmentation_table", "few_labels_table", "main"]


@dataclass(frozen=True, eq=False)
class Problem:
    """Rows to learn from, with and without augmentation, and the same rows to be asked about in several conditions.

    ``targets`` (n, k) are shares, ``truth`` (m,) columns. ``views`` are for pre-training, ``blank`` the token that
    hides another one there.
    """

    name: str
    network: Callable[[], Network]
    plain: Inputs
    augmented: Inputs
    views: Inputs
    targets: np.ndarray
    conditions: Mapping[str, Inputs]
    truth: np.ndarray
    training: TrainingConfig
    pretraining: PretrainOptions
    blank: int = 0


@dataclass(frozen=True)
class Table:
    """Accuracies in per cent by row and column, one a seed."""

    title: str
    columns: tuple[str, ...]
    rows: dict[str, list[list[float]]] = field(default_factory=dict)

    def markdown(self) -> str:
        """Means over the seeds, with the lowest and highest in brackets."""
        lines = [
            f"### {self.title}",
            "",
            "| | " + " | ".join(self.columns) + " |",
            "|---" * (len(self.columns) + 1) + "|",
        ]
        for name, seeds in self.rows.items():
            cells = [
                f"{np.mean(column):.1f} ({min(column):.1f}…{max(column):.1f})" for column in zip(*seeds, strict=True)
            ]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        return "\n".join(lines)


class _Chosen:
    """Some rows of other inputs."""

    def __init__(self, inputs: Inputs, rows: np.ndarray) -> None:
        self.inputs, self.rows = inputs, rows

    def learning(self, rows: np.ndarray, draw: Draw) -> dict[str, Tensor]:
        """Inputs by name, augmented at random."""
        return self.inputs.learning(self.rows[rows], draw)

    def plain(self, rows: np.ndarray) -> dict[str, Tensor]:
        """Inputs by name, as they are."""
        return self.inputs.plain(self.rows[rows])

    def whole(self, row: int) -> dict[str, Tensor]:
        """Inputs of one sample."""
        return self.inputs.whole(int(self.rows[row]))


def augmentation_table(problem: Problem, seeds: Sequence[int]) -> Table:
    """Accuracy in every condition, learned without and with augmentation."""
    everything = np.arange(len(problem.targets))
    table = Table(f"Augmentation: {problem.name}, {len(everything):,} rows", tuple(problem.conditions))
    for name, inputs in (("without", problem.plain), ("with augmentation", problem.augmented)):
        for seed in seeds:
            network = _learn(problem, problem.network, inputs, everything, problem.targets, seed)
            table.rows.setdefault(name, []).append(
                [_accuracy(network, asked, problem.truth) for asked in problem.conditions.values()]
            )
    return table


def few_labels_table(problem: Problem, seeds: Sequence[int], share: float = 0.1) -> Table:
    """Accuracy with a ``share`` of the labels, and what the methods of this package make of the rest without them."""
    n = len(problem.targets)
    few = round(share * n)
    table = Table(f"Few labels: {problem.name}, {few:,} of {n:,} rows labelled", ("accuracy",))
    methods: dict[str, Callable[[Problem, int, int], Network]] = {
        f"{few:,} labels": _learned_from_few,
        "… after pre-training on all rows": _pretrained,
        "… and pseudo-labels": _pseudo_labelled,
        f"{few // 2:,} labels, and as many at random": _at_random,
        f"{few // 2:,} labels, and as many suggested": _suggested,
    }
    for name, method in methods.items():
        asked = next(iter(problem.conditions.values()))
        scores = [[_accuracy(method(problem, few, seed), asked, problem.truth)] for seed in seeds]
        table.rows[name] = scores
    return table


def _order(problem: Problem, seed: int) -> np.ndarray:
    return np.random.default_rng([7, seed]).permutation(len(problem.targets))


def _learned(problem: Problem, rows: np.ndarray, seed: int) -> Network:
    return _learn(problem, problem.network, problem.augmented, rows, problem.targets[rows], seed)


def _learned_from_few(problem: Problem, few: int, seed: int) -> Network:
    return _learned(problem, _order(problem, seed)[:few], seed)


def _pretrained(problem: Problem, few: int, seed: int) -> Network:
    rows = _order(problem, seed)[:few]

    def started() -> Network:
        network = problem.network()
        pretrain(network, problem.views, len(problem.targets), problem.pretraining, _PLAN, problem.blank)
        return network.train()

    return _learn(problem, started, problem.augmented, rows, problem.targets[rows], seed)


def _pseudo_labelled(problem: Problem, few: int, seed: int) -> Network:
    order = _order(problem, seed)
    given, rest = order[:few], order[few:]
    P, _ = _answers(_learned(problem, given, seed), problem.plain, rest)
    sure = confident_rows(P, PseudoOptions(threshold=0.8, ratio=5.0))
    targets = np.concatenate([problem.targets[given], np.eye(P.shape[1])[P[sure].argmax(axis=1)]])
    return _learn(problem, problem.network, problem.augmented, np.concatenate([given, rest[sure]]), targets, seed)


def _at_random(problem: Problem, few: int, seed: int) -> Network:
    order = _order(problem, seed)
    return _learned(problem, np.concatenate([order[: few // 2], order[-(few // 2) :]]), seed)


def _suggested(problem: Problem, few: int, seed: int) -> Network:
    order = _order(problem, seed)
    given, rest = order[: few // 2], order[few // 2 :]
    network = _learned(problem, given, seed)
    P, embeddings = _answers(network, problem.plain, rest)
    picks = choose_next(P, embeddings, few // 2).rows
    return _learned(problem, np.concatenate([given, rest[picks]]), seed)


_PLAN = LoopConfig(1, accelerator="cpu", progress=False)


def _learn(
    problem: Problem, make: Callable[[], Network], inputs: Inputs, rows: np.ndarray, targets: np.ndarray, seed: int
) -> Network:
    """A network that learned some rows; fewer rows are seen more often, up to four times as often."""
    assert problem.training.epochs is not None
    epochs = round(problem.training.epochs * min(4.0, len(problem.targets) / len(rows)))
    config = replace(problem.training, epochs=epochs, seed=seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = make()
    data = Data(Split(_Chosen(inputs, rows), targets), None, config)
    plan = replace(_PLAN, max_epochs=epochs, seed=seed, ema_decay=config.ema_decay)
    fit(Classification(network, config), data, plan, monitor=None)
    return network.eval()


@torch.no_grad()
def _answers(network: Network, inputs: Inputs, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and embeddings of some rows."""
    outputs = [network(**inputs.plain(part)) for part in np.array_split(rows, -(-len(rows) // 128))]
    P = torch.cat([torch.softmax(output.logits, dim=1) for output in outputs])
    return P.double().numpy(), torch.cat([output.embedding for output in outputs]).double().numpy()


def _accuracy(network: Network, inputs: Inputs, truth: np.ndarray) -> float:
    P, _ = _answers(network, inputs, np.arange(len(truth)))
    return float(100 * (P.argmax(axis=1) == truth).mean())


def _voice(data: Path) -> Problem:
    train, valid = load("ravdess", data, "train"), load("ravdess", data, "valid")
    clips, asked = [_decoded(p) for p in train.inputs], [_decoded(p) for p in valid.inputs]
    rng = np.random.default_rng(1)
    seconds = 2.0
    changes: dict[str, Callable[[np.ndarray], np.ndarray]] = {"clean": lambda clip: clip}
    for ratio in (20, 10, 0):
        changes[f"{ratio} dB"] = lambda clip, ratio=ratio: sound.add_noise(  # type: ignore[misc]
            clip, sound.coloured_noise(len(clip), "pink", rng), ratio
        )
    changes["room, 0.6 s"] = lambda clip: sound.reverberate(clip, sound.room_response(0.6, rng))
    changes["telephone"] = lambda clip: sound.through_codec(clip, "telephone")
    augmentation = SoundAugmentation(
        noise_snr=(0, 25), speed=(0.9, 1.1), reverberation=(0.1, 0.8), codec=("telephone",), probability=0.35
    )
    quiet = SoundAugmentation(noise_snr=(5, 30), gain=(-12, 6), probability=0.7)
    held = [_held(clip) for clip in clips]
    return Problem(
        name="RAVDESS, 8 emotions, unseen actors",
        network=lambda: networks.make("crnn", len(train.labels), n_mels=32, widths=(12, 24, 48), hidden=32),
        plain=Waveforms(held, seconds, None),
        augmented=Waveforms(held, seconds, augmentation),
        views=Waveforms(held, seconds / 2, quiet),
        targets=np.eye(len(train.labels))[train.targets],
        conditions={
            name: Waveforms([_held(change(clip)) for clip in asked], seconds, None) for name, change in changes.items()
        },
        truth=valid.targets,
        training=TrainingConfig(epochs=10, batch_size=32, learning_rate=3e-3, ema_decay=0.98),
        pretraining=PretrainOptions(epochs=12, batch_size=128),
    )


def _held(clip: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(clip, -1, 1) * 32767).astype(np.int16)


def _decoded(path: Path) -> np.ndarray:
    recording = Recording.open(path)
    (clip,) = recording.sound(Timeline((recording.span,)))
    return clip[: round(4 * SAMPLE_RATE)]


def _face(data: Path) -> Problem:
    train, valid = load("ferplus", data, "train"), load("ferplus", data, "valid")
    rng = np.random.default_rng(1)
    rows, asked = rng.choice(len(train), 3000, replace=False), rng.choice(len(valid), 1500, replace=False)
    assert train.votes is not None
    pictures, clean = np.asarray(train.inputs)[rows][:, None], np.asarray(valid.inputs)[asked][:, None]
    generator = torch.Generator().manual_seed(1)

    def all_of(value: float) -> Tensor:
        return torch.full((len(asked),), value)

    changes: dict[str, Callable[[Tensor], Tensor]] = {
        "clean": lambda x: x,
        "blur": lambda x: picture.blur(x, all_of(0.03)),
        "dark": lambda x: picture.darken(x, all_of(4), generator),
        "a fifth hidden": lambda x: picture.occlude(x, all_of(0.2), generator),
        "mask": lambda x: picture.wear_mask(x, all_of(190)),
        "sunglasses": lambda x: picture.wear_glasses(x, all_of(25)),
        "16 pixels": lambda x: picture.lower_resolution(x, all_of(1 / 3)),
    }
    moved = PictureAugmentation(flip=0.5, rotation=15, scale=0.15, shift=0.1, brightness=0.5)
    augmentation = replace(
        moved,
        occlusion=(0.02, 0.25),
        blur=(0, 0.04),
        darkness=(0, 5),
        resolution=(0.25, 1),
        mask=0.1,
        glasses=0.1,
        probability=0.2,
    )
    images = torch.from_numpy(clean).float()
    return Problem(
        name="FER+, 8 expressions",
        network=lambda: networks.make("small-face", len(train.labels), widths=(16, 32, 64), blocks=(1, 1, 1)),
        plain=Pictures(pictures, None),
        augmented=Pictures(pictures, augmentation),
        views=Pictures(pictures, replace(moved, crop=0.25, occlusion=(0.02, 0.15), blur=(0, 0.03))),
        targets=train.votes[rows],
        conditions={name: Pictures(change(images).round().byte().numpy(), None) for name, change in changes.items()},
        truth=valid.targets[asked],
        training=TrainingConfig(epochs=8, batch_size=64, learning_rate=3e-3, ema_decay=0.98),
        pretraining=PretrainOptions(epochs=10, batch_size=128),
    )


def _text(data: Path) -> Problem:
    train, valid = load("smp2020_ewect", data, "train"), load("smp2020_ewect", data, "valid")
    rng = np.random.default_rng(1)
    rows = rng.choice(len(train), 4000, replace=False)
    texts = [train.inputs[row] for row in rows]
    tokenizer = tokenizers.train(texts, 6000, 64)
    changed: dict[str, Callable[[str], str]] = {
        "clean": lambda text: text,
        "a tenth of the characters left out": lambda text: words.drop_words(text, 0.1, rng),
        "a tenth mistyped": lambda text: words.mistype(text, 0.1, rng),
        "a third left out": lambda text: words.drop_words(text, 0.33, rng),
    }
    return Problem(
        name="SMP2020, 6 emotions, Chinese",
        network=lambda: networks.make(
            "text-cnn", len(train.labels), vocab_size=tokenizer.get_vocab_size(), width=64, filters=64
        ),
        plain=Texts(texts, tokenizer, None),
        augmented=Texts(texts, tokenizer, WordAugmentation(drop=0.15, typos=0.03)),
        views=Texts(texts, tokenizer, None),
        targets=np.eye(len(train.labels))[train.targets[rows]],
        conditions={
            name: Texts([change(text) for text in valid.inputs], tokenizer, None) for name, change in changed.items()
        },
        truth=valid.targets,
        training=TrainingConfig(epochs=6, batch_size=64, learning_rate=2e-3),
        pretraining=PretrainOptions(epochs=6, batch_size=64),
        blank=1,
    )


PROBLEMS: Mapping[str, Callable[[Path], Problem]] = {"voice": _voice, "face": _face, "text": _text}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and write the tables; exits with 2 and a sentence where the data are missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the data sets")
    parser.add_argument("--out", type=Path, help="file to write the tables to")
    parser.add_argument("--only", choices=sorted(PROBLEMS), action="append", help="one problem; may be repeated")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args(arguments)
    if options.seeds < 1:
        parser.error(f"--seeds takes at least 1; got {options.seeds}")
    torch.set_num_threads(1)
    tables = []
    try:
        for table in _tables(options.data, options.only or sorted(PROBLEMS), range(options.seeds)):
            print(table, flush=True)
            tables.append(table)
        if options.out is not None:
            with replacing(options.out) as (part,):
                part.write_text("\n\n".join(tables) + "\n", encoding="utf-8")
    except AffuseError as error:
        parser.exit(2, f"affuse: {error}\n")


def _tables(data: Path, names: Sequence[str], seeds: Sequence[int]) -> Iterator[str]:
    for name in names:
        problem = PROBLEMS[name](data)
        # A tenth of RAVDESS are 90 clips, of which nothing could be told.
        for measure in (augmentation_table, few_labels_table) if name != "voice" else (augmentation_table,):
            started = time.process_time()
            table = measure(problem, seeds)
            yield f"{table.markdown()}\n\n{(time.process_time() - started) / 60:.1f} minutes on one core."


if __name__ == "__main__":
    main()
