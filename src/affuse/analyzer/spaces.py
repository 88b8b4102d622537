"""Which labels an analysis answers in: the seven emotions, or the own labels that its experts share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from affuse.errors import ConfigError, DataError
from affuse.experts.base import Expert
from affuse.fusion.named import NamedFuser
from affuse.fusion.spaces import judges_sentiment
from affuse.labels import EKMAN, LabelSpace, recognise, to_emotions

__all__ = ["LabelMap", "answer_space", "expert_spaces", "means_emotions", "rule_over"]

LabelMap = Mapping[str, str | Mapping[str, str]]
"""What own labels mean: by label, or by modality and label."""

_RULE = "product"


def expert_spaces(
    experts: Mapping[str, Expert], label_map: LabelMap | str | Path | None, labels: LabelSpace | None
) -> dict[str, LabelSpace]:
    """The label space of every expert, with what its labels mean: as the map says, else as the expert says itself.

    ``labels`` is the space to answer in, where it was chosen: goals of the map are its labels; otherwise they are
    emotions, or words for them. Raises ConfigError where the map names a label or a goal that is not there.
    """
    stated = _stated(label_map, list(experts))
    everywhere = stated.get("", {})
    target = EKMAN if labels is None else labels
    spaces = {}
    for modality, expert in experts.items():
        own = {label: goal for label, goal in everywhere.items() if label in expert.labels.labels}
        meaning = expert.labels.onto if target.labels == EKMAN.labels else {}  # that is about emotions
        onto = {**meaning, **own, **stated.get(modality, {})}
        goals = {label: _goal(label, goal, target) for label, goal in onto.items()}
        spaces[modality] = LabelSpace(expert.labels.name, expert.labels.labels, goals)
    known = dict.fromkeys(label for expert in experts.values() for label in expert.labels.labels)
    unknown = [label for label in everywhere if label not in known]
    if unknown:
        raise ConfigError(
            f"the label map names {', '.join(unknown)}; no expert has such a label; theirs are {', '.join(known)}"
        )
    return spaces


def answer_space(
    experts: Mapping[str, Expert],
    spaces: Mapping[str, LabelSpace],
    labels: LabelSpace | None = None,
    fuser: NamedFuser | None = None,
) -> LabelSpace:
    """The labels that all experts can answer in.

    These are the chosen ``labels``; else the seven emotions, where every label means one; else the labels of a fuser
    that was given; else the own labels that the experts share. Raises ConfigError, which says who disagrees and how to
    state a map, where there are none.
    """
    judging = {modality: space for modality, space in spaces.items() if not judges_sentiment(space)}
    if labels is not None:
        strange = [m for m, space in judging.items() if not _reaches(space, labels)]
        if strange:
            raise ConfigError(_disagreement(experts, spaces, strange, labels))
        return labels
    if all(means_emotions(space) for space in judging.values()):
        return EKMAN
    if fuser is not None and not means_emotions(LabelSpace("fuser", fuser.labels)):
        own = LabelSpace(next(iter(judging.values())).name, fuser.labels)
        if all(_reaches(space, own) for space in judging.values()):
            return own
    if fuser is None and len({frozenset(space.labels) for space in judging.values()}) == 1:
        first = next(iter(judging.values()))
        return LabelSpace(first.name, first.labels, first.onto)
    strange = [m for m, space in judging.items() if not means_emotions(space)]
    raise ConfigError(_disagreement(experts, spaces, strange, EKMAN))


def means_emotions(labels: LabelSpace) -> bool:
    """Whether every label has a place among the seven emotions."""
    try:
        to_emotions(np.zeros(len(labels)), labels)
    except DataError:
        return False
    return True


def rule_over(labels: LabelSpace, modalities: Sequence[str]) -> NamedFuser:
    """A fuser that needs no training: the product rule over ``labels`` under even frequencies."""
    from affuse.fusion.rules.product import ProductRule

    k = len(labels)
    even = np.full(k, 1 / k)
    rule = ProductRule(prior=even).fit(np.full((k, len(modalities), k), 1 / k), np.arange(k))
    notes = {"prior": "uniform", "priors": {modality: even.tolist() for modality in modalities}}
    return NamedFuser(rule, tuple(modalities), labels.labels, _RULE, notes)


def _stated(label_map: LabelMap | str | Path | None, modalities: Sequence[str]) -> dict[str, dict[str, str]]:
    """The map by modality; what holds for all experts under the empty name."""
    if label_map is None:
        return {}
    if isinstance(label_map, str | Path):
        from affuse.data.predictions import read_label_map

        label_map = {name: entry for name, entry in read_label_map(Path(label_map)).items() if entry}
    stated: dict[str, dict[str, str]] = {"": {}}
    for name, value in label_map.items():
        if isinstance(value, str):
            stated[""][name] = value
        else:
            place = "" if name == "map" else name
            stated[place] = {**stated.get(place, {}), **value}
    unknown = [name for name in stated if name and name not in modalities]
    if unknown:
        raise ConfigError(f"the label map is for {', '.join(unknown)}; the experts are for {', '.join(modalities)}")
    return stated


def _goal(label: str, goal: str, target: LabelSpace) -> str:
    found = goal if goal in target.labels else recognise(goal)
    if found is None or not _reaches(LabelSpace("goal", (found,)), target):
        raise ConfigError(f"the label map sends {label} to {goal!r}; known: {', '.join(target.labels)}")
    return found


def _reaches(space: LabelSpace, target: LabelSpace) -> bool:
    """Whether every label of a space is one of another, or is mapped onto one."""
    if target.labels == EKMAN.labels:
        return means_emotions(space)
    return all(space.onto.get(label, label) in target.labels for label in space.labels)


def _disagreement(
    experts: Mapping[str, Expert], spaces: Mapping[str, LabelSpace], strange: Sequence[str], target: LabelSpace
) -> str:
    def told(modality: str) -> str:
        return f"{modality} (expert {experts[modality].name}) answers {', '.join(spaces[modality].labels)}"

    others = [m for m in spaces if m not in strange and not judges_sentiment(spaces[m])]
    foreign = [label for m in strange for label in spaces[m].labels if not _reaches(_one(spaces[m], label), target)]
    also = f", {' and '.join(others)} with other labels" if others else ""
    return (
        f"the experts do not share their labels: {'; '.join(map(told, strange))}{also}. Use experts with the same "
        f"labels alone, or state what {', '.join(dict.fromkeys(foreign))} mean among {', '.join(target.labels)} by a "
        f'label map: --label-map FILE with lines such as {foreign[0]} = "{target.labels[-1]}"'
    )


def _one(space: LabelSpace, label: str) -> LabelSpace:
    return LabelSpace(space.name, (label,), {k: v for k, v in space.onto.items() if k == label})
