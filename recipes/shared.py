"""Tensors and tokenizers that shipped networks have in common, moved into one file beside them.

``python -m recipes.shared runs/text_multi/text_multi.onnx runs/text_commercial/text_commercial.onnx --name text_base
--out runs/shared``

Networks of both sets of weights stand on the same pretrained layers, which training left as they were. Where two of the
given networks hold the same large tensor, bit for bit, it goes into NAME.bin ("external data" of ONNX), and all of them
refer to it. The file holds nothing that was learned here, and answers stay what they were.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from affuse.errors import DataError
from affuse.experts.text.language import BESIDE, PACKED, TOKENIZER, stored_tokenizer
from affuse.files import replacing
from recipes.command import errors_as_sentences

__all__ = ["main", "read_whole", "refer_to_shipped", "share", "write"]

_LEAST = 4096  # bytes of a tensor; shapes must be inside of the network
_WORTH_IT = 1 << 16  # bytes of a tensor for which a network of its own comes to need the file
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
    content += _shared_tokenizer(models, location, len(content))
    for own in large:
        for key, tensors in own.items():
            if key in places:
                _refer(tensors, location, *places[key])
    return bytes(content)


def _shared_tokenizer(models: Sequence[Any], location: str, start: int) -> bytes:
    """Let networks with the same compressed tokenizer refer to it; returns it, or nothing."""
    held = [entry for model in models for entry in model.metadata_props if entry.key == PACKED]
    if len(held) != len(models) or len({entry.value for entry in held}) != 1:
        return b""
    packed = base64.b64decode(held[0].value)
    for entry in held:
        entry.key, entry.value = BESIDE, f"{location} {start} {len(packed)}"
    return packed


def read_whole(path: Path) -> Any:
    """A network with all that it keeps in files beside it, tensors and tokenizer, back inside."""
    import onnx

    model = onnx.load(str(path))
    for entry in model.metadata_props:
        if entry.key == BESIDE:
            name, start, length = entry.value.split(" ")
            packed = (path.parent / name).read_bytes()[int(start) : int(start) + int(length)]
            entry.key, entry.value = PACKED, base64.b64encode(packed).decode("ascii")
    return model


def refer_to_shipped(path: Path, assets: Path) -> list[str]:
    """Let a network in ``assets`` refer to what shipped networks share, where it holds the same; returns their names.

    Nothing happens to other networks, and where no weights are shared yet.
    """
    import onnx

    entries = json.loads((assets / "manifest.json").read_text(encoding="utf-8"))
    sharing = {name: entry for name, entry in entries.items() if entry.get("beside")}
    names = {entries[other]["file"]: other for entry in sharing.values() for other in entry["beside"]}
    if not names or path.suffix != ".onnx":
        return []
    contents = {file: (assets / file).read_bytes() for file in names}
    places, tokenizers = {}, {}
    for entry in sharing.values():
        other = onnx.load(str(assets / entry["file"]), load_external_data=False)
        for tensor in other.graph.initializer:
            told = {item.key: item.value for item in tensor.external_data}
            if told:
                start, length = int(told["offset"]), int(told["length"])
                part = contents[told["location"]][start : start + length]
                places[hashlib.sha256(part).hexdigest()] = (told["location"], start, length)
        facts = {item.key: item.value for item in other.metadata_props}
        if BESIDE in facts:
            tokenizers[stored_tokenizer(facts, [assets / file for file in names])] = facts[BESIDE]
    model, used = onnx.load(str(path), load_external_data=False), set()
    for key, tensors in _large(model).items():
        if key in places and places[key][2] >= _WORTH_IT:
            _refer(tensors, *places[key])
            used.add(places[key][0])
    facts = {item.key: item.value for item in model.metadata_props}
    if used and not facts.keys().isdisjoint({TOKENIZER, PACKED}):
        known = tokenizers.get(stored_tokenizer(facts))
        for item in model.metadata_props:
            if known is not None and item.key in (TOKENIZER, PACKED):
                item.key, item.value = BESIDE, known
    if used:
        with replacing(path) as (part_path,):
            part_path.write_bytes(model.SerializeToString())
    return sorted(names[file] for file in used)


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
