"""One live stream: the last seconds of its pictures, sound and words, in memory that no client can make grow."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from affuse.analyzer import Analyzer, shipped_fuser
from affuse.analyzer.speech import SOMEBODY_ELSE, speaker_of
from affuse.errors import AffuseError, ConfigError, DataError
from affuse.experts.base import Expert, ExpertOutput
from affuse.experts.face import Detections, FaceDetector, FaceExpert, FaceWatch, default_detector
from affuse.experts.face.expert import MAX_SIDE
from affuse.experts.text import TextExpert
from affuse.experts.transcribe import Transcriber, why_no_words
from affuse.experts.voice import VoiceExpert, why_not
from affuse.fusion.named import NamedFuser
from affuse.media import SAMPLE_RATE, Frame, Recording
from affuse.media.decoding import Probe
from affuse.media.pictures import decode_picture
from affuse.media.transcript import Words
from affuse.packages import read_system
from affuse.people.speaking import Speakers, TurnModel
from affuse.people.streaming import LEAST_RATE, SOUND_KEPT, SpeakerWatch
from affuse.people.synchrony import SynchronyNetworks
from affuse.results import Verdict
from affuse.timeline import Segment, Timeline
from affuse.weight_sets import chosen_set

__all__ = ["TOO_SLOW", "Answer", "Decoder", "LiveExperts", "Moment", "Picture", "Sound", "Speaker", "Stream"]

TOO_SLOW = f"who speaks is not known: fewer than {LEAST_RATE} pictures a second"
"""What a stream says once where voice and words count for the face in view, whoever speaks."""

_MAX_PIXELS = 4_000_000
_MOST_CUES = 8  # in a window; each costs 2 to 10 ms a step
_JITTER = 0.05  # seconds by which the clock of sound may be off without meaning a gap
_APART = 0.09  # seconds between two pictures in which faces are looked for
_NEAREST = 0.03  # seconds between two pictures that wait: more than 25 a second show nothing new of a mouth
_MOST_WAITING = 2  # pictures: where more come than can be looked at, the answer is not to wait for them
_UNHEARD = 0.75  # seconds of sound that may wait until an answer is given
_NOW = 0.5  # seconds of the newest that is known about who speaks
_OTHERS = 1.0  # seconds that another one must have spoken for what is heard to be told apart
_LATEST = 1e6  # seconds, eleven days
_DRIFT = 60.0  # seconds by which times may differ from the server's own clock


class Decoder(Protocol):
    """Decodes pictures of unknown origin: RGB uint8 (h, w, 3); raises MediaError where one is none, or too large."""

    def __call__(self, payload: bytes) -> np.ndarray: ...

    def close(self) -> object:
        """End it."""


class _InProcess:
    """Decodes pictures in this process."""

    def __call__(self, payload: bytes) -> np.ndarray:
        return decode_picture(payload, MAX_SIDE, _MAX_PIXELS)

    def close(self) -> None: ...


@dataclass(frozen=True)
class Picture:
    """A picture that waits to be looked at: ``time`` in seconds of the client, the bytes of a JPEG, PNG or WebP."""

    time: float
    payload: bytes


@dataclass(frozen=True)
class Moment:
    """All that a step is about: the window, and what has come of it.

    ``samples`` (n,) float32 at 16 kHz is what was heard from ``heard_from`` on, and ``recent`` the last seconds of
    sound with their start; ``arrived`` (seconds of the server) is when the last of all that came, and ``dropped`` how
    many pictures were given up for newer ones since the stream began.
    """

    segment: Segment
    pictures: tuple[Picture, ...]
    samples: np.ndarray
    heard_from: float
    recent: tuple[float, np.ndarray]
    cues: tuple[Words, ...]
    arrived: float
    dropped: int


@dataclass(frozen=True)
class Speaker:
    """Somebody who may speak: how probably they do at the newest moment that is known, and their box as in `Answer`."""

    name: str
    probability: float
    box: np.ndarray | None


@dataclass(frozen=True)
class Answer:
    """The verdict about a moment, and where the face is: (4,) x, y, width, height as fractions of the picture.

    ``speakers`` are those who may speak; None where nothing tells who does. ``note`` is what the client should know,
    said once.
    """

    verdict: Verdict
    box: np.ndarray | None
    speakers: tuple[Speaker, ...] | None = None
    note: str | None = None


class LiveExperts:
    """The shipped experts or those of a package, loaded once for all streams, and safe to be asked by several threads.

    ``transcriber`` recognises words; where it cannot, it is None from then on and ``wordless`` says why. ``fuser`` and
    ``prior`` as in `Analyzer`; the package's fuser, or the shipped one, where None. Raises AssetError where weights are
    missing, ConfigError where ``package`` or ``fuser`` lacks one of face, voice and text.

    ``weights`` is the set of the shipped weights (`affuse.weight_sets`); the one in use where None.

    ``decoder`` makes what decodes the pictures of one stream, such as a process of its own; they are decoded in this
    process where None.
    """

    def __init__(
        self,
        package: str | None = None,
        transcriber: Transcriber | None = None,
        fuser: str | None = None,
        prior: str | None = None,
        decoder: Callable[[int, int], Decoder] | None = None,
        weights: str | None = None,
    ) -> None:
        self._decoder = decoder
        self._weights = None if package is not None else chosen_set(weights)
        self.face: FaceExpert
        self.voice: Expert
        self._text: Expert
        self._prior = prior
        self.transcriber, self.wordless = _ready(transcriber)
        self.detector: FaceDetector = _OwnDetector()
        self.synchrony, self.turns = SynchronyNetworks(), TurnModel.read()
        if package is None:
            own = self._weights
            self._fuser = shipped_fuser(own) if fuser is None else NamedFuser.read(fuser)
            self.face, self.voice = FaceExpert(self.detector, weight_set=own), VoiceExpert(weight_set=own)
            self._text = TextExpert(weight_set=own)
        else:
            system = read_system(package)
            self._fuser = NamedFuser.read(system.fuser if fuser is None else fuser)
            self.face, self.voice, self._text = _live(system.experts(detector=self.detector), package)
        self._try()

    def stream(self, window: float, language: str | None = None) -> Stream:
        """A stream that asks these experts; as `Stream`. Raises ConfigError for an unknown language."""
        return Stream(self, window, language)

    def decoder(self) -> Decoder:
        """What decodes the pictures of a new stream."""
        return _InProcess() if self._decoder is None else self._decoder(MAX_SIDE, _MAX_PIXELS)

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
        self.synchrony.of_mouths(np.zeros((1, 28, 28), dtype=np.uint8))
        self.synchrony.of_sound(np.zeros(SAMPLE_RATE, dtype=np.float32))
        self.turns.posteriors(np.zeros((1, 1)), np.ones(1))
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

    `add_picture`, `add_sound`, `add_words`, `next_pictures` and `moment` only touch what waits, and belong to the
    thread that receives; `look`, `answer` and `listen` do the work, and belong to one other thread at a time.
    """

    def __init__(self, experts: LiveExperts, window: float, language: str | None = None) -> None:
        self.window = window
        self._analyzer = experts.analyzer(language)
        self.labels = self._analyzer.labels
        self.transcriber, self._wordless = experts.transcriber_for(language)
        self._heard = -np.inf
        self._faces = FaceWatch(experts.face, experts.detector, window)
        self._decoder = experts.decoder()
        self._speakers = SpeakerWatch(experts.synchrony, experts.turns)
        self._sound = Sound(window)
        self._recent = Sound(SOUND_KEPT)
        self._words: deque[Words] = deque(maxlen=_MOST_CUES)
        self._waiting: deque[Picture] = deque()
        self._taken = -np.inf  # seconds of the newest picture that waits no longer
        self._looked = -np.inf  # seconds of the newest picture in which faces were looked for
        self._who: tuple[Speakers, float] | None = None
        self._told = False
        self._now: float | None = None
        self._offset: float | None = None
        self._arrived = 0.0
        self._dropped = 0
        self._fresh = False

    @property
    def is_fresh(self) -> bool:
        """Whether anything has come since the last `moment`."""
        return self._fresh

    def close(self) -> None:
        """End what decodes its pictures."""
        self._decoder.close()

    # --- what comes in ------------------------------------------------------------------------------------------------

    def add_picture(self, time: float, payload: bytes, arrived: float) -> None:
        """A picture. Raises DataError for a time far off.

        It takes the place of the last one that waits where that one has little to add to the one before it, and of the
        first one where too many wait.
        """
        self._note(time, time, arrived)
        if time <= (self._waiting[-1].time if self._waiting else self._taken):
            self._dropped += 1
            return
        before = self._waiting[-2].time if len(self._waiting) > 1 else self._taken
        if self._waiting and self._waiting[-1].time < before + _NEAREST:
            self._waiting.pop()
            self._dropped += 1
        elif len(self._waiting) == _MOST_WAITING:
            self._waiting.popleft()
            self._dropped += 1
        self._waiting.append(Picture(time, payload))

    def add_sound(self, time: float, samples: np.ndarray, arrived: float) -> None:
        """Sound (n,) float32 at 16 kHz from ``time`` on. Raises DataError for a time far off."""
        self._note(time, time + len(samples) / SAMPLE_RATE, arrived)
        self._sound.add(time, samples)
        self._recent.add(time, samples)

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

    def next_pictures(self) -> tuple[Picture, ...]:
        """The pictures that wait, in order; they wait no longer, unless there is one alone that follows too closely."""
        soon = len(self._waiting) == 1 and self._waiting[0].time < self._taken + _NEAREST
        return () if soon else self._take()

    def _take(self) -> tuple[Picture, ...]:
        pictures = tuple(self._waiting)
        self._waiting.clear()
        self._taken = pictures[-1].time if pictures else self._taken
        return pictures

    def moment(self) -> Moment:
        """All that came in the last ``window`` seconds; only valid once something has come."""
        assert self._now is not None
        segment = Segment(self._now - self.window, self._now)
        cues = tuple(sorted((w for w in self._words if w.segment.overlap(segment) > 0), key=lambda w: w.segment))
        moment = Moment(
            segment,
            self._take(),
            self._sound.take(segment),
            max(segment.start, self._sound.start),
            (self._recent.start, self._recent.take(Segment(self._now - 2 * SOUND_KEPT, self._now))),
            cues,
            self._arrived,
            self._dropped,
        )
        self._fresh = False
        return moment

    def unheard(self) -> tuple[Segment, np.ndarray] | None:
        """Sound (n,) of the window that was not asked for yet, and when it was; None until half a window of it came."""
        if self._now is None or self._now - max(self._heard, self._now - self.window) < self.window / 2:
            return None
        segment = Segment(max(self._heard, self._now - self.window), self._now)
        self._heard = self._now
        return segment, self._sound.take(segment)

    def look(self, pictures: Sequence[Picture]) -> None:
        """Look at the mouths in pictures, and for faces in the last one, unless it follows another such too closely.

        Raises MediaError where one is none, or too large.
        """
        for number, picture in enumerate(pictures, 1):
            frame = Frame(picture.time, self._decoder(picture.payload))
            due = number == len(pictures) and picture.time >= self._looked + _APART
            if due:
                self._faces.look(frame)
                self._looked = picture.time
            self._speakers.see(frame, self._faces.people() if due else None)

    def answer(self, moment: Moment) -> Answer:
        """Judge a moment, by what is known about who speaks since `listen`. Raises MediaError as `look` does."""
        self.look(moment.pictures)
        now = moment.segment.end
        if now - self._speakers.heard_until > _UNHEARD:
            self.listen(moment)
        slow = self._speakers.is_slow(now)
        known = None if slow else self._who
        face = self._faces.output(moment.segment)
        speech = _Speech.of(moment, face.person, known)
        timeline = Timeline((moment.segment,))
        outputs = {"face": face} | self._hear(moment, speech, timeline)
        words = " ".join(cue.text for cue in speech.cues)
        own = None if speech.own is None else np.array([speech.own])
        (verdict,) = self._analyzer.fuse_outputs(outputs, timeline, [words], own=own)
        speakers = None if known is None else self._now_of(known[0])
        return Answer(verdict, face.boxes[0] if len(face.boxes) else None, speakers, self._note_of(slow, moment))

    def listen(self, moment: Moment) -> None:
        """Find out who speaks: after the answer about a moment, which does not have to wait for it."""
        self._speakers.hear(*moment.recent)
        self._who = self._speakers.speakers()

    def _hear(self, moment: Moment, speech: _Speech, timeline: Timeline) -> dict[str, ExpertOutput]:
        """What voice and words say, by modality."""
        scene = _Scene(moment.segment, speech)
        outputs = {m: self._analyzer.experts[m].read(scene, timeline)[0] for m in ("voice", "text")}
        if self._wordless and not moment.cues:
            outputs["text"] = replace(outputs["text"], reasons=(self._wordless,))
        if outputs["voice"].reasons[0] and len(speech.samples) < len(moment.samples) and not why_not(moment.samples):
            outputs["voice"] = replace(outputs["voice"], reasons=(SOMEBODY_ELSE,))
        if moment.cues and not speech.cues:
            outputs["text"] = replace(outputs["text"], reasons=(SOMEBODY_ELSE,))
        return outputs

    def _now_of(self, speakers: Speakers) -> tuple[Speaker, ...]:
        newest = speakers.probabilities[-round(_NOW / speakers.step) :].mean(axis=0)
        boxes = {str(face.person): face.boxes[0] for face in self._faces.people()}
        return tuple(
            Speaker(name, float(p), boxes.get(name)) for name, p in zip(speakers.names, newest[:-1], strict=True)
        )

    def _note_of(self, slow: bool, moment: Moment) -> str | None:
        """Why nobody is told apart, where it matters and was not said before."""
        if self._told or not slow or not len(moment.samples):
            return None
        self._told = True
        return TOO_SLOW


@dataclass(frozen=True)
class _Speech:
    """What is heard of one person in a moment: sound (n,), words, and how probable it is that these are theirs.

    ``own`` is None where nothing tells, and all that is heard counts.
    """

    samples: np.ndarray
    cues: tuple[Words, ...]
    own: float | None

    @classmethod
    def of(cls, moment: Moment, name: str | None, known: tuple[Speakers, float] | None) -> _Speech:
        """The speech of a person, by who speaks from some second of the stream on; all of it where that is unknown."""
        everything = cls(moment.samples, moment.cues, None)
        if known is None or name not in known[0].names:
            return everything
        speakers, origin = known
        segment = _moved(moment.segment, -origin)
        if moment.cues and not any(speakers.own(anybody, segment) for anybody in speakers.names):
            return everything  # words that nobody says were written
        own = speakers.own(name, segment)
        others = [other for other in speakers.names if other != name]
        if max(speakers.speaks(other).sum() for other in others) * speakers.step < _OTHERS:
            return replace(everything, own=own)
        said_by = [speaker_of(Words(_moved(cue.segment, -origin), cue.text), speakers) for cue in moment.cues]
        cues = tuple(cue for cue, by in zip(moment.cues, said_by, strict=True) if by in (name, None))
        times = moment.heard_from - origin + (np.arange(len(moment.samples)) + 0.5) / SAMPLE_RATE
        steps = np.clip((times / speakers.step).astype(int), 0, len(speakers.probabilities) - 1)
        return cls(moment.samples[speakers.speaks(name)[steps]], cues, own)


def _moved(segment: Segment, by: float) -> Segment:
    return Segment(segment.start + by, segment.end + by)


class _Scene(Recording):
    """What voice and words of a moment are to the experts that read recordings."""

    def __init__(self, segment: Segment, speech: _Speech) -> None:
        super().__init__("live", None, "audio", Probe(duration=segment.duration), speech.cues)
        self._samples = speech.samples

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

    @property
    def start(self) -> float:
        """Seconds at which the sound begins that is kept."""
        return self._begin / SAMPLE_RATE

    def take(self, segment: Segment) -> np.ndarray:
        """A copy of the sound in ``segment`` (n,); it is shorter where sound begins later or ends earlier."""
        oldest = self._end - len(self._samples)
        start = max(round(segment.start * SAMPLE_RATE), self._begin)
        end = max(start, min(round(segment.end * SAMPLE_RATE), self._end))
        return self._samples[start - oldest : end - oldest].copy()
