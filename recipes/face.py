"""Recipe of the face expert: small residual networks on FER+ crops of 48 x 48, trained on the annotators' votes.

::

    python -m recipes.face --data DIR --out runs/face_a --widths 32 64 128 [--resume]
    python -m recipes.face --data DIR --out runs/face_b --teachers runs/face_a/face.onnx
    python -m recipes.face --data DIR --out runs/face_c --start runs/face_b \\
        --teachers runs/face_a/face.onnx runs/face_b/face.onnx --epochs 13 --learning-rate 1.5e-3 --sides 48
    python -m recipes.face --data DIR --out runs/face --members runs/face_c

The first three train one network each, from random weights or from those of an earlier run; the last joins any number
of runs into one file. Only ``runs/face_c`` ships: together with ``face_a`` it is slightly better and takes twice the
time. A run that was killed goes on with ``--resume``.

The schedule is fixed beforehand, so nothing is selected; a twentieth of the train split is held out for the temperature
and for the fuser, and FER+ dev only reports. Residual blocks after He et al. 2016 (arXiv:1512.03385), votes as targets
after Barsoum et al. 2016 (arXiv:1608.01041), random erasing after Zhong et al. 2017 (arXiv:1708.04896). Teachers, the
networks of earlier runs on the same rows, give distillation targets, which smooth what ten votes leave to chance
(born-again networks, Furlanello et al. 2018, arXiv:1805.04770).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from affuse.data.corpora import Dataset, load
from affuse.errors import DataError
from affuse.fusion.temperature import fit_temperature
from affuse.labels import FERPLUS
from affuse.loop import fit
from affuse.training.augment import PictureAugmentation
from affuse.training.cards import write_card, write_held_out
from affuse.training.config import TrainingConfig
from affuse.training.inputs import Draw, Pictures
from affuse.training.module import Classification, Data, Split
from affuse.training.networks.base import Network, Output
from affuse.training.networks.exporter import export
from affuse.training.networks.face import residual_stages, standardise
from affuse.training.seeds import seed_everything
from affuse.weights import session
from recipes.command import errors_as_sentences, network_weights, recipe_parser, start_run
from recipes.learning import loop_config

__all__ = ["AUGMENTATIONS", "FaceConfig", "FaceEnsemble", "FaceNetwork", "join", "main", "train"]

_SIZE = 48
_MARGIN = 2  # pixels that an enlarged picture loses at every side

AUGMENTATIONS = (
    PictureAugmentation(flip=0.5, rotation=15, scale=0.15, shift=0.1, brightness=0.5),
    PictureAugmentation(occlusion=(0.016, 0.16), probability=0.25),
    PictureAugmentation(mask=0.025, glasses=0.025),
    PictureAugmentation(resolution=(1 / 3, 3 / 4), probability=0.08),
    PictureAugmentation(darkness=(3.5, 7.3), probability=0.06),
)
"""What every picture goes through in turn, each change with its own probability."""


@dataclass(frozen=True)
class FaceConfig:
    """Everything that decides a run."""

    epochs: int = 38
    sides: tuple[int, ...] = (40, 48, 48)  # pixels of the pictures in every third of the epochs: small ones are quick
    batch_size: int = 128
    learning_rate: float = 3e-3
    weight_decay: float = 0.03
    ema_decay: float = 0.999
    dropout: float = 0.3
    widths: tuple[int, ...] = (40, 80, 160)
    blocks: tuple[int, ...] = (1, 2, 2)
    start: str | None = None
    teachers: tuple[str, ...] = ()
    teacher_share: float = 0.5
    rare: float = 0.01  # pictures of labels rarer than this are shown twice an epoch
    held_out_every: int = 20
    seed: int = 1
    threads: int = 1
    bfloat16: bool = True  # matrix units of recent processors; others compute the same, slower


class FaceNetwork(Network):
    """A residual network over grey pictures (n, 1, 48, 48) with values 0…255.

    Every picture is standardised by its own mean and spread, so that exposure does not matter.
    """

    modality, reads = "face", "images"
    picture = (_SIZE, 1)

    def __init__(self, config: FaceConfig) -> None:
        super().__init__()
        first = config.widths[0]
        layers: list[nn.Module] = [
            nn.Conv2d(1, first, 3, 1, 1, bias=False),
            nn.BatchNorm2d(first),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
        ]
        self.n_labels, self.embedding_width = len(FERPLUS), config.widths[-1]
        self.body = nn.Sequential(*layers, *residual_stages(config.widths, config.blocks))
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(config.widths[-1], len(FERPLUS))

    def forward(self, images: Tensor) -> Output:
        """Logits (n, 8) and embedding (n, d)."""
        embedding = self.body(standardise(images)).mean(dim=(2, 3))
        return Output(self.head(self.dropout(embedding)), embedding)

    def example(self) -> dict[str, Tensor]:
        """Two pictures of noise."""
        return {"images": torch.rand(2, 1, _SIZE, _SIZE) * 255}


class FaceEnsemble(Network):
    """What is exported: one network or several, whose logits are the mean of `views`; embeddings stand side by side."""

    modality, reads = "face", "images"
    picture = (_SIZE, 1)

    def __init__(self, networks: Sequence[FaceNetwork]) -> None:
        super().__init__()
        self.n_labels = len(FERPLUS)
        self.embedding_width = sum(network.embedding_width for network in networks)
        self.networks = nn.ModuleList(networks)

    def forward(self, images: Tensor) -> Output:
        """Logits (n, 8) and embeddings (n, d)."""
        seen = views(self.networks, images)
        embeddings = [output.embedding for output in seen[: len(self.networks)]]
        return Output(torch.stack([output.logits for output in seen]).mean(dim=0), torch.cat(embeddings, dim=1))

    def example(self) -> dict[str, Tensor]:
        """Two pictures of noise."""
        return {"images": torch.rand(2, 1, _SIZE, _SIZE) * 255}


def views(networks: Iterable[nn.Module], images: Tensor) -> list[Output]:
    """Answers of every network to mirrored, slightly enlarged pictures, and of the first one to the plain pictures.

    On held-out rows of train this was better than plain and mirrored pictures, and every further pass costs its time.
    """
    closer = images.flip(3)[:, :, _MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
    closer = F.interpolate(closer, (images.shape[2], images.shape[3]), mode="bilinear", align_corners=False)
    members = list(networks)
    return [*(network(closer) for network in members), members[0](images)]


class Faces(Pictures):
    """Pictures (n, 1, 48, 48) uint8 for training: augmented, and resized to what ``side`` gives."""

    def __init__(self, images: np.ndarray, side: Callable[[], int]) -> None:
        super().__init__(images, None)
        self.side = side

    def learning(self, rows: np.ndarray, draw: Draw) -> dict[str, Tensor]:
        """Pictures (n, 1, side, side) float32."""
        images = self.plain(rows)["images"]
        for augmentation in AUGMENTATIONS:
            images = augmentation(images, draw.generator)
        side = self.side()
        return {"images": F.interpolate(images, (side, side), mode="bilinear", antialias=True)}


@dataclass(frozen=True)
class _Rows:
    """FER+ as the recipe splits it: rows to learn from, rows held out of train, and dev, which only reports."""

    train: Dataset
    dev: Dataset
    learned: np.ndarray
    held_out: np.ndarray

    @classmethod
    def read(cls, data: Path, held_out_every: int) -> _Rows:
        train, dev = load("ferplus", data, "train"), load("ferplus", data, "dev")
        usable = ~_copies(train, dev)
        chosen = np.arange(len(train)) % held_out_every == 0
        return cls(train, dev, np.flatnonzero(usable & ~chosen), np.flatnonzero(usable & chosen))


def train(data: Path, out: Path, config: FaceConfig, resume: bool) -> None:
    """Train, export and measure; leaves face.onnx, card.json, held_out.npz, curves.csv and checkpoints in ``out``."""
    start_run(out, config, resume)
    rows = _Rows.read(data, config.held_out_every)
    targets = _targets(rows.train, rows.learned, config)
    shown = _shown(rows.train, rows.learned, config.rare)
    network = _learn(np.asarray(rows.train.inputs)[shown], targets[shown], out, config)
    _finish([network], rows, out, {"config": asdict(config)})


def join(data: Path, out: Path, members: Sequence[Path]) -> None:
    """Export the networks of several runs as one, and measure it; leaves face.onnx, card.json and held_out.npz."""
    cards = [json.loads((member / "card.json").read_text(encoding="utf-8")) for member in members]
    every = {card["config"]["held_out_every"] for card in cards}
    if len(every) != 1:
        raise DataError("the runs held out different rows; join runs with the same held_out_every")
    networks = [_network_of(member, card["config"]) for member, card in zip(members, cards, strict=True)]
    facts = {"members": [{"run": m.name, "config": c["config"]} for m, c in zip(members, cards, strict=True)]}
    out.mkdir(parents=True, exist_ok=True)
    _finish(networks, _Rows.read(data, every.pop()), out, facts)


def _network_of(run: Path, config: Mapping[str, Any]) -> FaceNetwork:
    """The network of a finished run, with averaged weights."""
    network = FaceNetwork(FaceConfig(widths=tuple(config["widths"]), blocks=tuple(config["blocks"])))
    network.load_state_dict(network_weights(run))
    return network.eval()


def _learn(images: np.ndarray, targets: np.ndarray, out: Path, config: FaceConfig) -> FaceNetwork:
    """A network that learned pictures (n, 48, 48) uint8 with targets (n, 8), by the loop of affuse."""
    seed_everything(config.seed, config.threads)
    network = FaceNetwork(config).to(memory_format=torch.channels_last)
    if config.start is not None:
        network.load_state_dict(network_weights(Path(config.start)))
    training = TrainingConfig(
        epochs=config.epochs,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        warmup=0.15,
        imbalance="none",
        seed=config.seed,
    )
    module = Classification(network, training)
    faces = Faces(images[:, None], lambda: _side(module.current_epoch, config))
    loop = loop_config(config, "face", out, ema_decay=config.ema_decay)
    fit(module, Data(Split(faces, targets), None, training), loop, monitor=None)
    return network


def _side(epoch: int, config: FaceConfig) -> int:
    """Pixels of the pictures in an epoch."""
    return config.sides[epoch * len(config.sides) // config.epochs]


def _finish(networks: Sequence[FaceNetwork], rows: _Rows, out: Path, facts: Mapping[str, Any]) -> None:
    pictures, y = np.asarray(rows.train.inputs)[rows.held_out], rows.train.targets[rows.held_out]
    ensemble = FaceEnsemble(networks).eval()
    temperature = fit_temperature(_logits(ensemble, pictures), y)
    weights = out / "face.onnx"
    export(ensemble, weights, temperature, "float16")
    P = _answers(weights, pictures)
    write_held_out(out / "held_out.npz", probabilities=P, targets=y, groups=rows.train.groups[rows.held_out])
    reported = _answers(weights, np.asarray(rows.dev.inputs))
    measured = {
        "rows": {"train": len(rows.learned), "held_out": len(rows.held_out), "dev": len(rows.dev)},
        "copies_of_dev_left_out": len(rows.train) - len(rows.learned) - len(rows.held_out),
        "parameters": ensemble.count_parameters(),
        "temperature": temperature,
        "held_out_accuracy": float((P.argmax(axis=1) == y).mean()),
        "dev_accuracy": float((reported.argmax(axis=1) == rows.dev.targets).mean()),
    }
    write_card(out / "card.json", weights, {**facts, **measured})
    print({**facts, **measured})


def _copies(train: Dataset, dev: Dataset) -> np.ndarray:
    """Which pictures (n,) of train are in dev too, byte for byte: FER2013 holds some twice."""
    known = {image.tobytes() for image in dev.inputs}
    return np.array([image.tobytes() in known for image in train.inputs])


def _targets(rows: Dataset, chosen: np.ndarray, config: FaceConfig) -> np.ndarray:
    """Shares of the votes (n, 8), mixed for the rows ``chosen`` with the mean answer of the teachers."""
    assert rows.votes is not None
    targets = np.array(rows.votes)
    if config.teachers:
        pictures = np.asarray(rows.inputs)[chosen]
        distilled = np.mean([_answers(Path(teacher), pictures) for teacher in config.teachers], axis=0)
        targets[chosen] += config.teacher_share * (distilled - targets[chosen])
    return targets


def _shown(rows: Dataset, chosen: np.ndarray, rare: float) -> np.ndarray:
    """The rows ``chosen``, and once more those whose label makes up less than the share ``rare`` of them."""
    labels = rows.targets[chosen]
    shares = np.bincount(labels, minlength=len(rows.labels)) / len(chosen)
    return np.concatenate([chosen, chosen[shares[labels] < rare]])


@torch.no_grad()
def _logits(ensemble: FaceEnsemble, images: np.ndarray) -> np.ndarray:
    inputs = torch.from_numpy(np.ascontiguousarray(images)).float().unsqueeze(1)
    return torch.cat([ensemble(batch).logits for batch in inputs.split(256)]).numpy()


def _answers(weights: Path, images: np.ndarray) -> np.ndarray:
    """Probabilities (n, 8) by an exported network for pictures (n, 48, 48)."""
    model = session(weights)
    batches = np.array_split(images.astype(np.float32)[:, None], max(1, len(images) // 256))
    return np.concatenate([model.run(["probabilities"], {"images": batch})[0] for batch in batches])


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; exits with 2 and a sentence where something is missing."""
    parser = recipe_parser(__doc__, FaceConfig)
    parser.add_argument("--widths", type=int, nargs=3, default=FaceConfig.widths, help="channels of the three stages")
    parser.add_argument("--sides", type=int, nargs="+", default=FaceConfig.sides, help="pixels of the pictures")
    parser.add_argument("--learning-rate", type=float, default=FaceConfig.learning_rate, help="the largest one")
    parser.add_argument("--start", help="folder of an earlier run, whose weights this one starts from")
    parser.add_argument("--teachers", nargs="+", default=(), help="exported networks of earlier runs on the same rows")
    parser.add_argument("--members", type=Path, nargs="+", help="join these runs instead of training")
    options = parser.parse_args(arguments)
    config = FaceConfig(
        epochs=options.epochs,
        sides=tuple(options.sides),
        learning_rate=options.learning_rate,
        widths=tuple(options.widths),
        start=options.start,
        teachers=tuple(options.teachers),
        seed=options.seed,
        threads=options.threads,
    )
    with errors_as_sentences(parser):
        if options.members:
            join(options.data, options.out, options.members)
        else:
            train(options.data, options.out, config, options.resume)


if __name__ == "__main__":
    main()
