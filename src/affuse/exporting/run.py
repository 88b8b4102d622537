"""A system or one expert becomes a folder, measured against its source before it appears."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from affuse import weights
from affuse.analyzer.analyzer import Analyzer
from affuse.errors import ConfigError
from affuse.experts.base import Expert
from affuse.exporting import licences, parity
from affuse.exporting.convert import convert, measure, time_analyses
from affuse.exporting.sources import ExportedSource, ShippedSource, Source
from affuse.exporting.spec import SHIPPED, TARGETS, ExportSpec, Facts, Network
from affuse.fusion import persistence
from affuse.packages import (
    Package,
    System,
    is_package,
    is_system,
    load_package,
    read_package,
    read_system,
    write_package,
)
from affuse.packages.description import MODEL
from affuse.packages.folder import replacing_package, seal
from affuse.packages.system import FUSER, OwnWeights, SystemDescription
from affuse.testing import synthetic
from affuse.weight_sets import chosen_set

__all__ = ["export"]


def export(
    source: str | Path,
    out: str | Path,
    target: str = "onnx",
    *,
    experts: Mapping[str, str] | None = None,
    fuser: Path | None = None,
    data: Path | None = None,
    rows: int | None = None,
    clip: Path | None = None,
    transcript: Path | None = None,
    times: int = 5,
    weights: str | None = None,
) -> dict[str, Any]:
    """Write a folder with networks, fuser, checksums and licences, and the proof that it answers as its source.

    Parameters
    ----------
    source : str or Path
        "shipped" for all that comes with affuse, or the folder of a system or a package.
    out : str or Path
        Folder to write, which appears whole or not at all.
    target : str
        "onnx", "onnx-int8" or "tensorrt".
    experts : mapping of str to str, optional
        Experts of the system by modality instead of the shipped ones: a shipped name or the folder of a package.
    fuser : Path, optional
        Folder of a fuser instead of that of the source.
    data : Path, optional
        Folder of the corpora: their train split calibrates INT8, their dev split is measured.
    rows : int, optional
        Measure on at most so many rows of each corpus.
    clip, transcript : Path, optional
        Recording, and its words, that whole analyses are timed on; a drawn one where None.
    times : int
        Repetitions of what is timed.
    weights : str, optional
        Which set of the shipped weights: "research", or "commercial" for those that learned from data for commercial
        use alone (`affuse.weight_sets`); the one in use where None.

    Returns
    -------
    dict
        What parity.json in the folder says: networks, differences on fixed inputs, accuracy, times, notes.

    Raises
    ------
    ConfigError
        If the source, target or set is not known, the source brings its own weights, or TensorRT is not there.
    AssetError
        If what was exported answers otherwise than its source; nothing is left then.

    Examples
    --------
    >>> facts = export("shipped", "system", experts={"text": "text"}, times=1)
    >>> facts["fixed_inputs"]["text"]["max_difference"]
    0.0
    """
    if target not in TARGETS:
        raise ConfigError(f"unknown target {target!r}; known: {', '.join(TARGETS)}")
    if transcript is not None and clip is None:
        raise ConfigError("the transcript holds the words of the clip; give both")
    if weights is not None and source != SHIPPED:
        raise ConfigError("a package brings its own weights; leave out --weights, or export 'shipped'")
    own_set = chosen_set(weights) if source == SHIPPED else None  # before a clip is drawn
    if target == "tensorrt":
        _check_tensorrt()
    spec = ExportSpec(target, Path(out), data, rows, clip, transcript, times)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if spec.clip is None:
            spec = replace(spec, clip=synthetic.write_clip(scratch / "drawn.mp4"), transcript=_words(scratch))
        if source == SHIPPED:
            return _system(ShippedSource(experts, fuser, own_set), spec, scratch)
        if experts is not None:
            raise ConfigError("--experts choose the experts of a system; export them from 'shipped'")
        if is_system(source):
            return _system(ExportedSource(read_system(source), fuser), spec, scratch)
        if is_package(source):
            if fuser is not None:
                raise ConfigError("--fuser is for a whole system; a single expert has none")
            return _single(read_package(source), spec, scratch)
    raise ConfigError(f"{source} is neither {SHIPPED!r} nor the folder of a package; name what is to be exported")


# --- a whole system ---------------------------------------------------------------------------------------------------


def _system(source: Source, spec: ExportSpec, scratch: Path) -> dict[str, Any]:
    before = Analyzer(source.experts, fuser=source.learned)
    facts = Facts(spec.target, source.name, before.weights)
    with replacing_package(spec.out) as place:
        networks = [
            Network(name, modality, source.path(modality, name), place / modality / f"{name}.onnx")
            for modality, names in source.own.items()
            for name in names
        ]
        networks += [
            Network(modality, modality, package.folder / MODEL, scratch / f"{modality}.onnx")
            for modality, package in source.packages.items()
        ]
        for modality in source.own:
            (place / modality).mkdir()
        for network in networks:
            convert(network, source.experts[network.modality], spec, facts)
        (place / FUSER).mkdir()
        source.learned.write(place / FUSER) if source.fuser.is_file() else _copy_fuser(source.fuser, place / FUSER)
        for modality, names in source.own.items():
            for name in names:
                _copy_cards(source.card(modality, name), source.path(modality, name), place / modality)
        assemble = _Assembly(source, networks, spec, facts)
        measure(source.experts, lambda: assemble(place).experts(), networks, spec, facts)
        system = assemble(place)
        after = Analyzer(system.experts(), fuser=source.learned)
        time_analyses(before, after, networks, spec, facts)
        (place / parity.FILE).write_text(facts.text(), encoding="utf-8")
        (place / licences.FILE).write_text(assemble.licences(), encoding="utf-8")
        assemble(place)
    return asdict(facts)


@dataclass(frozen=True)
class _Assembly:
    """Writes the descriptions of a system over whatever networks lie in its folder now."""

    source: Source
    networks: Sequence[Network]
    spec: ExportSpec
    facts: Facts

    def __call__(self, place: Path) -> System:
        for modality, package in self.source.packages.items():
            (model,) = (n.target for n in self.networks if n.name == modality)
            _rewrite(package, place / modality, model, {})
        own = {
            modality: {name: self._entry(modality, name) for name in names}
            for modality, names in self.source.own.items()
        }
        packages = {m: m for m in self.source.packages}
        parts = self.source.parts()
        described = SystemDescription(self.spec.target, own, packages, weight_set=self.facts.weights, parts=parts)
        return System(place, seal(place, described))

    def _entry(self, modality: str, name: str) -> OwnWeights:
        version, licence = self.source.facts(modality, name)
        return OwnWeights(f"{modality}/{name}.onnx", version, licence, self.facts.networks[name]["precision"])

    def licences(self) -> str:
        return licences.licences(self.source.parts(), self.facts.weights)


# --- a single expert --------------------------------------------------------------------------------------------------


def _single(package: Package, spec: ExportSpec, scratch: Path) -> dict[str, Any]:
    modality = package.description.modality
    facts = Facts(spec.target, str(package.folder))
    expert: Expert = load_package(package.folder)
    network = Network(package.description.name, modality, package.folder / MODEL, scratch / MODEL)
    convert(network, expert, spec, facts)

    def again() -> dict[str, Expert]:
        return {modality: load_package(_rewrite(package, scratch / "again", network.target, {}))}

    measure({modality: expert}, again, [network], spec, facts)
    texts = {
        parity.FILE: facts.text(),
        licences.FILE: licences.licences([licences.own_part(package)]),
    }
    _rewrite(package, spec.out, network.target, texts)
    return asdict(facts)


def _rewrite(package: Package, folder: Path, model: Path, texts: Mapping[str, str]) -> Path:
    """Write a package anew with another network and further files."""
    files: dict[str, Path | bytes] = {name: package.path(name) for name in package.description.files}
    files |= {MODEL: model.read_bytes()} | {name: text.encode() for name, text in texts.items()}
    return write_package(folder, replace(package.description, files={}, affuse="", created=""), files)


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


def _copy_fuser(folder: Path, target: Path) -> None:
    for name in persistence.FILES:
        if (folder / name).is_file():
            shutil.copyfile(folder / name, target / name)


def _copy_cards(card: Path, network: Path, folder: Path) -> None:
    """The cards of a network and of the files in which it keeps tensors, where there are any."""
    for each in (card, *(path.with_suffix(".md") for path in weights.companions(network))):
        if each.is_file():
            shutil.copyfile(each, folder / each.name)


def _words(folder: Path) -> Path:
    path = folder / "words.srt"
    path.write_text(f"1\n00:00:00,500 --> 00:00:03,000\n{synthetic.SENTENCES['en'][0]}\n", encoding="utf-8")
    return path
