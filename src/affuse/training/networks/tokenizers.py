"""Tokenizers for text networks: trained on the texts at hand, or loaded beside a pretrained network; no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from affuse.errors import AssetError, ConfigError, DataError

__all__ = ["encode", "load", "train"]

_PAD, _UNKNOWN = "[PAD]", "[UNK]"
_PADS = (_PAD, "<pad>")  # as BERT's and RoBERTa's families write it


def train(texts: Iterable[str], vocab_size: int = 8000, max_tokens: int = 128) -> Tokenizer:
    """A WordPiece tokenizer (Schuster & Nakajima 2012) for ``texts`` in any language.

    Texts are brought to NFKC and lower case, accents stay; every Chinese character is a token of its own. Id 0 pads, id
    1 is what was never seen. Longer texts are cut to ``max_tokens``. Raises DataError where no text holds a character,
    ConfigError for a ``vocab_size`` under 100.
    """
    if vocab_size < 100:
        raise ConfigError(f"vocab_size must be at least 100; got {vocab_size}")
    texts = [text for text in texts if text.strip()]
    if not texts:
        raise DataError("there is no text to train a tokenizer on")
    tokenizer = _untrained(models.WordPiece(unk_token=_UNKNOWN))
    letters, inner = _alphabet(tokenizer, texts, vocab_size // 2)
    # The library numbers the letters inside words in the order of a hash table, which changes from run to run, and with
    # it the pieces. As special tokens they are numbered first; the finished vocabulary goes into a model of its own.
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        special_tokens=[_PAD, _UNKNOWN, *(f"##{letter}" for letter in inner)],
        initial_alphabet=letters,
        limit_alphabet=len(letters),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    trained = _untrained(models.WordPiece(tokenizer.get_vocab(), unk_token=_UNKNOWN))
    trained.add_special_tokens([_PAD, _UNKNOWN])
    return _ready(trained, max_tokens)


def load(path: str | Path, max_tokens: int = 128) -> Tokenizer:
    """The tokenizer of ``tokenizer.json`` at ``path``, or in the folder ``path``, cutting texts at ``max_tokens``.

    Raises AssetError where there is none.
    """
    path = Path(path)
    file = path / "tokenizer.json" if path.is_dir() else path
    try:
        tokenizer = Tokenizer.from_str(file.read_text(encoding="utf-8"))
    except OSError:
        raise AssetError(f"{file} is missing; a text network needs the tokenizer that it was trained with") from None
    except Exception as error:  # the library raises no class of its own
        raise AssetError(f"{file} is not a tokenizer ({error})") from error
    return _ready(tokenizer, max_tokens)


def encode(tokenizer: Tokenizer, texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ids and mask (n, t) of texts, padded to the longest; a text without any token has an empty mask."""
    encoded = tokenizer.encode_batch(list(texts))
    ids = np.array([e.ids for e in encoded], dtype=np.int64)
    mask = np.array([e.attention_mask for e in encoded], dtype=np.int64)
    empty = ids.size == 0  # no convolution and no ONNX graph takes a batch of no token at all
    return (np.zeros((len(encoded), 1), np.int64),) * 2 if empty else (ids, mask)


def _untrained(model: models.WordPiece) -> Tokenizer:
    tokenizer = Tokenizer(model)
    clean = normalizers.BertNormalizer(handle_chinese_chars=True, strip_accents=False, lowercase=True)
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), clean])
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def _alphabet(tokenizer: Tokenizer, texts: Sequence[str], size: int) -> tuple[list[str], list[str]]:
    """The most frequent characters at any place and, of these, inside words; together at most ``size``, sorted."""
    anywhere: Counter[str] = Counter()
    inside: set[str] = set()
    for text in texts:
        for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.normalizer.normalize_str(text)):
            anywhere.update(word)
            inside.update(word[1:])
    letters: list[str] = []
    for letter in sorted(anywhere, key=lambda letter: (-anywhere[letter], letter)):
        size -= 2 if letter in inside else 1
        if size < 0:
            break
        letters.append(letter)
    return sorted(letters), sorted(inside.intersection(letters))


def _ready(tokenizer: Tokenizer, max_tokens: int) -> Tokenizer:
    if max_tokens < 1:
        raise ConfigError(f"max_tokens must be at least 1; got {max_tokens}")
    pad = next((token for token in _PADS if tokenizer.token_to_id(token) is not None), None)
    if pad is None:
        raise AssetError(f"the tokenizer has no token for padding; one of {', '.join(_PADS)} was looked for")
    tokenizer.enable_padding(pad_id=tokenizer.token_to_id(pad), pad_token=pad)
    tokenizer.enable_truncation(max_tokens)
    return tokenizer
