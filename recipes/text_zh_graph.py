"""The graph of the Chinese text recipe: everything from n-grams, characters and words of one text to its answers."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import numpy as np
import torch
from torch import nn

from affuse.experts.text.chinese import HEADS, Alphabet
from affuse.experts.text.chinese_words import Words
from affuse.labels import EKMAN, SMP2020
from affuse.training.networks.exporter import export_module
from recipes.text_zh_blend import HAPPINESS, LEAST, NEGATIVE, NEITHER, ONTO, SHARED, Blend
from recipes.text_zh_data import traditional_characters
from recipes.text_zh_everyday import EverydayHead
from recipes.text_zh_linear import KINDS, LinearModel, Stack
from recipes.text_zh_network import ZhNetwork

__all__ = ["BlendGraph", "EverydayGraph", "Graph", "LinearGraph", "QuantisedTable", "StackGraph", "export"]


class QuantisedTable(nn.Module):
    """A table of weights (v, k) in INT8 with one scale a column; rows are looked up and become numbers again."""

    def __init__(self, table: np.ndarray) -> None:
        super().__init__()
        scale = np.maximum(np.abs(table).max(axis=0), 1e-12) / 127
        self.register_buffer("table", torch.from_numpy(np.round(table / scale).astype(np.int8)))
        self.register_buffer("scale", torch.from_numpy(scale).float())

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.table[ids].float() * self.scale


class LinearGraph(nn.Module):
    """`LinearModel` for one text: known n-grams (m,) and counts (m,) in, decision values (1, k) of each kind out."""

    def __init__(self, model: LinearModel) -> None:
        super().__init__()
        self.idf = QuantisedTable(model.idf[:, None])
        for kind in KINDS:
            setattr(self, kind, QuantisedTable(model.weights[kind]))
            self.register_buffer(f"{kind}_bias", torch.from_numpy(model.bias[kind]).float())

    def forward(self, ids: torch.Tensor, counts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        weighted = (1 + torch.log(counts)).unsqueeze(1) * self.idf(ids)
        norm = (weighted * weighted).sum().sqrt().clamp(min=1e-12)
        plain = (self.tfidf(ids) * weighted).sum(dim=0) / norm + self.tfidf_bias
        root = torch.ones_like(counts).sum().clamp(min=1).sqrt()
        bayes = self.bayes(ids).sum(dim=0) / root + self.bayes_bias
        return plain.unsqueeze(0), bayes.unsqueeze(0)


class EverydayGraph(nn.Module):
    """`EverydayHead` for one text: known n-grams (m,) and counts (m,) in, evidence (1, 8) out."""

    def __init__(self, head: EverydayHead) -> None:
        super().__init__()
        self.idf, self.weights = QuantisedTable(head.idf[:, None]), QuantisedTable(head.weights)
        self.register_buffer("bias", torch.from_numpy(head.bias).float())

    def forward(self, ids: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        weighted = (1 + torch.log(counts)).unsqueeze(1) * self.idf(ids)
        norm = (weighted * weighted).sum().sqrt().clamp(min=1e-12)
        return ((self.weights(ids) * weighted).sum(dim=0) / norm + self.bias).unsqueeze(0)


class BlendGraph(nn.Module):
    """`Blend` for one text: the stack's logits (1, 6) and evidence (1, 8) in, emotions (1, 7) out."""

    def __init__(self, blend: Blend) -> None:
        super().__init__()
        onto = np.zeros((len(SMP2020), len(EKMAN)))
        onto[np.arange(len(SMP2020)), ONTO] = blend.weight
        for name, values in (("shares", np.log(blend.shares)), ("prior", np.log(blend.prior)), ("onto", onto)):
            self.register_buffer(name, torch.from_numpy(values).float())

    def forward(self, logits: torch.Tensor, evidence: torch.Tensor) -> torch.Tensor:
        told = (torch.log_softmax(logits, dim=1).clamp(min=LEAST) - self.shares) @ self.onto
        return torch.softmax(told + evidence[:, :-1] + self.prior, dim=1)


class StackGraph(nn.Module):
    """`Stack` for one text: the parts' decision values in the stack's order in, logits (1, k) out."""

    def __init__(self, stack: Stack) -> None:
        super().__init__()
        weights = np.concatenate(list(stack.weights.values()))
        self.register_buffer("weights", torch.from_numpy(weights).float())
        self.register_buffer("bias", torch.from_numpy(stack.bias).float())

    def forward(self, *parts: torch.Tensor) -> torch.Tensor:
        return torch.cat(parts, dim=1) @ self.weights + self.bias


class Graph(nn.Module):
    """What is exported: known n-grams, characters and words of one text in; emotions, sentiment and embedding out."""

    def __init__(
        self,
        linear: dict[str, LinearModel],
        networks: list[ZhNetwork],
        numbers: np.ndarray,
        stacks: dict[str, Stack],
        offsets: np.ndarray,
        everyday: EverydayHead,
        blend: Blend,
    ) -> None:
        super().__init__()
        self.emotion, self.sentiment = LinearGraph(linear["emotion"]), LinearGraph(linear["sentiment"])
        self.numbers = QuantisedTable(numbers)
        self.networks = nn.ModuleList([_quantised(network) for network in networks])
        self.emotion_stack, self.sentiment_stack = StackGraph(stacks["emotion"]), StackGraph(stacks["sentiment"])
        self.register_buffer("offsets", torch.from_numpy(offsets).float())
        self.everyday, self.blend = EverydayGraph(everyday), BlendGraph(blend)

    def forward(  # type: ignore[no-untyped-def]
        self,
        characters,
        words,
        emotion_grams,
        emotion_counts,
        sentiment_grams,
        sentiment_counts,
        everyday_grams,
        everyday_counts,
    ):
        numbers = self.numbers(words)
        outputs = [network(characters, numbers) for network in self.networks]
        mean = sum(logits for logits, _ in outputs) / len(outputs)
        logits = self.emotion_stack(*self.emotion(emotion_grams, emotion_counts), mean)
        evidence = self.everyday(everyday_grams, everyday_counts)
        emotions = self.blend(logits + self.offsets, evidence)
        polarity = self.sentiment_stack(*self.sentiment(sentiment_grams, sentiment_counts))
        glad = evidence[:, HAPPINESS] - torch.logsumexp(evidence[:, NEGATIVE], dim=1) + math.log(len(NEGATIVE))
        positive = torch.sigmoid(polarity + (SHARED * torch.sigmoid(-evidence[:, -1]) * glad).unsqueeze(1))
        neutral = emotions[:, NEITHER].sum(dim=1, keepdim=True)
        sentiment = torch.cat([(1 - neutral) * (1 - positive), neutral, (1 - neutral) * positive], dim=1)
        return emotions, sentiment, outputs[0][1]


def _quantised(trained: ZhNetwork) -> ZhNetwork:
    network = copy.deepcopy(trained)
    network.characters = QuantisedTable(network.characters.weight.detach().numpy())
    return network.eval()


def export(
    graph: Graph, alphabet: Alphabet, words: Words, vocabularies: dict[str, np.ndarray], prior: np.ndarray, path: Path
) -> float:
    """Write the graph for one text at a time; alphabet and dictionary travel in the file.

    Inputs "characters" and "words" (1, t) int64, and for every head its known n-grams (m,) int64 and their
    counts (m,) float32; outputs "probabilities" (1, 7), "sentiment" (1, 3), "embedding" (1, d), all vocabularies, the
    dictionary's costs, ends and tags, as `Words` has them, and the "prior" (7,) under which the probabilities are.
    """
    names = ["characters", "words", *(f"{head}_{what}" for head in HEADS for what in ("grams", "counts"))]
    ids, counts = torch.tensor([0, 1, 2]), torch.tensor([1.0, 2.0, 1.0])
    letters = torch.ones(1, 9, dtype=torch.int64)
    example = (letters, letters.clone(), ids, counts, ids[:2], counts[:2], ids[1:], counts[1:])
    axes: dict[str, dict[int, str]] = {name: {1: "t"} for name in names[:2]}
    axes |= {f"{head}_{what}": {0: f"{head}_n"} for head in HEADS for what in ("grams", "counts")}
    constants = {f"{head}_vocabulary": hashes for head, hashes in vocabularies.items()}
    constants |= {"word_costs": words.costs, "word_ends": words.ends, "word_tags": words.tags}
    constants["prior"] = prior.astype(np.float32)
    facts = {"characters": "".join(chr(code) for code in alphabet.codes)}
    facts |= dict(zip(("traditional", "simplified"), traditional_characters(), strict=True))
    facts["words"] = "\n".join(words.words)
    return export_module(
        graph,
        path,
        dict(zip(names, example, strict=True)),
        ["probabilities", "sentiment", "embedding"],
        axes,
        storage="float16",
        metadata=facts,
        constants=constants,
    )
