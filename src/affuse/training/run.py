"""One training from data to a package: ``affuse train``. A run folder holds all that was done; a killed run goes on.

::

    config.toml      what was asked for, with everything filled in
    run.json         seeds, versions, git state, data, figures; "state" is "done" once all is there
    checkpoints/     after every epoch
    curves.csv, .png, confusion.csv, .png
    held_out.npz     calibrated answers on the rows that were set aside, for fitting a fuser
    predictions/     the same, and those on dev and test, as tables that affuse fuse reads, a modality each
    card.md, package/ what is handed on
"""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback
from lightning.pytorch.utilities import rank_zero_only
from scipy.special import softmax

from affuse import loop, weights
from affuse.data import corpora
from affuse.data import own as training_data
from affuse.errors import ConfigError, OutputError
from affuse.files import write_json, write_text
from affuse.fusion.temperature import fit_temperature
from affuse.packages import PackageDescription, write_package
from affuse.training import record
from affuse.training.batching import class_weights
from affuse.training.cards import write_held_out
from affuse.training.config import TrainConfig, read_config, resolve, write_config
from affuse.training.inputs import Store, tracked
from affuse.training.module import Classification, Data
from affuse.training.networks.base import Network
from affuse.training.networks.exporter import export, within_parity
from affuse.training.progress import Curves, TrainingProgress
from affuse.training.seeds import threads
from affuse.training.task import LabelledSplit, Task, fingerprint, prepare

__all__ = ["CONFIG", "Run", "TrainedNetwork", "learn", "measured", "plan_of", "resume", "train"]

CONFIG, _FACTS, _CHECKPOINTS, _DECODED = "config.toml", "run.json", "checkpoints", "decoded"
_PACKAGE, _OLD_PACKAGE = "package", "bundle"
_PREDICTIONS = "predictions"


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes
    ----------
    folder : Path
        Where everything that it left lies.
    package : Path
        Folder of the trained expert, as `affuse.Analyzer` and ``affuse analyze --experts`` take it.
    facts : mapping
        What run.json holds: data, seeds, versions and measured figures.

    Examples
    --------
    >>> run = Run(Path("runs/voice"), Path("runs/voice/package"), {"measured": {"dev": {"accuracy": 0.7}}})
    >>> run.facts["measured"]["dev"]["accuracy"]
    0.7
    """

    folder: Path
    package: Path
    facts: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """A trained network: whose epoch it is of (counted from 0), the best monitored value, and the curves."""

    network: Network
    best_epoch: int
    best: float
    curves: Curves


def train(config: TrainConfig | str | Path, out: str | Path) -> Run | None:
    """Train an expert or a joint model on labelled data, measure it and write it as a package.

    Parameters
    ----------
    config : TrainConfig, str or Path
        What is learned from and how; a path names a TOML file.
    out : str or Path
        Folder of the run, new or empty. A run that is interrupted goes on by `resume`.

    Returns
    -------
    Run or None
        None in processes that only helped: with several devices, the first process finishes the run.

    Raises
    ------
    ConfigError
        If an option does not fit, or ``out`` holds a run already.
    DataError
        If the data cannot be learned from.
    AssetError
        If weights to start from are missing or do not fit, or the exported network answers otherwise.
    OutputError
        If ``out`` cannot be written.

    Examples
    --------
    >>> rows = "".join(f"{word} {i},{word}\\n" for i in range(20) for word in ("happy", "sad"))
    >>> _ = Path("texts.csv").write_text("text,label\\n" + rows)
    >>> config = TrainConfig(
    ...     data={"source": "texts.csv", "modality": "text"},
    ...     network={"name": "bag", "options": {"buckets": 64}},
    ...     training={"epochs": 1},
    ... )
    >>> run = train(config, "run")
    >>> run.package.name, run.facts["labels"]
    ('package', ['happiness', 'sadness'])
    """
    config = resolve(config if isinstance(config, TrainConfig) else read_config(Path(config)))
    folder = Path(out)
    if _leads():
        _claim(folder)
    data = training_data.read(config.data.source, config.data.modality, config.data.reading)
    return _go(config, data, folder)


def resume(folder: str | Path) -> Run | None:
    """Go on with an interrupted run from its last complete checkpoint.

    Parameters
    ----------
    folder : str or Path
        Folder of the run; its config.toml says what is done. A finished run is returned as it is.

    Returns
    -------
    Run or None
        As of `train`.

    Raises
    ------
    ConfigError
        If the folder holds no run, or the data are not what they were when it began.
    AssetError
        If there are checkpoints, but all are damaged.

    Examples
    --------
    >>> resume("nowhere")
    Traceback (most recent call last):
    ...
    affuse.errors.ConfigError: nowhere holds no run to go on with: it has no config.toml and run.json
    """
    folder = Path(folder)
    if not (folder / CONFIG).is_file() or not (folder / _FACTS).is_file():
        raise ConfigError(f"{folder} holds no run to go on with: it has no {CONFIG} and {_FACTS}")
    config = read_config(folder / CONFIG)
    facts = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
    if facts["state"] == "done":
        own = folder / _PACKAGE
        return Run(folder, own if own.is_dir() else folder / _OLD_PACKAGE, facts)
    data = training_data.read(config.data.source, config.data.modality, config.data.reading)
    if facts["data"]["fingerprint"] != fingerprint(data):
        raise ConfigError(f"the data of {folder} have changed since it began; start a new run on them")
    return _go(config, data, folder)


def _go(config: TrainConfig, data: training_data.TrainingData, folder: Path) -> Run | None:
    started = time.time()
    with _store(folder) as store, threads(config.device.threads):
        task = prepare(config, data, store)
        if _leads():  # from here on there is something to resume
            write_config(config, folder / CONFIG)
            _write_facts(folder, {"state": "started", "data": {"fingerprint": fingerprint(data)}})
        plan = dataclasses.replace(plan_of(config), checkpoints=folder / _CHECKPOINTS, log_folder=folder / "logs")
        title = f"{config.network.name} on {data.name}"
        learned = learn(task, plan, folder / "curves.csv", [TrainingProgress(title)])
        if not _leads():
            return None
        return _finish(task, learned, folder, started)


def learn(task: Task, plan: loop.LoopConfig, curves: Path, callbacks: Sequence[Callback] = ()) -> TrainedNetwork:
    """Train the network of ``task`` in place, by the loop of affuse."""
    config = task.config.training
    followed = Curves(curves)
    rarity = class_weights(task.train.split.targets.sum(axis=0)) if config.imbalance == "weights" else None
    module = Classification(task.network, config, rarity, task.augmentation.spectrum)
    plan = dataclasses.replace(plan, trainer={**plan.trainer, "callbacks": [followed, *callbacks]})
    mode: loop.Mode = "min" if config.monitor == "val_loss" else "max"
    kept = loop.fit(module, Data(task.train.split, task.held_out.split, config), plan, config.monitor, mode)
    assert kept is not None
    return TrainedNetwork(task.network, kept.epoch, kept.best, followed)


def plan_of(config: TrainConfig) -> loop.LoopConfig:
    """How long to train and on what, from a resolved configuration."""
    training, device = config.training, config.device
    assert training.epochs is not None
    return loop.LoopConfig(
        max_epochs=training.epochs,
        patience=training.patience or None,
        seed=training.seed,
        precision=device.precision,
        accelerator=device.accelerator,
        devices=device.devices,
        num_nodes=device.nodes,
        strategy=device.strategy,
        gradient_clip=training.gradient_clip or None,
        accumulate=training.accumulate,
        ema_decay=training.ema_decay or None,
        logger=device.logger,
        progress=False,  # `TrainingProgress` shows the run as a whole
        deterministic=training.deterministic,
    )


def measured(package: Path, split: LabelledSplit, title: str) -> np.ndarray:
    """Probabilities (n, k) of the exported network on samples in full length, one by one, as an expert reads them."""
    session = weights.session(package / "model.onnx")
    names = {entry.name for entry in session.get_inputs()}
    rows = []
    for row in tracked(range(len(split)), title):
        inputs = {k: v.numpy() for k, v in split.split.inputs.whole(row).items() if k in names}
        rows.append(session.run(["probabilities"], inputs)[0][0])
    return np.array(rows, dtype=float)


def _leads() -> bool:
    """Whether this process is the first of all that train together."""
    return not rank_zero_only.rank


def _claim(folder: Path) -> None:
    if (folder / CONFIG).exists():
        raise ConfigError(f"{folder} holds a run already; go on with it by --resume, or name another folder by --out")
    if folder.exists() and (not folder.is_dir() or any(path.name != _DECODED for path in folder.iterdir())):
        raise OutputError(f"{folder} is there and not empty; name another folder by --out")


@contextmanager
def _store(folder: Path) -> Iterator[Store]:
    """Decoded inputs beside the run, for as long as it goes."""
    place = folder / _DECODED / str(rank_zero_only.rank or 0)
    shutil.rmtree(place, ignore_errors=True)  # of a run that was killed
    try:
        yield Store(place)
    finally:
        shutil.rmtree(folder / _DECODED if _leads() else place, ignore_errors=True)


def _finish(task: Task, learned: TrainedNetwork, folder: Path, started: float) -> Run:
    """Calibrate, export, measure and write down."""
    logits = _logits(learned.network, task.held_out)
    temperature = fit_temperature(logits, task.held_out.targets)
    model = folder / "model.onnx"
    export(learned.network, model, temperature)
    package = write_package(folder / _PACKAGE, _description(task, {}), _files(task, model, ""))
    model.unlink()
    P = measured(package, task.held_out, "checking the export")
    difference = within_parity(float(np.abs(P - softmax(logits / temperature, axis=1)).max()), "probabilities")
    write_held_out(folder / "held_out.npz", probabilities=P, targets=task.held_out.targets, groups=task.held_out.groups)
    answers = {split: measured(package, part, f"measuring {split}") for split, part in task.reports.items()}
    for split, part, own in (("held_out", task.held_out, P), *((s, task.reports[s], a) for s, a in answers.items())):
        place = folder / _PREDICTIONS / split / f"{task.network.modality}.csv"
        record.write_predictions(place, part.samples, own, task.labels.labels, part.targets, part.groups)
    reports = {
        split: record.measure(own, task.reports[split].targets, task.reports[split].groups, task.labels.labels)
        for split, own in answers.items()
    }
    facts = _facts(task, learned, temperature, difference, reports, started)
    _write_pictures(folder, learned, facts, reports)
    card = record.card(facts)
    write_text(folder / "card.md", card)
    figures = {
        split: {key: report[key] for key in ("n", "accuracy", "accuracy_95", "uar", "macro_f1", "ece")}
        for split, report in reports.items()
    }
    write_package(package, _description(task, figures), _files(task, package / "model.onnx", card))
    _write_facts(folder, facts)
    return Run(folder, package, facts)


@torch.no_grad()
def _logits(network: Network, section: LabelledSplit) -> np.ndarray:
    network.eval()
    rows = [network(**section.split.inputs.whole(row)).logits[0] for row in range(len(section))]
    return torch.stack(rows).double().numpy()


def _name(task: Task) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", task.config.name or task.data.name).strip("-.") or task.network.modality


def _licence(task: Task) -> str:
    name = task.data.name
    return task.config.licence or (corpora.find(name).licence if name in corpora.names() else "") or "not stated"


def _prior(task: Task) -> tuple[float, ...]:
    """Label frequencies that the answers assume: those of what was learned from, as it was weighted."""
    targets = task.train.split.targets
    shares = targets.mean(axis=0)
    if task.config.training.imbalance != "none":
        shares = shares * class_weights(targets.sum(axis=0))
    return tuple((shares / shares.sum()).tolist())


def _description(task: Task, figures: Mapping[str, Any]) -> PackageDescription:
    network = task.network
    joint = network.reads == "blocks"
    blocks = [(n, network.encoders[n]) for n in network.encoders] if joint else [(network.reads, network)]
    inputs = {reader.reads: _input_of(task, reader) for _, reader in blocks}
    if joint and network.columns:
        inputs["columns"] = {"names": list(task.data.column_names)}
    return PackageDescription(
        name=_name(task),
        modality=network.modality,
        labels=task.labels,
        reads=tuple(inputs),
        inputs=inputs,
        prior=_prior(task),
        measured=figures,
        licence=_licence(task),
        kind="joint" if joint else "expert",
    )


def _input_of(task: Task, network: Network) -> dict[str, Any]:
    if network.reads == "tokens":
        return {"longest": task.config.network.max_tokens}
    if network.picture is None:
        return {}
    size, channels = network.picture
    if network.reads == "clips":
        return {"size": size, "frames": network.frames}
    return {"size": size, "channels": channels}


def _files(task: Task, model: Path, card: str) -> dict[str, Path | bytes]:
    files: dict[str, Path | bytes] = {"model.onnx": model, "card.md": card.encode()}
    if task.tokenizer is not None:
        files["tokenizer.json"] = task.tokenizer.to_str().encode()
    return files


def _facts(
    task: Task,
    learned: TrainedNetwork,
    temperature: float,
    difference: float,
    reports: Mapping[str, Any],
    started: float,
) -> dict[str, Any]:
    splits = {"train": task.train, "held_out": task.held_out, **task.reports}
    return {
        "state": "done",
        "name": _name(task),
        "modality": task.network.modality,
        "labels": list(task.labels.labels),
        "licence": _licence(task),
        "data": {
            "name": task.data.name,
            "fingerprint": fingerprint(task.data),
            "splits": {name: _counts(split, task.labels.labels) for name, split in splits.items()},
            "notes": list(task.notes),
        },
        "network": {"name": task.config.network.name, "parameters": task.network.count_parameters()},
        "seeds": {"training": task.config.training.seed, "splits": task.config.data.reading.seed},
        "epochs": len(learned.curves.rows),
        "best_epoch": learned.best_epoch + 1,
        "chosen_by": {task.config.training.monitor: learned.best},
        "temperature": temperature,
        "export_difference": difference,
        "measured": dict(reports),
        "versions": record.versions(),
        "git": record.git_state(),
        "seconds": round(time.time() - started, 1),
    }


def _counts(section: LabelledSplit, labels: Sequence[str]) -> dict[str, Any]:
    counts = np.bincount(section.targets, minlength=len(labels))
    return {
        "rows": len(section),
        "groups": len(np.unique(section.groups)),
        "labels": dict(zip(labels, counts.tolist(), strict=True)),
    }


def _write_pictures(
    folder: Path, learned: TrainedNetwork, facts: Mapping[str, Any], reports: Mapping[str, Any]
) -> None:
    learned.curves.write()
    if not reports:
        return
    report = next(iter(reports.values()))
    record.write_confusion(folder / "confusion.csv", report["confusion"], facts["labels"])
    record.draw(folder, learned.curves.rows, report)


def _write_facts(folder: Path, facts: Mapping[str, Any]) -> None:
    write_json(folder / _FACTS, facts, indent=1)
