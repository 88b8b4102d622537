"""Recipe of the two networks that hear whether a mouth moves with the sound, and of what they are taken to mean.

::

    python -m recipes.synchrony --data DIR --out runs/synchrony [--resume]
    python -m recipes.synchrony --data DIR --out runs/turns --shipped

Learned from the clips of `javanese_av`: a sequence of pictures of a mouth and the sound of the same moment shall be
nearer to each other than to other moments of the same speaker (InfoNCE, van den Oord et al. 2018, arXiv:1807.03748;
batches hold one speaker each, or else the networks learn who speaks, not when). For the figures, and for the model of
turns (`affuse.people.speaking`), three pairs of networks are trained on four of the six actors and three of the four
sentences each, and judge the others; what ships is the three together. The schedule is fixed beforehand, so nothing is
selected. With ``--shipped`` nothing is trained: the model of turns is measured with the networks that ship.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.nn import functional as F

from affuse.data.corpora import load_open
from affuse.experts.face import FaceExpert
from affuse.files import write_json
from affuse.loop import epoch_seed, fit
from affuse.media import Recording
from affuse.people.mouths import MOUTH_SIZE, FacePath, mouths
from affuse.people.synchrony import SynchronyNetworks, log_mel
from affuse.timeline import Timeline
from affuse.training.cards import write_card
from affuse.training.networks.exporter import export_module
from affuse.training.seeds import seed_everything
from recipes.command import errors_as_sentences, recipe_parser, start_run
from recipes.learning import TrainBatches, loop_config, one_cycle
from recipes.synchrony_changes import LARGER, STACK, changed_sequence, has_room
from recipes.synchrony_folds import FOLDS, networks_of_fold
from recipes.synchrony_turns import TURNS, Scored, measure_turns, which_of_two

__all__ = [
    "FOLDS",
    "FaceStream",
    "FaceStreams",
    "SoundStream",
    "SoundStreams",
    "SynchronyConfig",
    "Talker",
    "main",
    "read_talkers",
    "score_talker",
    "speakers_of_fold",
    "train",
]


@dataclass(frozen=True)
class SynchronyConfig:
    """Everything that decides a run."""

    epochs: int = 10
    steps: int = 100  # an epoch
    batch_size: int = 40
    length: int = 12  # pictures of a sequence
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    dropout: float = 0.2
    width: int = 64
    left_out: str = "04"  # the sentence that no fold hears
    seed: int = 1
    threads: int = 2
    bfloat16: bool = False


@dataclass(frozen=True)
class Talker:
    """One clip of somebody who speaks: pictures (t, 40, 40) uint8, 25 a second, and spectrum (40, 4 t + 1)."""

    speaker: str
    sentence: str
    pictures: np.ndarray
    spectrum: np.ndarray
    samples: np.ndarray


class FaceStream(nn.Module):
    """Pictures of a mouth (t, 28, 28) with values 0…255 in, embeddings (t, width) of length 1 out."""

    def __init__(self, width: int = 64, dropout: float = 0.0) -> None:
        super().__init__()
        self.body = nn.Sequential(*(_seen(a, b) for a, b in ((STACK, 24), (24, 48), (48, 64))))
        self.head = nn.Sequential(
            nn.Flatten(), nn.Dropout(dropout), nn.Linear(64 * 9, 96), nn.ReLU(), nn.Linear(96, width)
        )

    def forward(self, mouths: Tensor) -> Tensor:
        return self.embed(stacked(mouths))

    def embed(self, stacks: Tensor) -> Tensor:
        """Embeddings (n, width) of stacks (n, 5, 28, 28), whatever their brightness and contrast."""
        mean = stacks.mean(dim=(1, 2, 3), keepdim=True)
        spread = ((stacks - mean) ** 2).mean(dim=(1, 2, 3), keepdim=True).sqrt()
        return F.normalize(self.head(self.body((stacks - mean) / (spread + 5))), dim=1)


class SoundStream(nn.Module):
    """Log-mel spectra (1, 40, 4 t) of `log_mel` in, embeddings (t, width) of length 1 out, one every 40 ms."""

    def __init__(self, width: int = 64, dropout: float = 0.0) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _heard(40, 64, 1),
            _heard(64, 64, 2),
            _heard(64, 64, 2),
            nn.Dropout(dropout),
            nn.Conv1d(64, 96, 3, padding=1),
            nn.ReLU(),
            nn.Conv1d(96, width, 1),
        )

    def forward(self, spectrum: Tensor) -> Tensor:
        return self.embed(spectrum)[0]

    def embed(self, spectra: Tensor) -> Tensor:
        """Embeddings (n, t, width) of spectra (n, 40, 4 t), whatever their level and colour."""
        centred = spectra - spectra.mean(dim=2, keepdim=True)
        spread = (centred**2).mean(dim=(1, 2), keepdim=True).sqrt()
        return F.normalize(self.body(centred / (spread + 0.5)), dim=1).transpose(1, 2)


class FaceStreams(nn.Module):
    """Several networks that take turns: the first sees the first picture, the second one the second, and so on.

    Pictures (t, 28, 28) in, embeddings (t, m width) of length 1 out: each in the place of the network that saw it, and
    0 elsewhere. Neighbouring pictures are much alike, so that several networks tell more than one, and cost as much.
    """

    def __init__(self, networks: Sequence[FaceStream]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, mouths: Tensor) -> Tensor:
        count, length = len(self.networks), mouths.shape[0]
        stacks = stacked(torch.cat([mouths, *([mouths[-1:]] * (count - 1))]))
        rounds = (length + count - 1) // count
        found = [network.embed(stacks[i::count][:rounds]) for i, network in enumerate(self.networks)]
        rows = [F.pad(own, (i * own.shape[1], (count - 1 - i) * own.shape[1])) for i, own in enumerate(found)]
        return torch.stack(rows, dim=1).flatten(0, 1)[:length]


class SoundStreams(nn.Module):
    """Several networks that all hear everything: spectra (1, 40, 4 t) in, embeddings (t, m width) out, side by side."""

    def __init__(self, networks: Sequence[SoundStream]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, spectrum: Tensor) -> Tensor:
        return torch.cat([network(spectrum) for network in self.networks], dim=1)


def stacked(mouths: Tensor) -> Tensor:
    """Stacks (t, 5, 28, 28) of the pictures around each one; the first and the last ones are repeated at the ends."""
    padded = torch.cat([mouths[:1], mouths[:1], mouths, mouths[-1:], mouths[-1:]])
    return torch.stack([padded[i : i + mouths.shape[0]] for i in range(STACK)], dim=1)


def _seen(before: int, after: int) -> nn.Module:
    convolution = nn.Conv2d(before, after, 3, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2))


def _heard(before: int, after: int, stride: int) -> nn.Module:
    convolution = nn.Conv1d(before, after, 5, stride, padding=2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm1d(after), nn.ReLU())


class Synchrony(LightningModule):
    """Both networks, and the loss that draws together what belongs together."""

    def __init__(self, config: SynchronyConfig) -> None:
        super().__init__()
        self.config = config
        self.face = FaceStream(config.width, config.dropout)
        self.voice = SoundStream(config.width, config.dropout)
        self.sharpness = nn.Parameter(torch.tensor(2.3))

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        stacks, spectra = batch
        n, length = len(spectra), self.config.length
        stacks = stacks.contiguous(memory_format=torch.channels_last)  # takes a third less time
        seen = self.face.embed(stacks).view(n, length, -1)
        margin = (spectra.shape[2] // 4 - length) // 2
        heard = self.voice.embed(spectra)[:, margin : margin + length]
        alike = torch.einsum("itd,jtd->ij", seen, heard) / length * self.sharpness.exp()
        right = torch.arange(n)
        return (F.cross_entropy(alike, right) + F.cross_entropy(alike.T, right)) / 2

    def configure_optimizers(self):  # type: ignore[no-untyped-def]
        config = self.config
        optimizer = torch.optim.AdamW(self.parameters(), config.learning_rate, weight_decay=config.weight_decay)
        return one_cycle(optimizer, self, warmup=0.1)


class Sequences:
    """Batches of augmented sequences, one speaker a batch, drawn from the seed and the epoch."""

    def __init__(self, talkers: Sequence[Talker], config: SynchronyConfig) -> None:
        self.config = config
        self.talkers = talkers
        self.by_speaker: dict[str, list[Talker]] = {}
        for talker in talkers:
            if has_room(talker.pictures, talker.spectrum, config.length):
                self.by_speaker.setdefault(talker.speaker, []).append(talker)
        self.epoch = 0

    def __len__(self) -> int:
        return self.config.steps

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        draw = np.random.default_rng(epoch_seed(self.config.seed, self.epoch))
        self.epoch += 1
        speakers = list(self.by_speaker)
        for _ in range(self.config.steps):
            own = self.by_speaker[speakers[draw.integers(len(speakers))]]
            drawn = [self._one(own[draw.integers(len(own))], draw) for _ in range(self.config.batch_size)]
            yield torch.cat([stacks for stacks, _ in drawn]), torch.stack([spectrum for _, spectrum in drawn])

    def _one(self, talker: Talker, draw: np.random.Generator) -> tuple[Tensor, Tensor]:
        other = self.talkers[int(draw.integers(len(self.talkers)))].spectrum
        return changed_sequence(talker.pictures, talker.spectrum, other, self.config.length, draw)

    def state_dict(self) -> dict[str, int]:
        """For Lightning, which keeps it in checkpoints."""
        return {"epoch": self.epoch}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on with the epoch of a checkpoint."""
        self.epoch = state["epoch"]


def read_talkers(data: Path) -> list[Talker]:
    """The clips of `javanese_av` in which one face is seen, cut as the product cuts them."""
    clips = load_open("javanese_av", data)  # all that lies here: what is kept elsewhere is never learned from
    expert = FaceExpert()
    found = []
    for path in sorted(Path(str(path)) for path in clips.inputs):
        recording = Recording.open(path)
        span = Timeline((recording.span,))
        path_of_face = FacePath.of(expert.read(recording, span)[0])
        pictures = [row[0] for row in mouths(recording, [path_of_face], LARGER)]
        samples = np.concatenate(list(recording.sound(span)))
        if any(picture is None for picture in pictures):
            continue
        speaker, sentence, _ = path.stem.split("-")
        found.append(Talker(speaker, sentence, np.stack(pictures), log_mel(samples), samples))  # type: ignore[arg-type]
    return found


def train(data: Path, out: Path, config: SynchronyConfig, resume: bool) -> None:
    """Train, export and measure; leaves both networks, turns.json, card.json, curves and checkpoints in ``out``."""
    start_run(out, config, resume)
    talkers = read_talkers(data)
    speakers = sorted({talker.speaker for talker in talkers})
    learned, networks = [], []
    for fold in range(FOLDS):
        own = speakers_of_fold(speakers, fold)
        known = [t for t in talkers if t.speaker not in own and t.sentence != config.left_out]
        module = _learn(known, out / f"fold{fold}", replace(config, seed=config.seed + fold))
        learned.append(module)
        networks.append(_export(module.face, module.voice, out / f"fold{fold}"))
    _export(FaceStreams([m.face for m in learned]), SoundStreams([m.voice for m in learned]), out)
    facts = {"config": asdict(config)} | _write_turns(talkers, networks, out, config)
    write_card(out / "card.json", out / "synchrony_face.onnx", facts)
    print(facts)


def measure_shipped(data: Path, out: Path, config: SynchronyConfig) -> None:
    """Measure the model of turns with the networks that ship; leaves turns.json and turns_card.json."""
    out.mkdir(parents=True, exist_ok=True)
    networks = [networks_of_fold(fold, None) for fold in range(FOLDS)]
    facts = _write_turns(read_talkers(data), networks, out, config)
    write_json(out / "turns_card.json", facts)
    print(facts)


def _write_turns(
    talkers: Sequence[Talker], networks: Sequence[SynchronyNetworks], out: Path, config: SynchronyConfig
) -> dict[str, Any]:
    """Write the model of turns, and measure it and the networks of the folds."""
    speakers = sorted({talker.speaker for talker in talkers})
    scored = [
        replace(score_talker(t, own), fold=fold, met=t.speaker not in speakers_of_fold(speakers, fold))
        for fold, own in enumerate(networks)
        for t in talkers
    ]
    TURNS.write(out / "turns.json")
    new = [clip for clip in scored if clip.sentence == config.left_out]
    return {
        "clips": len(talkers),
        "unseen_people": which_of_two(scored, config.seed),
        "unseen_people_and_sentences": which_of_two(new, config.seed),
        "turns": asdict(TURNS),
        "scenes": measure_turns(TURNS, scored, networks, config.seed + 1),
        "scenes, half with somebody off screen": measure_turns(
            replace(TURNS, anybody=0.0), scored, networks, config.seed + 1
        ),
    }


def speakers_of_fold(speakers: Sequence[str], fold: int) -> Sequence[str]:
    """Those of the sorted speakers whom the networks of a fold never meet."""
    return speakers[fold * len(speakers) // FOLDS : (fold + 1) * len(speakers) // FOLDS]


def _learn(talkers: Sequence[Talker], run: Path, config: SynchronyConfig) -> Synchrony:
    """Networks that learned from some clips; leaves checkpoints and curves in the folder of the run."""
    run.mkdir(parents=True, exist_ok=True)
    seed_everything(config.seed, config.threads)
    module = Synchrony(config)
    fit(module, TrainBatches(Sequences(talkers, config)), loop_config(config, run.name, run), monitor=None)
    return module


def _export(face: nn.Module, voice: nn.Module, folder: Path) -> SynchronyNetworks:
    """Both networks as ONNX files in a folder."""
    files = folder / "synchrony_face.onnx", folder / "synchrony_voice.onnx"
    pictures = {"mouths": torch.rand(9, MOUTH_SIZE, MOUTH_SIZE) * 255}
    export_module(face, files[0], pictures, ["embedding"], {"mouths": {0: "n"}}, storage="bytes")
    spectra = {"spectrum": torch.randn(1, 40, 80)}
    export_module(voice, files[1], spectra, ["embedding"], {"spectrum": {2: "n"}}, storage="bytes")
    return SynchronyNetworks(*files)


def score_talker(talker: Talker, networks: SynchronyNetworks) -> Scored:
    """A clip as the networks see and hear it, with pictures of the size that the product cuts."""
    edge = (LARGER - MOUTH_SIZE) // 2
    pictures = np.ascontiguousarray(talker.pictures[:, edge:-edge, edge:-edge])
    return Scored.of(talker.speaker, talker.sentence, pictures, talker.samples, networks)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; exits with 2 and a sentence where something is missing."""
    parser = recipe_parser(__doc__, SynchronyConfig)
    parser.add_argument("--shipped", action="store_true", help="train nothing; measure the networks that ship")
    options = parser.parse_args(arguments)
    config = SynchronyConfig(epochs=options.epochs, seed=options.seed, threads=options.threads)
    with errors_as_sentences(parser):
        if options.shipped:
            measure_shipped(options.data, options.out, config)
        else:
            train(options.data, options.out, config, options.resume)


if __name__ == "__main__":
    main()
