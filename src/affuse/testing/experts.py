"""The contract of experts: what they declare is true, and what they answer can be fused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from affuse.errors import ConfigError
from affuse.experts.base import Expert, ExpertOutput
from affuse.labels import LabelSpace
from affuse.media import Recording
from affuse.testing import synthetic
from affuse.timeline import Timeline

__all__ = ["check_expert"]

_NO_LANGUAGE = "x-none"


def check_expert(expert: Expert, recording: Recording | None = None, timeline: Timeline | None = None) -> None:
    """Assert the contract of experts: every declared ability is true, and the answers are fit to be fused.

    Outputs cover the timeline; their rows sum to 1, or are NaN with a reason; the same question gets the same answer;
    a recording without anything to read gives an output without evidence; what the expert does not declare, such as
    another language, it refuses by ConfigError; nothing is written beside the recording, nor to what it was given.

    Parameters
    ----------
    expert : Expert
        Any expert, of affuse or of another package.
    recording : Recording, optional
        What it is asked about; a drawn face with something like speech, and a sentence, where None.
    timeline : Timeline, optional
        The windows; the whole recording in windows of 3 s where None.

    Raises
    ------
    AssertionError
        If a rule of the contract is broken; the message names it.

    Examples
    --------
    >>> from affuse.testing import FakeExpert
    >>> check_expert(FakeExpert("voice", {"anger": 0.6}))
    """
    assert isinstance(expert, Expert), f"{expert!r} is no subclass of affuse.experts.Expert"
    _check_declared(expert)
    with TemporaryDirectory() as folder:
        if recording is None:
            recording = _recording(Path(folder), expert)
        windows = timeline or Timeline.windows(max(recording.duration, 1.0), 3.0, 1.0)
        before = _files(recording)
        outputs = expert.read(recording, windows)
        _check_outputs(expert, outputs, len(windows))
        _check_same(outputs, expert.read(recording, windows))
        np.testing.assert_array_equal(expert.predict(recording, windows), outputs[0].probabilities, err_msg=_AGAIN)
        _check_embedding(expert, recording, windows)
        assert _files(recording) == before, "an expert must not write beside the recording"
    _check_nothing_to_read(expert)
    _check_items(expert)
    _check_languages(expert)


def _check_declared(expert: Expert) -> None:
    for what in ("name", "modality"):
        value = getattr(expert, what, None)
        assert isinstance(value, str), f"the expert needs a {what}"
        assert value, f"the {what} of the expert must not be empty"
    assert isinstance(expert.labels, LabelSpace), "the labels of the expert must be a LabelSpace"
    assert len(expert.labels) > 1, "the expert needs at least two labels"
    if expert.prior is not None:
        prior = np.asarray(expert.prior)
        assert prior.shape == (len(expert.labels),), f"the prior needs {len(expert.labels)} frequencies"
        assert (prior >= 0).all(), "the frequencies of the prior must not be negative"
        assert abs(prior.sum() - 1) < 1e-3, "the frequencies of the prior must add up to 1"
    if expert.abilities.streams and "frames" in expert.abilities.reads:
        from affuse.experts.face import FaceExpert

        assert isinstance(expert, FaceExpert), "an expert on faces follows streams only as a FaceExpert"


def _recording(folder: Path, expert: Expert) -> Recording:
    words = folder / "clip.srt"
    sentences = [text for texts in synthetic.SENTENCES.values() for text in texts[:1]]
    text = [f"{i}\n00:00:0{2 * i},000 --> 00:00:0{2 * i + 1},500\n{s}\n" for i, s in enumerate(sentences)]
    words.write_text("\n".join(text), encoding="utf-8")
    if not {"frames", "sound"} & set(expert.abilities.reads):
        return Recording.open(words)
    return Recording.open(synthetic.write_clip(folder / "clip.mp4", seconds=5.0), transcript=words)


def _files(recording: Recording) -> set[str]:
    return set() if recording.path is None else {path.name for path in recording.path.parent.iterdir()}


_AGAIN = "asked twice, the answers differ"


def _check_same(first: list[ExpertOutput], again: list[ExpertOutput]) -> None:
    assert len(first) == len(again), "asked twice, the number of outputs differs"
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.probabilities, other.probabilities, err_msg=_AGAIN)


def _check_outputs(expert: Expert, outputs: list[ExpertOutput], n: int) -> None:
    assert outputs, "read must return at least one output"
    for output in outputs:
        _check_rows(output, n, len(expert.labels))
        _check_sentiment(expert, output, n)
    persons = [output.person for output in outputs]
    assert len(outputs) == 1 or None not in persons, "several outputs must name the person that each is about"
    assert len(set(persons)) == len(persons), "each person has one output"
    if not expert.abilities.sees_persons:
        assert persons == [None], "an expert that sees no persons gives one output, for the whole scene"
    for output in outputs:
        if output.person is not None:
            m = len(output.times)
            assert m, "a person must have been seen at some time"
            assert output.boxes.shape == (m, 4), f"a person has boxes (m, 4) at m times; got {output.boxes.shape}"


def _check_rows(output: ExpertOutput, n: int, k: int) -> None:
    P = output.probabilities
    assert P.shape == (n, k), f"expected probabilities of shape ({n}, {k}); got {P.shape}"
    assert len(output.reasons) == n, f"expected {n} reasons; got {len(output.reasons)}"
    spoken = _check_distributions(P, "rows")
    for i, reason in enumerate(output.reasons):
        assert bool(reason) != bool(spoken[i]), f"window {i}: a reason belongs exactly where there is no evidence"


def _check_distributions(P: np.ndarray, what: str) -> np.ndarray:
    gaps = np.isnan(P)
    assert (gaps.any(axis=1) == gaps.all(axis=1)).all(), "a row without evidence must be NaN throughout"
    spoken = ~gaps.any(axis=1)
    np.testing.assert_allclose(P[spoken].sum(axis=1), 1.0, atol=1e-5, err_msg=f"{what} must sum to 1")
    assert (P[spoken] >= 0).all(), "probabilities must not be negative"
    return np.asarray(spoken)


def _check_sentiment(expert: Expert, output: ExpertOutput, n: int) -> None:
    if output.sentiment is None:
        return
    assert expert.abilities.judges_sentiment, "an expert that gives a sentiment must declare judges_sentiment"
    assert output.sentiment.shape == (n, 3), f"expected sentiment of shape ({n}, 3); got {output.sentiment.shape}"
    _check_distributions(output.sentiment, "rows of sentiment")


def _check_embedding(expert: Expert, recording: Recording, timeline: Timeline) -> None:
    if not expert.abilities.embeds:
        _refuses(lambda: expert.embed(recording, timeline), "an expert that does not declare embeds")
        return
    E = np.asarray(expert.embed(recording, timeline))
    assert E.ndim == 2, f"expected embeddings ({len(timeline)}, d); got {E.shape}"
    assert len(E) == len(timeline), f"expected embeddings ({len(timeline)}, d); got {E.shape}"


def _check_nothing_to_read(expert: Expert) -> None:
    from affuse.media.decoding import Probe

    recording = Recording("nothing", None, "text", Probe(duration=1.0))
    windows = Timeline((recording.span,))
    for output in expert.read(recording, windows)[:1]:
        _check_rows(output, 1, len(expert.labels))
        told = expert.abilities.missing(recording)
        assert not told or output.reasons[0], "without anything to read there must be no evidence"


def _check_items(expert: Expert) -> None:
    items = _items(expert)
    if not expert.abilities.classifies:
        _refuses(lambda: expert.classify(items), "an expert that does not declare classifies")
        return
    single = isinstance(items, np.ndarray) and items.ndim == 1
    before = items.copy() if isinstance(items, np.ndarray) else list(items)
    P = np.asarray(expert.classify(items))
    n, k = len(items), len(expert.labels)
    assert P.shape == ((k,) if single else (n, k)), f"classify: expected {n} rows of {k}; got {P.shape}"
    _check_distributions(P[None] if single else P, "rows of classify")
    assert (np.asarray(items) == np.asarray(before)).all(), "classify must not change its input"


def _items(expert: Expert) -> Any:
    """Fixed inputs of the kind that the expert classifies."""
    if "sound" in expert.abilities.reads:
        return synthetic.speech(2.0, 140)
    if "frames" in expert.abilities.reads:
        return synthetic.pictures()[:2]
    return [text for texts in synthetic.SENTENCES.values() for text in texts[:2]]


def _check_languages(expert: Expert) -> None:
    for code in expert.abilities.languages:
        assert isinstance(expert.in_language(code), Expert), f"in_language({code!r}) must give an expert"
    if expert.abilities.languages:
        _refuses(lambda: expert.in_language(_NO_LANGUAGE), "asked for a language that it does not declare, an expert")
    texts = list(_items(expert)) if "words" in expert.abilities.reads else ["Hello."]
    if not expert.abilities.judges_sentiment:
        _refuses(lambda: expert.sentiment(texts), "an expert that does not declare judges_sentiment")
    else:
        _check_distributions(np.asarray(expert.sentiment(texts)), "rows of sentiment")


def _refuses(call: Callable[[], Any], who: str) -> None:
    try:
        call()
    except ConfigError:
        return
    raise AssertionError(f"{who} must refuse by ConfigError")
