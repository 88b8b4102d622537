"""Recipe of the speaker encoder: the weights of the package Resemblyzer as an ONNX file, unchanged.

::

    pip install --no-deps Resemblyzer
    python -m recipes.speaker --out runs/speaker

writes ``speaker.onnx``, the licence and ``card.json`` with the SHA-256. The network is the encoder of Wan et al. 2018
(arXiv:1710.10467): three layers of LSTM over 160 frames of 40 mel powers, whose last state becomes an embedding of 256
values. The graph is written operator by operator, so that the same weights give the same bytes whatever the version of
torch; it is compared with torch before anything is written. Dynamic INT8 breaks it, so it stays in float32.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from importlib.metadata import distribution
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from affuse.errors import AssetError
from affuse.files import replacing, write_json, write_text
from affuse.lazy import needs_extra
from affuse.people.voices import FRAMES, MELS
from affuse.weights import session, sha256_of
from recipes.command import errors_as_sentences

__all__ = ["FILE", "build", "checkpoint", "main"]

FILE = "speaker.onnx"
_PACKAGE = "resemblyzer"
_SHA256 = "39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e"
_LAYERS, _HIDDEN = 3, 256
_TOLERANCE = 1e-5

State = Mapping[str, np.ndarray]


def checkpoint() -> dict[str, np.ndarray]:
    """Weights of the installed package by name, without its code.

    Raises AssetError where the package is missing or its file is another one.
    """
    found = find_spec(_PACKAGE)
    if found is None or found.origin is None:
        raise AssetError("Resemblyzer is not installed; run: pip install --no-deps Resemblyzer")
    path = Path(found.origin).parent / "pretrained.pt"
    if not path.is_file() or sha256_of(path) != _SHA256:
        raise AssetError(f"{path} is missing or has the wrong checksum; install Resemblyzer 0.1.4 again")
    with needs_extra("train"):
        import torch

        state = torch.load(path, map_location="cpu", weights_only=True)["model_state"]
    return {name: value.numpy() for name, value in state.items() if name.startswith(("lstm.", "linear."))}


def build(state: State) -> Any:
    """The ONNX model: "mels" float32 (n, 160, 40) to "embedding" (n, 256), each of length 1."""
    with needs_extra("export"):
        from onnx import TensorProto, helper

    nodes, weights = [helper.make_node("Transpose", ["mels"], ["layer0"], perm=[1, 0, 2])], []
    for layer in range(_LAYERS):
        weights += _layer_weights(state, layer)
        inputs = [f"layer{layer}", f"W{layer}", f"R{layer}", f"B{layer}"]
        nodes.append(
            helper.make_node("LSTM", inputs, [f"all{layer}", f"last{layer}"], hidden_size=_HIDDEN, name=f"lstm{layer}")
        )
        nodes.append(helper.make_node("Squeeze", [f"all{layer}", "one"], [f"layer{layer + 1}"]))
    weights += _constants(state)
    nodes += [
        helper.make_node("Squeeze", [f"last{_LAYERS - 1}", "zero"], ["state"]),
        helper.make_node("Gemm", ["state", "linear", "bias"], ["projected"], transB=1),
        helper.make_node("Relu", ["projected"], ["positive"]),
        helper.make_node("LpNormalization", ["positive"], ["embedding"], axis=1, p=2),
    ]
    graph = helper.make_graph(
        nodes,
        "speaker",
        [helper.make_tensor_value_info("mels", TensorProto.FLOAT, ["n", FRAMES, MELS])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", _HIDDEN])],
        weights,
    )
    opsets = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, producer_name="affuse", ir_version=8, opset_imports=opsets)


def _layer_weights(state: State, layer: int) -> list[Any]:
    """One layer as ONNX wants it: gates in the order input, output, forget, cell, where torch has i, f, c, o."""
    from onnx import numpy_helper

    def gates(name: str) -> np.ndarray:
        i, f, c, o = np.split(state[f"lstm.{name}_l{layer}"], 4)
        return np.concatenate([i, o, f, c])[None].astype(np.float32)

    bias = np.concatenate([gates("bias_ih"), gates("bias_hh")], axis=1)
    own = (("W", gates("weight_ih")), ("R", gates("weight_hh")), ("B", bias))
    return [numpy_helper.from_array(values, f"{name}{layer}") for name, values in own]


def _constants(state: State) -> list[Any]:
    from onnx import numpy_helper

    own = {
        "linear": state["linear.weight"].astype(np.float32),
        "bias": state["linear.bias"].astype(np.float32),
        "zero": np.array([0], dtype=np.int64),
        "one": np.array([1], dtype=np.int64),
    }
    return [numpy_helper.from_array(values, name) for name, values in own.items()]


def reference(state: State, mels: np.ndarray) -> np.ndarray:
    """What torch makes of ``mels`` (n, 160, 40): (n, 256)."""
    import torch

    lstm = torch.nn.LSTM(MELS, _HIDDEN, _LAYERS, batch_first=True)
    lstm.load_state_dict(
        {name.removeprefix("lstm."): torch.tensor(v) for name, v in state.items() if name.startswith("lstm.")}
    )
    with torch.no_grad():
        _, (last, _) = lstm(torch.from_numpy(mels))
        weight, bias = torch.tensor(state["linear.weight"]), torch.tensor(state["linear.bias"])
        projected = torch.relu(torch.nn.functional.linear(last[-1], weight, bias))
        return np.asarray(torch.nn.functional.normalize(projected, dim=1).numpy())


def _difference(path: Path, state: State) -> float:
    """Largest difference between the file and torch on mel powers as loud as speech."""
    mels = np.random.default_rng(0).exponential(0.05, (4, FRAMES, MELS)).astype(np.float32)
    (found,) = session(path).run(["embedding"], {"mels": mels})
    return float(np.abs(found - reference(state, mels)).max())


def make(out: Path) -> Path:
    """Write the file, its licence and its card into the folder ``out``.

    Raises AssetError where the file does not give what torch gives.
    """
    state = checkpoint()
    path = out / FILE
    with replacing(path) as (part,):
        part.write_bytes(build(state).SerializeToString(deterministic=True))
        difference = _difference(part, state)
        if difference > _TOLERANCE:
            raise AssetError(f"the ONNX file differs from torch by {difference:.1e}; at most {_TOLERANCE:.0e} is right")
    package = distribution("Resemblyzer")
    texts = [Path(str(p.locate())) for p in package.files or [] if p.name.upper().startswith("LICENSE")]
    write_text(out / "LICENSE", texts[0].read_text(encoding="utf-8") if texts else "Apache-2.0\n")
    facts = {"source": f"Resemblyzer {package.version}", "licence": "Apache-2.0", "difference_to_torch": difference}
    write_json(out / "card.json", {"file": FILE, "sha256": sha256_of(path), "bytes": path.stat().st_size, **facts})
    return path


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; exits with 2 and a sentence where something is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for speaker.onnx; AFFUSE_MODELS may name it")
    options = parser.parse_args(arguments)
    with errors_as_sentences(parser):
        path = make(options.out)
        print(f"{path}: {path.stat().st_size:,} bytes, SHA-256 {sha256_of(path)}")


if __name__ == "__main__":
    main()
