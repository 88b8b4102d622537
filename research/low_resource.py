"""What augmentation, pre-training, pseudo-labels and active learning change, each measured with and without.

``python -m research.low_resource --data DIR [--only face] [--seeds 3] [--out tables.md]``

Small networks and few epochs, fixed beforehand: the question is what a method changes, not what is the best accuracy.
Every comparison shares networks, seeds and schedule; dev rows only report, after the last epoch. RAVDESS with unseen
actors, FER+ with a part of its pictures, SMP2020 with its evaluation file.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from affuse.data.corpora import load
from affuse.evaluation.experts import waveform
from affuse.evaluation.formatting import ResultTable
from affuse.files import write_text
from affuse.loop import LoopConfig, fit
from affuse.media import SAMPLE_RATE
from affuse.training import networks
from affuse.training.augment import PictureAugmentation, SoundAugmentation, WordAugmentation, picture, sound, words
from affuse.training.config import TrainingConfig
from affuse.training.inputs import Draw, Inputs, Pictures, Texts, Waveforms, to_int16
from affuse.training.low_resource.active import choose_next
from affuse.training.low_resource.pretrain import PretrainOptions, pretrain
from affuse.training.low_resource.pseudo import PseudoOptions, confident_rows
from affuse.training.module import Classification, Data, Split
from affuse.training.networks import tokenizers
from affuse.training.networks.base import Network
from recipes.command import data_parser, errors_as_sentences

__all__ = ["BENCHMARKS", "Benchmark", "Table", "augmentation_table", "few_labels_table", "main"]


@dataclass(frozen=True, eq=False)
class Benchmark:
    """Training rows with and without augmentation, and the same test rows in several conditions.

    ``targets`` (n, k) are shares, ``truth`` (m,) columns. ``views`` are for pre-training, ``blank`` is the token that
    masks another one there.
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
        table = ResultTable(("", *self.columns))
        for name, seeds in self.rows.items():
            columns = zip(*seeds, strict=True)
            table.add(name, *(f"{np.mean(c):.1f} ({min(c):.1f}…{max(c):.1f})" for c in columns))
        return f"### {self.title}\n\n{table.markdown()}"


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


def augmentation_table(benchmark: Benchmark, seeds: Sequence[int]) -> Table:
    """Accuracy in every condition, trained without and with augmentation."""
    everything = np.arange(len(benchmark.targets))
    table = Table(f"Augmentation: {benchmark.name}, {len(everything):,} rows", tuple(benchmark.conditions))
    for name, inputs in (("without", benchmark.plain), ("with augmentation", benchmark.augmented)):
        for seed in seeds:
            network = _learn(benchmark, benchmark.network, inputs, everything, benchmark.targets, seed)
            table.rows.setdefault(name, []).append(
                [_accuracy(network, asked, benchmark.truth) for asked in benchmark.conditions.values()]
            )
    return table


def few_labels_table(benchmark: Benchmark, seeds: Sequence[int], share: float = 0.1) -> Table:
    """Accuracy with a ``share`` of the labels, and with methods that also use the rows without labels."""
    n = len(benchmark.targets)
    few = round(share * n)
    table = Table(f"Few labels: {benchmark.name}, {few:,} of {n:,} rows labelled", ("accuracy",))
    methods: dict[str, Callable[[Benchmark, int, int], Network]] = {
        f"{few:,} labels": _learned_from_few,
        "… after pre-training on all rows": _pretrained,
        "… and pseudo-labels": _pseudo_labelled,
        f"{few // 2:,} labels, and as many at random": _at_random,
        f"{few // 2:,} labels, and as many suggested": _suggested,
    }
    for name, method in methods.items():
        asked = next(iter(benchmark.conditions.values()))
        scores = [[_accuracy(method(benchmark, few, seed), asked, benchmark.truth)] for seed in seeds]
        table.rows[name] = scores
    return table


def _order(benchmark: Benchmark, seed: int) -> np.ndarray:
    return np.random.default_rng([7, seed]).permutation(len(benchmark.targets))


def _learned(benchmark: Benchmark, rows: np.ndarray, seed: int) -> Network:
    return _learn(benchmark, benchmark.network, benchmark.augmented, rows, benchmark.targets[rows], seed)


def _learned_from_few(benchmark: Benchmark, few: int, seed: int) -> Network:
    return _learned(benchmark, _order(benchmark, seed)[:few], seed)


def _pretrained(benchmark: Benchmark, few: int, seed: int) -> Network:
    rows = _order(benchmark, seed)[:few]

    def started() -> Network:
        network = benchmark.network()
        pretrain(network, benchmark.views, len(benchmark.targets), benchmark.pretraining, _PLAN, benchmark.blank)
        return network.train()

    return _learn(benchmark, started, benchmark.augmented, rows, benchmark.targets[rows], seed)


def _pseudo_labelled(benchmark: Benchmark, few: int, seed: int) -> Network:
    order = _order(benchmark, seed)
    given, rest = order[:few], order[few:]
    P, _ = _answers(_learned(benchmark, given, seed), benchmark.plain, rest)
    sure = confident_rows(P, PseudoOptions(threshold=0.8, ratio=5.0))
    targets = np.concatenate([benchmark.targets[given], np.eye(P.shape[1])[P[sure].argmax(axis=1)]])
    return _learn(benchmark, benchmark.network, benchmark.augmented, np.concatenate([given, rest[sure]]), targets, seed)


def _at_random(benchmark: Benchmark, few: int, seed: int) -> Network:
    order = _order(benchmark, seed)
    return _learned(benchmark, np.concatenate([order[: few // 2], order[-(few // 2) :]]), seed)


def _suggested(benchmark: Benchmark, few: int, seed: int) -> Network:
    order = _order(benchmark, seed)
    given, rest = order[: few // 2], order[few // 2 :]
    network = _learned(benchmark, given, seed)
    P, embeddings = _answers(network, benchmark.plain, rest)
    picks = choose_next(P, embeddings, few // 2).rows
    return _learned(benchmark, np.concatenate([given, rest[picks]]), seed)


_PLAN = LoopConfig(1, accelerator="cpu", progress=False)


def _learn(
    benchmark: Benchmark, make: Callable[[], Network], inputs: Inputs, rows: np.ndarray, targets: np.ndarray, seed: int
) -> Network:
    """A network trained on some rows; fewer rows are shown more often, up to four times as often."""
    assert benchmark.training.epochs is not None
    epochs = round(benchmark.training.epochs * min(4.0, len(benchmark.targets) / len(rows)))
    config = replace(benchmark.training, epochs=epochs, seed=seed)
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


def _voice(data: Path) -> Benchmark:
    train, dev = load("ravdess", data, "train"), load("ravdess", data, "dev")
    clips, asked = [_decoded(p) for p in train.inputs], [_decoded(p) for p in dev.inputs]
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
    stored = [to_int16(clip) for clip in clips]
    return Benchmark(
        name="RAVDESS, 8 emotions, unseen actors",
        network=lambda: networks.make("crnn", len(train.labels), n_mels=32, widths=(12, 24, 48), hidden=32),
        plain=Waveforms(stored, seconds, None),
        augmented=Waveforms(stored, seconds, augmentation),
        views=Waveforms(stored, seconds / 2, quiet),
        targets=np.eye(len(train.labels))[train.targets],
        conditions={
            name: Waveforms([to_int16(change(clip)) for clip in asked], seconds, None)
            for name, change in changes.items()
        },
        truth=dev.targets,
        training=TrainingConfig(epochs=10, batch_size=32, learning_rate=3e-3, ema_decay=0.98),
        pretraining=PretrainOptions(epochs=12, batch_size=128),
    )


def _decoded(path: Path) -> np.ndarray:
    """The first four seconds of a clip."""
    return waveform(path)[: 4 * SAMPLE_RATE]


def _face(data: Path) -> Benchmark:
    train, dev = load("ferplus", data, "train"), load("ferplus", data, "dev")
    rng = np.random.default_rng(1)
    rows, asked = rng.choice(len(train), 3000, replace=False), rng.choice(len(dev), 1500, replace=False)
    assert train.votes is not None
    pictures, clean = np.asarray(train.inputs)[rows][:, None], np.asarray(dev.inputs)[asked][:, None]
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
    return Benchmark(
        name="FER+, 8 expressions",
        network=lambda: networks.make("small-face", len(train.labels), widths=(16, 32, 64), blocks=(1, 1, 1)),
        plain=Pictures(pictures, None),
        augmented=Pictures(pictures, augmentation),
        views=Pictures(pictures, replace(moved, crop=0.25, occlusion=(0.02, 0.15), blur=(0, 0.03))),
        targets=train.votes[rows],
        conditions={name: Pictures(change(images).round().byte().numpy(), None) for name, change in changes.items()},
        truth=dev.targets[asked],
        training=TrainingConfig(epochs=8, batch_size=64, learning_rate=3e-3, ema_decay=0.98),
        pretraining=PretrainOptions(epochs=10, batch_size=128),
    )


def _text(data: Path) -> Benchmark:
    train, dev = load("smp2020_ewect", data, "train"), load("smp2020_ewect", data, "dev")
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
    return Benchmark(
        name="SMP2020, 6 emotions, Chinese",
        network=lambda: networks.make(
            "text-cnn", len(train.labels), vocab_size=tokenizer.get_vocab_size(), width=64, filters=64
        ),
        plain=Texts(texts, tokenizer, None),
        augmented=Texts(texts, tokenizer, WordAugmentation(drop=0.15, typos=0.03)),
        views=Texts(texts, tokenizer, None),
        targets=np.eye(len(train.labels))[train.targets[rows]],
        conditions={
            name: Texts([change(text) for text in dev.inputs], tokenizer, None) for name, change in changed.items()
        },
        truth=dev.targets,
        training=TrainingConfig(epochs=6, batch_size=64, learning_rate=2e-3),
        pretraining=PretrainOptions(epochs=6, batch_size=64),
        blank=1,
    )


BENCHMARKS: Mapping[str, Callable[[Path], Benchmark]] = {"voice": _voice, "face": _face, "text": _text}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and write the tables; exits with 2 and a sentence where the data are missing."""
    parser = data_parser(__doc__)
    parser.add_argument("--out", type=Path, help="file to write the tables to")
    parser.add_argument("--only", choices=sorted(BENCHMARKS), action="append", help="one dataset; may be repeated")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds (%(default)s)")
    options = parser.parse_args(arguments)
    if options.seeds < 1:
        parser.error(f"--seeds takes at least 1; got {options.seeds}")
    torch.set_num_threads(1)
    tables = []
    with errors_as_sentences(parser):
        for table in _tables(options.data, options.only or sorted(BENCHMARKS), range(options.seeds)):
            print(table, flush=True)
            tables.append(table)
        if options.out is not None:
            write_text(options.out, "\n\n".join(tables) + "\n")


def _tables(data: Path, names: Sequence[str], seeds: Sequence[int]) -> Iterator[str]:
    for name in names:
        benchmark = BENCHMARKS[name](data)
        # A tenth of RAVDESS are 90 clips, too few to measure anything.
        for measure in (augmentation_table, few_labels_table) if name != "voice" else (augmentation_table,):
            started = time.process_time()
            table = measure(benchmark, seeds)
            yield f"{table.markdown()}\n\n{(time.process_time() - started) / 60:.1f} minutes on one core."


if __name__ == "__main__":
    main()
