"""Tensors that shipped networks have in common, moved into one file beside them.

``python -m recipes.shared runs/text_multi/text_multi.onnx runs/text_commercial/text_commercial.onnx --name text_base
--out runs/shared``

Networks of both sets of weights stand on the same pretrained layers, which training left as they were. Where two of the
given networks hold the same large tensor, bit for bit, it goes into NAME.bin ("external data" of ONNX), and all of them
refer to it. The file holds nothing that was learned here, and answers stay what they were.
"""

from __future__ import annotations

import argparse
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from affuse.errors import DataError
from affuse.files import replacing
from recipes.command import errors_as_sentences

__all__ = ["main", "share", "write"]

_LEAST = 4096  # bytes of a tensor; shapes must be inside of the network
_ALIGNED = 64  # bytes


def share(models: Sequence[Any], location: str) -> bytes:
    """Let networks refer to ``location`` for what two of them have in common; returns the content of that file.

    Raises DataError where they have nothing in common.
    """
    large = [_large(model) for model in models]
    held = Counter(key for own in large for key in own)
    content, places = bytearray(), {}
    for own in large:
        for key, tensors in own.items():
            if held[key] > 1 and key not in places:
                content += bytes(-len(content) % _ALIGNED)
                places[key] = (len(content), len(tensors[0].raw_data))
                content += tensors[0].raw_data
    if not places:
        raise DataError("the networks have no large tensor in common")
    for own in large:
        for key, tensors in own.items():
            if key in places:
                _refer(tensors, location, *places[key])
    return bytes(content)


def _large(model: Any) -> dict[str, list[Any]]:
    """Large tensors of a network by their content."""
    found: dict[str, list[Any]] = {}
    for tensor in model.graph.initializer:
        if len(tensor.raw_data) >= _LEAST:
            found.setdefault(hashlib.sha256(tensor.raw_data).hexdigest(), []).append(tensor)
    return found


def _refer(tensors: Sequence[Any], location: str, offset: int, length: int) -> None:
    from onnx import TensorProto

    for tensor in tensors:
        tensor.ClearField("raw_data")
        del tensor.external_data[:]
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in {"location": location, "offset": offset, "length": length}.items():
            tensor.external_data.add(key=key, value=str(value))


def write(models: Mapping[str, Any], content: bytes, out: Path, location: str) -> None:
    """Write the networks by their file names, and what they share, into a folder."""
    out.mkdir(parents=True, exist_ok=True)
    for name, data in {
        location: content,
        **{name: model.SerializeToString() for name, model in models.items()},
    }.items():
        with replacing(out / name) as (part,):
            part.write_bytes(data)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; exits with 2 and a sentence where something is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, nargs="+", help="networks with something in common")
    parser.add_argument("--name", required=True, help="name of the weights that they share")
    parser.add_argument("--out", type=Path, required=True, help="folder for the networks and what they share")
    options = parser.parse_args(arguments)
    with errors_as_sentences(parser):
        import onnx

        models = {path.name: onnx.load(str(path)) for path in options.weights}
        location = f"{options.name}.bin"
        content = share(list(models.values()), location)
        write(models, content, options.out, location)
        print(f"{location}: {len(content):,} bytes")


if __name__ == "__main__":
    main()
