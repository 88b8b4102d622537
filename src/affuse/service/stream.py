"""One live stream: the last seconds of its pictures, sound and words, in memory that no client can make grow."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from affuse.analyzer import Analyzer, shipped_fuser
from affuse.errors import AffuseError, ConfigError, DataError
from affuse.experts.base import Expert
from affuse.experts.face import Detections, FaceDetector, FaceExpert, FaceWatch, default_detector
from affuse.experts.face.expert import MAX_SIDE
from affuse.experts.text import TextExpert
from affuse.experts.transcribe import Transcriber, why_no_words
from affuse.experts.voice import VoiceExpert
from affuse.fusion.named import NamedFuser
from affuse.media import SAMPLE_RATE, Frame, Recording
from affuse.media.decoding import Probe
from affuse.media.pictures import decode_picture
from affuse.media.transcript import Words
from affuse.packages import read_system
from affuse.results import Verdict
from affuse.timeline import Segment, Timeline

__all__ = ["Answer", "LiveExperts", "Moment", "Picture", "Sound", "Stream"]

_MAX_PIXELS = 4_000_000
_MOST_CUES = 8  # in a window; each costs 2 to 10 ms a step
_JITTER = 0.05  # seconds by which the clock of sound may be off without meaning a gap
_APART = 0.08  # seconds between two pictures that are looked at
_LATEST = 1e6  # seconds, eleven days
_DRIFT = 60.0  # seconds by which times may differ from the server's own clock


@dataclass(frozen=True)
class Picture:
    """A picture that waits to be looked at: ``time`` in seconds of the client, the bytes of a JPEG, PNG or WebP."""

    time: float
    payload: bytes


@dataclass(frozen=True)
class Moment:
    """All that a step is about: the window, and what has come of it.

    ``samples`` (n,) float32 at 16 kHz is what was heard from its start on; ``arrived`` (seconds of the server) is when
    the last of all that came, and ``dropped`` how many pictures were given up for newer ones since the stream began.
    """

    segment: Segment
    picture: Picture | None
    samples: np.ndarray
    cues: tuple[Words, ...]
    arrived: float
    dropped: int


@dataclass(frozen=True)
class Answer:
    """The verdict about a moment, and where the face is: (4,) x, y, width, height as fractions of the picture."""

    verdict: Verdict
    box: np.ndarray | None


class LiveExperts:
    """The shipped experts or those of a package, loaded once for all streams, and safe to be asked by several threads.

    ``transcriber`` recognises words; where it cannot, it is None from then on and ``wordless`` says why. ``fuser`` and
    ``prior`` as in `Analyzer`; the package's fuser, or the shipped one, where None. Raises AssetError where weights are
    missing, ConfigError where ``package`` or ``fuser`` lacks one of face, voice and text.
    """

    def __init__(
        self,
        package: str | None = None,
        transcriber: Transcriber | None = None,
        fuser: str | None = None,
        prior: str | None = None,
    ) -> None:
        self.face: FaceExpert
        self.voice: Expert
        self._text: Expert
        self._prior = prior
        self.transcriber, self.wordless = _ready(transcriber)
        self.detector: FaceDetector = _OwnDetector()
        if package is None:
            self._fuser = shipped_fuser() if fuser is None else NamedFuser.read(fuser)
            self.face, self.voice, self._text = FaceExpert(self.detector), VoiceExpert(), TextExpert()
        else:
            system = read_system(package)
            self._fuser = NamedFuser.read(system.fuser if fuser is None else fuser)
            self.face, self.voice, self._text = _live(system.experts(detector=self.detector), package)
        self._try()

    def stream(self, window: float, language: str | None = None) -> Stream:
        """A stream that asks these experts; as `Stream`. Raises ConfigError for an unknown language."""
        return Stream(self, window, language)

    def transcriber_for(self, language: str | None) -> tuple[Transcriber | None, str]:
        """What recognises words in one language, or None and why: its weights may not know the language."""
        return (None, self.wordless) if self.transcriber is None else _ready(self.transcriber.in_language(language))

    def analyzer(self, language: str | None) -> Analyzer:
        """What fuses them, for words in one language or (None) in whatever is recognised."""
        text = self._text.in_language(language)
        return Analyzer({"face": self.face, "voice": self.voice, "text": text}, fuser=self._fuser, prior=self._prior)

    def _try(self) -> None:
        """Run every network once: the first run of each takes longer."""
        self.detector.detect(np.zeros((240, 320, 3), dtype=np.uint8))
        self.face.classify(np.zeros((1, 48, 48), dtype=np.uint8))
        self.voice.classify(np.zeros(SAMPLE_RATE, dtype=np.float32))
        self._text.classify(["hello", "你好"])
        stream = self.stream(window=1.0)
        stream.add_sound(0.0, np.zeros(SAMPLE_RATE, dtype=np.float32), 0.0)
        stream.answer(stream.moment())


def _ready(transcriber: Transcriber | None) -> tuple[Transcriber | None, str]:
    """The transcriber with its weights loaded; or None, and why it has none."""
    if transcriber is None:
        return None, ""
    try:
        transcriber.load()
    except AffuseError as error:
        return None, why_no_words(error)
    return transcriber, ""


def _live(experts: Mapping[str, Expert], package: str) -> tuple[FaceExpert, Expert, Expert]:
    """Face, voice and text of a package, where they can follow a live stream."""
    able = {modality: expert for modality, expert in experts.items() if expert.abilities.streams}
    lacking = [modality for modality in ("face", "voice", "text") if modality not in able]
    if lacking:
        raise ConfigError(f"{package} has no expert for {' and '.join(lacking)} that could follow a live stream")
    face = able["face"]
    assert isinstance(face, FaceExpert)  # `check_expert` demands it: `FaceWatch` asks it about each picture
    return face, able["voice"], able["text"]


class _OwnDetector:
    """A face detector for every thread: one that is shared lets a single thread in at a time."""

    def __init__(self) -> None:
        self._own = threading.local()
        self._own.detector = first = default_detector()
        self.name, self.framing = first.name, first.framing

    def detect(self, image: np.ndarray) -> Detections:
        if not hasattr(self._own, "detector"):
            self._own.detector = default_detector()
        found: Detections = self._own.detector.detect(image)
        return found


class Stream:
    """The last ``window`` seconds of one client, who tells the time of everything that it sends.

    `add_picture`, `add_sound`, `add_words`, `next_picture` and `moment` only touch what waits, and belong to the thread
    that receives; `look` and `answer` do the work, and belong to one other thread at a time.
    """

    def __init__(self, experts: LiveExperts, window: float, language: str | None = None) -> None:
        self.window = window
        self._analyzer = experts.analyzer(language)
        self.labels = self._analyzer.labels
        self.transcriber, self._wordless = experts.transcriber_for(language)
        self._heard = -np.inf
        self._faces = FaceWatch(experts.face, experts.detector, window)
        self._sound = Sound(window)
        self._words: deque[Words] = deque(maxlen=_MOST_CUES)
        self._waiting: Picture | None = None
        self._looked = -np.inf
        self._now: float | None = None
        self._offset: float | None = None
        self._arrived = 0.0
        self._dropped = 0
        self._fresh = False

    @property
    def is_fresh(self) -> bool:
        """Whether anything has come since the last `moment`."""
        return self._fresh

    # --- what comes in ------------------------------------------------------------------------------------------------

    def add_picture(self, time: float, payload: bytes, arrived: float) -> None:
        """A picture, which takes the place of one that still waits. Raises DataError for a time far off."""
        self._note(time, time, arrived)
        late = time <= max(self._looked, self._waiting.time if self._waiting else -np.inf)
        if late or self._waiting is not None:
            self._dropped += 1
        if not late:
            self._waiting = Picture(time, payload)

    def add_sound(self, time: float, samples: np.ndarray, arrived: float) -> None:
        """Sound (n,) float32 at 16 kHz from ``time`` on. Raises DataError for a time far off."""
        self._note(time, time + len(samples) / SAMPLE_RATE, arrived)
        self._sound.add(time, samples)

    def add_words(self, text: str, time: float, duration: float, arrived: float) -> None:
        """Words of ``duration`` seconds that ended at ``time``. Raises DataError for a time far off."""
        self._note(time, time, arrived)
        self._words.append(Words(Segment(time - duration, time), text))

    def _note(self, start: float, end: float, arrived: float) -> None:
        if abs(start) > _LATEST:
            raise DataError(f"times are seconds since the start of the stream; got {start:g}")
        if self._offset is None:
            self._offset = start - arrived
        ahead = start - (arrived + self._offset)
        if abs(ahead) > _DRIFT:
            side = "ahead of" if ahead > 0 else "behind"
            raise DataError(
                f"a time of {start:g} s is {abs(ahead):.0f} s {side} the clock of this stream; times are seconds since "
                "its start, the same for pictures, sound and words"
            )
        self._now = end if self._now is None else max(self._now, end)
        self._arrived = arrived
        self._fresh = True

    # --- what goes to work --------------------------------------------------------------------------------------------

    def next_picture(self) -> Picture | None:
        """The picture that waits, unless it follows the last one too closely; it waits no longer."""
        soon = self._waiting is not None and self._waiting.time < self._looked + _APART
        return None if soon else self._take()

    def _take(self) -> Picture | None:
        picture, self._waiting = self._waiting, None
        self._looked = self._looked if picture is None else picture.time
        return picture

    def moment(self) -> Moment:
        """All that came in the last ``window`` seconds; only valid once something has come."""
        assert self._now is not None
        segment = Segment(self._now - self.window, self._now)
        cues = tuple(sorted((w for w in self._words if w.segment.overlap(segment) > 0), key=lambda w: w.segment))
        samples = self._sound.take(segment)
        moment = Moment(segment, self._take(), samples, cues, self._arrived, self._dropped)
        self._fresh = False
        return moment

    def unheard(self) -> tuple[Segment, np.ndarray] | None:
        """Sound (n,) of the window that was not asked for yet, and when it was; None until half a window of it came."""
        if self._now is None or self._now - max(self._heard, self._now - self.window) < self.window / 2:
            return None
        segment = Segment(max(self._heard, self._now - self.window), self._now)
        self._heard = self._now
        return segment, self._sound.take(segment)

    def look(self, picture: Picture) -> None:
        """Look at one picture. Raises MediaError where it is none, or too large."""
        self._faces.look(Frame(picture.time, decode_picture(picture.payload, MAX_SIDE, _MAX_PIXELS)))

    def answer(self, moment: Moment) -> Answer:
        """Judge a moment. Raises MediaError as `look` does."""
        if moment.picture is not None:
            self.look(moment.picture)
        timeline = Timeline((moment.segment,))
        scene = _Scene(moment)
        outputs = {"face": self._faces.output(moment.segment)} | {
            modality: self._analyzer.experts[modality].read(scene, timeline)[0] for modality in ("voice", "text")
        }
        if self._wordless and not moment.cues:
            outputs["text"] = replace(outputs["text"], reasons=(self._wordless,))
        words = " ".join(cue.text for cue in moment.cues)
        (verdict,) = self._analyzer.fuse_outputs(outputs, timeline, [words])
        boxes = outputs["face"].boxes
        return Answer(verdict, boxes[0] if len(boxes) else None)


class _Scene(Recording):
    """What voice and words of a moment are to the experts that read recordings."""

    def __init__(self, moment: Moment) -> None:
        super().__init__("live", None, "audio", Probe(duration=moment.segment.duration), moment.cues)
        self._samples = moment.samples

    @property
    def has_sound(self) -> bool:
        return True  # where there is none, its window is empty

    def sound(self, timeline: Timeline, channel: int | None = None) -> Iterator[np.ndarray]:
        for _ in timeline:
            yield self._samples


class Sound:
    """The newest ``window`` seconds of sound by the times of its chunks, in whatever order they come.

    Chunks that follow each other to within `_JITTER` are joined; what is missing between others is silence, unless it
    is as long as the window: then sound begins anew. What comes twice counts as it came last.
    """

    def __init__(self, window: float) -> None:
        self._samples = np.zeros(round(window * SAMPLE_RATE), dtype=np.float32)  # the last ones before `_end`
        self._begin = self._end = 0  # positions between which there is sound

    def add(self, time: float, samples: np.ndarray) -> None:
        """Take a chunk (n,) that begins at ``time`` seconds."""
        start = round(time * SAMPLE_RATE)
        if self._begin < self._end and abs(start - self._end) <= _JITTER * SAMPLE_RATE:
            start = self._end
        end = start + len(samples)
        if end > self._end or self._begin == self._end:
            self._make_room(start, end)
        oldest = self._end - len(self._samples)
        first = max(start, oldest)
        if first < end:
            self._samples[first - oldest : end - oldest] = samples[first - start :]
            self._begin = min(self._begin, first)

    def _make_room(self, start: int, end: int) -> None:
        size, step = len(self._samples), end - self._end
        if self._begin == self._end or start - self._end >= size:
            self._samples[:] = 0.0
            self._begin = start
        elif step >= size:
            self._samples[:] = 0.0
        else:
            self._samples[:-step] = self._samples[step:]
            self._samples[-step:] = 0.0
        self._end = end
        self._begin = max(self._begin, end - size)

    def take(self, segment: Segment) -> np.ndarray:
        """A copy of the sound in ``segment`` (n,); it is shorter where sound begins later or ends earlier."""
        oldest = self._end - len(self._samples)
        start = max(round(segment.start * SAMPLE_RATE), self._begin)
        end = max(start, min(round(segment.end * SAMPLE_RATE), self._end))
        return self._samples[start - oldest : end - oldest].copy()
