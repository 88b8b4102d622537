"""``affuse export``: a system or one expert becomes a folder, measured against its source before it appears."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from affuse import weights
from affuse.analyzer.analyzer import Analyzer, load_experts, shipped_for
from affuse.errors import AssetError, ConfigError
from affuse.evaluation import speed
from affuse.experts import DEFAULT_EXPERTS
from affuse.experts.base import Expert
from affuse.exporting import licences, parity
from affuse.exporting.inference import answers, feeds_for, watched
from affuse.exporting.quantisation import is_quantised, quantise
from affuse.fusion import persistence
from affuse.fusion.named import NamedFuser
from affuse.media import Recording
from affuse.packages import Bundle, is_bundle, is_system, load_bundle, read_bundle, read_system, write_bundle
from affuse.packages.description import MODEL
from affuse.packages.folder import replacing_bundle
from affuse.packages.system import FUSER, NAMES, OwnWeights, System, seal
from affuse.testing import synthetic

__all__ = ["SHIPPED", "TARGETS", "Order", "export"]

SHIPPED = "shipped"
TARGETS = ("onnx", "onnx-int8", "tensorrt")

# By how much probabilities may differ from the source's: the float network is the same, TensorRT rounds to 10 bits.
_TOLERANCE = {"onnx": 1e-4, "tensorrt": 1e-2}
_MOST_LOST = 0.01  # accuracy on any held-out set above which a network stays as it is


@dataclass(frozen=True)
class Order:
    """What to export to where.

    Parameters
    ----------
    target: one of `TARGETS`. out: the folder.
    data: folder of the data sets, of which "train" calibrates INT8 and "dev" is measured; None where there are none.
    rows: at most so many held-out rows of a set, or all.
    clip, transcript: recording that whole analyses are timed on; a drawn one where None.
    times: repetitions of what is timed.
    """

    target: str
    out: Path
    data: Path | None = None
    rows: int | None = None
    clip: Path | None = None
    transcript: Path | None = None
    times: int = 5


@dataclass
class _Facts:
    """What parity.json will hold."""

    target: str
    source: str
    networks: dict[str, Any] = field(default_factory=dict)
    fixed_inputs: dict[str, Any] = field(default_factory=dict)
    held_out: list[dict[str, Any]] = field(default_factory=list)
    analysis: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def text(self) -> str:
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"


@dataclass(frozen=True)
class _Network:
    """One network on its way: where it comes from and goes to, and the expert that asks it."""

    name: str
    modality: str
    source: Path
    target: Path


def export(
    source: str, order: Order, experts: Mapping[str, str] | None = None, fuser: Path | None = None
) -> dict[str, Any]:
    """Export ``source``, "shipped" or a bundle's folder; returns what parity.json says.

    ``experts`` (modality to "face", "voice", "text" or the folder of a bundle) are those of the system instead of the
    shipped ones, and ``fuser`` (a folder that ``affuse fuse --save`` or a recipe wrote) is its fuser. Raises
    ConfigError for an unknown source or target or where TensorRT is not there, AssetError where what was exported
    answers otherwise than its source; nothing is left then.
    """
    if order.target not in TARGETS:
        raise ConfigError(f"unknown target {order.target!r}; known: {', '.join(TARGETS)}")
    if order.target == "tensorrt":
        _check_tensorrt()
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if order.clip is None:
            order = replace(order, clip=synthetic.write_clip(scratch / "drawn.mp4"), transcript=_words(scratch))
        if source == SHIPPED:
            return _system(_Shipped(experts, fuser), order, scratch)
        if experts is not None:
            raise ConfigError("--experts choose the experts of a system; export them from 'shipped'")
        if is_system(source):
            return _system(_Exported(read_system(source), fuser), order, scratch)
        if is_bundle(source):
            if fuser is not None:
                raise ConfigError("--fuser is for a whole system; a single expert has none")
            return _bundle(read_bundle(source), order, scratch)
    raise ConfigError(f"{source} is neither {SHIPPED!r} nor the folder of a bundle; name what is to be exported")


# --- a whole system ---------------------------------------------------------------------------------------------------


class _Shipped:
    """The shipped weights as the source of a system, with bundles in the place of some experts."""

    name = SHIPPED

    def __init__(self, chosen: Mapping[str, str] | None, fuser: Path | None) -> None:
        self.fuser = weights.shipped("fuser").parent if fuser is None else fuser
        self.learned = NamedFuser.read(self.fuser)
        chosen = shipped_for(self.learned) if chosen is None else chosen
        self.experts = load_experts(chosen)
        self.bundles = {m: read_bundle(name) for m, name in chosen.items() if name != DEFAULT_EXPERTS.get(m)}
        self.own = {m: sorted(NAMES[m]) for m in chosen if m not in self.bundles}

    def path(self, modality: str, name: str) -> Path:
        return weights.shipped(name)

    def facts(self, modality: str, name: str) -> tuple[str, str]:
        entry = weights.manifest()[name]
        return entry.version, entry.licence

    def card(self, modality: str, name: str) -> Path:
        return weights.shipped(name).with_suffix(".md")


class _Exported:
    """A system that was exported before as the source of another."""

    def __init__(self, system: System, fuser: Path | None) -> None:
        self.name = str(system.folder)
        self.experts = system.experts()
        described = system.description
        self.bundles = {m: read_bundle(system.folder / folder) for m, folder in described.bundles.items()}
        self.own = {m: sorted(names) for m, names in described.weights.items()}
        self.fuser = system.fuser if fuser is None else fuser
        self.learned = NamedFuser.read(self.fuser)
        self._system = system

    def path(self, modality: str, name: str) -> Path:
        return self._system.folder / self._system.description.weights[modality][name].file

    def facts(self, modality: str, name: str) -> tuple[str, str]:
        own = self._system.description.weights[modality][name]
        return own.version, own.licence

    def card(self, modality: str, name: str) -> Path:
        return self.path(modality, name).with_suffix(".md")


def _system(source: _Shipped | _Exported, order: Order, scratch: Path) -> dict[str, Any]:
    facts = _Facts(order.target, source.name)
    with replacing_bundle(order.out) as place:
        networks = [
            _Network(name, modality, source.path(modality, name), place / modality / f"{name}.onnx")
            for modality, names in source.own.items()
            for name in names
        ]
        networks += [
            _Network(modality, modality, bundle.folder / MODEL, scratch / f"{modality}.onnx")
            for modality, bundle in source.bundles.items()
        ]
        for modality in source.own:
            (place / modality).mkdir()
        for network in networks:
            _convert(network, source.experts[network.modality], order, facts)
        (place / FUSER).mkdir()
        source.learned.write(place / FUSER) if source.fuser.is_file() else _copy_fuser(source.fuser, place / FUSER)
        for modality, names in source.own.items():
            for name in names:
                _copy_card(source.card(modality, name), place / modality / f"{name}.md")
        assemble = _Assembly(source, networks, order, facts)
        _measure(source.experts, lambda: assemble(place).experts(), networks, order, facts)
        system = assemble(place)
        before, after = (Analyzer(own, fuser=source.learned) for own in (source.experts, system.experts()))
        _time(before, after, networks, order, facts)
        (place / parity.FILE).write_text(facts.text(), encoding="utf-8")
        (place / licences.FILE).write_text(assemble.licences(), encoding="utf-8")
        assemble(place)
    return asdict(facts)


@dataclass(frozen=True)
class _Assembly:
    """Writes the descriptions of a system over whatever networks lie in its folder now."""

    source: _Shipped | _Exported
    networks: Sequence[_Network]
    order: Order
    facts: _Facts

    def __call__(self, place: Path) -> System:
        for modality, bundle in self.source.bundles.items():
            (model,) = (n.target for n in self.networks if n.name == modality)
            _rewrite(bundle, place / modality, model, {})
        own = {
            modality: {name: self._entry(modality, name) for name in names}
            for modality, names in self.source.own.items()
        }
        return System(place, seal(place, self.order.target, own, {m: m for m in self.source.bundles}))

    def _entry(self, modality: str, name: str) -> OwnWeights:
        version, licence = self.source.facts(modality, name)
        return OwnWeights(f"{modality}/{name}.onnx", version, licence, self.facts.networks[name]["precision"])

    def licences(self) -> str:
        own = {name: self.source.facts(m, name)[1] for m, names in self.source.own.items() for name in names}
        bundled = {f"{m} ({b.description.name})": b.description.licence for m, b in self.source.bundles.items()}
        return licences.licences({**own, **bundled, "fuser": "Apache-2.0"})


# --- a single expert --------------------------------------------------------------------------------------------------


def _bundle(bundle: Bundle, order: Order, scratch: Path) -> dict[str, Any]:
    modality = bundle.description.modality
    facts = _Facts(order.target, str(bundle.folder))
    expert: Expert = load_bundle(bundle.folder)
    network = _Network(bundle.description.name, modality, bundle.folder / MODEL, scratch / MODEL)
    _convert(network, expert, order, facts)

    def again() -> dict[str, Expert]:
        return {modality: load_bundle(_rewrite(bundle, scratch / "again", network.target, {}))}

    _measure({modality: expert}, again, [network], order, facts)
    texts = {
        parity.FILE: facts.text(),
        licences.FILE: licences.licences({bundle.description.name: bundle.description.licence}),
    }
    _rewrite(bundle, order.out, network.target, texts)
    return asdict(facts)


def _rewrite(bundle: Bundle, folder: Path, model: Path, texts: Mapping[str, str]) -> Path:
    """Write a bundle anew with another network and further files."""
    files: dict[str, Path | bytes] = {name: bundle.path(name) for name in bundle.description.files}
    files |= {MODEL: model.read_bytes()} | {name: text.encode() for name, text in texts.items()}
    return write_bundle(folder, replace(bundle.description, files={}, affuse="", created=""), files)


# --- networks ---------------------------------------------------------------------------------------------------------


def _convert(network: _Network, expert: Expert, order: Order, facts: _Facts) -> None:
    """Put the network in its new place, in its new form."""
    precision = "as trained"
    if order.target != "onnx-int8":
        shutil.copyfile(network.source, network.target)
    elif is_quantised(network.source):
        shutil.copyfile(network.source, network.target)
        facts.notes.append(f"{network.name} was INT8 already and stays as it is.")
    else:
        static = network.modality != "text"
        quantise(network.source, network.target, _calibration(expert, order, facts) if static else [], static)
        precision = "INT8, static, per channel" if static else "INT8, dynamic, per channel"
    if order.target == "tensorrt":
        weights.engines(network.target).mkdir(parents=True, exist_ok=True)  # asks for engines to be built and kept
    facts.networks[network.name] = {"precision": precision, "bytes": _sizes(network)}


def _calibration(expert: Expert, order: Order, facts: _Facts) -> list[dict[str, Any]]:
    assert order.clip is not None
    feeds = feeds_for(expert, order.clip, order.data)
    if order.data is None:
        facts.notes.append(
            f"{expert.modality}: calibrated on generated inputs, for want of data; give --data for ranges that "
            "real recordings have, and for accuracy before and after."
        )
    else:
        facts.notes.append(f"{expert.modality}: calibrated on {len(feeds)} rows of training data.")
    return feeds


def _measure(
    source: Mapping[str, Expert],
    exported: Callable[[], Mapping[str, Expert]],
    networks: Sequence[_Network],
    order: Order,
    facts: _Facts,
) -> None:
    """Compare on fixed inputs and on held-out rows; networks that lose too much there go back to what they were."""
    assert order.clip is not None
    results = exported()
    changed = {n.modality for n in networks if weights.sha256_of(n.source) != weights.sha256_of(n.target)}
    if order.data is not None:
        facts.held_out = parity.held_out(source, results, changed, order.data, order.rows)
    for network in networks:
        lost = _lost(facts.held_out, network.modality)
        if network.modality in changed and lost > 0:
            shutil.copyfile(network.source, network.target)
            facts.networks[network.name] = {"precision": "as trained", "bytes": _sizes(network)}
            facts.notes.append(
                f"{network.name} stays as it was: INT8 loses {100 * lost:.1f} points of accuracy, more than "
                f"{100 * _MOST_LOST:g}."
            )
            changed.discard(network.modality)
            for row in facts.held_out:
                if row["expert"] == network.modality:
                    row.update({name: dict.fromkeys(("before", "after"), row[name]["before"]) for name in _SCORES})
    results = exported()
    for modality, expert in source.items():
        difference = parity.compare(expert, results[modality], order.clip)
        facts.fixed_inputs[modality] = asdict(difference) | {
            "milliseconds": {
                "before": _milliseconds(expert, order, difference.n),
                "after": _milliseconds(results[modality], order, difference.n),
            }
        }
        tolerance = _TOLERANCE.get(order.target)
        if tolerance is not None and difference.max_difference > tolerance:
            raise AssetError(
                f"the exported expert for {modality} answers otherwise than its source: probabilities differ by up to "
                f"{difference.max_difference:.2g}, where {tolerance:g} is allowed; nothing was written"
            )


_SCORES = ("accuracy", "macro_f1")


def _lost(held_out: Sequence[Mapping[str, Any]], modality: str) -> float:
    """The largest loss of accuracy that is too much: more than a point, and more than a single row; 0 without one."""
    rows = [(r["accuracy"]["before"] - r["accuracy"]["after"], r["n"]) for r in held_out if r["expert"] == modality]
    return max((lost for lost, n in rows if lost > max(_MOST_LOST, 1.01 / n) + 1e-9), default=0.0)


def _milliseconds(expert: Expert, order: Order, n: int) -> float:
    """Processor time for one of the fixed inputs."""
    assert order.clip is not None
    clip = order.clip
    return speed.timed(lambda: answers(expert, clip), order.times, 1 / max(1, n))["cpu"]


def _time(before: Analyzer, after: Analyzer, networks: Sequence[_Network], order: Order, facts: _Facts) -> None:
    """Time whole analyses, and say how much of one the networks that changed can account for."""
    assert order.clip is not None
    clip, words = order.clip, order.transcript
    changed = [n for n in networks if weights.sha256_of(n.source) != weights.sha256_of(n.target)]
    figures = [speed.timed(lambda a=a: a.analyze(clip, words), order.times)["cpu"] for a in (before, after)]  # type: ignore[misc]
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


# --- small things -----------------------------------------------------------------------------------------------------


def _check_tensorrt() -> None:
    import onnxruntime

    available = onnxruntime.get_available_providers()
    if weights.PROVIDERS["tensorrt"] not in available:
        here = ", ".join(name for name, theirs in weights.PROVIDERS.items() if theirs in available)
        raise ConfigError(
            f"TensorRT is not here (this ONNX Runtime has {here}); export on a machine with an NVIDIA GPU, TensorRT "
            "and onnxruntime-gpu, or choose --to onnx"
        )


def _sizes(network: _Network) -> dict[str, int]:
    return {"before": network.source.stat().st_size, "after": network.target.stat().st_size}


def _copy_fuser(folder: Path, target: Path) -> None:
    for name in persistence.FILES:
        if (folder / name).is_file():
            shutil.copyfile(folder / name, target / name)


def _copy_card(card: Path, target: Path) -> None:
    if card.is_file():
        shutil.copyfile(card, target)


def _words(folder: Path) -> Path:
    path = folder / "words.srt"
    path.write_text(f"1\n00:00:00,500 --> 00:00:03,000\n{synthetic.SENTENCES['en'][0]}\n", encoding="utf-8")
    return path
