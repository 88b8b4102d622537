"""The weights of the speaker encoder: from the package Resemblyzer to an ONNX file, unchanged.

The network is the encoder of Wan et al. 2018 (arXiv:1710.10467): three layers of LSTM over 160 frames of 40 mel powers,
whose last state becomes an embedding of 256 values. The graph is written operator by operator, so that the same weights
always give the same bytes. Dynamic INT8 breaks it, so it stays in float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from affuse import weights
from affuse.errors import AssetError
from affuse.files import replacing, write_text
from affuse.lazy import needs_extra
from affuse.people.voices import FRAMES, MELS

__all__ = ["HIDDEN", "LAYERS", "build", "checkpoint", "licence", "make_encoder"]

LAYERS, HIDDEN = 3, 256

_PACKAGE = "resemblyzer"
_SHA256 = "39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e"
# The file is a pickle, which may run anything when it is loaded. It is never loaded: its checksum is known, and so are
# the places in it at which the float32 values of every array lie, one after the other.
_ARRAYS: dict[str, tuple[int, tuple[int, ...]]] = {
    "lstm.weight_ih_l0": (269_883, (1024, 40)),
    "lstm.weight_hh_l0": (433_723, (1024, 256)),
    "lstm.bias_ih_l0": (5_676_603, (1024,)),
    "lstm.bias_hh_l0": (5_680_699, (1024,)),
    "lstm.weight_ih_l1": (1_482_299, (1024, 256)),
    "lstm.weight_hh_l1": (2_530_875, (1024, 256)),
    "lstm.bias_ih_l1": (5_684_795, (1024,)),
    "lstm.bias_hh_l1": (5_688_891, (1024,)),
    "lstm.weight_ih_l2": (3_579_451, (1024, 256)),
    "lstm.weight_hh_l2": (4_628_027, (1024, 256)),
    "lstm.bias_ih_l2": (5_692_987, (1024,)),
    "lstm.bias_hh_l2": (5_697_083, (1024,)),
    "linear.weight": (7_731, (256, 256)),
    "linear.bias": (6_699, (256,)),
}

State = Mapping[str, np.ndarray]


def make_encoder(folder: Path | None = None) -> Path:
    """Make the speaker encoder from the installed package Resemblyzer, and write it with its licence.

    Parameters
    ----------
    folder : Path, optional
        Where to write ``speaker.onnx`` and ``speaker.LICENSE``; the cache, where affuse finds it, where None.

    Returns
    -------
    Path
        Of ``speaker.onnx``.

    Raises
    ------
    AssetError
        If Resemblyzer is not installed or is another version, or if what comes out has not the known checksum.
    MissingExtraError
        If onnx, of the extra ``export``, is not installed.
    OutputError
        If the folder cannot be written.

    Examples
    --------
    >>> make_encoder(Path("models"))  # doctest: +SKIP
    PosixPath('models/speaker.onnx')
    """
    (asset,) = weights.DOWNLOADS["speaker"]
    path = (weights.cache_folder() if folder is None else folder) / asset.file
    made = build(checkpoint()).SerializeToString(deterministic=True)
    with replacing(path) as (part,):
        part.write_bytes(made)
        found = weights.sha256_of(part)
        if found != asset.sha256:
            raise AssetError(
                f"the speaker encoder came out wrong: expected SHA-256 {asset.sha256}, found {found}; "
                "install another version of onnx, such as 1.18"
            )
    write_text(path.with_suffix(".LICENSE"), licence())
    return path


def checkpoint(path: Path | None = None) -> dict[str, np.ndarray]:
    """Weights of the installed package by name, without its code and without torch.

    Parameters
    ----------
    path : Path, optional
        The file ``pretrained.pt``; that of the installed package where None.

    Returns
    -------
    dict of str to array

    Raises
    ------
    AssetError
        If the package is missing, or the file is another one.

    Examples
    --------
    >>> checkpoint(Path("absent.pt"))
    Traceback (most recent call last):
    ...
    affuse.errors.AssetError: absent.pt is missing or has the wrong checksum; ...
    """
    path = _installed() if path is None else path
    if not path.is_file() or weights.sha256_of(path) != _SHA256:
        raise AssetError(
            f"{path} is missing or has the wrong checksum; run: pip install --no-deps --force-reinstall "
            "Resemblyzer==0.1.4"
        )
    data = path.read_bytes()
    return {
        name: np.frombuffer(data, "<f4", int(np.prod(shape)), offset).reshape(shape)
        for name, (offset, shape) in _ARRAYS.items()
    }


def _installed() -> Path:
    found = find_spec(_PACKAGE)
    if found is None or found.origin is None:
        raise AssetError(
            "the package Resemblyzer, whose weights the speaker encoder has, is not installed; "
            "run: pip install --no-deps Resemblyzer"
        )
    return Path(found.origin).parent / "pretrained.pt"


def licence() -> str:
    """Text of the licence of the weights: that of the installed package.

    Returns
    -------
    str

    Examples
    --------
    >>> "Apache" in licence()
    True
    """
    try:
        package = distribution("Resemblyzer")
    except PackageNotFoundError:
        return "Apache-2.0\n"
    texts = [Path(str(p.locate())) for p in package.files or [] if p.name.upper().startswith("LICENSE")]
    return texts[0].read_text(encoding="utf-8") if texts else "Apache-2.0\n"


def build(state: State) -> Any:
    """The encoder as an ONNX model.

    Parameters
    ----------
    state : mapping of str to array
        The weights by the names that `checkpoint` gives them.

    Returns
    -------
    onnx.ModelProto
        From "mels", float32 (n, 160, 40), to "embedding" (n, 256), each of length 1.

    Raises
    ------
    MissingExtraError
        If onnx, of the extra ``export``, is not installed.

    Examples
    --------
    >>> shapes = {name: shape for name, (_, shape) in _ARRAYS.items()}
    >>> model = build({name: np.zeros(shape, dtype=np.float32) for name, shape in shapes.items()})
    >>> [output.name for output in model.graph.output]
    ['embedding']
    """
    with needs_extra("export"):
        from onnx import TensorProto, helper

    nodes, parts = [helper.make_node("Transpose", ["mels"], ["layer0"], perm=[1, 0, 2])], []
    for layer in range(LAYERS):
        parts += _layer_weights(state, layer)
        inputs = [f"layer{layer}", f"W{layer}", f"R{layer}", f"B{layer}"]
        nodes.append(
            helper.make_node("LSTM", inputs, [f"all{layer}", f"last{layer}"], hidden_size=HIDDEN, name=f"lstm{layer}")
        )
        nodes.append(helper.make_node("Squeeze", [f"all{layer}", "one"], [f"layer{layer + 1}"]))
    parts += _constants(state)
    nodes += [
        helper.make_node("Squeeze", [f"last{LAYERS - 1}", "zero"], ["state"]),
        helper.make_node("Gemm", ["state", "linear", "bias"], ["projected"], transB=1),
        helper.make_node("Relu", ["projected"], ["positive"]),
        helper.make_node("LpNormalization", ["positive"], ["embedding"], axis=1, p=2),
    ]
    graph = helper.make_graph(
        nodes,
        "speaker",
        [helper.make_tensor_value_info("mels", TensorProto.FLOAT, ["n", FRAMES, MELS])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", HIDDEN])],
        parts,
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
