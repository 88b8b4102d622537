"""Recipe of the face expert: a small residual network on FER+ crops of 48 x 48, trained on the annotators' votes.

``python -m affuse.training.face --data DIR --out runs/face [--resume]``

The schedule is fixed beforehand, so nothing is selected; a twentieth of train is held out for the temperature and for
the fuser, and FER+ valid only reports. Residual blocks after He et al. 2016 (arXiv:1512.03385), votes as targets after
Barsoum et al. 2016 (arXiv:1608.01041), random erasing after Zhong et al. 2017 (arXiv:1708.04896).
"""

from __future__ import annotations

import argparse
import copy
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from affuse.datasets import Dataset, load
from affuse.labels import FERPLUS
from affuse.training.checkpoints import load_checkpoint, restore_optimizer, save_checkpoint
from affuse.training.common import ema_update, fit_temperature, one_cycle, seed_everything, write_card, write_held_out

__all__ = ["FaceConfig", "FaceNetwork", "FaceWithProbabilities", "train"]


@dataclass(frozen=True)
class FaceConfig:
    """Everything that shapes a run."""

    epochs: int = 28
    batch_size: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    ema_decay: float = 0.998
    dropout: float = 0.3
    widths: tuple[int, ...] = (32, 64, 128)
    blocks: tuple[int, ...] = (1, 2, 2)
    held_out_every: int = 20
    seed: int = 1
    threads: int = 1


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions with a shortcut; halves the picture where ``stride`` is 2."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False),
            nn.BatchNorm2d(n_out),
            nn.ReLU(inplace=True),
            nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False),
            nn.BatchNorm2d(n_out),
        )
        same = n_in == n_out and stride == 1
        self.shortcut: nn.Module = (
            nn.Identity()
            if same
            else nn.Sequential(
                nn.AvgPool2d(stride) if stride > 1 else nn.Identity(),
                nn.Conv2d(n_in, n_out, 1, bias=False),
                nn.BatchNorm2d(n_out),
            )
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.body(x) + self.shortcut(x))


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
        n_in = first
        for stage, (width, blocks) in enumerate(zip(config.widths, config.blocks, strict=True)):
            for block in range(blocks):
                layers.append(ResidualBlock(n_in, width, 2 if stage > 0 and block == 0 else 1))
                n_in = width
        self.body = nn.Sequential(*layers)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(n_in, len(FERPLUS))

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mean = images.mean(dim=(2, 3), keepdim=True)
        spread = ((images - mean) ** 2).mean(dim=(2, 3), keepdim=True).sqrt()
        embedding = self.body((images - mean) / (spread + 4.0)).mean(dim=(2, 3))
        return embedding, self.head(self.dropout(embedding))


class FaceWithProbabilities(nn.Module):
    """What is exported: calibrated probabilities (n, 8) and embedding (n, d); mirror images are averaged."""

    def __init__(self, network: FaceNetwork, temperature: float) -> None:
        super().__init__()
        self.network = network
        self.temperature = temperature

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        embedding, logits = self.network(images)
        mirrored, mirrored_logits = self.network(images.flip(3))
        mean = (logits + mirrored_logits) / 2
        return torch.softmax(mean / self.temperature, dim=1), (embedding + mirrored) / 2


def augment(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Flip, rotate up to 15 degrees, scale by up to 15 %, shift up to 10 %, change contrast, and erase a patch."""
    n = len(images)

    def uniform(low: float, high: float) -> torch.Tensor:
        return torch.rand(n, generator=generator) * (high - low) + low

    angle, scale = uniform(-15, 15) * math.pi / 180, uniform(0.85, 1.15)
    flip = (torch.rand(n, generator=generator) < 0.5).float() * -2 + 1
    cosine, sine = torch.cos(angle) * scale, torch.sin(angle) * scale
    rows = [cosine * flip, -sine, uniform(-0.2, 0.2), sine * flip, cosine, uniform(-0.2, 0.2)]
    theta = torch.stack(rows, dim=1).view(n, 2, 3)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    images = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    gamma = torch.exp(uniform(-0.5, 0.5)).view(n, 1, 1, 1)  # exposure; a linear change is undone by the network's norm
    images = 255 * (images / 255).clamp(1e-3, 1) ** gamma
    return _erase(images, generator)


def _erase(images: torch.Tensor, generator: torch.Generator, share: float = 0.3) -> torch.Tensor:
    size = images.shape[-1]
    for i in torch.nonzero(torch.rand(len(images), generator=generator) < share).flatten().tolist():
        height, width, top, left = (torch.rand(4, generator=generator) * torch.tensor([14, 14, 40, 40])).int().tolist()
        patch = images[i, :, top : min(size, top + height + 6), left : min(size, left + width + 6)]
        patch.copy_(torch.rand(patch.shape, generator=generator) * 255)
    return images


def train(data: Path, out: Path, config: FaceConfig, resume: bool) -> None:
    """Train, export and measure; leaves face.onnx, card.json, held_out.npz and a checkpoint in ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    rows = load("ferplus", data, "train")
    valid = load("ferplus", data, "valid")
    pictures = np.asarray(rows.inputs)
    usable = ~_copies(rows, valid)
    held_out = usable & (np.arange(len(rows)) % config.held_out_every == 0)
    model = _fit(rows, np.flatnonzero(usable & ~held_out), out / "checkpoint.safetensors", config, resume)
    logits = _logits(model, pictures, np.flatnonzero(held_out))
    temperature = fit_temperature(logits, rows.targets[held_out])
    weights = out / "face.onnx"
    export(model, temperature, weights)
    P = _run(weights, pictures[held_out])
    write_held_out(out / "held_out.npz", probabilities=P, targets=rows.targets[held_out], groups=rows.groups[held_out])
    reported = _run(weights, np.asarray(valid.inputs))
    facts = {
        "config": asdict(config),
        "rows": {"fit": int((usable & ~held_out).sum()), "held_out": int(held_out.sum()), "valid": len(valid)},
        "copies_of_valid_left_out": int((~usable).sum()),
        "parameters": sum(p.numel() for p in model.parameters()),
        "temperature": temperature,
        "held_out_accuracy": float((P.argmax(axis=1) == rows.targets[held_out]).mean()),
        "valid_accuracy": float((reported.argmax(axis=1) == valid.targets).mean()),
    }
    write_card(out / "card.json", weights, facts)
    print(facts)


def _copies(rows: Dataset, valid: Dataset) -> np.ndarray:
    """Mark pictures of train that stand in valid too, byte for byte: FER2013 holds some twice."""
    known = {image.tobytes() for image in valid.inputs}
    return np.array([image.tobytes() in known for image in rows.inputs])


def _fit(rows: Dataset, chosen: np.ndarray, path: Path, config: FaceConfig, resume: bool) -> FaceNetwork:
    generator = seed_everything(config.seed, config.threads)
    model = FaceNetwork(config).to(memory_format=torch.channels_last)
    average = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(model.parameters(), config.learning_rate, weight_decay=config.weight_decay)
    first = 0
    if resume and path.is_file():
        parts, progress = load_checkpoint(path)
        model.load_state_dict(parts["model"])
        average.load_state_dict(parts["average"])
        restore_optimizer(optimizer, parts["optimizer"])
        first = progress["epoch"]
    images = torch.from_numpy(np.ascontiguousarray(np.asarray(rows.inputs)[chosen]))
    assert rows.votes is not None
    targets = torch.from_numpy(rows.votes[chosen]).float()
    for epoch in range(first, config.epochs):
        generator.manual_seed(config.seed * 1000 + epoch)  # a resumed run draws what an undisturbed one draws
        torch.manual_seed(config.seed * 1000 + epoch)
        started, loss = time.monotonic(), 0.0
        batches = torch.randperm(len(images), generator=generator).split(config.batch_size)[:-1]
        for step, batch in enumerate(batches):
            factor = one_cycle((epoch + step / len(batches)) / config.epochs)
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate * factor
            inputs = augment(images[batch].float().unsqueeze(1), generator)
            _, logits = model(inputs.to(memory_format=torch.channels_last))
            value = F.cross_entropy(logits, targets[batch])
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
def _logits(model: FaceNetwork, images: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    inputs = torch.from_numpy(np.ascontiguousarray(images[chosen])).float().unsqueeze(1)
    means = [(model(batch)[1] + model(batch.flip(3))[1]) / 2 for batch in inputs.split(256)]
    return torch.cat(means).numpy()


def export(model: FaceNetwork, temperature: float, path: Path) -> None:
    """Write the network with softmax and temperature as ONNX: "images" in, "probabilities" and "embedding" out."""
    torch.onnx.export(
        FaceWithProbabilities(model, temperature).eval(),
        (torch.zeros(2, 1, 48, 48),),
        str(path),
        input_names=["images"],
        output_names=["probabilities", "embedding"],
        dynamic_axes={name: {0: "n"} for name in ("images", "probabilities", "embedding")},
        opset_version=17,
        dynamo=False,
    )


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
    parser.add_argument("--threads", type=int, default=FaceConfig.threads)
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint in --out")
    options = parser.parse_args()
    train(options.data, options.out, FaceConfig(epochs=options.epochs, threads=options.threads), options.resume)


if __name__ == "__main__":
    _main()
