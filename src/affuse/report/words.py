"""An analysis in words, and every text of the page, by language."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from affuse.errors import ConfigError
from affuse.labels import EKMAN
from affuse.results import Analysis, Verdict

__all__ = [
    "STRINGS",
    "absence_lines",
    "absences",
    "answer_in_words",
    "headline",
    "headline_parts",
    "name_of",
    "strings",
    "windows_of",
]

# Below this the answer is called mixed, and its runner-up is named as well.
_CLEAR = 0.5

STRINGS: dict[str, dict[str, str]] = {
    "en": {
        "emotion.anger": "anger",
        "emotion.disgust": "disgust",
        "emotion.fear": "fear",
        "emotion.happiness": "happiness",
        "emotion.sadness": "sadness",
        "emotion.surprise": "surprise",
        "emotion.neutral": "neutral",
        "modality.face": "face",
        "modality.voice": "voice",
        "modality.text": "words",
        "modality.joint": "joint",
        "kind.video": "video",
        "kind.audio": "sound",
        "kind.picture": "picture",
        "kind.text": "text",
        # Reasons as the experts give them; others are shown as they are.
        "reason.no face": "no face",
        "reason.no picture": "no picture",
        "reason.no moving picture": "no moving picture",
        "reason.no words": "no words",
        "reason.no words in this window": "no words in this window",
        "reason.no sound": "no sound",
        "reason.silence": "silence",
        "reason.too little sound": "too little sound",
        "reason.no speech": "no speech",
        "reason.no numbers for this window": "no numbers for this window",
        # Empty: English sentences about conflicts come ready-made with the analysis.
        "conflict.says": "",
        "conflict.and": " and ",
        "conflict.comma": ", ",
        "headline.mostly": "Mostly {label} ({percent} %)",
        "headline.single": "{label} ({percent} %)",
        "headline.mixed": "Mixed: {label} ({percent} %) ahead of {second} ({second_percent} %)",
        "headline.sentiment": "sentiment {sentiment}",
        "headline.none": "No answer",
        "headline.conflict": "{pair} disagree in {count} of {total} windows",
        "headline.conflict_once": "{pair} disagree",
        "pair": "{first} and {second}",
        "absence.all": "{reason}",
        "absence.some": "{reason} in {count} of {total} windows",
        "absence.line": "{modality}: {text}",
        "title": "Emotion report",
        "whole": "The whole recording",
        "whole.picture": "The picture",
        "whole.text": "The text",
        "person": "Person",
        "nobody": "nobody in particular",
        "theme.dark": "Dark colours",
        "theme.light": "Light colours",
        "skip": "Skip to the timeline",
        "player": "Recording",
        "play": "Play",
        "pause": "Pause",
        "previous": "Previous window",
        "next": "Next window",
        "mute": "Mute",
        "unmute": "Sound on",
        "speed": "Speed",
        "player.silent": "Play moves the playhead only.",
        "media.none": "The recording itself is not part of this page.",
        "media.linked": "The recording is large and therefore linked, not embedded: keep {name} in its place "
        "relative to this page.",
        "media.unplayable": "Browsers cannot play this format ({format}); stills stand in for the picture.",
        "media.mute_unplayable": "Browsers cannot play this format ({format}).",
        "media.missing": "The recording could not be read again, so that it is not part of this page.",
        "media.error": "This browser cannot play the recording; the playhead still works.",
        "now": "At {time}",
        "now.picture": "Seen in the picture",
        "now.text": "Read in the text",
        "now.none": "No evidence here",
        "now.says": "Each modality by itself",
        "now.probability": "Probability of each emotion",
        "words": "Words",
        "timeline": "Over time",
        "timeline.help": "Click or drag to go to a moment. With the keyboard: arrow keys go from window to window, "
        "space plays.",
        "timeline.label": "Position in the recording",
        "row.fused": "Fused answer",
        "row.emotions": "Fused: share of each emotion",
        "row.sentiment": "Sentiment",
        "row.conflict": "Conflict",
        "legend": "Colours",
        "no_evidence": "no evidence",
        "conflicts": "Where the modalities disagree",
        "conflicts.none": "The modalities do not contradict each other remarkably anywhere.",
        "conflicts.alone": "There was never more than one modality at a time, so that nothing could contradict.",
        "shares": "What decided it",
        "shares.help": "How far each modality moved the whole answer towards (right) or away from (left) {label}: "
        "exact Shapley shares, in log-odds. With the prior, which is what was expected before anything was seen, they "
        "add up to the log-odds of the answer.",
        "shares.none": "Without an answer there is nothing to share.",
        "share.absent": "absent",
        "share.prior": "prior",
        "evidence": "What there was to go by",
        "evidence.windows": "{count} of {total} windows",
        "evidence.yes": "present",
        "evidence.no": "absent",
        "table": "All numbers as a table",
        "table.more": "Show {count} more rows",
        "table.caption": "Every window with the fused answer and what each modality says; {total} rows",
        "table.start": "Start",
        "table.end": "End",
        "table.person": "Person",
        "table.label": "Answer",
        "table.confidence": "Confidence",
        "table.sentiment": "Sentiment",
        "table.conflict": "Conflict",
        "honesty": "What this cannot tell",
        "honesty.text": "These are estimates of what a face, a voice and words express to an average onlooker. They do "
        "not show what somebody feels, thinks or intends, they err more on people unlike those in the training data, "
        "and they are no ground for decisions about a person. Read the confidence, listen to the recording, and ask.",
        "settings": "How this was made",
        "notes": "Notes",
        "generated": "Made by affuse; this page loads nothing from a network.",
        "noscript": "The curves and the player need JavaScript, which is switched off; the answer above is complete.",
        "sentiment.negative": "negative",
        "sentiment.positive": "positive",
        "status": "{time}: {label}, {percent} %",
        "windows.merged": "{rows} rows for {total} windows: runs of the same answer are merged, confidence and "
        "sentiment averaged.",
        "windows.cut": "{hidden} further runs are not shown; they are in the files of results.",
        "missing": "Missing",
        "shares.line": "Shares in the answer, in log-odds: {shares}",
    },
    "zh": {
        "emotion.anger": "愤怒",
        "emotion.disgust": "厌恶",
        "emotion.fear": "恐惧",
        "emotion.happiness": "快乐",
        "emotion.sadness": "悲伤",
        "emotion.surprise": "惊讶",
        "emotion.neutral": "中性",
        "modality.face": "面部",
        "modality.voice": "语音",
        "modality.text": "文字",
        "modality.joint": "联合",
        "kind.video": "视频",
        "kind.audio": "音频",
        "kind.picture": "图片",
        "kind.text": "文本",
        "reason.no face": "没有人脸",
        "reason.no picture": "没有画面",
        "reason.no moving picture": "没有活动画面",
        "reason.no words": "没有文字",
        "reason.no words in this window": "此窗口没有文字",
        "reason.no sound": "没有声音",
        "reason.silence": "静默",
        "reason.too little sound": "声音太短",
        "reason.no speech": "没有语音",
        "reason.no numbers for this window": "此窗口没有数值",
        "conflict.says": "{names}判断为{label}",
        "conflict.and": "与",
        "conflict.comma": "，",
        "headline.mostly": "主要为{label}（{percent}%）",
        "headline.single": "{label}（{percent}%）",
        "headline.mixed": "情绪混合：{label}（{percent}%）略高于{second}（{second_percent}%）",
        "headline.sentiment": "情感倾向 {sentiment}",
        "headline.none": "没有结论",
        "headline.conflict": "{pair}在 {total} 个窗口中有 {count} 个不一致",
        "headline.conflict_once": "{pair}不一致",
        "pair": "{first}与{second}",
        "absence.all": "{reason}",
        "absence.some": "{reason}（{total} 个窗口中的 {count} 个）",
        "absence.line": "{modality}：{text}",
        "title": "情绪分析报告",
        "whole": "整段记录",
        "whole.picture": "图片",
        "whole.text": "文本",
        "person": "人物",
        "nobody": "未指定人物",
        "theme.dark": "深色",
        "theme.light": "浅色",
        "skip": "跳到时间线",
        "player": "记录",
        "play": "播放",
        "pause": "暂停",
        "previous": "上一个窗口",
        "next": "下一个窗口",
        "mute": "静音",
        "unmute": "打开声音",
        "speed": "速度",
        "player.silent": "播放时只移动播放头。",
        "media.none": "本页不包含原始记录。",
        "media.linked": "记录较大，因此以链接代替嵌入：请将 {name} 保留在与本页的相对位置。",
        "media.unplayable": "浏览器无法播放此格式（{format}），以静态画面代替。",
        "media.mute_unplayable": "浏览器无法播放此格式（{format}）。",
        "media.missing": "无法再次读取记录，因此本页不包含它。",
        "media.error": "此浏览器无法播放该记录，播放头仍可使用。",
        "now": "{time}",
        "now.picture": "图片中所见",
        "now.text": "文本中所读",
        "now.none": "此处没有证据",
        "now.says": "各模态各自的判断",
        "now.probability": "各情绪的概率",
        "words": "文字",
        "timeline": "随时间变化",
        "timeline.help": "点击或拖动可跳到某一时刻。键盘：方向键逐窗口移动，空格键播放。",
        "timeline.label": "记录中的位置",
        "row.fused": "融合结论",
        "row.emotions": "融合：各情绪的比重",
        "row.sentiment": "情感倾向",
        "row.conflict": "冲突",
        "legend": "颜色",
        "no_evidence": "没有证据",
        "conflicts": "模态之间不一致之处",
        "conflicts.none": "各模态之间没有明显矛盾。",
        "conflicts.alone": "任何时刻都不超过一个模态，无从比较。",
        "shares": "依据来自哪里",
        "shares.help": "每个模态把整体结论推向（右）或推离（左）{label}的程度：精确的 Shapley 份额，以对数几率计，"
        "与先验（看到任何内容之前的预期）相加即为结论的对数几率。",
        "shares.none": "没有结论，也就没有份额。",
        "share.absent": "缺失",
        "share.prior": "先验",
        "evidence": "可用的证据",
        "evidence.windows": "{total} 个窗口中的 {count} 个",
        "evidence.yes": "有",
        "evidence.no": "缺失",
        "table": "全部数值（表格）",
        "table.more": "再显示 {count} 行",
        "table.caption": "每个窗口的融合结论与各模态的判断，共 {total} 行",
        "table.start": "开始",
        "table.end": "结束",
        "table.person": "人物",
        "table.label": "结论",
        "table.confidence": "置信度",
        "table.sentiment": "情感倾向",
        "table.conflict": "冲突",
        "honesty": "本报告不能说明什么",
        "honesty.text": "这些是对面部、语音和文字给普通旁观者的印象的估计，并不显示某人真实的感受、想法或意图；"
        "对与训练数据差异较大的人群误差更大，不能作为对个人作出决定的依据。请查看置信度，聆听原始记录，并向本人求证。",
        "settings": "生成方式",
        "notes": "说明",
        "generated": "由 affuse 生成；本页不从网络加载任何内容。",
        "noscript": "曲线和播放器需要 JavaScript，而它已被关闭；上面的结论是完整的。",
        "sentiment.negative": "消极",
        "sentiment.positive": "积极",
        "status": "{time}：{label}，{percent}%",
        "windows.merged": "{total} 个窗口合并为 {rows} 行：相同结论的连续窗口已合并，置信度与情感倾向取平均。",
        "windows.cut": "另有 {hidden} 段未显示，见结果文件。",
        "missing": "缺失",
        "shares.line": "各模态在结论中的份额（对数几率）：{shares}",
    },
}


def strings(lang: str = "en") -> dict[str, str]:
    """Texts of the page in one language. Raises ConfigError, with the valid choices, where there are none."""
    if lang not in STRINGS:
        raise ConfigError(f"no texts in the language {lang!r}; known: {', '.join(sorted(STRINGS))}")
    return STRINGS[lang]


def headline(analysis: Analysis, summary: Verdict | None = None, lang: str = "en") -> str:
    """The whole answer in one sentence.

    For instance "Mostly happiness (62 %), sentiment +0.4; face and words disagree in 2 of 9 windows".

    ``summary`` is one of ``analysis.summaries``, by default the first.
    """
    verdict = summary or analysis.summary
    answer, *rest = headline_parts(analysis, verdict, lang)
    if not rest:
        return answer
    return f"{answer} ({'; '.join(rest)})" if verdict.fused is None else f"{answer}, {'; '.join(rest)}"


def headline_parts(analysis: Analysis, summary: Verdict, lang: str = "en") -> list[str]:
    """The answer for one person, its sentiment and the conflict behind it; without an answer, what was absent."""
    say = strings(lang)
    sentiment = say["headline.sentiment"].format(sentiment=_signed(summary.sentiment))
    if summary.fused is None:
        answer = say["headline.none"] if summary.sentiment is None else sentiment[:1].upper() + sentiment[1:]
        return [answer, *absence_lines(analysis, summary, lang)]
    conflict = _conflict(analysis, summary, lang)
    return [_answer(analysis, summary, lang), sentiment, *([conflict] if conflict else [])]


def absences(analysis: Analysis, summary: Verdict, lang: str = "en") -> dict[str, list[str]]:
    """For every modality, why it lacks evidence in some windows of a person: an entry a reason, most frequent first."""
    windows = windows_of(analysis, summary.person) or [summary]
    return {modality: list(_absence(modality, windows, strings(lang))) for modality in analysis.modalities}


def answer_in_words(analysis: Analysis, lang: str = "en") -> dict[str, list[Any]]:
    """What a page needs besides the analysis itself: ``headlines`` and ``absences``, an entry a person each."""
    return {
        "headlines": [headline_parts(analysis, summary, lang) for summary in analysis.summaries],
        "absences": [absences(analysis, summary, lang) for summary in analysis.summaries],
    }


def absence_lines(analysis: Analysis, summary: Verdict, lang: str = "en") -> list[str]:
    """The absences of a person as lines of text that name the modality."""
    say, found = strings(lang), absences(analysis, summary, lang)
    return [
        say["absence.line"].format(modality=name_of("modality", modality, lang), text=text)
        for modality, texts in found.items()
        for text in texts
    ]


def windows_of(analysis: Analysis, person: str | None) -> list[Verdict]:
    """The windows of one person, in order of time; where only the scene as a whole was judged, those of the scene."""
    own = [v for v in analysis.verdicts if v.person == person]
    taken = {v.segment for v in own}
    rest = [v for v in analysis.verdicts if v.person is None and v.segment not in taken]
    return sorted([*own, *rest], key=lambda v: v.segment)


def name_of(kind: str, name: str, lang: str = "en") -> str:
    """A modality's or an emotion's name for readers; names that nobody translated stay as they are."""
    return strings(lang).get(f"{kind}.{name}", name)


def _answer(analysis: Analysis, verdict: Verdict, lang: str) -> str:
    assert verdict.fused is not None
    first, second = np.argsort(-np.asarray(verdict.fused), kind="stable")[:2]
    top = float(verdict.fused[first])
    single = analysis.source.kind in ("picture", "text")
    shape = "mixed" if top < _CLEAR else "single" if single else "mostly"
    text = strings(lang)[f"headline.{shape}"].format(
        label=name_of("emotion", EKMAN.labels[first], lang),
        percent=round(100 * top),
        second=name_of("emotion", EKMAN.labels[second], lang),
        second_percent=round(100 * float(verdict.fused[second])),
    )
    return text[:1].upper() + text[1:]


def _signed(value: float | None) -> str:
    if value is None:
        return "?"
    return f"{round(value, 1) or 0.0:+.1f}".replace("+0.0", "0").replace("-", "−")


def _conflict(analysis: Analysis, summary: Verdict, lang: str) -> str:
    windows = windows_of(analysis, summary.person) or [summary]
    disagreeing = [v for v in windows if v.conflict_text]
    pairs = Counter(pair for v in disagreeing if (pair := _farthest_pair(v)))
    if not pairs:
        return ""
    pair, _ = pairs.most_common(1)[0]
    names = [name_of("modality", modality, lang) for modality in pair]
    key = "headline.conflict_once" if len(windows) == 1 else "headline.conflict"
    say = strings(lang)
    return say[key].format(
        pair=say["pair"].format(first=names[0], second=names[1]),
        count=sum(_farthest_pair(v) == pair for v in disagreeing),
        total=len(windows),
    )


def _farthest_pair(verdict: Verdict) -> tuple[str, str] | None:
    """The two modalities whose probabilities are farthest apart, by total variation distance."""
    present = {name: e.probabilities for name, e in verdict.evidence.items() if e.probabilities is not None}
    pairs = list(combinations(present, 2))
    return max(pairs, key=lambda pair: float(np.abs(present[pair[0]] - present[pair[1]]).sum()), default=None)


def _absence(modality: str, windows: Sequence[Verdict], say: dict[str, str]) -> Iterator[str]:
    reasons = Counter(v.evidence[modality].reason for v in windows if v.evidence[modality].probabilities is None)
    for reason, count in reasons.most_common():
        key = "absence.all" if count == len(windows) else "absence.some"
        yield say[key].format(reason=say.get(f"reason.{reason}", reason), count=count, total=len(windows))
