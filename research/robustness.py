"""Accuracy of the experts under noise, rooms, codecs, blur, darkness, covered faces and typing mistakes.

``python -m research.robustness --data DIR --expert voice --name before [--weights voice.onnx] --out docs``

Measures an expert on the dev rows of its corpora, clean and damaged, enters the figures in OUT/robustness.json under
the given name, and writes OUT/robustness.md and OUT/robustness.png from all that the file holds. The damage is that of
`affuse.training.augment`; every row has a seed of its own, so that all networks meet the same damage.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from affuse.data.corpora import Dataset, load
from affuse.errors import ConfigError
from affuse.evaluation.experts import answers, waveform
from affuse.evaluation.formatting import ResultTable, percent
from affuse.evaluation.robustness import CLEAN, Damage, robustness_curves
from affuse.files import replacing, write_json, write_text
from affuse.packages import load_expert
from affuse.training.augment import picture, sound, words
from affuse.training.augment.ranges import uniform
from recipes.command import data_parser, errors_as_sentences

__all__ = ["CORPORA", "damages", "draw", "main", "measure", "page"]

CORPORA = {"face": ("ferplus",), "voice": ("ravdess", "emodb"), "text": ("meld", "smp2020_ewect")}
_ROUNDED = 4

Graded = Callable[..., Sequence[Any]]  # all inputs and a strength in, damaged inputs out


def damages(modality: str) -> list[Damage]:
    """Kinds of damage to the inputs of a modality, from mild to strong. Raises ConfigError for an unknown one."""
    known = {"face": _of_pictures, "voice": _of_sounds, "text": _of_texts}
    if modality not in known:
        raise ConfigError(f"no damage is known for {modality!r}; known: {', '.join(known)}")
    return list(known[modality]())


def _curve(kind: str, strengths: Mapping[str, float], change: Graded) -> Iterator[Damage]:
    for level, strength in strengths.items():
        yield Damage(kind, level, partial(change, strength=strength))


def _of_sounds() -> Iterator[Damage]:
    ratios = {"20 dB": 20.0, "10 dB": 10.0, "0 dB": 0.0}
    yield from _curve("white noise", ratios, _clip_by_clip(_hiss))
    yield from _curve("voices behind", ratios, _among_others)
    yield from _curve("reverberation", {"0.3 s": 0.3, "0.6 s": 0.6, "1.2 s": 1.2}, _clip_by_clip(_in_a_room))
    for codec in sound.CODECS:
        yield Damage("codec", codec, partial(_sent, codec=codec))


def _clip_by_clip(change: Callable[[np.ndarray, float, np.random.Generator], np.ndarray]) -> Graded:
    def changed(inputs: Sequence[Any], strength: float) -> Sequence[Any]:
        return [change(clip, strength, np.random.default_rng(i)) for i, clip in enumerate(inputs)]

    return changed


def _hiss(waveform: np.ndarray, snr: float, rng: np.random.Generator) -> np.ndarray:
    return sound.add_noise(waveform, sound.coloured_noise(len(waveform), "white", rng), snr)


def _in_a_room(waveform: np.ndarray, rt60: float, rng: np.random.Generator) -> np.ndarray:
    return sound.reverberate(waveform, sound.room_response(rt60, rng))


def _among_others(inputs: Sequence[Any], strength: float) -> Sequence[Any]:
    damaged = []
    for i, clip in enumerate(inputs):
        rng = np.random.default_rng(i)
        others = [inputs[j] for j in rng.choice(len(inputs), 6, replace=False) if j != i]
        damaged.append(sound.add_noise(clip, sound.babble(others, len(clip), rng), strength))
    return damaged


def _sent(inputs: Sequence[Any], codec: str) -> Sequence[Any]:
    return [sound.through_codec(clip, codec) for clip in inputs]


def _of_pictures() -> Iterator[Damage]:
    yield from _curve(
        "blur", {"1 px": 1 / 48, "2 px": 2 / 48, "3 px": 3 / 48}, _at_once(lambda x, s, _: picture.blur(x, s))
    )
    sides = {"24 px": 1 / 2, "16 px": 1 / 3, "12 px": 1 / 4}
    yield from _curve("few pixels", sides, _at_once(lambda x, s, _: picture.lower_resolution(x, s)))
    yield from _curve("darkness", {"1/4": 2.0, "1/16": 4.0, "1/64": 6.0}, _at_once(picture.darken))
    yield from _curve("covered", {"glasses": 30.0}, _at_once(lambda x, s, _: picture.wear_glasses(x, s)))
    yield from _curve("covered", {"mask": 200.0}, _at_once(lambda x, s, _: picture.wear_mask(x, s)))
    yield from _curve("covered", {"a fifth": 0.2}, _at_once(picture.occlude))
    yield from _curve("JPEG", {"30": 30.0, "10": 10.0}, _at_once(lambda x, s, _: picture.compress(x, s)))
    yield from _curve("box off by", {"±5 %": 0.05, "±15 %": 0.15}, _at_once(_displaced))
    yield from _curve("roll", {"±5°": 5.0, "±15°": 15.0}, _at_once(_leaning))


def _at_once(change: Callable[[torch.Tensor, torch.Tensor, torch.Generator], torch.Tensor]) -> Graded:
    def changed(inputs: Sequence[Any], strength: float) -> Sequence[Any]:
        images = torch.from_numpy(np.stack(list(inputs))).float()[:, None]
        damaged = change(images, torch.full((len(images),), strength), torch.Generator().manual_seed(0))
        return list(damaged[:, 0].round().clamp(0, 255).byte().numpy())

    return changed


def _displaced(images: torch.Tensor, share: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """The crop of a box whose place and size are off by up to ``share`` (n,) of its side."""
    n = len(images)
    x, y, size = (share * uniform(n, (-1.0, 1.0), generator) for _ in range(3))
    return picture.transform(images, torch.zeros(n), 1 / (1 + size), x, y, torch.zeros(n, dtype=torch.bool))


def _leaning(images: torch.Tensor, degrees: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """The crop of a head that leans by up to ``degrees`` (n,) to either side, and was not straightened."""
    n = len(images)
    angle, nowhere = degrees * uniform(n, (-1.0, 1.0), generator), torch.zeros(n)
    return picture.transform(images, angle, torch.ones(n), nowhere, nowhere, torch.zeros(n, dtype=torch.bool))


def _of_texts() -> Iterator[Damage]:
    typos = {"2 %": 0.02, "5 %": 0.05, "10 %": 0.1, "20 %": 0.2}
    yield from _curve("typos", typos, _text_by_text(words.mistype))
    yield from _curve("words missing", {"10 %": 0.1, "20 %": 0.2, "40 %": 0.4}, _text_by_text(words.drop_words))


def _text_by_text(change: Callable[[str, float, np.random.Generator], str]) -> Graded:
    def changed(inputs: Sequence[Any], strength: float) -> Sequence[Any]:
        return [change(text, strength, np.random.default_rng(i)) for i, text in enumerate(inputs)]

    return changed


def measure(expert: Any, rows: Dataset) -> list[dict[str, Any]]:
    """Points of `evaluation.robustness` of one expert on one corpus, as JSON holds them."""
    inputs = [waveform(path) for path in rows.inputs] if rows.modality == "voice" else rows.inputs
    points = robustness_curves(_asked(expert, rows), inputs, rows.targets, rows.groups, damages(rows.modality))
    return [
        asdict(p)
        | {"accuracy": round(p.accuracy, _ROUNDED), "uar": round(p.uar, _ROUNDED)}
        | {"ci95": [round(bound, _ROUNDED) for bound in p.ci95]}
        for p in points
    ]


def _asked(expert: Any, rows: Dataset) -> Callable[[Sequence[Any]], np.ndarray]:
    return lambda inputs: answers(expert, replace(rows, inputs=inputs), decode=np.asarray)


def page(found: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]]) -> str:
    """A page of Markdown with a table for every corpus: a row a condition, a column a network."""
    parts = [
        "# Robustness",
        "Accuracy on the dev rows of each corpus, as they are and damaged, by "
        "`python -m research.robustness --data DIR --expert NAME --name COLUMN [--weights FILE] --out docs`. "
        "Every column is tested with the same damage. The interval (95 %, whole speakers drawn) is that of the last "
        "column.",
        "![Accuracy under damage](robustness.png)",
    ]
    for corpus, columns in found.items():
        parts += [f"## {corpus}", _table(columns).markdown()]
    return "\n\n".join(parts) + "\n"


def _table(columns: Mapping[str, Sequence[Mapping[str, Any]]]) -> ResultTable:
    names = list(columns)
    table = ResultTable(("condition", *names, "95 % interval"))
    by_condition = {name: {(p["kind"], p["level"]): p for p in points} for name, points in columns.items()}
    for key, last in by_condition[names[-1]].items():
        points = [by_condition[name].get(key) for name in names]
        low, high = (100 * value for value in last["ci95"])
        shown = ("" if point is None else percent(point["accuracy"]) for point in points)
        table.add(" ".join(key).strip(), *shown, f"{low:.1f} to {high:.1f}")
    return table


def draw(found: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]], path: Path) -> None:
    """One picture: a row a corpus, a panel a kind of damage, a line a network. Needs matplotlib."""
    from matplotlib.figure import Figure

    kinds = {
        corpus: list(dict.fromkeys(p["kind"] for points in columns.values() for p in points if p["kind"] != CLEAN))
        for corpus, columns in found.items()
    }
    wide = max(map(len, kinds.values()))
    figure = Figure(figsize=(2.1 * wide, 2.1 * len(found) + 0.4), layout="constrained")
    panels = figure.subplots(len(found), wide, squeeze=False, sharey="row")
    for row, (corpus, columns) in zip(panels, found.items(), strict=True):
        for axes, kind in zip(row, kinds[corpus], strict=False):
            _panel(axes, columns, kind)
        for axes in row[len(kinds[corpus]) :]:
            axes.set_axis_off()
        row[0].set_ylabel(f"{corpus}\naccuracy")
        row[0].legend(fontsize=7, frameon=False)
    with replacing(path) as (part,):
        figure.savefig(part, dpi=130, format="png")


def _panel(axes: Any, columns: Mapping[str, Sequence[Mapping[str, Any]]], kind: str) -> None:
    colours = ("#A3A8AE", "#0072B2", "#D55E00")  # Okabe & Ito (2008)
    for (name, points), colour in zip(columns.items(), colours, strict=False):
        shown = [p for p in points if p["kind"] in {CLEAN, kind}]
        low, high = np.array([p["ci95"] for p in shown]).T
        places = np.arange(len(shown))
        axes.plot(places, [p["accuracy"] for p in shown], marker="o", markersize=3, color=colour, label=name)
        axes.fill_between(places, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.set_xticks(places, [p["level"] or CLEAN for p in shown], rotation=30, fontsize=7)
    axes.set_title(kind, fontsize=9)
    axes.set_ylim(0, 1)
    axes.grid(alpha=0.3)


def _expert(name: str, weights: Path | None) -> Any:
    if weights is None:
        return load_expert(name)
    if name == "face":
        from affuse.experts.face import FaceExpert

        return FaceExpert(model=weights)
    if name == "voice":
        from affuse.experts.voice import VoiceExpert

        return VoiceExpert(weights)
    raise ConfigError(f"--weights goes with the experts face and voice; got {name}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure an expert, and write the figures, the page and the picture."""
    parser = data_parser(__doc__)
    parser.add_argument("--expert", required=True, choices=sorted(CORPORA), help="expert to measure")
    parser.add_argument("--name", default="shipped", help="column of the table, such as before or after")
    parser.add_argument("--weights", type=Path, help="other weights than the shipped ones")
    parser.add_argument("--out", type=Path, required=True, help="folder of robustness.json, .md and .png")
    options = parser.parse_args(arguments)
    with errors_as_sentences(parser):
        _run(options.data, options.expert, options.name, options.weights, options.out)


def _run(data: Path, name: str, column: str, weights: Path | None, out: Path) -> None:
    expert, path = _expert(name, weights), out / "robustness.json"
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    for corpus in CORPORA[name]:
        title = f"{name}, {corpus}"
        points = measure(expert, load(corpus, data, "dev"))
        found.setdefault(title, {})[column] = points
        print(title, {f"{p['kind']} {p['level']}": p["accuracy"] for p in points}, flush=True)
    write_json(path, found, indent=1)
    write_text(path.with_suffix(".md"), page(found))
    draw(found, path.with_suffix(".png"))


if __name__ == "__main__":
    main()
