"""Recipe of the face expert: small residual networks on FER+ crops of 48 x 48, trained on the annotators' votes.

::

    python -m recipes.face --data DIR --out runs/face_a --widths 32 64 128 [--resume]
    python -m recipes.face --data DIR --out runs/face_b --teacher runs/face_a/face.onnx
    python -m recipes.face --data DIR --out runs/face_c --start runs/face_b/checkpoint.safetensors \\
        --teacher runs/face_a/face.onnx runs/face_b/face.onnx --epochs 13 --learning-rate 1.5e-3 --sides 48
    python -m recipes.face --data DIR --out runs/face --members runs/face_c

The first three train one network each, anew or from the weights of an earlier run; the last joins any number of runs
into one file. Only ``runs/face_c`` ships: together with ``face_a`` it is better by a hair and takes twice the time.

The schedule is fixed beforehand, so nothing is selected; a twentieth of train is held out for the temperature and for
the fuser, and FER+ valid only reports. Residual blocks after He et al. 2016 (arXiv:1512.03385), votes as targets after
Barsoum et al. 2016 (arXiv:1608.01041), random erasing after Zhong et al. 2017 (arXiv:1708.04896). Teachers, the
weights of earlier runs fitted on the same rows, smooth what ten votes leave to chance (born-again networks, Furlanello
et al. 2018, arXiv:1805.04770).
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from affuse.data.corpora import Dataset, load
from affuse.errors import DataError
from affuse.labels import FERPLUS
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
from recipes.checkpoints import load_checkpoint, restore_optimizer, save_checkpoint

__all__ = ["FaceConfig", "FaceNetwork", "FaceWithProbabilities", "join", "train"]


_MARGIN = 2  # pixels that an enlarged picture loses at every side


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
    start: str | None = None
    teachers: tuple[str, ...] = ()
    teacher_share: float = 0.5
    rare: float = 0.01  # pictures of labels rarer than this are shown twice an epoch
    held_out_every: int = 20
    seed: int = 1
    threads: int = 1
    bfloat16: bool = True  # matrix units of recent processors; others compute the same, slower


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


class FaceWithProbabilities(nn.Module):
    """What is exported: calibrated probabilities (n, 8) and embedding (n, d) of one network or several together.

    Logits are the mean of `views`; embeddings stand side by side.
    """

    def __init__(self, networks: Sequence[FaceNetwork], temperature: float) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.temperature = temperature

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        seen = views(self.networks, images)
        logits = torch.stack([logits for _, logits in seen]).mean(dim=0)
        embedding = torch.cat([embedding for embedding, _ in seen[: len(self.networks)]], dim=1)
        return torch.softmax(logits / self.temperature, dim=1), embedding


def views(networks: Iterable[nn.Module], images: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Embedding and logits of every network on mirrored, slightly enlarged pictures, and of the first on them plain.

    Held-out rows of train preferred this to plain and mirrored pictures, and every further pass costs its time.
    """
    closer = images.flip(3)[:, :, _MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
    closer = F.interpolate(closer, (images.shape[2], images.shape[3]), mode="bilinear", align_corners=False)
    members = list(networks)
    return [*(network(closer) for network in members), members[0](images)]


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


def train(data: Path, out: Path, config: FaceConfig, resume: bool) -> None:
    """Train, export and measure; leaves face.onnx, card.json, held_out.npz and a checkpoint in ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    rows = _Rows.read(data, config.held_out_every)
    targets = _targets(rows.train, rows.fit, config)
    shown = _shown(rows.train, rows.fit, config.rare)
    model = _fit(rows.train, shown, targets, out / "checkpoint.safetensors", config, resume)
    _finish([model], rows, out, {"config": asdict(config)})


def join(data: Path, out: Path, members: Sequence[Path]) -> None:
    """Export the networks of several runs as one, and measure it; leaves face.onnx, card.json and held_out.npz."""
    out.mkdir(parents=True, exist_ok=True)
    cards = [json.loads((member / "card.json").read_text(encoding="utf-8")) for member in members]
    every = {card["config"]["held_out_every"] for card in cards}
    if len(every) != 1:
        raise DataError("the runs held out different rows; join runs with the same held_out_every")
    networks = [_averaged(member, card["config"]) for member, card in zip(members, cards, strict=True)]
    facts = {"members": [{"run": m.name, "config": c["config"]} for m, c in zip(members, cards, strict=True)]}
    _finish(networks, _Rows.read(data, every.pop()), out, facts)


def _averaged(run: Path, config: Mapping[str, Any]) -> FaceNetwork:
    """The averaged network of a run's last checkpoint."""
    network = FaceNetwork(FaceConfig(widths=tuple(config["widths"]), blocks=tuple(config["blocks"])))
    network.load_state_dict(load_checkpoint(run / "checkpoint.safetensors")[0]["average"])
    return network.eval()


def _finish(networks: Sequence[FaceNetwork], rows: _Rows, out: Path, facts: Mapping[str, Any]) -> None:
    pictures, y = np.asarray(rows.train.inputs)[rows.held_out], rows.train.targets[rows.held_out]
    temperature = fit_temperature(_logits(networks, pictures), y)
    weights = out / "face.onnx"
    export(networks, temperature, weights)
    P = _run(weights, pictures)
    write_held_out(out / "held_out.npz", probabilities=P, targets=y, groups=rows.train.groups[rows.held_out])
    reported = _run(weights, np.asarray(rows.valid.inputs))
    measured = {
        "rows": {"fit": len(rows.fit), "held_out": len(rows.held_out), "valid": len(rows.valid)},
        "copies_of_valid_left_out": len(rows.train) - len(rows.fit) - len(rows.held_out),
        "parameters": sum(p.numel() for network in networks for p in network.parameters()),
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
) -> FaceNetwork:
    generator = seed_everything(config.seed, config.threads)
    model = FaceNetwork(config).to(memory_format=torch.channels_last)
    average = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(
        model.parameters(), config.learning_rate, weight_decay=config.weight_decay, fused=True
    )
    first = 0
    if config.start is not None:
        model.load_state_dict(load_checkpoint(Path(config.start))[0]["average"])
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


@torch.no_grad()
def _logits(networks: Sequence[FaceNetwork], images: np.ndarray) -> np.ndarray:
    inputs = torch.from_numpy(np.ascontiguousarray(images)).float().unsqueeze(1)
    means = [torch.stack([logits for _, logits in views(networks, batch)]).mean(dim=0) for batch in inputs.split(256)]
    return torch.cat(means).numpy()


def export(networks: Sequence[FaceNetwork], temperature: float, path: Path) -> None:
    """Write the networks with softmax and temperature as ONNX: "images" in, "probabilities" and "embedding" out.

    Weights are stored in half precision, which costs nothing in accuracy or speed: they are widened when loaded.
    """
    torch.onnx.export(
        FaceWithProbabilities(networks, temperature).eval(),
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
    parser.add_argument("--epochs", type=int, default=FaceConfig.epochs)
    parser.add_argument("--widths", type=int, nargs=3, default=FaceConfig.widths, help="channels of the three stages")
    parser.add_argument("--sides", type=int, nargs="+", default=FaceConfig.sides, help="pixels of the pictures")
    parser.add_argument("--learning-rate", type=float, default=FaceConfig.learning_rate, help="at its highest")
    parser.add_argument("--start", help="checkpoint of an earlier run whose weights this one goes on from")
    parser.add_argument("--teacher", nargs="+", default=(), help="weights of earlier runs, fitted on the same rows")
    parser.add_argument("--seed", type=int, default=FaceConfig.seed)
    parser.add_argument("--threads", type=int, default=FaceConfig.threads)
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint in --out")
    parser.add_argument("--members", type=Path, nargs="+", help="join these runs instead of training")
    options = parser.parse_args()
    if options.members:
        join(options.data, options.out, options.members)
        return
    config = FaceConfig(
        epochs=options.epochs,
        sides=tuple(options.sides),
        learning_rate=options.learning_rate,
        widths=tuple(options.widths),
        start=options.start,
        teachers=tuple(options.teacher),
        seed=options.seed,
        threads=options.threads,
    )
    train(options.data, options.out, config, options.resume)


if __name__ == "__main__":
    _main()
