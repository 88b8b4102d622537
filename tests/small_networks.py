"""Networks whose answers can be worked out, and recordings for them."""

from __future__ import annotations

import wave
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from affuse.experts.face import Detections, Framing
from affuse.labels import LabelSpace
from affuse.media import SAMPLE_RATE, Frame, Recording
from affuse.packages import PackageDescription
from affuse.timeline import Timeline

onnx = pytest.importorskip("onnx", reason="the small networks of these tests are built by onnx (extra train)")

__all__ = [
    "TWO",
    "Node",
    "Scene",
    "Square",
    "answers",
    "brightness",
    "column",
    "description",
    "loudness",
    "mean_id",
    "moving",
    "network",
    "sound",
    "tokenizer",
]

Node = tuple[str, list[str], str]  # operator, inputs, output

TWO = LabelSpace("two", ("anger", "happiness"))


def network(inputs: dict[str, Sequence[Any]], nodes: Sequence[Node], k: int, **more: np.ndarray) -> bytes:
    """ONNX of ``nodes`` that end in "score" (n, 1); ``more`` are constants that they use.

    Answers are the softmax of ``score`` times 0, 1, 2, …, k - 1; the embedding is the score.
    """
    helper, floats, ints = onnx.helper, onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
    constants = {
        "ladder": np.arange(k, dtype=np.float32)[None],
        "axes": np.array([1], dtype=np.int64),
        "planes": np.array([1, 2, 3], dtype=np.int64),
        "volume": np.array([1, 2, 3, 4], dtype=np.int64),
        "whole": np.array([255], dtype=np.float32),
        **more,
    }
    graph = helper.make_graph(
        [
            *(helper.make_node(kind, names, [output], **_attributes(kind)) for kind, names, output in nodes),
            helper.make_node("Mul", ["score", "ladder"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
            helper.make_node("Identity", ["score"], ["embedding"]),
        ],
        "small",
        [
            helper.make_tensor_value_info(name, ints if name in ("ids", "mask") else floats, list(shape))
            for name, shape in inputs.items()
        ],
        [helper.make_tensor_value_info(n, floats, ["n", w]) for n, w in (("probabilities", k), ("embedding", 1))],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return bytes(model.SerializeToString())


def _attributes(kind: str) -> dict[str, Any]:
    own: dict[str, dict[str, Any]] = {
        "Cast": {"to": onnx.TensorProto.FLOAT},
        "Concat": {"axis": 1},
        "ReduceMean": {"keepdims": 0},
    }
    return own.get(kind, {})


def answers(score: float, k: int = 2) -> np.ndarray:
    """What such a network answers."""
    p = np.exp(score * np.arange(k))
    return p / p.sum()


def loudness(k: int = 2) -> bytes:
    """Score: the mean absolute value of the waveform."""
    nodes = [("Abs", ["waveform"], "loud"), ("ReduceMean", ["loud", "axes"], "mean"), *column("mean")]
    return network({"waveform": ["n", "samples"]}, nodes, k)


def column(name: str, output: str = "score") -> list[Node]:
    """From (n,) to (n, 1)."""
    return [("Unsqueeze", [name, "axes"], output)]


def brightness(size: int, channels: int) -> bytes:
    """Score: the mean of the picture, 0…1."""
    nodes = [("ReduceMean", ["images", "planes"], "mean"), ("Div", ["mean", "whole"], "share"), *column("share")]
    return network({"images": ["n", channels, size, size]}, nodes, 2)


def mean_id(name: str = "score") -> list[Node]:
    """The mean of the ids of a text, special ones included."""
    cast = [("Cast", ["ids"], "numbers"), ("Cast", ["mask"], "there")]
    return [
        *cast,
        ("Mul", ["numbers", "there"], "own"),
        ("ReduceMean", ["own", "axes"], "words"),
        *column("words", name),
    ]


def description(**changes: Any) -> PackageDescription:
    plain = PackageDescription("mine", "voice", TWO, ("waveform",), (0.5, 0.5), licence="CC-BY-4.0")
    return replace(plain, **changes)


def moving(frames: int, size: int) -> bytes:
    """Score: the mean of the clip, 0…1."""
    nodes = [("ReduceMean", ["clips", "volume"], "mean"), ("Div", ["mean", "whole"], "share"), *column("share")]
    return network({"clips": ["n", 3, frames, size, size]}, nodes, 2)


def tokenizer(*words: str) -> bytes:
    """Ids of words are their places, from 2 on; 0 begins and 1 ends a text."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    made = Tokenizer(models.WordLevel({"[B]": 0, "[E]": 1, **{word: i for i, word in enumerate(words, 2)}}, "[E]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing("[B] $A [E]", special_tokens=[("[B]", 0), ("[E]", 1)])
    return made.to_str().encode()


def sound(path: Path, *levels: float) -> Path:
    """A second of speech-like sound at every level: glottal pulses, four syllables a second."""
    time = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    pulses = np.diff(np.floor(np.cumsum(120 * (1 + 0.1 * np.sin(4 * time)) / SAMPLE_RATE)), prepend=0.0)
    ringing = np.convolve(pulses, np.exp(-np.arange(200) / 20) * np.cos(np.arange(200) * 0.25))[:SAMPLE_RATE]
    speech = ringing / np.abs(ringing).max() * np.clip(np.sin(2 * np.pi * 4 * time), 0, None)
    samples = np.concatenate([level * speech for level in levels])
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(np.round(samples * 32767).astype("<i2").tobytes())
    return path


class Square:
    """A detector that finds the bright square of the scenes below."""

    name, framing = "square", Framing(1.0, 0.0)

    def detect(self, image: np.ndarray) -> Detections:
        rows, columns = np.nonzero(image.max(axis=2))
        if len(rows) == 0:
            return Detections.none()
        left, top = columns.min(), rows.min()
        box = [[left, top, columns.max() + 1 - left, rows.max() + 1 - top]]
        return Detections(np.array(box, dtype=float), np.full((1, 5, 2), np.nan), np.ones(1))


class Scene(Recording):
    """Frames drawn on the spot: a square of 32 pixels whose grey is a function of time, until ``gone`` seconds."""

    has_frames = True
    has_sound = False

    def __init__(self, grey: Callable[[float], tuple[int, int, int]], duration: float, gone: float = 1e9) -> None:
        self.grey, self.duration, self.gone = grey, duration, gone
        self.name, self.path, self.kind, self.cues = "scene.mp4", None, "video", ()

    def frames(self, times: Any, max_side: int | None = None) -> Iterator[Frame]:
        for time in times:
            image = np.zeros((96, 128, 3), dtype=np.uint8)
            if time < self.gone:
                image[30:62, 40:72] = self.grey(time)
            yield Frame(time, image)

    def sound(self, timeline: Timeline, channel: int | None = None) -> Iterator[np.ndarray]:
        return iter([np.empty(0, dtype=np.float32)] * len(timeline))
