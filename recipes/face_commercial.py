"""Recipe of the face of the commercial set: a linear model over oriented edges, learned from Javanese clips (MIT).

``python -m recipes.face_commercial --data DIR --out runs/face_commercial``

Six actors are too few for a network that learns what a face looks like, so nothing of that is learned: filters of
oriented edges are fixed, as in a histogram of oriented gradients (Dalal & Triggs 2005, doi:10.1109/CVPR.2005.177), and
the emotions are told apart by a linear discriminant with a strongly shrunk covariance. Every clip gives four pictures
of the largest face, as they are, mirrored, and moved by a pixel or two. The actors of train are judged by models that
never saw them, which gives the temperature and the rows for the fuser; those of dev only report. There are no labels
for disgust and contempt, which are hardly ever answered.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.special import softmax
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from torch import Tensor, nn
from torch.nn import functional as F

from affuse.data.corpora import load
from affuse.evaluation.intervals import cluster_bootstrap
from affuse.experts.face.crop import CROP_SIZE, crop_face
from affuse.experts.face.detect import default_detector
from affuse.files import write_json
from affuse.fusion.temperature import fit_temperature
from affuse.labels import FERPLUS
from affuse.media import Recording
from affuse.training.cards import write_held_out
from affuse.training.networks.exporter import export_module
from affuse.training.networks.kinds import AXES
from recipes.command import data_parser, errors_as_sentences

__all__ = ["Edges", "Faces", "LinearFace", "main", "read_faces", "train"]

_PICTURES = 4  # of a clip, evenly between these shares of its length
_FROM, _TO = 0.15, 0.9
_DIRECTIONS, _CELL, _STEP = 16, 8, 4
_SHRINKAGE = 0.5
_MOVES = ((0, 0), (2, 1), (-2, -1))  # pixels
_RARE = -100.0  # by how much labels that no clip has are behind the mean of the others, before the temperature
_COMPONENTS = 32


@dataclass(frozen=True)
class Faces:
    """Pictures (n, 48, 48) uint8, the clip of each (n,), and columns of `FERPLUS` and actors by clip (c,)."""

    pictures: np.ndarray
    clips: np.ndarray
    targets: np.ndarray
    actors: np.ndarray

    def of(self, chosen: np.ndarray) -> Faces:
        """Those of the clips that are ``chosen`` (c,) bool, numbered anew."""
        mine = chosen[self.clips]
        return Faces(
            self.pictures[mine], (np.cumsum(chosen) - 1)[self.clips[mine]], self.targets[chosen], self.actors[chosen]
        )


class Edges(nn.Module):
    """Grey pictures (n, 1, 48, 48) of 0…255 in, strengths of edges (n, d) out, by place and direction.

    Light and contrast of a picture are taken out of it, and the strength of all edges around out of each place.
    """

    def __init__(self) -> None:
        super().__init__()
        angles = torch.arange(_DIRECTIONS) * (2 * math.pi / _DIRECTIONS)
        y, x = torch.meshgrid(torch.arange(-2.0, 3), torch.arange(-2.0, 3), indexing="ij")
        along = x * torch.cos(angles)[:, None, None] + y * torch.sin(angles)[:, None, None]
        filters = along * torch.exp(-(x**2 + y**2) / 2)
        self.register_buffer("filters", (filters / filters.abs().sum(dim=(1, 2), keepdim=True)).unsqueeze(1))

    def forward(self, images: Tensor) -> Tensor:
        mean = images.mean(dim=(2, 3), keepdim=True)
        spread = ((images - mean) ** 2).mean(dim=(2, 3), keepdim=True).sqrt()
        edges = F.relu(F.conv2d((images - mean) / (spread + 1.0), self.filters))
        cells = F.avg_pool2d(edges, _CELL, _STEP)
        near = F.avg_pool2d(cells.sum(dim=1, keepdim=True), 3, 1, 1)
        return torch.sqrt(cells / (near + 0.05)).flatten(1)


class LinearFace(nn.Module):
    """What is exported: pictures (n, 1, 48, 48) in, calibrated probabilities (n, 8) and embedding (n, 32) out."""

    def __init__(self, slopes: np.ndarray, biases: np.ndarray, axes: np.ndarray, mean: np.ndarray) -> None:
        super().__init__()
        self.edges = Edges()
        self.emotions = nn.Linear(*slopes.T.shape)
        self.embedding = nn.Linear(*axes.T.shape)
        pairs = ((self.emotions, slopes, biases), (self.embedding, axes, -axes @ mean))
        for layer, weight, bias in pairs:
            layer.weight.data = torch.tensor(weight, dtype=torch.float32)
            layer.bias.data = torch.tensor(bias, dtype=torch.float32)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        edges = self.edges(images)
        return torch.softmax(self.emotions(edges), dim=1), self.embedding(edges)


def read_faces(data: Path, split: str) -> Faces:
    """The largest face in some pictures of every clip; a clip without any stays without pictures."""
    detector, rows = default_detector(), load("javanese_av", data, split)
    pictures, clips = [], []
    for clip, path in enumerate(rows.inputs):
        recording = Recording.open(path)
        times = np.linspace(_FROM, _TO, _PICTURES) * recording.duration
        for frame in recording.frames(times.tolist(), max_side=960):
            found = detector.detect(frame.image)
            if len(found.boxes):
                largest = int(np.argmax(found.boxes[:, 2] * found.boxes[:, 3]))
                pictures.append(
                    crop_face(frame.image, found.boxes[largest], found.landmarks[largest], detector.framing)
                )
                clips.append(clip)
    targets = np.array([FERPLUS.index(rows.labels.labels[target]) for target in rows.targets])
    return Faces(np.array(pictures), np.array(clips), targets, np.asarray(rows.groups))


@torch.no_grad()
def _edges(pictures: np.ndarray) -> np.ndarray:
    images = torch.from_numpy(np.ascontiguousarray(pictures, dtype=np.float32))[:, None]
    return torch.cat([Edges()(part) for part in images.split(64)]).numpy()


def _fit(faces: Faces) -> tuple[np.ndarray, np.ndarray]:
    """Slopes (8, d) and biases (8,) of log-probabilities, from pictures as they are, mirrored and moved."""
    versions = [np.roll(faces.pictures, move, axis=(1, 2)) for move in _MOVES]
    versions += [version[:, :, ::-1] for version in versions]
    X = np.concatenate([_edges(version) for version in versions])
    y = np.tile(faces.targets[faces.clips], len(versions))
    model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=_SHRINKAGE).fit(X, y)
    slopes = np.tile(model.coef_.mean(axis=0), (len(FERPLUS), 1))
    biases = np.full(len(FERPLUS), model.intercept_.mean() + _RARE)
    slopes[model.classes_], biases[model.classes_] = model.coef_, model.intercept_
    # What all logits share says nothing, and would cost digits.
    return slopes - model.coef_.mean(axis=0), biases - model.intercept_.mean()


def _clip_means(P: np.ndarray, faces: Faces) -> np.ndarray:
    """Mean of the answers (n, 8) in every clip (c, 8); NaN where no face was found."""
    with np.errstate(invalid="ignore"):
        sums = np.array([P[faces.clips == clip].sum(axis=0) for clip in range(len(faces.targets))])
        return sums / sums.sum(axis=1, keepdims=True)


def train(data: Path, out: Path) -> None:
    """Learn, export and measure; leaves face_commercial.onnx, card.json and held_out.npz in ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    faces, dev = read_faces(data, "train"), read_faces(data, "dev")
    logits = np.zeros((len(faces.clips), len(FERPLUS)))
    for actor in np.unique(faces.actors):
        slopes, biases = _fit(faces.of(faces.actors != actor))
        mine = (faces.actors == actor)[faces.clips]
        logits[mine] = _edges(faces.pictures[mine]) @ slopes.T + biases
    temperature = fit_temperature(logits, faces.targets[faces.clips])
    slopes, biases = _fit(faces)
    plain = _edges(faces.pictures)
    mean = plain.mean(axis=0)
    _, spread, axes = np.linalg.svd(plain - mean, full_matrices=False)
    axes = axes[:_COMPONENTS] / spread[:_COMPONENTS, None] * math.sqrt(len(plain))
    network = LinearFace(slopes / temperature, biases / temperature, axes, mean).eval()
    weights = out / "face_commercial.onnx"
    example = torch.randint(0, 256, (2, 1, CROP_SIZE, CROP_SIZE), generator=torch.Generator().manual_seed(0)).float()
    export_module(
        network, weights, {"images": example}, ["probabilities", "embedding"], AXES["images"], storage="float16"
    )
    P = _clip_means(softmax(logits / temperature, axis=1), faces)
    write_held_out(out / "held_out.npz", probabilities=P, targets=faces.targets, groups=faces.actors)
    with torch.no_grad():
        P_dev = network(torch.from_numpy(dev.pictures.astype(np.float32))[:, None])[0].numpy()
    facts = {
        "pictures": {"train": len(faces.clips), "dev": len(dev.clips)},
        "temperature": temperature,
        "held_out": _scores(P, faces),
        "dev": _scores(_clip_means(P_dev, dev), dev),
        "bytes": weights.stat().st_size,
    }
    write_json(out / "card.json", facts)
    print(facts)


def _scores(P: np.ndarray, faces: Faces) -> dict[str, Any]:
    """Accuracy by clip, with an interval that draws actors, and recalls, of clips (c, 8) in which a face was found."""
    seen = ~np.isnan(P).any(axis=1)
    right, y = P[seen].argmax(axis=1) == faces.targets[seen], faces.targets[seen]
    return {
        "n": int(seen.sum()),
        "accuracy": round(float(right.mean()), 4),
        "ci95": [round(bound, 4) for bound in cluster_bootstrap(right, faces.actors[seen])],
        "recalls": {FERPLUS.labels[k]: round(float(right[y == k].mean()), 3) for k in np.unique(y)},
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; exits with 2 and a sentence where something is missing."""
    parser = data_parser(__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    options = parser.parse_args(arguments)
    with errors_as_sentences(parser):
        train(options.data, options.out)


if __name__ == "__main__":
    main()
