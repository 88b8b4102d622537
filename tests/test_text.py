"""The text expert: languages, cues onto windows, long texts, and the English network."""

import os

import numpy as np
import pytest

from affuse import weights
from affuse.data import corpora
from affuse.experts.text import TextExpert
from affuse.experts.text.english import EnglishText
from affuse.experts.text.language import script_of
from affuse.labels import EKMAN, SENTIMENT
from affuse.media import Recording, Words
from affuse.testing import check_expert
from affuse.timeline import Segment, Timeline

DATA = os.environ.get("AFFUSE_DATA")

OTHERS = (
    ("Ich habe heute meine Arbeit verloren und weiß nicht weiter", "de"),
    ("Das ist wirklich eine wunderbare Nachricht für uns alle", "de"),
    ("Ich bin wütend", "de"),  # three words, which no wordpieces tell from English
    ("No sé cómo decírselo a mi familia esta noche", "es"),
    ("Estoy muy triste", "es"),
    ("Мне очень грустно, потому что он ушёл", "ru"),
    ("Nimefurahi sana leo", "sw"),
    ("मैं बहुत दुखी हूँ", "hi"),
)
FOREIGN = (
    "Je ne sais pas comment le dire à ma famille",
    "Nous sommes vraiment contents de cette bonne nouvelle",
    "Sono molto felice di questa bellissima notizia",
    "Nie wiem jak mam to powiedzieć mojej rodzinie",
    "Είμαι πολύ χαρούμενος σήμερα",
    "今日は元気です",
)


@pytest.fixture(scope="module")
def expert() -> TextExpert:
    return TextExpert()


@pytest.fixture(scope="module")
def english() -> EnglishText:
    return EnglishText(weights.shipped("text_en"))


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("I am fine", "latin"),
        ("我很好", "han"),
        ("我 love 你们大家", "han"),
        ("这个 is really a wonderful film", "latin"),
        ("今日は元気です", "other"),
        ("오늘은 기분이 좋아요", "other"),
        ("Мне очень грустно", "cyrillic"),
        ("أنا سعيد جدا", "arabic"),
        ("मैं बहुत दुखी हूँ", "devanagari"),
        ("በጣም ደስ ብሎኛል", "ethiopic"),
        ("Είμαι καλά", "other"),
        ("ＡＢＣ", "latin"),
        ("123 !?", None),
        ("", None),
    ],
)
def test_script_of_most_letters(text: str, script: str | None) -> None:
    assert script_of(text) == script


@pytest.mark.parametrize(("text", "language"), OTHERS)
def test_languages_are_recognised(expert: TextExpert, text: str, language: str) -> None:
    assert expert.language_of(text) == language


@pytest.mark.parametrize("text", FOREIGN)
def test_languages_that_nobody_taught_are_not_judged(expert: TextExpert, text: str) -> None:
    assert expert.language_of(text) is None
    assert np.isnan(expert.classify([text])).all()


@pytest.mark.skipif(not DATA, reason="AFFUSE_DATA does not name the folder of the corpora")
def test_english_is_taken_for_english(expert: TextExpert) -> None:
    texts = corpora.load("goemotions", str(DATA), "dev").inputs[:400]
    longer = [t for t in texts if len(t.split()) >= 4 and script_of(t) == "latin"]
    assert np.mean([expert.language_of(t) == "en" for t in longer]) > 0.99


def test_a_forced_language_is_not_recognised_anew() -> None:
    assert TextExpert("en").language_of("我很好") == "en"


@pytest.mark.parametrize(
    ("text", "label", "sign"),
    [
        ("I am so happy, this is wonderful, thank you!", "happiness", 1),
        ("I am so sad, I miss her so much.", "sadness", -1),
        ("I am really scared of what comes next.", "fear", -1),
        ("You idiot, I hate you, this makes me furious!", "anger", -1),
        ("That is disgusting, it makes me sick.", "disgust", -1),
        ("Wow, I did not expect that at all!", "surprise", 0),
        ("The meeting starts at three o'clock.", "neutral", 0),
        ("今天太开心了，谢谢大家！", "happiness", 1),
        ("气死我了，什么垃圾服务", "anger", -1),
    ],
)
def test_plain_sentences_are_read_as_a_person_would(expert: TextExpert, text: str, label: str, sign: int) -> None:
    assert EKMAN.labels[int(expert.classify([text])[0].argmax())] == label
    sentiment = expert.sentiment([text])[0]
    if sign:
        assert np.sign(sentiment[SENTIMENT.index("positive")] - sentiment[SENTIMENT.index("negative")]) == sign


def test_a_batch_equals_its_rows(expert: TextExpert) -> None:
    texts = ["I am fine", "我很好", "Ich habe heute meine Arbeit verloren", "no"]
    whole = expert.classify(texts)
    single = np.concatenate([expert.classify([text]) for text in texts])
    assert np.array_equal(whole, single, equal_nan=True)


@pytest.mark.parametrize("text", ["I am so happy!", "Leave me alone. " * 60, "", "wonderful", "好", "\x00", "🙂"])
def test_english_answers_are_distributions(english: EnglishText, text: str) -> None:
    emotions, sentiment, embedding = english.read(text)
    assert np.isfinite(embedding).all()
    for answer, labels in ((emotions, EKMAN), (sentiment, SENTIMENT)):
        assert answer.shape == (len(labels),)
        assert (answer >= 0).all()
        assert answer.sum() == pytest.approx(1, abs=1e-5)


def test_an_empty_text_in_a_forced_language_has_an_answer() -> None:
    for language in ("en", "zh"):
        answers = TextExpert(language).classify(["", " "])
        np.testing.assert_allclose(answers.sum(axis=1), 1, atol=1e-5)


def test_every_language_answers_distributions_and_nothing_is_nan(expert: TextExpert) -> None:
    texts = ["I am so happy today!", "我今天很开心！", FOREIGN[0], "气死我了，什么垃圾服务"]
    for answers in expert.judge(texts):
        np.testing.assert_allclose(answers[[0, 1, 3]].sum(axis=1), 1, atol=1e-5)
        assert np.isnan(answers[2]).all()
    np.testing.assert_array_equal(expert.classify(texts), expert.judge(texts)[0])
    np.testing.assert_array_equal(expert.sentiment(texts), expert.judge(texts)[1])


def test_long_texts_are_read_to_the_end(english: EnglishText) -> None:
    start = "The train leaves at three and arrives at five. " * 12
    sad = english.read(start + "I am so sad, I cried all night and miss her terribly. " * 12)[0]
    plain = english.read(start)[0]
    assert sad[EKMAN.index("sadness")] > plain[EKMAN.index("sadness")] + 0.2
    assert sad.sum() == pytest.approx(1.0, abs=1e-5)


def test_windows_average_their_cues_by_shared_seconds(expert: TextExpert) -> None:
    texts = ["I am so happy!", "I am so sad."]
    cues = (Words(Segment(0.0, 2.0), texts[0]), Words(Segment(2.0, 6.0), texts[1]))
    recording = Recording.from_text("placeholder")
    recording.cues = cues
    timeline = Timeline((Segment(0.0, 2.0), Segment(1.0, 4.0), Segment(7.0, 9.0)))
    (reading,) = expert.read(recording, timeline)
    happy, sad = expert.classify(texts)
    assert np.allclose(reading.probabilities[0], happy)
    assert np.allclose(reading.probabilities[1], (1 * happy + 2 * sad) / 3)
    assert np.isnan(reading.probabilities[2]).all()
    assert reading.reasons == ("", "", "no words in this window")


def test_foreign_words_are_a_reason_and_no_answer(expert: TextExpert) -> None:
    (reading,) = expert.read(Recording.from_text(FOREIGN[0]), Timeline((Segment(0.0, 1.0),)))
    assert reading.reasons == ("language not supported",)
    assert np.isnan(reading.probabilities).all()


def test_expert_keeps_the_contract(expert: TextExpert) -> None:
    check_expert(expert, Recording.from_text("I am fine. Really."), Timeline((Segment(0.0, 0.5), Segment(0.5, 1.0))))


def test_embeddings_follow_meaning(english: EnglishText) -> None:
    a, b, c = english.embed(["I am very happy today", "what a joyful day for me", "the contract was terminated"])
    assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) > a @ c / np.linalg.norm(a) / np.linalg.norm(c)


def test_the_multilingual_network_has_its_share(expert: TextExpert) -> None:
    """The answer is the weighted geometric mean of both networks, worked out by hand."""
    text = "I got the job!"
    own, other = (expert.network(code).read(text) for code in ("en", "de"))
    for column, found in enumerate(expert.judge([text])):
        expected = (own[column] + 1e-4) ** 0.7 * (other[column] + 1e-4) ** 0.3
        np.testing.assert_allclose(found[0], expected / expected.sum(), atol=1e-9)
    text = "Ich freue mich so sehr über dich!"
    np.testing.assert_allclose(expert.judge([text])[0][0], expert.network("de").read(text)[0])
