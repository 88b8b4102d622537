"""Tiers for ELAN: one annotation file with the emotions, the turns and the words of everybody."""

from __future__ import annotations

import mimetypes
import os
from pathlib import Path

from pympi import Eaf

from affuse.report.formats.base import Format, Place
from affuse.report.formats.intervals import one_line, tiers
from affuse.results import Analysis

__all__ = ["Elan"]

_LANGUAGE = ("und", "http://cdb.iso.org/lg/CDB-00130975-001", "undetermined (und)")  # as ELAN writes it itself
_FREE, _EMOTION = "free-text", "emotion"


class Elan(Format):
    """STEM.eaf. The tiers ``emotion`` have a controlled vocabulary, so that a label is corrected by a choice."""

    suffix = ".eaf"

    def write(self, analysis: Analysis, part: Path, place: Place) -> None:
        """Write the tiers of `affuse.report.formats.intervals.tiers`."""
        document = Eaf(author="affuse")
        document.remove_tier("default")
        document.remove_linguistic_type("default-lt")
        document.add_linguistic_type(_FREE)
        self._add_vocabulary(document, analysis)
        if analysis.source.path is not None:
            self._link(document, analysis.source.path.resolve(), place.path.parent.resolve())
        for tier in tiers(analysis):
            kind = _EMOTION if tier.kind == "emotion" else _FREE
            document.add_tier(tier.name, ling=kind, part=tier.person, ann="affuse")
            for interval in tier.intervals:
                document.add_annotation(
                    tier.name, round(1000 * interval.start), round(1000 * interval.end), interval.text
                )
        document.properties = [("lastUsedAnnotationId", document.maxaid)]
        document.to_file(str(part))

    def _add_vocabulary(self, document: Eaf, analysis: Analysis) -> None:
        document.add_language(*_LANGUAGE)
        document.add_controlled_vocabulary(_EMOTION)
        for number, label in enumerate(analysis.labels.labels, 1):
            document.add_cv_entry(_EMOTION, f"cveid_{number}", [(one_line(label), _LANGUAGE[0], None)])
        document.add_linguistic_type(
            _EMOTION,
            param_dict={
                "LINGUISTIC_TYPE_ID": _EMOTION,
                "TIME_ALIGNABLE": "true",
                "GRAPHIC_REFERENCES": "false",
                "CONTROLLED_VOCABULARY_REF": _EMOTION,
            },
        )

    def _link(self, document: Eaf, recording: Path, folder: Path) -> None:
        """Name the recording; ELAN looks for the address first, then beside the annotation file."""
        try:
            relative: str | None = "./" + Path(os.path.relpath(recording, folder)).as_posix()
        except ValueError:  # on another drive
            relative = None
        kind = mimetypes.guess_type(recording.name)[0] or "unknown"
        document.add_linked_file(recording.as_uri(), relpath=relative, mimetype=kind)
