"""The process that analyses: one job after another, told and answering in lines of JSON on its standard streams.

It is a process of its own so that a job which takes too long or too much memory can be ended at once, while experts
stay loaded from one job to the next. Line in: a job (see `Order`). Lines out: ``{"stage", "progress"}`` on the way, and
at the end ``{"done": true}`` or ``{"error": "one sentence"}``.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from affuse.errors import AffuseError, MediaError, OutputError, TranscriptError

if TYPE_CHECKING:
    from affuse.analyzer.analyzer import Analyzer
    from affuse.experts.base import Expert
    from affuse.experts.transcribe import Transcriber
    from affuse.fusion.named import NamedFuser
    from affuse.fusion.priors import Prior
    from affuse.results import Analysis

    _Loaded = tuple[dict[str, Expert], NamedFuser, Transcriber | None, Prior | None]

__all__ = ["Order", "main"]

_STEP = 0.01  # share of a modality below which progress is not worth a line


@dataclass(frozen=True)
class Order:
    """What to analyse and where to put the results; ``name`` is what people are to read instead of the file's name.

    ``kind`` is "recording", or "text" where the file holds a bare text in UTF-8.
    """

    name: str
    results: str
    upload: str
    transcript: str | None = None
    kind: str = "recording"
    language: str | None = None
    window: float | None = None
    hop: float | None = None
    max_duration: float = float("inf")
    private: bool = False
    bundle: str | None = None
    fuser: str | None = None
    prior: str | None = None
    transcribe: bool = False
    asr_model: str | None = None

    def to_line(self) -> str:
        """The order as a line of JSON."""
        return json.dumps(asdict(self)) + "\n"


def main() -> None:
    """Read orders until the standard input ends."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever a library prints must not mix with the answers
    orders: list[Order] = []
    arrived = threading.Semaphore(0)
    threading.Thread(target=_listen, args=(orders, arrived), daemon=True).start()
    analyzers: dict[str | None, _Loaded] = {}
    while True:
        arrived.acquire()
        _answer(orders.pop(0), analyzers, lambda **line: _say(answers, line))


def _listen(orders: list[Order], arrived: threading.Semaphore) -> None:
    for line in sys.stdin:
        orders.append(Order(**json.loads(line)))
        arrived.release()
    os._exit(0)  # the worker has gone: whatever is being analysed, nobody waits for it


def _say(answers: IO[str], line: dict[str, Any]) -> None:
    answers.write(json.dumps(line) + "\n")
    answers.flush()


def _answer(order: Order, loaded: dict[str | None, _Loaded], say: Callable[..., None]) -> None:
    try:
        analysis = _analyse(order, _analyzer(order, loaded), say)
        say(stage="writing", progress=1.0)
        _write(analysis, order)
    except OutputError:
        traceback.print_exc()
        say(error=f"the results of {order.name} could not be written; the log of the service tells why")
    except TranscriptError as error:
        # Its sentences quote the transcript.
        sentence = "the transcript does not fit" if order.private else _readable(str(error), order)
        say(error=sentence)
    except AffuseError as error:
        say(error=_readable(str(error), order))
    except MemoryError:
        say(error=f"{order.name} needs more memory than this machine has")
    except Exception as error:  # a defect of ours must end this job only, and be told
        traceback.print_exc()
        say(error=f"{order.name} could not be analysed: an internal error ({type(error).__name__})")
    else:
        say(done=True)


def _analyzer(order: Order, loaded: dict[str | None, _Loaded]) -> Analyzer:
    from affuse.analyzer.analyzer import Analyzer

    if order.language not in loaded:
        loaded[order.language] = _load(order)
    experts, fuser, transcriber, prior = loaded[order.language]
    return Analyzer(experts, order.window, order.hop, fuser, transcriber, prior)


def _load(order: Order) -> _Loaded:
    from affuse.analyzer.analyzer import load_experts, load_system, shipped_for, shipped_fuser
    from affuse.experts.transcribe import Transcriber
    from affuse.fusion.named import NamedFuser
    from affuse.fusion.priors import Prior

    transcriber = Transcriber(order.asr_model, order.language) if order.transcribe else None
    prior = None if order.prior is None else Prior.find(order.prior)
    fuser = None if order.fuser is None else NamedFuser.read(order.fuser)
    if order.bundle is not None:
        experts, own = load_system(order.bundle, order.language)
        return experts, fuser or own, transcriber, prior
    fuser = fuser or shipped_fuser()
    return load_experts(shipped_for(fuser), order.language), fuser, transcriber, prior


def _analyse(order: Order, analyzer: Analyzer, say: Callable[..., None]) -> Analysis:
    from affuse.media import Recording

    if order.kind == "text":
        return analyzer.analyze_text(Path(order.upload).read_text(encoding="utf-8"))
    recording = Recording.open(order.upload, transcript=order.transcript)
    if recording.duration > order.max_duration:
        raise MediaError(
            f"{order.name} lasts {recording.duration:.1f} s; this service takes up to {order.max_duration:g} s"
        )
    return analyzer.analyze_recording(recording, _Progress(len(analyzer.experts), say))


class _Progress:
    """Puts the shares of the modalities together and says when they have moved."""

    def __init__(self, n: int, say: Callable[..., None]) -> None:
        self.n, self.say = n, say
        self.shares: dict[str, float] = {}
        self.said = -1.0
        self.lock = threading.Lock()  # modalities are read in threads

    def __call__(self, modality: str, share: float) -> None:
        with self.lock:
            self.shares[modality] = share
            total = sum(self.shares.values()) / self.n
            if total - self.said >= _STEP:
                self.said = total
                self.say(stage=modality, progress=round(total, 4))


def _write(analysis: Analysis, order: Order) -> None:
    """Put the results where the service looks for them, in one step; they hold no recording, only what was found."""
    import shutil

    import numpy as np

    from affuse.report.files import write_results
    from affuse.report.words import STRINGS, answer_in_words

    # Without a path the page embeds no media: the recording goes when its job is over.
    notes = [_readable(note, order) for note in analysis.notes]
    analysis = replace(analysis, source=replace(analysis.source, path=None, name=order.name), notes=notes)
    if order.private:
        analysis = replace(
            analysis,
            source=replace(analysis.source, name="recording"),
            cues=[],
            persons=[replace(p, times=p.times[[0, -1]], boxes=np.full((2, 4), np.nan)) for p in analysis.persons],
        )
    final = Path(order.results)
    part = final.with_name(f".{final.name}.{os.getpid()}.part")
    try:
        write_results(analysis, part, "analysis")
        words = {lang: answer_in_words(analysis, lang) for lang in STRINGS}
        (part / "words.json").write_text(json.dumps(words, ensure_ascii=False), encoding="utf-8")
        os.replace(part, final)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _readable(sentence: str, order: Order) -> str:
    """Speak of files by the names that the client gave them."""
    for path, name in ((order.upload, order.name), (order.transcript, "the transcript")):
        if path is not None:
            sentence = sentence.replace(path, name).replace(Path(path).name, name)
    return sentence


if __name__ == "__main__":
    main()
