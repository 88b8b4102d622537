"""Networks in their new form, compared with what they were and timed."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

from affuse import weights
from affuse.analyzer.analyzer import Analyzer
from affuse.errors import AssetError
from affuse.evaluation import speed
from affuse.experts.base import Expert
from affuse.exporting import parity
from affuse.exporting.inference import answers, feeds_for, training_sets, watched
from affuse.exporting.quantisation import is_quantised, quantise
from affuse.exporting.spec import ExportSpec, Facts, Network
from affuse.media import Recording
from affuse.weight_sets import COMMERCIAL

__all__ = ["convert", "measure", "time_analyses"]

# By how much probabilities may differ from the source's: the float network is the same, TensorRT rounds to 10 bits.
_TOLERANCE = {"onnx": 1e-4, "tensorrt": 1e-2}
_MOST_LOST = 0.01  # accuracy on any held-out set above which a network stays as it is


def convert(network: Network, expert: Expert, spec: ExportSpec, facts: Facts) -> None:
    """Put the network in its new place, in its new form."""
    precision = "as trained"
    if spec.target != "onnx-int8":
        _copy(network)
    elif is_quantised(network.source):
        _copy(network)
        facts.notes.append(f"{network.name} was INT8 already and stays as it is.")
    else:
        static = network.modality != "text"
        quantise(network.source, network.target, _calibration(expert, spec, facts) if static else [], static)
        precision = "INT8, static, per channel" if static else "INT8, dynamic, per channel"
    if spec.target == "tensorrt":
        weights.engines(network.target).mkdir(parents=True, exist_ok=True)  # asks for engines to be built and kept
    facts.networks[network.name] = {"precision": precision, "bytes": _sizes(network)}


def _copy(network: Network) -> None:
    """The network as it is, with the files beside it in which it keeps tensors."""
    shutil.copyfile(network.source, network.target)
    for path in weights.companions(network.source):
        shutil.copyfile(path, network.target.parent / path.name)


def _calibration(expert: Expert, spec: ExportSpec, facts: Facts) -> list[dict[str, Any]]:
    assert spec.clip is not None
    sets = [] if spec.data is None else training_sets(expert, spec.data)
    feeds = feeds_for(expert, spec.clip, sets)
    if spec.data is not None and expert.weight_set == COMMERCIAL:
        on = f"{len(feeds)} rows of training data" if sets else "generated inputs"
        facts.notes.append(
            f"{expert.modality}: calibrated on {on}; of --data only what allows commercial use may set ranges of "
            "weights for commercial use."
        )
    elif not sets:
        facts.notes.append(
            f"{expert.modality}: calibrated on generated inputs, for want of data; give --data for ranges that "
            "real recordings have, and for accuracy before and after."
        )
    else:
        facts.notes.append(f"{expert.modality}: calibrated on {len(feeds)} rows of training data.")
    return feeds


def measure(
    source: Mapping[str, Expert],
    exported: Callable[[], Mapping[str, Expert]],
    networks: Sequence[Network],
    spec: ExportSpec,
    facts: Facts,
) -> None:
    """Compare on fixed inputs and on held-out rows; networks that lose too much there go back to what they were."""
    assert spec.clip is not None
    results = exported()
    changed = {n.modality for n in networks if weights.sha256_of(n.source) != weights.sha256_of(n.target)}
    if spec.data is not None:
        facts.held_out = parity.held_out(source, results, changed, spec.data, spec.rows)
    for network in networks:
        lost = _lost(facts.held_out, network.modality)
        if network.modality in changed and lost > 0:
            _copy(network)
            facts.networks[network.name] = {"precision": "as trained", "bytes": _sizes(network)}
            facts.notes.append(
                f"{network.name} stays as it was: INT8 loses {100 * lost:.1f} points of accuracy, more than "
                f"{100 * _MOST_LOST:g}."
            )
            changed.discard(network.modality)
            for row in facts.held_out:
                if row["expert"] == network.modality:
                    own = {name: row[name]["before"] for name in parity.SCORES if name in row}
                    row.update({name: dict.fromkeys(("before", "after"), before) for name, before in own.items()})
    results = exported()
    for modality, expert in source.items():
        difference = parity.compare(expert, results[modality], spec.clip)
        facts.fixed_inputs[modality] = asdict(difference) | {
            "milliseconds": {
                "before": _milliseconds(expert, spec, difference.n),
                "after": _milliseconds(results[modality], spec, difference.n),
            }
        }
        tolerance = _TOLERANCE.get(spec.target)
        if tolerance is not None and difference.max_difference > tolerance:
            raise AssetError(
                f"the exported expert for {modality} answers otherwise than its source: probabilities differ by up to "
                f"{difference.max_difference:.2g}, where {tolerance:g} is allowed; nothing was written"
            )


def _lost(held_out: Sequence[Mapping[str, Any]], modality: str) -> float:
    """The largest loss of accuracy that is too much: more than a point, and more than a single row; 0 without one.

    Where rows may show several emotions, macro F1 stands for it.
    """
    scores = [(r.get("accuracy", r["macro_f1"]), r["n"]) for r in held_out if r["expert"] == modality]
    rows = [(score["before"] - score["after"], n) for score, n in scores]
    return max((lost for lost, n in rows if lost > max(_MOST_LOST, 1.01 / n) + 1e-9), default=0.0)


def _milliseconds(expert: Expert, spec: ExportSpec, n: int) -> float:
    """Processor time for one of the fixed inputs."""
    assert spec.clip is not None
    clip = spec.clip
    return speed.timed(lambda: answers(expert, clip), spec.times, 1 / max(1, n))["cpu"]


def time_analyses(
    before: Analyzer, after: Analyzer, networks: Sequence[Network], spec: ExportSpec, facts: Facts
) -> None:
    """Time whole analyses, and say how much of one the networks that changed can account for."""
    assert spec.clip is not None
    clip, words = spec.clip, spec.transcript
    changed = [n for n in networks if weights.sha256_of(n.source) != weights.sha256_of(n.target)]
    figures = [speed.timed(lambda a=a: a.analyze(clip, words), spec.times)["cpu"] for a in (before, after)]  # type: ignore[misc]
    facts.analysis = {
        "clip": clip.name,
        "seconds": round(Recording.open(clip).duration, 2),
        "before": figures[0],
        "after": figures[1],
    }
    if not changed:
        return
    with ExitStack() as stack:
        watches = [stack.enter_context(watched(before.experts[m])) for m in sorted({n.modality for n in changed})]
        before.analyze(clip, words)
    inside = 1000 * sum(watch.seconds for own in watches for watch in own)
    facts.analysis["in_changed_networks"] = round(inside, 3)
    facts.notes.append(
        f"A whole analysis of {clip.name} is {figures[0] / figures[1]:.2f} times as fast. The networks that changed "
        f"took {inside:.0f} of {figures[0]:.0f} ms before; decoding, finding and following faces and other networks "
        f"took the rest: networks that cost nothing would make it {figures[0] / max(figures[0] - inside, 1e-9):.2f} "
        "times as fast."
    )


def _sizes(network: Network) -> dict[str, int]:
    return {"before": network.source.stat().st_size, "after": network.target.stat().st_size}
