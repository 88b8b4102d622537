"""Pre-annotations for Label Studio: one task with the emotions as predictions, to be corrected there.

Regions are those of an Audio tag, in seconds. A Video tag beside it is kept in step, which is the template that Label
Studio calls video timeline segmentation. Labels of frames (TimelineLabels) would be off wherever the project states
another frame rate than was written.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

from affuse.labels import EKMAN, LabelSpace
from affuse.report.formats.base import Format, Place
from affuse.report.formats.intervals import Run, one_line, people, runs
from affuse.report.palette import palette
from affuse.results import Analysis

__all__ = ["LabelStudio", "labelling_config"]

_DECIMALS = 3


class LabelStudio(Format):
    """STEM.labelstudio.json: a list with one task."""

    suffix = ".labelstudio.json"

    def write(self, analysis: Analysis, part: Path, place: Place) -> None:
        """Write the task; its recording is named as Label Studio names files of a local storage."""
        found = [(run, person) for person in people(analysis) for run in runs(analysis, person)]
        found.sort(key=lambda pair: (pair[0].start, pair[0].end, pair[1] or ""))
        results = [r for number, (run, person) in enumerate(found, 1) for r in _region(f"affuse-{number}", run, person)]
        prediction: dict[str, Any] = {"model_version": "affuse", "result": results}
        if found:
            total = sum(run.end - run.start for run, _ in found)
            mean = sum((run.end - run.start) * run.confidence for run, _ in found) / total
            prediction["score"] = round(mean, 4)
        name = analysis.source.name if analysis.source.path is None else analysis.source.path.name
        task = {"data": {"recording": f"/data/local-files/?d={quote(name)}"}, "predictions": [prediction]}
        part.write_text(json.dumps([task], ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def _region(name: str, run: Run, person: str | None) -> list[dict[str, Any]]:
    """The label of a run, and who it is about: two results of one region, which share id, times and channel."""
    shared = {"id": name, "to_name": "audio", "origin": "prediction"}
    times = {"start": round(run.start, _DECIMALS), "end": round(run.end, _DECIMALS), "channel": 0}
    label = {
        **shared,
        "from_name": "emotion",
        "type": "labels",
        "value": {**times, "labels": [run.label]},
        "score": round(run.confidence, 4),
    }
    if person is None:
        return [label]
    return [
        label,
        {**shared, "from_name": "person", "type": "textarea", "value": {**times, "text": [one_line(person)]}},
    ]


def labelling_config(labels: LabelSpace = EKMAN, video: bool = True) -> str:
    """The labelling configuration of a Label Studio project that takes the tasks of the format "labelstudio".

    Parameters
    ----------
    labels : LabelSpace
        The labels to choose from, in the colours of the report.
    video : bool
        Whether the recordings have a picture.

    Returns
    -------
    str
        XML, to be pasted under Settings, Labeling Interface, Code.

    Examples
    --------
    >>> print(labelling_config(LabelSpace("two", ("anger", "neutral")), video=False))
    <View>
      <Labels name="emotion" toName="audio">
        <Label value="anger" background="#D55E00"/>
        <Label value="neutral" background="#BFC4C9"/>
      </Labels>
      <Audio name="audio" value="$recording"/>
      <TextArea name="person" toName="audio" perRegion="true" editable="true" rows="1"/>
    </View>
    """
    from xml.sax.saxutils import quoteattr  # brings ssl, which takes 30 ms

    colours = palette(labels.labels).colours
    choices = [f'    <Label value={quoteattr(name)} background="{colours[name]}"/>' for name in labels.labels]
    sync = ' sync="video"' if video else ""
    lines = [
        "<View>",
        *(['  <Video name="video" value="$recording" sync="audio"/>'] if video else []),
        '  <Labels name="emotion" toName="audio">',
        *choices,
        "  </Labels>",
        f'  <Audio name="audio" value="$recording"{sync}/>',
        '  <TextArea name="person" toName="audio" perRegion="true" editable="true" rows="1"/>',
        "</View>",
    ]
    return "\n".join(lines)
