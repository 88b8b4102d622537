"""Analyses in people's own labels: alone, shared by several experts, or mapped onto emotions."""

from __future__ import annotations

import json
import wave
from pathlib import Path

import numpy as np
import pytest

from affuse import EKMAN, Analyzer, LabelSpace, Recording, analyze
from affuse.errors import ConfigError
from affuse.evaluation import Clip, Manifest, evaluate_product
from affuse.evaluation.adapting import adapt
from affuse.experts import Abilities, Expert, ExpertOutput
from affuse.fusion import MeanRule, NamedFuser, ProductRule
from affuse.packages import load_package, read_package, set_label_map
from affuse.report import schema
from affuse.service import runner
from affuse.service.runner import JobSpec
from affuse.testing import FakeExpert, synthetic, write_toy_package
from affuse.timeline import Timeline
from command import Run, caller


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    return caller(monkeypatch, capfd, "analyze")


STUDY = LabelSpace("study", ("engaged", "frustrated", "bored"))
MAP = {"engaged": "happiness", "frustrated": "anger", "bored": "neutral"}


def own(modality: str, **answers: float) -> FakeExpert:
    return FakeExpert(modality, answers, labels=STUDY)


class Calibrated(FakeExpert):
    """An expert that says under which label frequencies it answers."""

    def __init__(self, prior: tuple[float, ...], **answers: float) -> None:
        super().__init__("voice", answers, labels=STUDY)
        self.prior = np.array(prior)


# --- on their own ----------------------------------------------------------------------------------------------------


def test_a_single_expert_answers_in_its_own_labels() -> None:
    analysis = Analyzer({"voice": own("voice", engaged=0.7, frustrated=0.2)}).analyze_text("Hello.")
    assert analysis.labels == STUDY
    assert analysis.summary.label == "engaged"
    assert analysis.summary.fused == pytest.approx([0.7, 0.2, 0.1])
    assert analysis.summary.sentiment is None  # nobody judges one, and the labels imply none
    assert analysis.summary.conflict is None
    frame = analysis.to_frame()
    assert [c for c in frame if c.startswith("fused_")] == ["fused_engaged", "fused_frustrated", "fused_bored"]
    assert frame["voice_frustrated"][0] == 0.2


def test_experts_that_share_labels_are_fused_by_the_product_under_even_frequencies() -> None:
    experts = {"voice": own("voice", engaged=0.6, frustrated=0.3), "face": own("face", engaged=0.2, frustrated=0.7)}
    summary = Analyzer(experts).analyze_text("Hello.").summary
    by_hand = np.array([0.6 * 0.2, 0.3 * 0.7, 0.1 * 0.1])
    assert summary.fused == pytest.approx(by_hand / by_hand.sum())
    assert summary.label == "frustrated"
    assert summary.conflict > 0
    # Shares add up to the gain in log-odds over the even prior.
    assert summary.prior == pytest.approx(np.log((1 / 3) / (2 / 3)))
    gain = np.log(summary.confidence / (1 - summary.confidence)) - summary.prior
    assert sum(e.share for e in summary.evidence.values()) == pytest.approx(gain)


def test_the_order_of_the_labels_may_differ() -> None:
    turned = LabelSpace("turned", ("bored", "engaged", "frustrated"))
    experts = {
        "voice": own("voice", engaged=0.6, frustrated=0.3),
        "face": FakeExpert("face", {"engaged": 0.2, "frustrated": 0.7}, labels=turned),
    }
    summary = Analyzer(experts).analyze_text("Hello.").summary
    by_hand = np.array([0.6 * 0.2, 0.3 * 0.7, 0.1 * 0.1])
    assert summary.fused == pytest.approx(by_hand / by_hand.sum())


def test_a_stated_prior_of_an_expert_is_taken_out() -> None:
    prior = (0.5, 0.25, 0.25)
    expert = Calibrated(prior, engaged=0.5, frustrated=0.3)
    summary = Analyzer({"voice": expert}).analyze_text("Hello.").summary
    by_hand = np.array([0.5, 0.3, 0.2]) / prior
    assert summary.fused == pytest.approx(by_hand / by_hand.sum())
    assert summary.label == "frustrated"  # rarer in training, so that 0.3 is more surprising than 0.5


def test_gaps_keep_their_reasons_and_summaries_average_what_is_there() -> None:
    expert = FakeExpert("voice", {"engaged": 0.8, "bored": 0.1}, silent=[0], reason="silence", labels=STUDY)
    recording = Recording.from_text("Hello.")
    timeline = Timeline.windows(6.0, 3.0, 3.0)
    analyzer = Analyzer({"voice": expert})
    first, second = analyzer.fuse_outputs({"voice": expert.read(recording, timeline)[0]}, timeline)
    assert first.label is None
    assert first.evidence["voice"].reason == "silence"
    assert second.fused == pytest.approx([0.8, 0.1, 0.1])


def test_sentiment_is_what_an_expert_judges_or_what_labels_with_a_meaning_imply() -> None:
    judge = FakeExpert(
        "text", {"negative": 0.7, "positive": 0.1}, labels=LabelSpace("s", ("negative", "neutral", "positive"))
    )
    both = Analyzer({"voice": own("voice", engaged=0.7), "text": judge}).analyze_text("Hello.")
    assert both.labels == STUDY
    assert both.summary.label == "engaged"
    assert both.summary.sentiment == pytest.approx(0.1 - 0.7)
    assert both.summary.evidence["text"].reason == "judges sentiment only"

    meant = LabelSpace("study", STUDY.labels, onto=MAP)
    glad = Analyzer({"voice": FakeExpert("voice", {"engaged": 0.9}, labels=meant)}, labels=STUDY)
    with_meaning = Analyzer({"voice": FakeExpert("voice", {"engaged": 0.9}, labels=meant)}, labels=meant)
    assert glad.analyze_text("Hello.").summary.sentiment is None
    assert with_meaning.analyze_text("Hello.").summary.sentiment > 0.4


def test_a_prior_over_own_labels_can_be_given(tmp_path: Path) -> None:
    file = tmp_path / "prior.toml"
    file.write_text("[frequencies]\nengaged = 0.1\nfrustrated = 0.8\nbored = 0.1\n", encoding="utf-8")
    summary = Analyzer({"voice": own("voice", engaged=0.5, frustrated=0.3)}, prior=file).analyze_text("Hello.").summary
    by_hand = np.array([0.5, 0.3, 0.2]) * [0.1, 0.8, 0.1]
    assert summary.fused == pytest.approx(by_hand / by_hand.sum())
    with pytest.raises(ConfigError, match="dialogue"):
        Analyzer({"voice": own("voice", engaged=0.5)}, prior="dialogue")


def test_a_service_understands_the_name_of_a_prior_over_own_labels() -> None:
    spec = JobSpec("clip.mp4", results="results", upload="upload", prior="uniform")
    analyzer = runner._analyzer(spec, {None: ({"voice": own("voice", engaged=0.5)}, None, None)})
    assert analyzer.prior.labels == STUDY.labels
    assert analyzer.prior.frequencies_in(None) == pytest.approx([1 / 3] * 3)


def test_a_fuser_over_own_labels_is_used_and_another_one_is_refused() -> None:
    P = np.full((6, 2, 3), 1 / 3)
    labels = ("bored", "engaged", "frustrated")
    mean = NamedFuser(MeanRule().fit(P, [0, 1, 2, 0, 1, 2]), ("voice", "face"), labels, "mean")
    experts = {"voice": own("voice", engaged=0.6, frustrated=0.3), "face": own("face", engaged=0.2, frustrated=0.7)}
    analysis = Analyzer(experts, fuser=mean).analyze_text("Hello.")
    assert analysis.labels.labels == labels
    assert analysis.summary.fused == pytest.approx([0.1, 0.4, 0.5])
    foreign = NamedFuser(
        ProductRule().fit(np.full((6, 2, 2), 0.5), [0, 1] * 3), ("voice", "face"), ("calm", "tense"), "product"
    )
    with pytest.raises(ConfigError, match=r"voice .expert fake-voice. answers engaged, frustrated, bored"):
        Analyzer(experts, fuser=foreign)


def test_the_json_obeys_the_schema_and_names_the_labels() -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="the schema is checked by jsonschema (extra dev)")
    analysis = Analyzer({"voice": own("voice", engaged=0.7)}).analyze_text("Hello.")
    document = json.loads(analysis.to_json())
    jsonschema.validate(document, schema())
    assert document["labels"] == list(STUDY.labels)
    assert list(document["summary"][0]["fused"]) == list(STUDY.labels)
    assert document["settings"]["fuser"]["name"] == "product"


# --- fused through a map ---------------------------------------------------------------------------------------------


def test_a_map_lets_own_labels_be_fused_with_emotions() -> None:
    words = FakeExpert("text", {"happiness": 0.5})
    mapped = Analyzer({"voice": own("voice", engaged=0.7, frustrated=0.2), "text": words}, label_map=MAP)
    emotions = FakeExpert("voice", {"happiness": 0.7, "anger": 0.2, "neutral": 0.1})
    plain = Analyzer({"voice": emotions, "text": words})
    ours, theirs = mapped.analyze_text("Hello."), plain.analyze_text("Hello.")
    assert ours.labels == EKMAN
    assert ours.summary.fused == pytest.approx(theirs.summary.fused)
    assert ours.summary.sentiment == pytest.approx(theirs.summary.sentiment)
    assert ours.settings["experts"]["voice"]["label_map"] == MAP
    assert "label_map" not in theirs.settings["experts"]["voice"]


@pytest.mark.parametrize(
    "label_map",
    [
        MAP,
        {"voice": MAP},
        {"map": MAP},
        {"engaged": "joy", "frustrated": "angry", "bored": "boredom"},
        {"engaged": "sadness", "voice": {"engaged": "happiness"}, "frustrated": "anger", "bored": "neutral"},
    ],
)
def test_maps_are_for_all_experts_or_one_modality_and_take_words_for_emotions(label_map: dict[str, object]) -> None:
    analysis = Analyzer({"voice": own("voice", engaged=0.7)}, label_map=label_map).analyze_text("Hello.")  # type: ignore[arg-type]
    assert analysis.summary.label == "happiness"


def test_several_labels_may_mean_one_emotion() -> None:
    onto = {"engaged": "happiness", "frustrated": "anger", "bored": "anger"}
    experts = {"voice": own("voice", engaged=0.4, frustrated=0.35)}
    analyzer = Analyzer(experts, label_map=onto)
    found = analyzer.observe(Recording.from_text("Hello."))
    P, _ = analyzer.probabilities(found.people()[0])
    # Among labels that become one the most probable stands: two that are merged must not outvote a third.
    expected = np.zeros(7)
    expected[[EKMAN.index("anger"), EKMAN.index("happiness")]] = 0.35 / 0.75, 0.4 / 0.75
    assert P[0, 0] == pytest.approx(expected)


def test_own_labels_can_be_mapped_onto_other_own_labels() -> None:
    onto = {"engaged": "good", "frustrated": "bad", "bored": "bad"}
    analysis = Analyzer({"voice": own("voice", engaged=0.4)}, labels=("good", "bad"), label_map=onto).analyze_text(
        "Hi."
    )
    assert analysis.labels.labels == ("good", "bad")
    assert analysis.summary.fused == pytest.approx([0.4, 0.6])


def test_without_a_map_one_sentence_says_who_disagrees_and_what_to_do() -> None:
    experts = {"voice": own("voice", engaged=0.7), "text": FakeExpert("text", {"anger": 0.5})}
    with pytest.raises(ConfigError) as caught:
        Analyzer(experts)
    sentence = str(caught.value)
    assert "voice (expert fake-voice) answers engaged, frustrated, bored" in sentence
    assert "text with other labels" in sentence
    assert '--label-map FILE with lines such as engaged = "neutral"' in sentence


@pytest.mark.parametrize(
    ("label_map", "sentence"),
    [
        ({"excited": "happiness"}, "names excited; no expert has such a label; theirs are engaged, "),
        ({"engaged": "bliss"}, "the label map sends engaged to 'bliss'; known: anger, disgust"),
        ({"face": MAP}, "the label map is for face; the experts are for voice"),
        ({"voice": {"excited": "happiness"}}, "names excited; its labels: engaged, frustrated, bored"),
    ],
)
def test_maps_that_do_not_fit_are_refused(label_map: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        Analyzer({"voice": own("voice", engaged=0.7)}, label_map=label_map)  # type: ignore[arg-type]


def test_an_expert_must_be_one() -> None:
    with pytest.raises(ConfigError, match=r"the expert for voice must be a subclass of affuse.experts.Expert"):
        Analyzer({"voice": object()})  # type: ignore[dict-item]
    with pytest.raises(ConfigError, match="at least one expert"):
        Analyzer({})


def test_where_emotions_are_compared_own_labels_are_refused() -> None:
    rows = Manifest("mine", [Clip("row 1", "happiness", text="So glad!")])
    analyzer = Analyzer({"text": own("text", engaged=0.7)})
    for measure in (evaluate_product, adapt):
        with pytest.raises(ConfigError, match=r"which are no emotions; .*set_label_map"):
            measure(rows, analyzer)
    mapped = Analyzer({"text": own("text", engaged=0.7)}, label_map=MAP)
    assert evaluate_product(rows, mapped).report["as_answered"]["fused"]["accuracy"] == 1


# --- from a package to the report ------------------------------------------------------------------------------------

TWO = LabelSpace("study", ("engaged", "frustrated"))


def test_a_package_keeps_what_its_labels_mean(tmp_path: Path) -> None:
    folder = write_toy_package(tmp_path / "mine", TWO)
    assert "map" not in json.loads((folder / "bundle.json").read_text("utf-8"))["labels"]
    set_label_map(folder, {"engaged": "happiness", "frustrated": "anger"})
    assert dict(read_package(folder).description.labels.onto) == {"engaged": "happiness", "frustrated": "anger"}
    assert Analyzer({"voice": load_package(folder)}).labels == EKMAN
    assert dict(set_label_map(folder, {}).description.labels.onto) == {}
    with pytest.raises(ConfigError, match="sends engaged to 'bliss'"):
        set_label_map(folder, {"engaged": "bliss"})
    with pytest.raises(ConfigError, match="names excited"):
        set_label_map(folder, {"excited": "happiness"})


def test_the_command_answers_in_own_labels_or_through_a_map(tmp_path: Path, run: Run) -> None:
    clip = synthetic.write_clip(tmp_path / "clip.mp4", seconds=4.0)
    package = write_toy_package(tmp_path / "mine", TWO)
    result = run(clip, "--experts", f"voice={package}", "--out", tmp_path / "out", "--json")
    assert result.code == 0, result.err
    document = json.loads(result.out)
    assert document["labels"] == ["engaged", "frustrated"]
    assert document["summary"][0]["label"] == "engaged"
    assert '"engaged"' in (tmp_path / "out" / "clip.html").read_text("utf-8")
    assert "fused_engaged" in (tmp_path / "out" / "clip.csv").read_text("utf-8")
    table = run(clip, "--experts", f"voice={package}")
    assert table.code == 0, table.err
    assert "engaged" in table.out

    wrong = run(clip, "--experts", f"voice={package},text")
    assert wrong.code == 2
    assert "--label-map FILE" in wrong.err
    mapping = tmp_path / "labels.toml"
    mapping.write_text('[map]\nengaged = "happiness"\nfrustrated = "anger"\n', encoding="utf-8")
    mapped = run(clip, "--experts", f"voice={package},text", "--label-map", mapping, "--json")
    assert mapped.code == 0, mapped.err
    assert json.loads(mapped.out)["summary"][0]["label"] == "happiness"


def test_analyze_takes_labels_and_map() -> None:
    class Words(Expert):
        name, modality, labels = "words", "text", STUDY
        abilities = Abilities(reads=("words",))

        def read_windows(self, recording: Recording, timeline: Timeline) -> list[ExpertOutput]:
            return [ExpertOutput(np.tile([0.2, 0.7, 0.1], (len(timeline), 1)), ("",) * len(timeline))]

    assert analyze(text="No!", experts={"text": Words()}).summary.label == "frustrated"
    assert analyze(text="No!", experts={"text": Words()}, label_map=MAP).summary.label == "anger"


def test_what_train_learns_analyze_answers_and_the_report_shows(tmp_path: Path, run: Run) -> None:
    pytest.importorskip("torch")
    tomli_w = pytest.importorskip("tomli_w")
    from affuse.training.run import train

    for speaker in range(6):
        for label, pitch in (("engaged", 210.0), ("frustrated", 100.0)):
            for take in range(3):
                samples = synthetic.speech(seconds=1.5, pitch=pitch * (1 + 0.02 * speaker + 0.01 * take))
                write_wave(tmp_path / "data" / label / f"spk{speaker}_{take}.wav", samples)
    config = {
        "data": {"source": str(tmp_path / "data"), "modality": "voice", "seconds": 1.5, "held_out": 0.25},
        "network": {"options": {"widths": [4, 8], "hidden": 8, "n_mels": 16}},
        "training": {"epochs": 3, "batch_size": 8, "learning_rate": 0.01, "ema_decay": 0.5},
    }
    (tmp_path / "voice.toml").write_text(tomli_w.dumps(config), encoding="utf-8")
    finished = train(tmp_path / "voice.toml", tmp_path / "run")
    assert finished is not None

    write_wave(tmp_path / "new.wav", synthetic.speech(seconds=4.0, pitch=215.0))
    expert = f"voice={finished.package}"
    alone = run(tmp_path / "new.wav", "--experts", expert, "--report", tmp_path / "new.html", "--json")
    assert alone.code == 0, alone.err
    document = json.loads(alone.out)
    assert document["labels"] == ["engaged", "frustrated"]
    assert document["summary"][0]["label"] == "engaged"
    assert "engaged" in (tmp_path / "new.html").read_text("utf-8")

    experts = {"voice": load_package(finished.package), "text": FakeExpert("text", {"neutral": 0.3})}
    glad, angry = (
        Analyzer(experts, label_map=onto).analyze(tmp_path / "new.wav").summary.fused
        for onto in ({"engaged": "happiness", "frustrated": "anger"}, {"engaged": "anger", "frustrated": "happiness"})
    )
    happiness, anger = EKMAN.index("happiness"), EKMAN.index("anger")
    assert glad[happiness] / glad[anger] > angry[happiness] / angry[anger]


def write_wave(path: Path, samples: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes((samples * 32767).astype("<i2").tobytes())
