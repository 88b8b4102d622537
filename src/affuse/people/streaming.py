"""Who speaks while pictures and sound still come: as `who_speaks`, from what has come in the last seconds."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from affuse.experts.base import ExpertOutput
from affuse.media import SAMPLE_RATE, Frame
from affuse.people.mouths import LONGEST_GAP, MOUTH_RATE, FacePath, cut_mouth, mouth_between
from affuse.people.speaking import HOP, OFF_SCREEN, Speakers, TurnModel
from affuse.people.synchrony import (
    CEPSTRA,
    EITHER_SIDE,
    LAGS,
    WIDTH,
    SynchronyNetworks,
    cepstra,
    in_time_of_sound,
    log_mel,
    speech_share,
)

__all__ = ["LEAST_RATE", "SOUND_KEPT", "SpeakerWatch"]

LEAST_RATE = 12
"""Pictures a second below which too little of a mouth is seen to tell whether it speaks."""

SOUND_KEPT = 5.0
"""Seconds of sound that `SpeakerWatch.hear` should be given: what may come between two calls, and what is before it."""

_PER_PICTURE = SAMPLE_RATE // MOUTH_RATE  # samples
_MOST = 12 * MOUTH_RATE  # pictures that are remembered
_SHIFT = 25 * HOP  # pictures that are forgotten at once, so that the steps of `TurnModel` stay where they are
_MOST_FACES = 8  # that are remembered
_PLACES = 0.3  # seconds between two places of a face: nearer ones tremble, and the networks learned from three a second
_MOST_HELD = 16  # pictures that wait for the next place
_SOUND_BEFORE = 2 * MOUTH_RATE  # pictures whose sound is read before the new one: levels are measured against it
_SOUND_AFTER = 3  # pictures whose sound the network hears after each
_FIRST_SOUND = MOUTH_RATE  # pictures of sound that are needed at first, for the same reason
_SPEECH_FOR_LAG = 5 * MOUTH_RATE  # pictures with speech that are needed to look for the lag
_CLEARLY = 0.2  # of the cosine: a face and its own sound reach 0.6 at the right lag, and -0.1 to 0.2 at others
_RATE_OVER = 2.0  # seconds over which pictures are counted
_NEVER = -(10**9)  # number of a picture before all others


@dataclass
class _Face:
    """The mouth of one person: embeddings that are known, and the latest crops of a stretch without a gap."""

    name: str
    times: list[float] = field(default_factory=list)
    points: list[np.ndarray] = field(default_factory=list)
    run: list[np.ndarray] = field(default_factory=list)
    first: int = 0  # number of the first picture of `run`
    done: int = 0  # number of the next picture without an embedding
    total: np.ndarray = field(default_factory=lambda: np.zeros(WIDTH))
    seen: int = 0
    embeddings: np.ndarray = field(default_factory=lambda: np.full((_MOST + _SHIFT, WIDTH), np.nan, np.float32))

    def place(self, time: float, points: np.ndarray) -> None:
        """Where the face is; of its path only the end is needed."""
        self.times, self.points = [*self.times[-1:], time], [*self.points[-1:], points]

    def path(self) -> FacePath:
        return FacePath(np.array(self.times), np.array(self.points))


class SpeakerWatch:
    """Tells who speaks from pictures and sound that come bit by bit, with memory for the last 12 to 15 seconds.

    Every picture of a mouth and every piece of sound goes through its network once, a little later than it comes: the
    place of a face is known when it is next looked for, up to `_PLACES` seconds later, and networks see and hear a
    moment on. Turns follow from what is remembered by the same model as in a recording; the lag of the sound, and what
    a face and the sound agree by chance, are kept for the whole stream. Not to be used by two threads at once.

    Parameters
    ----------
    networks : SynchronyNetworks, optional
        The shipped ones where None.
    model : TurnModel, optional
        The shipped one where None.

    Examples
    --------
    >>> watch = SpeakerWatch()
    >>> for i in range(30):
    ...     watch.see(Frame(i / 10, np.zeros((240, 320, 3), dtype=np.uint8)), [])
    >>> watch.is_slow(2.9), watch.speakers()
    (True, None)
    """

    def __init__(self, networks: SynchronyNetworks | None = None, model: TurnModel | None = None) -> None:
        self.networks = networks or SynchronyNetworks()
        self.model = model or TurnModel.read()
        self.lag = 0
        self._faces: list[_Face] = []
        self._held: deque[tuple[float, np.ndarray]] = deque(maxlen=_MOST_HELD)  # times and grey pictures
        self._times: deque[float] = deque(maxlen=4 * int(_RATE_OVER * MOUTH_RATE))
        self._began = np.inf  # seconds of the first picture
        self._placed = -np.inf  # seconds at which faces were last placed
        self._cut = _NEVER  # number of the next picture to be cut; 25 a second on the clock of the stream
        self._heard = _NEVER  # number of the next picture whose sound is to be heard
        self._begin: int | None = None  # number of the first picture that is remembered
        self._sound = np.full((_MOST + _SHIFT, WIDTH), np.nan, np.float32)
        self._speech = np.zeros(_MOST + _SHIFT)
        self._colour = np.zeros((_MOST + _SHIFT, CEPSTRA), np.float32)
        self._spoken, self._spoken_total = 0.0, np.zeros(WIDTH)
        self._lag_known = _NEVER  # number of the picture up to which the lag was looked for
        self._known: tuple[tuple[int, ...], tuple[Speakers, float]] | None = None

    # --- what comes ---------------------------------------------------------------------------------------------------

    def see(self, frame: Frame, faces: Sequence[ExpertOutput] | None = None) -> None:
        """Take the next picture.

        Parameters
        ----------
        frame : Frame
            RGB; later than the last one.
        faces : sequence of ExpertOutput, optional
            Everybody who is in it, by name, as `FaceWatch.people` gives them; None where nobody was looked for.
        """
        self._began = min(self._began, frame.time)
        self._times.append(frame.time)
        self._held.append((frame.time, cv2.cvtColor(frame.image, cv2.COLOR_RGB2GRAY)))
        if faces is not None and frame.time - self._placed >= _PLACES:
            self._placed = frame.time
            for output in faces:
                self._face(str(output.person)).place(frame.time, FacePath.of(output).points[-1])
            self._cut_mouths(frame.time)

    def hear(self, start: float, samples: np.ndarray) -> None:
        """Take sound; what was heard before is only looked back to.

        Parameters
        ----------
        start : float
            Seconds at which it begins.
        samples : array of shape (n,)
            Mono, 16 kHz: the last `SOUND_KEPT` seconds that have come.
        """
        origin = round(start * SAMPLE_RATE)
        oldest, newest = -(-origin // _PER_PICTURE), (origin + len(samples)) // _PER_PICTURE
        heard = max(self._heard, oldest)
        if newest - _SOUND_AFTER <= heard or newest - oldest < _FIRST_SOUND:
            return
        first = max(oldest, heard - _SOUND_BEFORE)
        sound = samples[first * _PER_PICTURE - origin : newest * _PER_PICTURE - origin]
        new = slice(heard - first, len(sound) // _PER_PICTURE - _SOUND_AFTER)
        spectrum = log_mel(sound)
        embeddings, speech = self.networks.of_spectrum(spectrum)[new], speech_share(sound)[new]
        self._heard = newest - _SOUND_AFTER
        self._make_room(heard, self._heard)
        self._write(self._sound, heard, embeddings)
        self._write(self._speech, heard, speech)
        self._write(self._colour, heard, cepstra(spectrum)[new])
        self._spoken += float(speech.sum())
        self._spoken_total += speech @ embeddings

    # --- what is known ------------------------------------------------------------------------------------------------

    @property
    def heard_until(self) -> float:
        """Seconds of the stream up to which sound was heard; -inf before there is any."""
        return -np.inf if self._heard == _NEVER else (self._heard + _SOUND_AFTER) / MOUTH_RATE

    def is_slow(self, now: float) -> bool:
        """Whether too few pictures come to see who speaks.

        Parameters
        ----------
        now : float
            Seconds.

        Returns
        -------
        bool
            Never in the first second of pictures.
        """
        span = min(_RATE_OVER, now - self._began)
        count = sum(now - _RATE_OVER < time <= now for time in self._times)
        return bool(span >= 1.0 and count < (LEAST_RATE - 1) * span)  # a clock that trembles may cost one

    def speakers(self) -> tuple[Speakers, float] | None:
        """Who speaks in what is remembered, up to the newest moment that can be judged.

        Returns
        -------
        speakers : Speakers
            Over everybody who was seen, and `OFF_SCREEN`; None where there are no faces or no sound yet.
        start : float
            Seconds of the stream at which its first step begins.
        """
        faces = [face for face in self._faces if np.isfinite(face.embeddings[:, 0]).any()]
        if self._begin is None or not faces or self._count() <= 0:
            return None
        self._find_lag(faces)
        count = self._count()
        key = (self._begin, count, self.lag, *map(id, faces))
        if self._known is None or self._known[0] != key:
            scores = in_time_of_sound(self._scores(faces, [self.lag])[:, :, 0], self.lag)[:count]
            names = (*(face.name for face in faces), OFF_SCREEN)
            posteriors = self.model.posteriors(scores, self._speech[:count], self._colour[:count])
            speakers = Speakers(names, posteriors, lag=self.lag / MOUTH_RATE)
            self._known = key, (speakers, self._begin / MOUTH_RATE)
        return self._known[1]

    def _count(self) -> int:
        """In how much of the sound that is remembered, in pictures, it can be judged who speaks."""
        return min(self._cut - EITHER_SIDE + self.lag, self._heard) - (self._begin or 0)

    def _find_lag(self, faces: Sequence[_Face]) -> None:
        """Look for the lag again where a second is new.

        Another one must fit clearly better over some seconds of speech: of 17, one always fits somewhat, also where
        somebody speaks who is not seen.
        """
        count = min(self._cut - EITHER_SIDE, self._heard - max(self.lag, 0)) - (self._begin or 0)
        if (self._begin or 0) + count < self._lag_known + MOUTH_RATE:
            return
        self._lag_known = (self._begin or 0) + count
        seconds = count // MOUTH_RATE
        shape = (seconds, MOUTH_RATE, len(faces), len(LAGS))
        scores = self._scores(faces, LAGS)[count - seconds * MOUTH_RATE : count]
        spoken = self._speech[count - seconds * MOUTH_RATE : count] * np.isfinite(scores).any(axis=(1, 2))
        if spoken.sum() < _SPEECH_FOR_LAG:
            return
        each = (np.nan_to_num(scores) * spoken[:, None, None]).reshape(shape).sum(axis=1)
        fits = each.max(axis=1).sum(axis=0) / spoken.sum()  # of the face that fits best in each second
        if fits.max() >= fits[self.lag - LAGS[0]] + _CLEARLY:
            self.lag = int(LAGS[fits.argmax()])

    def _scores(self, faces: Sequence[_Face], lags: Sequence[int] | np.ndarray) -> np.ndarray:
        """Cosines (t, m, lags) of m faces and the sound, less what they are by chance; NaN where one is missing."""
        chance = [face.total @ self._spoken_total / max(face.seen * self._spoken, 1) for face in faces]
        shifted = []
        for lag in lags:
            sound = np.full_like(self._sound, np.nan)
            sound[max(0, -lag) : len(sound) - max(0, lag)] = self._sound[max(0, lag) : len(sound) - max(0, -lag)]
            shifted.append(sound)
        found = [[np.einsum("td,td->t", face.embeddings, sound) for sound in shifted] for face in faces]
        return np.asarray(found).transpose(2, 0, 1) - np.array(chance)[:, None]

    # --- mouths -------------------------------------------------------------------------------------------------------

    def _face(self, name: str) -> _Face:
        for face in self._faces:
            if face.name == name:
                return face
        newest = sorted(self._faces, key=lambda face: face.times[-1])[-_MOST_FACES + 1 :]
        self._faces = [*newest, _Face(name)]
        return self._faces[-1]

    def _cut_mouths(self, until: float) -> None:
        """Cut the mouths out of the pictures up to ``until`` (seconds), 25 a second, and forget these but the last.

        Between two pictures that came, a mouth is the mean of both: at 15 a second, pictures that stand still and then
        leap look less like speech.
        """
        times = np.array([time for time, _ in self._held])
        last = int(np.floor(until * MOUTH_RATE + 1e-6)) + 1
        first = max(self._cut, int(np.ceil(times[0] * MOUTH_RATE - 1e-6)), last - _MOST)
        self._make_room(first, last)
        for face in self._faces:
            path = face.path()
            crops = [cut_mouth(image, path.at(time)) for time, image in self._held]
            for number in range(first, last):
                self._add(face, number, _at(number / MOUTH_RATE, times, crops))
            self._embed(face, len(face.run) - EITHER_SIDE)
        self._cut = max(self._cut, last)
        while len(self._held) > 1:
            self._held.popleft()

    def _add(self, face: _Face, number: int, crop: np.ndarray | None) -> None:
        if face.run and (crop is None or face.first + len(face.run) != number):
            self._embed(face, len(face.run))
            face.run = []
        if crop is not None:
            if not face.run:
                face.first = face.done = number
            face.run.append(crop)

    def _embed(self, face: _Face, end: int) -> None:
        """Embed the crops of the run up to ``end``, and keep those that the next ones are seen with."""
        begin = face.done - face.first
        if end <= begin:
            return
        found = self.networks.of_mouths(np.stack(face.run))[begin:end]
        self._write(face.embeddings, face.done, found)
        face.total += found.sum(axis=0)
        face.seen += len(found)
        face.done += len(found)
        gone = max(0, end - EITHER_SIDE)
        face.run, face.first = face.run[gone:], face.first + gone

    # --- memory -------------------------------------------------------------------------------------------------------

    def _make_room(self, first: int, end: int) -> None:
        """Forget the oldest so that pictures up to ``end`` can be remembered."""
        if self._begin is None:
            self._begin = first - first % HOP
        over = end - self._begin - len(self._speech)
        if over > 0:
            shift = -(-over // _SHIFT) * _SHIFT
            self._begin += shift
            _forget(self._speech, shift, 0.0)
            _forget(self._colour, shift, 0.0)
            for rows in (self._sound, *(face.embeddings for face in self._faces)):
                _forget(rows, shift, np.nan)

    def _write(self, rows: np.ndarray, first: int, values: np.ndarray) -> None:
        """Write values (n, …) of the pictures from ``first`` on; what is older than the memory is left out."""
        assert self._begin is not None
        start = first - self._begin
        values = values[max(0, -start) :]
        rows[max(0, start) : max(0, start) + len(values)] = values


def _at(time: float, times: np.ndarray, crops: Sequence[np.ndarray | None]) -> np.ndarray | None:
    """The mouth at a time (seconds) within those of some crops; None inside a gap of a stream."""
    after = int(np.searchsorted(times, time - 1e-6))
    inside = times[after] - time > 1e-6 and after > 0
    if inside and times[after] - times[after - 1] > LONGEST_GAP:
        return None
    return mouth_between(time, times, crops.__getitem__)


def _forget(rows: np.ndarray, count: int, empty: float) -> None:
    """Move rows (n, …) towards the start by ``count``, and fill those at the end."""
    kept = rows[count:].copy()
    rows[: len(kept)] = kept
    rows[len(kept) :] = empty
