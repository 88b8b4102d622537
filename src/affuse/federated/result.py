"""From the common network to what ``affuse analyze``, ``evaluate`` and ``fuse`` take: a package, or a fuser."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from affuse import weights
from affuse.data.own.labelling import label_space
from affuse.errors import AssetError
from affuse.federated.head import scores
from affuse.federated.participant import Common, label_weights, standardised
from affuse.federated.plan import Plan
from affuse.fusion.learned import Stacking
from affuse.fusion.named import NamedFuser
from affuse.lazy import needs_extra
from affuse.packages import PackageDescription, write_package

__all__ = ["write_result"]

_PARITY = 1e-4  # as of affuse train
_OWN = "federated_"  # before the names of what is added to the encoder's graph


def write_result(
    folder: Path, plan: Plan, common: Common, temperature: float, measured: Mapping[str, Any], card: str
) -> Path:
    """Write what was learned.

    Parameters
    ----------
    folder : Path
        Of the run; the result is its ``package``, or ``fuser``.
    plan : Plan
    common : Common
    temperature : float
        Logits are divided by it before the softmax.
    measured : mapping
        Figures for the description.
    card : str
        The model card.

    Returns
    -------
    Path
        The package or the fuser's folder.

    Raises
    ------
    AssetError
        If the file that is written does not answer as the network.
    MissingExtraError
        Without onnx.
    OutputError
        If the folder cannot be written.
    """
    if plan.kind == "fuser":
        return _write_fuser(folder / "fuser", plan, common, temperature, measured)
    with tempfile.TemporaryDirectory(prefix="affuse-") as place:
        model = Path(place) / "model.onnx"
        _write_graph(model, plan, common, temperature)
        _check(model, plan, common, temperature)
        description = _description(plan, common, measured)
        return write_package(folder / "package", description, {"model.onnx": model, "card.md": card.encode()})


def _prior(common: Common) -> tuple[float, ...]:
    """Label frequencies that the answers assume: those of the rows, as they were weighted."""
    shares = common.prior * label_weights(common.prior)
    return tuple((shares / shares.sum()).tolist())


def _description(plan: Plan, common: Common, measured: Mapping[str, Any]) -> PackageDescription:
    joint = plan.kind == "joint"
    inputs: dict[str, dict[str, Any]] = {"waveform": {}}
    if joint:
        inputs["columns"] = {"names": list(plan.columns)}
    licence = weights.manifest()["voice"].licence
    return PackageDescription(
        name=f"federated-{plan.kind}",
        modality=plan.kind,
        labels=label_space("federated", plan.labels).space,
        reads=tuple(inputs),
        inputs=inputs,
        prior=_prior(common),
        measured=measured,
        licence=f"of the clients' data: not stated; of the encoder: {licence}",
        kind="joint" if joint else "expert",
    )


def _write_fuser(folder: Path, plan: Plan, common: Common, temperature: float, measured: Mapping[str, Any]) -> Path:
    m, k = len(plan.modalities), len(plan.labels)
    # Stacking knows its shapes once it is fitted; what it learned from these invented rows is replaced at once.
    rows = np.repeat(np.eye(k)[:, None] * 0.9 + 0.1 / k, m, axis=1)
    fuser = Stacking().fit(rows / rows.sum(axis=2, keepdims=True), np.arange(k))
    slopes, offsets = common.head
    slopes = slopes / common.scale[:, None]  # so that the inputs may be taken as they are
    offsets = offsets - common.centre @ slopes
    fuser.labels_ = np.arange(k)
    fuser.slopes_, fuser.offsets_ = slopes.T / temperature, offsets / temperature
    fuser.prior_ = np.array(_prior(common))
    named = NamedFuser(fuser, plan.modalities, plan.labels, "stacking", {"measured": dict(measured)})
    named.write(folder)
    return folder


def _write_graph(path: Path, plan: Plan, common: Common, temperature: float) -> None:
    """The encoder's graph with the common network behind its embedding."""
    with needs_extra("federated"):
        import onnx
        from onnx import TensorProto, helper, numpy_helper
    model = onnx.load(str(weights.shipped("voice")))
    graph = model.graph
    constants: list[Any] = []
    nodes: list[Any] = []

    def keep(name: str, values: Any, kind: Any = np.float32) -> str:
        constants.append(numpy_helper.from_array(np.asarray(values, dtype=kind), f"{_OWN}{name}"))
        return f"{_OWN}{name}"

    def add(operation: str, inputs: list[str], name: str, **options: Any) -> str:
        nodes.append(helper.make_node(operation, inputs, [f"{_OWN}{name}"], **options))
        return f"{_OWN}{name}"

    last = _front(plan, common, keep, add)
    last = _behind(common, temperature, last, keep, add)
    for entry in [output for output in graph.output if output.name == "probabilities"]:
        graph.output.remove(entry)
    _rename(graph, "probabilities", f"{_OWN}before")
    nodes.append(helper.make_node("Softmax", [last], ["probabilities"], axis=1))
    graph.node.extend(nodes)
    graph.initializer.extend(constants)
    graph.output.insert(0, helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", len(plan.labels)]))
    if plan.kind == "joint":
        for name, width in (("columns", len(plan.columns)), ("present", 2)):
            graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", width]))
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def _front(plan: Plan, common: Common, keep: Any, add: Any) -> str:
    """Standardised inputs, as `standardised` makes them."""
    if plan.epsilon:
        ones = np.ones(len(common.centre))
        options = {"axis": -1, "epsilon": 1e-5}
        return str(
            add("LayerNormalization", ["embedding", keep("one", ones), keep("none", 0 * ones)], "row", **options)
        )
    width = len(common.centre) - len(plan.columns)
    parts: list[str] = []
    for block, columns in (("embedding", slice(0, width)), ("columns", slice(width, None))):
        if block == "columns" and plan.kind != "joint":
            continue
        moved = add("Sub", [block, keep(f"centre_{block}", common.centre[columns])], f"moved_{block}")
        scaled = add("Div", [moved, keep(f"scale_{block}", common.scale[columns])], f"scaled_{block}")
        if plan.kind == "joint":
            there = keep(f"place_{block}", [len(parts)], np.int64)
            flag = add("Gather", ["present", there], f"flag_{block}", axis=1)
            held = add("Greater", [flag, keep(f"half_{block}", [0.5])], f"held_{block}")
            known = add("Not", [add("IsNaN", [scaled], f"unknown_{block}")], f"known_{block}")
            both = add("And", [held, known], f"both_{block}")
            scaled = add("Where", [both, scaled, keep(f"zero_{block}", [0.0])], f"filled_{block}")
        parts.append(scaled)
    return str(add("Concat", [*parts, "present"], "joined", axis=1)) if plan.kind == "joint" else str(parts[0])


def _behind(common: Common, temperature: float, last: str, keep: Any, add: Any) -> str:
    for place in range(0, len(common.head), 2):
        if place:
            last = add("Relu", [last], f"relu_{place}")
        final = place + 2 == len(common.head)
        factor = 1 / temperature if final else 1.0
        inputs = [
            last,
            keep(f"W_{place}", common.head[place] * factor),
            keep(f"b_{place}", common.head[place + 1] * factor),
        ]
        last = add("Gemm", inputs, f"layer_{place}")
    return last


def _rename(graph: Any, name: str, new: str) -> None:
    for node in graph.node:
        for names in (node.input, node.output):
            for place, own in enumerate(names):
                if own == name:
                    names[place] = new


def _check(path: Path, plan: Plan, common: Common, temperature: float) -> None:
    """Raise AssetError where the file does not answer as the network on sound that is drawn at random."""
    rng = np.random.default_rng(0)
    session = weights.session(path)
    sound = rng.normal(0, 0.1, (2, 16000)).astype(np.float32)
    (heard,) = weights.session(weights.shipped("voice")).run(["embedding"], {"waveform": sound})
    X, inputs = heard.astype(float), {"waveform": sound}
    if plan.kind == "joint":
        columns = rng.normal(size=(2, len(plan.columns)))
        columns[0, 0] = np.nan
        inputs |= {"columns": columns.astype(np.float32), "present": np.ones((2, 2), np.float32)}
        X = np.concatenate([X, columns], axis=1)
    (found,) = session.run(["probabilities"], inputs)
    logits = scores(common.head, standardised(plan, common, X))
    expected = np.exp(logits / temperature - np.log(np.exp(logits / temperature).sum(axis=1, keepdims=True)))
    difference = float(np.abs(found - expected).max())
    if not difference <= _PARITY:
        raise AssetError(
            f"the written network does not answer as the common one: probabilities differ by up to {difference:.2g}, "
            f"where {_PARITY:g} is allowed"
        )
