"""How long every stage of an analysis takes, and a whole one: what ``affuse bench`` and ``affuse export`` measure.

``python -m affuse.evaluation.speed`` reads a `Request` as JSON from its standard input and measures in its own process,
so that threads and memory are those of the measurement alone; `measure` starts it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from affuse.errors import AffuseError, ConfigError

if TYPE_CHECKING:
    from affuse.analyzer import Analyzer
    from affuse.experts.base import Expert

__all__ = ["BARS", "Request", "measure", "stages", "timed"]

BARS = {"face": 4.0, "voice": 15.0, "text (en)": 10.0, "text (zh)": 10.0}
"""Milliseconds on one core that a crop, a window of 3 s and a sentence may take."""

_WARM_UP = 3
_STRETCH_SECONDS = 10
_RATE = 3.0  # pictures a second that the face expert looks at


@dataclass(frozen=True)
class Request:
    """What to measure.

    Parameters
    ----------
    package : str, optional
        Folder of a system; the shipped one where None.
    clip, transcript : str, optional
        Recording and its words; a drawn one where None.
    times : int
        Repetitions of every stage.
    analyses : int
        Repetitions of a whole analysis.
    """

    package: str | None = None
    clip: str | None = None
    transcript: str | None = None
    times: int = 100
    analyses: int = 10


def measure(request: Request, threads: int = 1) -> dict[str, Any]:
    """Measure in a fresh process.

    Parameters
    ----------
    request : Request
        What to measure.
    threads : int
        How many threads the networks may use.

    Returns
    -------
    dict
        "stages" and "analysis" (see `timed`; milliseconds), "clip" (name and seconds), "times_real_time" and "peak_mb".

    Raises
    ------
    ConfigError
        If it cannot be measured, with the reason.
    """
    variables = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "AFFUSE_THREADS")
    result = subprocess.run(
        [sys.executable, "-m", "affuse.evaluation.speed"],
        input=json.dumps(asdict(request)),
        env=os.environ | dict.fromkeys(variables, str(threads)),
        capture_output=True,
        text=True,
    )
    if result.returncode:
        last = (result.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise ConfigError(f"nothing could be measured: {last}")
    return {"threads": threads, **json.loads(result.stdout)}


def timed(work: Callable[[], Any], times: int, share: float = 1.0) -> dict[str, float]:
    """Milliseconds that something takes.

    Parameters
    ----------
    work : callable
        What is timed.
    times : int
        How often, after up to 3 runs to warm up.
    share : float
        What the figures are multiplied by, where one run does several things.

    Returns
    -------
    dict of str to float
        By the clock "p50", "p95" and "p99"; of the processor "cpu", the median.
    """
    for _ in range(min(_WARM_UP, times)):
        work()
    clock, processor = np.empty(times), np.empty(times)
    for i in range(times):
        cpu, began = time.process_time(), time.perf_counter()
        work()
        clock[i], processor[i] = time.perf_counter() - began, time.process_time() - cpu
    p50, p95, p99 = np.percentile(clock, [50, 95, 99]) * 1000 * share
    figures = {"p50": p50, "p95": p95, "p99": p99, "cpu": float(np.median(processor)) * 1000 * share}
    return {name: round(float(value), 3) for name, value in figures.items()}


def stages(analyzer: Analyzer, clip: Path, times: int) -> dict[str, dict[str, float]]:
    """`timed` figures of every stage that ``analyzer`` goes through, each by itself.

    decode: a second of the clip's pictures and sound; detect: one picture; face: one crop; voice: a window of 3 s;
    text: a sentence, by language; who speaks: a second of one mouth and of the sound; fusion: one window.
    """
    from affuse.experts.face import default_detector
    from affuse.media import SAMPLE_RATE, Recording
    from affuse.testing import synthetic
    from affuse.timeline import Timeline

    recording = Recording.open(clip)
    seconds = max(1.0, recording.duration)

    def decode() -> None:
        timeline = Timeline((recording.span,))
        if recording.has_frames:
            list(recording.frames(np.arange(0, recording.duration, 1 / _RATE)))
        if recording.has_sound:
            list(recording.sound(timeline))

    detector, picture = default_detector(), synthetic.drawn_face()
    figures = {
        "decode": timed(decode, max(3, times // 20), 1 / seconds),
        "detect": timed(lambda: detector.detect(picture), times),
    }
    inputs: dict[str, tuple[str, Any]] = {
        "face": ("face", synthetic.pictures()[:1]),
        "voice": ("voice", synthetic.speech(3.0, 140)[: 3 * SAMPLE_RATE]),
        "text (en)": ("text", synthetic.SENTENCES["en"][0]),
        "text (zh)": ("text", synthetic.SENTENCES["zh"][0]),
    }
    for stage, (modality, value) in inputs.items():
        expert = analyzer.experts.get(modality)
        if expert is None or not expert.abilities.classifies:
            continue
        work = _new_texts(expert, value) if modality == "text" else partial(expert.classify, value)
        figures[stage] = timed(work, times)
    figures["who speaks"] = timed(_who_speaks(), max(3, times // 10), 1 / _STRETCH_SECONDS)
    return figures | {"fusion": timed(_fusion(analyzer), times)}


def _peak_mb() -> float:
    """The most memory that this process took, in MiB."""
    status = Path("/proc/self/status")
    if status.is_file():  # getrusage there counts what the starting process took before
        return int(status.read_text(encoding="ascii").partition("VmHWM:")[2].split()[0]) / 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def _new_texts(expert: Expert, text: str) -> Callable[[], Any]:
    """Reads another text each time, since an expert may remember what it has just read."""
    numbers = count()
    return lambda: expert.classify([f"{text} {next(numbers)}"])


def _who_speaks() -> Callable[[], Any]:
    """Compares a mouth with the sound of ten seconds."""
    from affuse.media import SAMPLE_RATE
    from affuse.people.mouths import MOUTH_RATE, MOUTH_SIZE
    from affuse.people.speaking import shipped_networks
    from affuse.people.synchrony import MARGIN, AgreementMeter
    from affuse.testing import synthetic

    count = _STRETCH_SECONDS * MOUTH_RATE
    seconds = (count + 2 * MARGIN) / MOUTH_RATE
    sound = synthetic.speech(seconds + 1, 140)[: round(seconds * SAMPLE_RATE)]
    mouths = list(np.random.default_rng(0).integers(0, 256, (count, MOUTH_SIZE, MOUTH_SIZE), dtype=np.uint8))

    def work() -> None:
        meter = AgreementMeter(shipped_networks())
        meter.add_sound(sound)
        meter.add_face(0, mouths)

    return work


def _fusion(analyzer: Analyzer) -> Callable[[], Any]:
    from affuse.experts.base import ExpertOutput
    from affuse.timeline import Segment, Timeline

    timeline = Timeline((Segment(0.0, 3.0),))
    outputs = {}
    for modality, expert in analyzer.experts.items():
        k = len(expert.labels)
        outputs[modality] = ExpertOutput(np.linspace(1, 2, k)[None] / (1.5 * k), ("",))
    return lambda: analyzer.fuse_outputs(outputs, timeline)


def _answer(request: Request, folder: Path) -> dict[str, Any]:

    import cv2

    from affuse.analyzer import Analyzer
    from affuse.media import Recording
    from affuse.testing import synthetic

    cv2.setNumThreads(int(os.environ["AFFUSE_THREADS"]))
    clip = Path(request.clip) if request.clip else synthetic.write_clip(folder / "drawn.mp4")
    transcript = request.transcript
    if request.clip is None:
        transcript = str(folder / "words.srt")
        Path(transcript).write_text(
            f"1\n00:00:00,500 --> 00:00:03,000\n{synthetic.SENTENCES['en'][0]}\n", encoding="utf-8"
        )
    analyzer = Analyzer() if request.package is None else Analyzer.from_package(request.package)
    duration = Recording.open(clip).duration
    whole = timed(lambda: analyzer.analyze(clip, transcript), request.analyses)
    peak = _peak_mb()
    evidence = analyzer.analyze(clip, transcript).verdicts
    return {
        "clip": {"name": clip.name, "seconds": round(duration, 2)},
        "stages": stages(analyzer, clip, request.times),
        "analysis": whole,
        "times_real_time": round(duration / (whole["p50"] / 1000), 1),
        "peak_mb": round(peak),
        "windows": len(evidence),
        "heard": {m: sum(v.evidence[m].probabilities is not None for v in evidence) for m in analyzer.experts},
    }


def _main() -> None:
    request = Request(**json.load(sys.stdin))
    try:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(_answer(request, Path(folder))))
    except AffuseError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    _main()
