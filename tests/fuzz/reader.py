"""The process that reads: paths in lines come in, one line of JSON about each goes out.

A line holds ``outcome`` ("read", "refused" or "defect"), ``sentence`` (the error, or the traceback) and ``megabytes``,
the most memory that was held meanwhile.
"""

from __future__ import annotations

import contextlib
import json
import resource
import sys
import tempfile
import traceback
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from affuse.errors import AffuseError
from affuse.media import Recording
from affuse.report.media import medium_of
from affuse.timeline import Timeline
from fuzz.kinds import READERS

_STEPS = 50  # looks at a video


def read(path: Path) -> Recording:
    """Open a file as an analysis does, look at it, listen to it and take its pictures for a report."""
    recording = Recording.open(path)
    span = recording.span.end
    window = min(3.0, span)
    recording.budget.check_windows(recording.name, span, window, min(1.0, window))
    for frame in islice(recording.frames(np.linspace(0.0, span, _STEPS, endpoint=False), max_side=640), _STEPS):
        assert frame.image.dtype == np.uint8
        assert max(frame.image.shape[:2]) <= 640
    if recording.has_sound:
        for heard in recording.sound(Timeline.windows(span, window, min(1.0, window))):
            assert heard.dtype == np.float32
    source: Any = SimpleNamespace(kind=recording.kind, path=path, duration=recording.duration)
    with tempfile.TemporaryDirectory() as scratch:
        medium_of(SimpleNamespace(source=source, summaries=()), path.parent, Path(scratch))  # type: ignore[arg-type]
    return recording


def _read_any(path: Path) -> None:
    """Read a file as its folder says, a recording or transcript where that says nothing."""
    READERS.get(path.parent.name, read)(path)


def _peak() -> float:
    """The most memory held since `_reset`, in MB."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return int(status.read_text().split("VmHWM:")[1].split()[0]) / 1e3


def _reset() -> None:
    with contextlib.suppress(OSError):  # then the peak is that of all files so far, which is no less
        Path("/proc/self/clear_refs").write_text("5")


def _about(path: Path) -> dict[str, Any]:
    _reset()
    try:
        _read_any(path)
        outcome, sentence = "read", ""
    except AffuseError as error:
        outcome, sentence = "refused", str(error)
    except OSError as error:  # as the command line does: what the system says of a file
        named = error.filename is not None
        outcome, sentence = ("refused", str(error)) if named else ("defect", traceback.format_exc())
    except BaseException:
        outcome, sentence = "defect", traceback.format_exc()
    return {"outcome": outcome, "sentence": sentence, "megabytes": round(_peak())}


def main(address_space: int) -> None:
    """Read what the lines of standard input name, in at most ``address_space`` bytes."""
    resource.setrlimit(resource.RLIMIT_AS, (address_space, address_space))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in sys.stdin:
        print(json.dumps(_about(Path(line.rstrip("\n")))), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
