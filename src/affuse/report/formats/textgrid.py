"""Tiers for Praat: a TextGrid with the emotions, the turns and the words of everybody."""

from __future__ import annotations

from pathlib import Path

from praatio.data_classes.interval_tier import IntervalTier
from praatio.data_classes.textgrid import Textgrid

from affuse.report.formats.base import Format, Place
from affuse.report.formats.intervals import tiers
from affuse.results import Analysis

__all__ = ["TextGrid"]


class TextGrid(Format):
    """STEM.TextGrid."""

    suffix = ".TextGrid"

    def write(self, analysis: Analysis, part: Path, place: Place) -> None:
        """Write the tiers of `affuse.report.formats.intervals.tiers`; gaps become intervals without text."""
        found = tiers(analysis)
        ends = [tier.intervals[-1].end for tier in found] + [v.segment.end for v in analysis.verdicts]
        end = round(max([analysis.source.duration, *ends]), 3)
        grid = Textgrid(0, end)
        for tier in found:
            entries = [(i.start, i.end, i.text) for i in tier.intervals]
            grid.addTier(IntervalTier(tier.name, entries, 0, end), reportingMode="error")
        if not found:
            grid.addTier(IntervalTier("emotion", [(0, end, "")], 0, end))  # Praat refuses a TextGrid without tiers
        grid.save(str(part), "long_textgrid", includeBlankSpaces=True, reportingMode="error")
