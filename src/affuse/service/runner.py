"""The process that analyses: one job after another, told and answering in lines of JSON on its standard streams.

It is a process of its own so that a job which takes too long or too much memory can be ended at once, while experts
stay loaded from one job to the next. Line in: a job (see `JobSpec`). Lines out: ``{"opening": true}`` while the length
of a recording is measured and ``{"opening": false}`` after it, ``{"stage", "progress"}`` on the way, and at the end
``{"done": true}`` or ``{"error": "one sentence"}``.

The worker looks at time and memory once a second. Between two looks the system itself keeps the limits of a job.
"""

from __future__ import annotations

import json
import os
import re
import resource
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from affuse.errors import AffuseError, OutputError, TranscriptError

if TYPE_CHECKING:
    from affuse.analyzer.analyzer import Analyzer
    from affuse.experts.base import Expert
    from affuse.experts.transcribe import Transcriber
    from affuse.fusion.named import NamedFuser
    from affuse.results import Analysis

    _Loaded = tuple[dict[str, Expert], NamedFuser | None, Transcriber | None]

__all__ = ["JobSpec", "limit_memory", "main"]

# What a job may take beyond the memory at which the worker ends it with a sentence: stacks of threads, libraries
# that are loaded meanwhile; and of addresses also files that are mapped and space that is only reserved.
_MORE_DATA = 500_000_000
_MORE_ADDRESSES = 4_000_000_000
_LARGEST_FILE = 4_000_000_000  # bytes

_STEP = 0.01  # share of a modality below which progress is not worth a line


@dataclass(frozen=True)
class JobSpec:
    """What to analyse and where to put the results; ``name`` is what people are to read instead of the file's name.

    ``kind`` is "recording", or "text" where the file holds a bare text in UTF-8. ``limits`` are those of a `Budget`.
    ``pictures`` keeps a small one of the strongest moment of each person. ``memory`` (bytes) and ``seconds`` are what
    the job may take; 0 sets no limit.
    """

    name: str
    results: str
    upload: str
    transcript: str | None = None
    kind: str = "recording"
    language: str | None = None
    window: float | None = None
    hop: float | None = None
    limits: Mapping[str, float] | None = None
    private: bool = False
    pictures: bool = False
    package: str | None = None
    fuser: str | None = None
    weights: str | None = None
    prior: str | None = None
    transcribe: bool = False
    asr_model: str | None = None
    purpose: str | None = None
    exemption: str | None = None
    memory: int = 0
    seconds: float = 0.0

    def to_line(self) -> str:
        """The job as a line of JSON."""
        return json.dumps(asdict(self)) + "\n"


def main() -> None:
    """Read jobs until the standard input ends; the argument, where there is one, is a `Confinement` in JSON."""
    if sys.argv[1:]:
        _confine(json.loads(sys.argv[1]))
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever a library prints must not mix with the answers
    specs: list[JobSpec] = []
    arrived = threading.Semaphore(0)
    threading.Thread(target=_listen, args=(specs, arrived), daemon=True).start()
    loaded: dict[str | None, _Loaded] = {}  # by language
    while True:
        arrived.acquire()
        _answer(specs.pop(0), loaded, lambda **line: _say(answers, line))


def _confine(values: dict[str, Any]) -> None:
    """Give up what no job needs, while there is one thread."""
    from affuse.service.confinement import Confinement

    write, read, devices = (tuple(values[name]) for name in ("write", "read", "devices"))
    Confinement(write, read, devices, values["network"], values["local"]).enter()


def _listen(specs: list[JobSpec], arrived: threading.Semaphore) -> None:
    for line in sys.stdin:
        specs.append(JobSpec(**json.loads(line)))
        arrived.release()
    os._exit(0)  # the worker has gone: whatever is being analysed, nobody waits for it


def _say(answers: IO[str], line: dict[str, Any]) -> None:
    answers.write(json.dumps(line) + "\n")
    answers.flush()


def _answer(spec: JobSpec, loaded: dict[str | None, _Loaded], say: Callable[..., None]) -> None:
    try:
        _limit(spec)
        analysis = _analyse(spec, _analyzer(spec, loaded), say)
        say(stage="writing", progress=1.0)
        _write(analysis, spec)
    except OutputError:
        traceback.print_exc()
        say(error=f"the results of {spec.name} could not be written; the log of the service tells why")
    except TranscriptError as error:
        # Its sentences quote the transcript.
        sentence = "the transcript does not fit" if spec.private else _readable(str(error), spec)
        say(error=sentence)
    except AffuseError as error:
        say(error=_readable(str(error), spec))
    except MemoryError:
        say(error=f"{spec.name} needs more memory than it may have here")
    except Exception as error:  # a defect of ours must end this job only, and be told
        traceback.print_exc()
        say(error=f"{spec.name} could not be analysed: an internal error ({type(error).__name__})")
    else:
        say(done=True)


def _limit(spec: JobSpec) -> None:
    """Let the system refuse memory and end the process where a job takes more than it may."""
    if spec.memory:
        # The driver of a GPU reserves more addresses than any machine has memory.
        limit_memory(spec.memory + _MORE_DATA, None if _has_gpu() else spec.memory + _MORE_ADDRESSES)
    if spec.seconds:
        used = resource.getrusage(resource.RUSAGE_SELF)
        cores = os.cpu_count() or 1
        _limit_to(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime + spec.seconds * cores) + 1)
    _limit_to(resource.RLIMIT_FSIZE, _LARGEST_FILE)
    _limit_to(resource.RLIMIT_CORE, 0)  # memory holds the recording


def limit_memory(data: int, addresses: int | None) -> None:
    """Let the system refuse this process more bytes of data and of addresses than these beyond what it has."""
    usage = _memory_in_use()
    if usage:
        _limit_to(resource.RLIMIT_DATA, usage[1] + data)
        if addresses is not None:
            _limit_to(resource.RLIMIT_AS, usage[0] + addresses)


def _limit_to(what: int, value: int) -> None:
    _, most = resource.getrlimit(what)
    resource.setrlimit(what, (value if most == resource.RLIM_INFINITY else min(value, most), most))


def _memory_in_use() -> tuple[int, int] | None:
    """Bytes of addresses and of data of this process; None where the system does not say (elsewhere than on Linux)."""
    try:
        told = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        size, data = (re.search(rf"^{name}:\s+(\d+) kB", told, re.MULTILINE) for name in ("VmSize", "VmData"))
    except OSError:
        return None
    return (int(size[1]) * 1024, int(data[1]) * 1024) if size and data else None


def _has_gpu() -> bool:
    import onnxruntime

    return not {"CUDAExecutionProvider", "TensorrtExecutionProvider"}.isdisjoint(onnxruntime.get_available_providers())


def _analyzer(spec: JobSpec, loaded: dict[str | None, _Loaded]) -> Analyzer:
    from affuse.analyzer.analyzer import Analyzer

    if spec.language not in loaded:
        loaded[spec.language] = _load(spec)
    experts, fuser, transcriber = loaded[spec.language]
    return Analyzer(
        experts, spec.window, spec.hop, fuser, transcriber, spec.prior, purpose=spec.purpose, exemption=spec.exemption,
        weights=None if spec.package else spec.weights,
    )  # fmt: skip


def _load(spec: JobSpec) -> _Loaded:
    from affuse.analyzer.loading import load_parts
    from affuse.experts.transcribe import Transcriber

    transcriber = Transcriber(spec.asr_model, spec.language) if spec.transcribe else None
    if spec.weights is not None:
        os.environ["AFFUSE_WEIGHTS"] = spec.weights  # a confined process cannot look the choice up
    of_set = None if spec.package else spec.weights
    experts, fuser = load_parts(spec.package, language=spec.language, fuser=spec.fuser, weight_set=of_set)
    return experts, fuser, transcriber


def _analyse(spec: JobSpec, analyzer: Analyzer, say: Callable[..., None]) -> Analysis:
    from affuse.media import Budget, Recording

    if spec.kind == "text":
        return analyzer.analyze_text(Path(spec.upload).read_text(encoding="utf-8"))
    say(opening=True)
    limits: dict[str, Any] = dict(spec.limits or {})
    recording = Recording.open(spec.upload, spec.transcript, budget=Budget(**limits))
    say(opening=False)
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


def _write(analysis: Analysis, spec: JobSpec) -> None:
    """Put the results where the service looks for them, in one step; they hold no recording, only what was found."""
    import shutil

    from affuse.batch.moments import moment_pictures
    from affuse.batch.rows import answer_rows
    from affuse.report.files import write_results
    from affuse.report.messages import LANGUAGES
    from affuse.report.palette import palette
    from affuse.report.redaction import without_names
    from affuse.report.sentences import answer_in_words

    pictures = moment_pictures(analysis) if spec.pictures and not spec.private else {}
    # Without a path the page embeds no media: the recording goes when its job is over.
    notes = [_readable(note, spec) for note in analysis.notes]
    analysis = replace(analysis, source=replace(analysis.source, path=None, name=spec.name), notes=notes)
    if spec.private:
        analysis = without_names(analysis)
    final = Path(spec.results)
    part = final.with_name(f".{final.name}.{os.getpid()}.part")
    try:
        write_results(analysis, part, "analysis")
        words: dict[str, Any] = {language: answer_in_words(analysis, language) for language in LANGUAGES}
        words["palette"] = palette(analysis.labels.labels).to_dict()
        (part / "words.json").write_text(json.dumps(words, ensure_ascii=False), encoding="utf-8")
        kinds, rows = answer_rows(analysis)
        (part / "rows.json").write_text(json.dumps({"kinds": kinds, "rows": rows}, ensure_ascii=False), "utf-8")
        if pictures:
            (part / "pictures.json").write_text(json.dumps(pictures), encoding="utf-8")
        os.replace(part, final)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _readable(sentence: str, spec: JobSpec) -> str:
    """Speak of files by the names that the client gave them."""
    for path, name in ((spec.upload, spec.name), (spec.transcript, "the transcript")):
        if path is not None:
            sentence = sentence.replace(path, name).replace(Path(path).name, name)
    return sentence


if __name__ == "__main__":
    main()
