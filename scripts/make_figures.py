"""Measure what ships and put the figures where people read them: both READMEs, the model cards and docs/clips.md.

``AFFUSE_DATA=DIR python scripts/make_figures.py`` (``make figures``)

Every figure is read off the command that the page names; docs/clips.md wants YuNet at hand (``AFFUSE_MODELS=DIR``).
Tables stand between ``<!-- figures: NAME -->`` and ``<!-- end -->``; what stands between is replaced, everything else
stays. docs/figures.json keeps the raw numbers.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from affuse.evaluation.formatting import ResultTable, fraction, percent, points, with_interval
from affuse.files import write_json, write_text

ROOT = Path(__file__).resolve().parent.parent
ASSETS = ROOT / "src" / "affuse" / "assets"


@dataclass(frozen=True)
class Set:
    """A held-out set, the expert that reads it, the file of its weights, and what it is in both languages."""

    expert: str
    dataset: str
    weights: str
    about: str
    zh: str
    headline: str


SETS = (
    Set("face", "ferplus", "face", "web pictures, label with most votes", "网络图片，取最多票的标签", "accuracy"),
    Set(
        "face",
        "ferplus_majority",
        "face",
        "the same where one label has a majority, the paper's protocol",
        "同上，仅取有过半数标签的图片（原论文的做法）",
        "accuracy",
    ),
    Set("voice", "ravdess", "voice", "acted English, 5 unseen actors", "英语表演语音，5 位未见过的演员", "accuracy"),
    Set("voice", "emodb", "voice", "acted German, 2 unseen speakers", "德语表演语音，2 位未见过的说话人", "accuracy"),
    Set(
        "voice",
        "javanese_speech",
        "voice",
        "acted Javanese, 2 unseen actors",
        "爪哇语表演语音，2 位未见过的演员",
        "accuracy",
    ),
    Set("text", "goemotions", "text_en", "English comments, Ekman", "英语评论，Ekman 分类", "macro_f1"),
    Set("text", "meld", "text_en", "English TV dialogue, utterance alone", "英语电视剧对白，仅看单句", "weighted_f1"),
    Set("text", "sst2", "text_en", "English film reviews, sentiment", "英语影评，情感倾向", "accuracy"),
    Set("text", "mosi", "text_en", "English spoken reviews, transcript", "英语口头影评转写，情感倾向", "accuracy"),
    Set("text", "smp2020_ewect", "text_zh", "Chinese microblogs", "中文微博", "macro_f1"),
    Set("text", "chnsenticorp", "text_zh", "Chinese reviews, sentiment", "中文评论，情感倾向", "accuracy"),
    Set(
        "text", "emotiontalk_words", "text_multi", "Mandarin dialogue, words alone", "普通话对话，仅看文字", "accuracy"
    ),
)
MARKED = "brighter"
"""A set whose rows may show several emotions at once, in many languages."""


@dataclass(frozen=True)
class ProductSet:
    """A set that whole answers are measured on, and what it is in both languages."""

    dataset: str
    about: str
    zh: str


PRODUCT = (
    ProductSet(
        "javanese_av",
        "audiovisual clips, acted Javanese, 6 emotions, 2 unseen actors",
        "视听片段，爪哇语表演，6 种情绪，2 位未见过的演员",
    ),
    ProductSet("ravdess", "whole clips, sound alone, acted English", "整段录音，仅声音，英语表演"),
    ProductSet("emodb", "whole clips, sound alone, acted German", "整段录音，仅声音，德语表演"),
    ProductSet(
        "urdu_speech", "spontaneous talk shows, sound alone, another corpus", "自发谈话节目，仅声音，未参与训练的语料"
    ),
    ProductSet(
        "ferplus", "web pictures, enlarged in a border, faces to be found", "网络图片，放大并加边框，人脸需自行检测"
    ),
)

EXPERTS_ZH = {"face": "面部", "voice": "语音", "text": "文本"}


@dataclass(frozen=True)
class Clip:
    """A recording of the data's folder ``clips`` and what a person says who watches it."""

    file: str
    person: str
    right: tuple[str | None, ...]


CLIPS = (
    Clip("WolfgangLanger_Pexels.mp4", "sad and worried at first, then laughing; no sound", ("happiness", "sadness")),
    Clip("bbaf2n.mpg", "neutral: reads six words aloud", ("neutral",)),
    Clip("lrwp9a.mpg", "neutral: reads six words aloud", ("neutral",)),
    Clip("multi_face.jpg", "happiness: a group smiling into the camera", ("happiness",)),
    Clip("no_face.mp4", "nobody: the title of a cartoon, with music", (None,)),
    Clip("obama_speech.mp4", "neutral, grave: two politicians, one of them speaks", ("neutral",)),
    Clip("pwij3p.mpg", "neutral: reads six words aloud", ("neutral",)),
    Clip("single_face.mp4", "neutral, smiles in the middle, neutral again", ("neutral", "happiness")),
    Clip("swiz3n.mpg", "neutral: reads six words aloud", ("neutral",)),
)


def affuse(*arguments: str) -> Any:
    """What ``affuse ARGUMENTS --json`` prints."""
    command = [sys.executable, "-m", "affuse.cli", *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    return json.loads(done.stdout)


def measure(data: Path, only: str | None, before: Mapping[str, Any]) -> dict[str, Any]:
    """All figures, as the commands print them; with ``only``, all others as they were ``before``."""
    evaluated = dict(before.get("evaluate", {}))
    for row in [row for row in SETS if only in (None, row.expert)]:
        print(f"affuse evaluate --expert {row.expert} --dataset {row.dataset}", flush=True)
        evaluated[row.dataset] = affuse(
            "evaluate", "--expert", row.expert, "--dataset", row.dataset, "--data", str(data), "--split", "dev"
        )
    if only in (None, "text"):
        command = ("evaluate", "--expert", "text", "--dataset", MARKED, "--data", str(data), "--split", "dev")
        print(f"affuse {' '.join(command[:5])}", flush=True)
        evaluated[MARKED] = affuse(*command)
    if only not in (None, "product"):
        return {**before, "evaluate": evaluated}
    clips = {}
    for clip in CLIPS:
        print(f"affuse analyze {clip.file}", flush=True)
        clips[clip.file] = affuse("analyze", str(data / "clips" / clip.file))["summary"]
    return {"product": measure_product(data), "evaluate": evaluated, "clips": clips}


def measure_product(data: Path) -> dict[str, Any]:
    """What the product answers about every set of `PRODUCT`, without any option."""
    found = {}
    for row in PRODUCT:
        print(f"affuse evaluate --dataset {row.dataset}", flush=True)
        found[row.dataset] = affuse("evaluate", "--dataset", row.dataset, "--data", str(data), "--split", "dev")
    return found


_SHOW: Mapping[str, Callable[[float], str]] = {
    "accuracy": percent,
    "uar": percent,
    "macro_f1": fraction,
    "weighted_f1": fraction,
    "ece": fraction,
}


def cells(facts: Mapping[str, Any], headline: str, columns: Sequence[str]) -> list[str]:
    """Figures of one set as text, the one that its field quotes in bold."""
    shown = [_SHOW[name](facts[name]) for name in columns]
    return [f"**{text}**" if name == headline else text for name, text in zip(columns, shown, strict=True)]


def evaluated(figures: Mapping[str, Any], header: Sequence[str], name_of: Callable[[Set], tuple[str, str]]) -> str:
    """The table of all experts."""
    columns = ("accuracy", "uar", "macro_f1", "weighted_f1")
    rows = []
    for row in SETS:
        facts = figures["evaluate"][row.dataset]
        rows.append([*name_of(row), f"{facts['n']:,}", str(len(facts["labels"])), *cells(facts, row.headline, columns)])
    return ResultTable(header, rows=rows).markdown()


def product(
    figures: Mapping[str, Any], header: Sequence[str], about: Callable[[ProductSet], str], names: Mapping[str, str]
) -> str:
    """The table of whole answers, with intervals that draw whole persons; ``names`` are the modalities' own."""
    rows = []
    for row in PRODUCT:
        facts = figures["product"][row.dataset]
        view = facts["as_answered"]
        fused, best = view["fused"], view["best_single"]
        single = view["modalities"][best]
        rows.append(
            [
                about(row),
                f"{fused['n']:,}",
                percent(fused["coverage"]),
                f"**{with_interval(fused, 'accuracy')}**",
                with_interval(fused, "uar"),
                fraction(fused["ece"]),
                f"{names.get(best, best)} {percent(single['accuracy'])}",
                points(view["difference"]),
                percent(view["oracle"]["accuracy"]),
            ]
        )
    return ResultTable(header, rows=rows).markdown()


def card(figures: Mapping[str, Any], weights: str) -> str:
    """The table of one card: every set that its weights are measured on."""
    columns = ("accuracy", "uar", "macro_f1", "weighted_f1", "ece")
    header = ["set", "rows", "labels", "accuracy", "unweighted recall", "macro F1", "weighted F1", "ECE"]
    rows = []
    for row in SETS:
        if row.weights == weights:
            facts = figures["evaluate"][row.dataset]
            place = [f"`{row.dataset}`", f"{facts['n']:,}", str(len(facts["labels"]))]
            rows.append([*place, *cells(facts, row.headline, columns)])
    return ResultTable(header, rows=rows).markdown()


def clips(figures: Mapping[str, Any]) -> str:
    """The table of the recordings, one row a person who is seen."""
    rows = []
    for clip in CLIPS:
        for summary in figures["clips"][clip.file]:
            said = {name: e["probabilities"] for name, e in summary["evidence"].items() if e["probabilities"]}
            alone = ", ".join(f"{name} {max(p, key=lambda k: p[k])}" for name, p in said.items()) or "nothing"
            answer = "no answer" if summary["label"] is None else f"{summary['label']} {percent(summary['confidence'])}"
            verdict = "right" if summary["label"] in clip.right else "**wrong**"
            rows.append([f"`{clip.file}`", summary["person"] or "", clip.person, answer, alone, verdict])
    header = ["recording", "person", "a person would say", "affuse says", "the modalities alone", ""]
    return ResultTable(header, rows=rows).markdown()


def replace_block(path: Path, name: str, text: str) -> None:
    """Put ``text`` into the block ``name`` of a page. Raises SystemExit where the page has no such block."""
    page = path.read_text(encoding="utf-8")
    pattern = re.compile(rf"(<!-- figures: {re.escape(name)} -->\n).*?(<!-- end -->)", re.DOTALL)
    if not pattern.search(page):
        raise SystemExit(f"{path.relative_to(ROOT)} has no block of figures named {name}")
    write_text(path, pattern.sub(lambda found: f"{found[1]}{text}\n{found[2]}", page))


def write(figures: Mapping[str, Any]) -> None:
    """Put all tables into their pages."""
    english = ("expert", "set", "rows", "of", "accuracy", "unweighted recall", "macro F1", "weighted F1")
    chinese = ("专家", "语料", "样本数", "类别数", "准确率", "平均召回率", "宏 F1", "加权 F1")
    whole = (
        *("set", "answered", "of all", "accuracy (95 %)", "unweighted recall (95 %)", "ECE"),
        *("best single modality", "fused − best single (95 %)", "best choice of one"),
    )
    replace_block(
        ROOT / "README.md", "product", product(figures, whole, lambda row: f"`{row.dataset}` ({row.about})", {})
    )
    whole_zh = (
        *("语料", "有结论的样本", "占比", "准确率（95 %）", "平均召回率（95 %）", "ECE"),
        *("最佳单模态", "融合 − 最佳单模态（95 %）", "逐条最佳选择"),
    )
    replace_block(
        ROOT / "README.zh-CN.md",
        "product",
        product(figures, whole_zh, lambda row: f"`{row.dataset}`（{row.zh}）", EXPERTS_ZH),
    )
    replace_block(
        ROOT / "README.md",
        "evaluate",
        evaluated(figures, english, lambda row: (row.expert, f"`{row.dataset}` ({row.about})")),
    )
    replace_block(
        ROOT / "README.zh-CN.md",
        "evaluate",
        evaluated(figures, chinese, lambda row: (EXPERTS_ZH[row.expert], f"`{row.dataset}`（{row.zh}）")),
    )
    for weights in dict.fromkeys(row.weights for row in SETS):
        replace_block(ASSETS / f"{weights}.md", "evaluate", card(figures, weights))
    replace_block(
        ROOT / "docs" / "languages.md", "languages", languages(figures, ("language", "rows", "macro F1"), "mean")
    )
    replace_block(
        ROOT / "docs" / "zh" / "languages.md", "languages", languages(figures, ("语言", "样本数", "宏 F1"), "平均")
    )
    replace_block(ROOT / "docs" / "clips.md", "clips", clips(figures))


def languages(figures: Mapping[str, Any], header: Sequence[str], mean: str) -> str:
    """Macro F1 of every language of the marked set, and their mean."""
    found = figures["evaluate"][MARKED]
    rows = [[f"`{name}`", f"{one['n']:,}", fraction(one["macro_f1"])] for name, one in found["languages"].items()]
    rows.append([mean, f"{found['n']:,}", fraction(found["macro_f1"])])
    return ResultTable(header, rows=rows).markdown()


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("AFFUSE_DATA"), help="folder of the datasets")
    parser.add_argument("--only", choices=["face", "voice", "text", "product"], help="measure this alone")
    options = parser.parse_args()
    if options.data is None:
        raise SystemExit("name the folder of the datasets: --data DIR or AFFUSE_DATA=DIR")
    place = ROOT / "docs" / "figures.json"
    figures = measure(options.data, options.only, json.loads(place.read_text(encoding="utf-8")))
    write(figures)
    write_json(place, figures, indent=1)


if __name__ == "__main__":
    main()
