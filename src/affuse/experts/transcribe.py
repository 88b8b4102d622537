"""Words of a recording that nobody wrote down, recognised by Whisper (Radford et al. 2023, arXiv:2212.04356)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from affuse import weights
from affuse.errors import AffuseError, AssetError, MissingExtraError
from affuse.media import Recording, Words
from affuse.timeline import Segment, Timeline

__all__ = ["NOT_INSTALLED", "Recogniser", "Transcriber", "why_no_words"]

NOT_INSTALLED = "speech recognition is not installed (pip install 'affuse[asr]')"
"""Why there are no words where the extra is missing."""

# Weights are looked for in a folder first; the hub is asked for this very state of them.
_FOLDER = "AFFUSE_WHISPER"
_HUB = "Systran/faster-whisper-base"
_REVISION = "ebe41f70d5b6dfa9166e2c581c45c9c0cfc57b66"
_FILES = ("config.json", "model.bin", "tokenizer.json", "vocabulary.*")

_STRETCH = 300.0  # seconds that are held in memory at once; words that are cut in two between them are rare
_SHORTEST = 0.01  # seconds


class Recogniser(Protocol):
    """What recognises: a `faster_whisper.WhisperModel`, or what behaves like one."""

    def transcribe(self, audio: np.ndarray, **options: Any) -> tuple[Iterable[Any], Any]: ...


class Transcriber:
    """Fills in the words of recordings without a transcript, by Whisper.

    Parameters
    ----------
    model : str or Path, optional
        Folder of a Whisper model in CTranslate2's format; by default the one that ``AFFUSE_WHISPER`` names, or else the
        multilingual base model of the hub, which is downloaded once unless ``AFFUSE_OFFLINE`` forbids it.
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
        self._recogniser = recogniser

    def fill(self, recording: Recording) -> tuple[Recording, str]:
        """Add words to a recording that has sound and no words.

        Parameters
        ----------
        recording : Recording
            An open recording; one that has words already, or no sound, stays as it is.

        Returns
        -------
        recording : Recording
            With recognised words, or as it was.
        why : str
            Why no words could be recognised; empty otherwise.
        """
        if recording.cues or not recording.has_sound:
            return recording, ""
        try:
            words = tuple(self.words(recording))
        except AffuseError as error:
            return recording, why_no_words(error)
        if not words:
            return recording, "no speech was recognised"
        return recording.with_words(words, "the words were recognised by machine and may be wrong"), ""

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
            If there are no weights.
        """
        starts = np.arange(0, recording.duration, _STRETCH).tolist()
        stretches = Timeline(tuple(Segment(t, min(t + _STRETCH, recording.duration)) for t in starts))
        self.load()
        for stretch, samples in zip(stretches, recording.sound(stretches), strict=True):
            yield from self.hear(samples, stretch)

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
        if len(samples) == 0:
            return
        # No temperature above 0: the same recording gives the same words.
        found, _ = self.load().transcribe(
            samples, language=self.language, temperature=0.0, condition_on_previous_text=False, vad_filter=True
        )
        for piece in found:
            start = min(segment.start + piece.start, segment.end - _SHORTEST)
            end = min(max(segment.start + piece.end, start + _SHORTEST), segment.end)
            if piece.text.strip():
                yield Words(Segment(start, end), piece.text.strip())

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
        return Transcriber(self.model, language, self._recogniser)

    def load(self) -> Recogniser:
        """What recognises, loaded once. Raises as `words` does.

        Returns
        -------
        Recogniser
        """
        if self._recogniser is None:
            self._recogniser = _load(_weights(self.model))
        return self._recogniser


def why_no_words(error: AffuseError) -> str:
    """Why there are no words, after an error of `Transcriber`."""
    return NOT_INSTALLED if isinstance(error, MissingExtraError) else str(error)


def _weights(chosen: str | Path | None) -> Path:
    folder = chosen or os.environ.get(_FOLDER)
    if folder is None:
        return _from_hub()
    path = Path(folder)
    if not (path / "model.bin").is_file():
        # Its name alone: the sentence becomes part of an answer, which others may read.
        raise AssetError(f"no weights for speech recognition: the folder {path.name} holds no model.bin")
    return path


def _from_hub() -> Path:
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
            f"give the folder of a Whisper model by --asr-model or {_FOLDER}"
        ) from error
    return Path(found)


def _load(folder: Path) -> Recogniser:
    try:
        from faster_whisper import WhisperModel
    except ImportError as error:
        raise MissingExtraError("faster-whisper", "asr") from error
    try:
        model: Recogniser = WhisperModel(
            str(folder), compute_type="auto", cpu_threads=weights.threads(), local_files_only=True
        )
    except (RuntimeError, ValueError, OSError) as error:  # CTranslate2 knows no better ones
        sentence = str(error).splitlines()[0].replace(str(folder), folder.name)
        raise AssetError(f"no weights for speech recognition: {folder.name} cannot be loaded ({sentence})") from error
    return model
