"""Embeddings: what a network sees in a text, a voice or a face, before it decides on an emotion.

Networks run as ONNX, without torch. Those of affuse come with it; wav2vec 2.0 and Transformers are read from a folder.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from affuse import weights
from affuse.errors import AssetError
from affuse.experts.text.chinese import ChineseText
from affuse.experts.text.english import EnglishText
from affuse.features.base import Extractor, one_of
from affuse.features.faces import Face, FaceExtractor
from affuse.features.items import Array, Item, NoEvidenceError
from affuse.features.sound import samples_of
from affuse.features.words import text_of

if TYPE_CHECKING:
    from onnxruntime import InferenceSession
    from tokenizers import Tokenizer

__all__ = ["FaceEmbedding", "SentenceEmbedding", "Transformer", "VoiceEmbedding", "Wav2Vec2"]

_MOST_TOKENS = 512  # positions of BERT and its kin; a longer text is cut
_EXPORT = "optimum-cli export onnx --model NAME FOLDER"
_TEXT_WEIGHTS = {"en": "text_en", "zh": "text_zh"}


@cache
def _session(path: Path, _changed: int) -> InferenceSession:
    # The time of change is part of the key, so that a file replaced while the process runs is read again.
    return weights.session(path)


def _open(path: Path) -> InferenceSession:
    return _session(path, path.stat().st_mtime_ns)


def _numbered(prefix: str, width: int) -> NDArray[Any]:
    return np.array([f"{prefix}_{i}" for i in range(width)])


class _TextNetwork(Protocol):
    def embed(self, texts: list[str]) -> np.ndarray: ...


@cache
def _text_network(language: str) -> _TextNetwork:
    path = weights.shipped(_TEXT_WEIGHTS[language])
    return EnglishText(path) if language == "en" else ChineseText(path)


@cache
def _text_width(language: str) -> int:
    return len(_text_network(language).embed(["a"])[0])


class SentenceEmbedding(Extractor):
    """What the shipped text expert sees in a sentence: mean of the last layer's states; tuned on emotions.

    Parameters
    ----------
    language: "en" or "zh", whose network reads every text.
    """

    name: ClassVar[str] = "sentence-embedding"
    modality: ClassVar[str] = "text"
    unit: ClassVar[str] = "activation"
    libraries: ClassVar[tuple[str, ...]] = ("onnxruntime", "tokenizers")

    def __init__(self, language: str = "en") -> None:
        self.language = language

    def look(self, item: Item) -> Array:
        """Embedding (d,) of one text."""
        one_of(self.language, "language", list(_TEXT_WEIGHTS))
        text = text_of(item)
        if not any(c.isalnum() for c in text):
            raise NoEvidenceError("no words")
        return np.asarray(_text_network(self.language).embed([text])[0], dtype=float)

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[Any]:
        """Numbers."""
        return _numbered("sentence", _text_width(one_of(self.language, "language", list(_TEXT_WEIGHTS))))

    def weights(self) -> dict[str, str]:
        """SHA-256 of the network."""
        name = _TEXT_WEIGHTS[one_of(self.language, "language", list(_TEXT_WEIGHTS))]
        return {name: weights.digest(name)}


class VoiceEmbedding(Extractor):
    """What the shipped voice expert hears in a clip, whatever the words; trained on acted emotions."""

    name: ClassVar[str] = "voice-embedding"
    modality: ClassVar[str] = "voice"
    unit: ClassVar[str] = "activation"
    libraries: ClassVar[tuple[str, ...]] = ("onnxruntime",)

    _SHORTEST: ClassVar[int] = 8000  # samples that the network needs: half a second

    def look(self, item: Item) -> Array:
        """Embedding (d,) of one clip."""
        samples = samples_of(item)
        if len(samples) < self._SHORTEST:
            raise NoEvidenceError("too little sound")
        found = _open(weights.shipped("voice")).run(["embedding"], {"waveform": samples[None]})
        return np.asarray(found[0][0], dtype=float)

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[Any]:
        """Numbers."""
        return _numbered("voice", _width(_open(weights.shipped("voice")), "embedding"))

    def weights(self) -> dict[str, str]:
        """SHA-256 of the network."""
        return {"voice": weights.digest("voice")}


class FaceEmbedding(FaceExtractor):
    """What the shipped face expert sees in an aligned face; trained on FER+."""

    name: ClassVar[str] = "face-embedding"
    unit: ClassVar[str] = "activation"
    libraries: ClassVar[tuple[str, ...]] = ("onnxruntime", *FaceExtractor.libraries)

    def describe(self, face: Face) -> Array:
        """Embedding (d,) of one face."""
        crop = face.crop().astype(np.float32)
        found = _open(weights.shipped("face")).run(["embedding"], {"images": crop[None, None]})
        return np.asarray(found[0][0], dtype=float)

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[Any]:
        """Numbers."""
        return _numbered("face", _width(_open(weights.shipped("face")), "embedding"))

    def weights(self) -> dict[str, str]:
        """SHA-256 of detector and network."""
        return super().weights() | {"face": weights.digest("face")}


def _width(session: InferenceSession, output: str) -> int:
    shapes = {found.name: found.shape for found in session.get_outputs()}
    if output not in shapes or not isinstance(shapes[output][-1], int):
        raise AssetError(f"the network has no output {output!r} of a fixed width; it has: {', '.join(shapes)}")
    return int(shapes[output][-1])


class _FromFolder(Extractor):
    """Base of networks that people bring: a folder with ``model.onnx``, as Optimum exports it or in a bundle of affuse.

    The output "embedding" (n, d) is taken where there is one, else the mean of "last_hidden_state" (n, t, d) over time.
    """

    unit: ClassVar[str] = "activation"
    libraries: ClassVar[tuple[str, ...]] = ("onnxruntime",)

    _EXAMPLE: ClassVar[str]

    model: str | Path | None

    @property
    def folder(self) -> Path:
        """The folder of the network. Raises AssetError, which says how to make one, where there is none."""
        how = f"export one with: {_EXPORT.replace('NAME', self._EXAMPLE)}; then give model=FOLDER"
        if self.model is None:
            raise AssetError(f"{self.name} needs a network, which does not come with affuse; {how}")
        folder = Path(self.model)
        if not (folder / "model.onnx").is_file():
            raise AssetError(f"{folder} holds no model.onnx for {self.name}; {how}")
        return folder

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[Any]:
        """Numbers."""
        return _numbered(self.name.replace("-", "_"), _width(self._network(), self._output()))

    def weights(self) -> dict[str, str]:
        """SHA-256 of the network and of the files beside it that decide how it reads."""
        files = ("model.onnx", "tokenizer.json", "preprocessor_config.json")
        return {name: weights.sha256_of(self.folder / name) for name in files if (self.folder / name).is_file()}

    def _network(self) -> InferenceSession:
        return _open(self.folder / "model.onnx")

    def _output(self) -> str:
        names = [found.name for found in self._network().get_outputs()]
        return "embedding" if "embedding" in names else "last_hidden_state"

    def _run(self, inputs: dict[str, np.ndarray]) -> Array:
        """Embedding (d,) of one row of inputs."""
        network = self._network()
        wanted = [found.name for found in network.get_inputs()]
        unknown = [name for name in wanted if name not in inputs]
        if unknown:
            raise AssetError(f"{self.folder / 'model.onnx'} asks for {unknown[0]!r}, which {self.name} does not give")
        _width(network, self._output())
        found = network.run([self._output()], {name: inputs[name] for name in wanted})[0][0]
        return np.asarray(found if found.ndim == 1 else found.mean(axis=0), dtype=float)


class Wav2Vec2(_FromFolder):
    """States of wav2vec 2.0 (Baevski et al. 2020, arXiv:2006.11477) or its kin, averaged over time.

    Parameters
    ----------
    model: folder with ``model.onnx``, whose input is "input_values" or "waveform" (n, samples) at 16 kHz.
    """

    name: ClassVar[str] = "wav2vec2"
    modality: ClassVar[str] = "voice"

    _EXAMPLE: ClassVar[str] = "facebook/wav2vec2-base"

    def __init__(self, model: str | Path | None = None) -> None:
        self.model = model

    def look(self, item: Item) -> Array:
        """Embedding (d,) of one clip."""
        folder = self.folder
        samples = samples_of(item)
        normalised = _standardised(samples) if _is_normalised(folder) else samples
        return self._run({"input_values": normalised[None], "waveform": samples[None]})


def _is_normalised(folder: Path) -> bool:
    """Whether the network learned on sound of mean 0 and deviation 1, which its export says beside it."""
    path = folder / "preprocessor_config.json"
    try:
        return bool(json.loads(path.read_text(encoding="utf-8")).get("do_normalize", False)) if path.exists() else True
    except (ValueError, AttributeError) as error:
        raise AssetError(f"{path} is broken: {error}") from error


def _standardised(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    return (samples - samples.mean()) / np.sqrt(samples.var() + np.float32(1e-7))


class Transformer(_FromFolder):
    """States of a Transformer encoder such as BERT (Devlin et al. 2019, arXiv:1810.04805), averaged over tokens.

    Parameters
    ----------
    model: folder with ``model.onnx``, whose inputs are "input_ids" and "attention_mask" or "ids" and "mask" (n, t), and
        ``tokenizer.json``. Texts are cut at 512 tokens.
    """

    name: ClassVar[str] = "transformer"
    modality: ClassVar[str] = "text"
    libraries: ClassVar[tuple[str, ...]] = ("onnxruntime", "tokenizers")

    _EXAMPLE: ClassVar[str] = "sentence-transformers/all-MiniLM-L6-v2"

    def __init__(self, model: str | Path | None = None) -> None:
        self.model = model

    def look(self, item: Item) -> Array:
        """Embedding (d,) of one text."""
        ids = np.array([_tokenizer(self.folder).encode(text_of(item)).ids], dtype=np.int64)
        mask, segments = np.ones_like(ids), np.zeros_like(ids)
        names = {"input_ids": ids, "attention_mask": mask, "token_type_ids": segments, "ids": ids, "mask": mask}
        return self._run(names)


@cache
def _tokenizer(folder: Path) -> Tokenizer:
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    if not path.is_file():
        raise AssetError(f"{folder} holds no tokenizer.json, without which texts cannot be read")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises plain exceptions
        raise AssetError(f"{path} is no tokenizer: {error}") from error
    tokenizer.no_padding()
    tokenizer.enable_truncation(_MOST_TOKENS)
    return tokenizer
