"""Results in the nested shape that users of Hume's expression measurement API know, with the fused answer added.

Source: the predictions of a job in that API's reference (file → models → grouped_predictions → predictions).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

__all__ = ["to_hume"]

# What each modality is called there.
_MODELS = {"face": "face", "voice": "prosody", "text": "language"}


def to_hume(analysis: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Turn an analysis (as `Analysis.to_dict` gives it) into a list of one source with its predictions.

    Emotions are those of affuse, capitalised, with their probability as score. Windows without evidence of a modality
    are no predictions of its model. ``purpose`` and ``exemption`` are those of the analysis.
    """
    models = {
        _MODELS.get(modality, modality): {
            "metadata": None,
            "grouped_predictions": _groups(analysis["windows"], _said_by(modality), analysis),
        }
        for modality in analysis["modalities"]
    }
    models["fused"] = {"metadata": None, "grouped_predictions": _groups(analysis["windows"], _fused, analysis)}
    name = analysis["source"]["name"]
    # Analyses of earlier versions state no purpose.
    declared = {key: analysis["settings"].get(key) for key in ("purpose", "exemption")}
    prediction = {"file": name, "file_type": analysis["source"]["kind"], **declared, "models": models}
    return [
        {
            "source": {"type": "file", "filename": name},
            "results": {"predictions": [prediction], "errors": []},
        }
    ]


_Scores = Callable[[Mapping[str, Any]], Mapping[str, float] | None]


def _said_by(modality: str) -> _Scores:
    return lambda window: window["evidence"][modality]["probabilities"]


def _fused(window: Mapping[str, Any]) -> Mapping[str, float] | None:
    scores: Mapping[str, float] | None = window["fused"]
    return scores


def _groups(
    windows: Iterable[Mapping[str, Any]], scores_of: _Scores, analysis: Mapping[str, Any]
) -> list[dict[str, Any]]:
    boxes = {person["id"]: person["boxes"] for person in analysis["persons"]}
    groups: dict[str, list[dict[str, Any]]] = {}
    for window in windows:
        scores = scores_of(window)
        if scores is None:
            continue
        person = window["person"] or "unknown"
        cues = [cue for cue in analysis["cues"] if cue["speaker"] in (None, window["person"])]
        prediction = _prediction(window, scores, cues, boxes.get(person, []))
        groups.setdefault(person, []).append(prediction)
    return [{"id": person, "predictions": predictions} for person, predictions in groups.items()]


def _prediction(
    window: Mapping[str, Any],
    scores: Mapping[str, float],
    cues: Sequence[Mapping[str, Any]],
    boxes: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    start, end = window["start"], window["end"]
    seen = [box for box in boxes if start <= box["time"] < end]
    middle = seen[len(seen) // 2] if seen else None
    return {
        "text": " ".join(cue["text"] for cue in cues if cue["start"] < end and cue["end"] > start) or None,
        "time": {"begin": start, "end": end},
        "prob": max(scores.values()),
        # Fractions of the picture: its size in pixels is not part of an analysis.
        "box": None
        if middle is None
        else {"x": middle["x"], "y": middle["y"], "w": middle["width"], "h": middle["height"]},
        "emotions": [{"name": name.capitalize(), "score": score} for name, score in scores.items()],
        "sentiment": window["sentiment"],
        "conflict": window["conflict"],
    }
