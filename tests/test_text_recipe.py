"""Recipe of the English text expert: vocabulary, batches, loss, calibration by hand, and resuming."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from affuse.labels import EKMAN, SENTIMENT

PIECES = (
    "[PAD]",
    "[unused0]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "a",
    "b",
    "ж",
    "##a",
    "##b",
    "##ж",
    "ab",
    "bab",
    "aab",
)


@pytest.fixture(scope="module")
def recipe() -> Any:
    pytest.importorskip("torch", reason="torch, of the extra train, runs the recipe")
    pytest.importorskip("lightning", reason="Lightning, of the extra train, runs the recipe")
    from types import SimpleNamespace

    from recipes import text_en, text_en_data, text_en_network

    names = {name: value for m in (text_en_data, text_en_network, text_en) for name, value in vars(m).items()}
    return SimpleNamespace(**names)


@pytest.fixture
def tokenizer() -> Any:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    whole = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(PIECES)}, unk_token="[UNK]"))
    whole.normalizer = normalizers.Lowercase()
    whole.pre_tokenizer = pre_tokenizers.Whitespace()
    whole.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    ends = [(token, PIECES.index(token)) for token in ("[CLS]", "[SEP]")]
    whole.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return whole


@pytest.fixture
def rows(recipe: Any) -> Any:
    """Comments, dialogue and reviews in two words: what is glad holds "ab", what is angry "bab"."""
    rng = np.random.default_rng(0)
    n = 240
    corpora = np.array(["goemotions", "meld", "sst2", "mosi"])[np.arange(n) % 4]
    glad = rng.random(n) < 0.5
    texts = [f"{'ab' if g else 'bab'} {' '.join(rng.choice(['a', 'b', 'aab'], 3))}" for g in glad]
    emotions = np.where(glad, EKMAN.index("happiness"), EKMAN.index("anger"))
    return recipe.TextRows(
        texts=texts,
        emotions=np.where(np.isin(corpora, ["goemotions", "meld"]), emotions, -100),
        sentiments=np.where(glad, 2, 0),
        corpora=corpora,
        held_out=np.arange(n) % 10 == 9,
    )


def test_the_vocabulary_keeps_what_texts_and_new_words_need(recipe: Any, tokenizer: Any) -> None:
    kept = recipe.kept_pieces(tokenizer, ["ab"])
    assert [PIECES[i] for i in kept] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "##a", "##b", "ab"]


def test_a_cut_tokenizer_reads_as_the_whole_one_does(recipe: Any, tokenizer: Any) -> None:
    kept = recipe.kept_pieces(tokenizer, ["ab"])
    cut = recipe.cut_vocabulary(tokenizer, kept)
    whole, small = tokenizer.encode("ab A"), cut.encode("ab A")
    assert small.tokens == whole.tokens == ["[CLS]", "ab", "a", "[SEP]"]
    assert kept[small.ids].tolist() == whole.ids
    assert cut.encode("bab").tokens == ["[CLS]", "b", "##a", "##b", "[SEP]"]
    assert cut.encode("ж").tokens == ["[CLS]", "[UNK]", "[SEP]"]


def test_an_epoch_reads_corpora_as_often_as_told_and_no_held_out_row(recipe: Any, tokenizer: Any, rows: Any) -> None:
    passes = (("goemotions", 0.5), ("meld", 1.0), ("sst2", 2.0), ("mosi", 1.5))
    config = recipe.TextConfig(passes=passes, batch_size=16)
    places = np.concatenate(recipe.TextBatches(rows, tokenizer, config, lambda: 0)._plan(np.random.default_rng(5)))
    assert not rows.held_out[places].any()
    fitting = {name: int((~rows.held_out & (rows.corpora == name)).sum()) for name, _ in passes}
    for name, share in passes:
        assert (rows.corpora[places] == name).sum() == round(share * fitting[name]), name


def test_batches_repeat_by_epoch_and_differ_between_epochs(recipe: Any, tokenizer: Any, rows: Any) -> None:
    config = recipe.TextConfig(batch_size=16, mask_share=0.3)
    first, again, later = (list(recipe.TextBatches(rows, tokenizer, config, lambda e=e: e)) for e in (4, 4, 5))
    assert len(first) == len(recipe.TextBatches(rows, tokenizer, config, lambda: 0))
    assert all(
        a["ids"].equal(b["ids"]) and a["emotions"].equal(b["emotions"]) for a, b in zip(first, again, strict=True)
    )
    assert any(
        a["ids"].shape != b["ids"].shape or not a["ids"].equal(b["ids"]) for a, b in zip(first, later, strict=False)
    )
    hidden = sum((b["ids"] == tokenizer.token_to_id("[MASK]")).sum().item() for b in first)
    inner = sum((b["mask"].sum() - 2 * len(b["mask"])).item() for b in first)
    assert 0.2 < hidden / inner < 0.4
    assert all((b["ids"][:, 0] == tokenizer.token_to_id("[CLS]")).all() for b in first)


# --- calibration


def answer(recipe: Any, domains: list[float], **changed: Any) -> tuple[np.ndarray, np.ndarray]:
    """Emotions and sentiment of one text whose heads disagree; ``changed`` are parts of the calibration."""
    import torch

    emotions = torch.zeros(1, 2, 7)
    emotions[0, 0, 0] = emotions[0, 1, 3] = np.log(4.0)  # comments: anger 4/10; dialogue: happiness 4/10
    sentiments = torch.zeros(1, 3, 3)
    sentiments[0, 0, 1] = np.log(2.0)  # comments: neutral 2/4
    sentiments[0, 2] = torch.tensor([0.0, 9.0, np.log(3.0)])  # reviews: positive 3 to 1, and no say on neutral
    parts = {"emotion": np.ones(2), "offsets": np.zeros((2, 7)), "sentiment": np.ones(3), "shares": np.ones(3) / 3}
    parts |= changed
    P, S = recipe.Calibration(**parts)(emotions, sentiments, torch.log(torch.tensor([domains])))
    return P.numpy()[0], S.numpy()[0]


def test_the_gate_mixes_the_heads(recipe: Any) -> None:
    P, S = answer(recipe, [0.6, 0.2, 0.2])
    # Reviews have no head of emotion: the other two share 3 to 1.
    np.testing.assert_allclose(P[[0, 3]], [0.75 * 0.4 + 0.25 * 0.1, 0.75 * 0.1 + 0.25 * 0.4], atol=1e-6)
    # Reviews: neutral 1/2 from comments, the other half 1 to 3.
    expected = 0.6 * np.array([1, 2, 1]) / 4 + 0.2 * np.ones(3) / 3 + 0.2 * np.array([1, 4, 3]) / 8
    np.testing.assert_allclose(S, expected, atol=1e-6)
    assert P.sum() == pytest.approx(1.0)


def test_the_gate_forgets_how_often_it_saw_a_domain(recipe: Any) -> None:
    plain = answer(recipe, [0.6, 0.2, 0.2])
    shares = np.array([0.5, 0.25, 0.25])
    for freed, expected in zip(answer(recipe, [0.75, 0.125, 0.125], shares=shares), plain, strict=True):
        np.testing.assert_allclose(freed, expected, atol=1e-6)


def test_shares_count_what_an_epoch_reads(recipe: Any) -> None:
    corpora = np.array(["goemotions"] * 4 + ["meld", "sst2", "mosi", "mosi"])
    none = np.full(8, -100)
    held_out = np.array([False] * 7 + [True])
    rows = recipe.TextRows(["a"] * 8, none, none, corpora, held_out)
    passes = (("goemotions", 0.5), ("meld", 1.0), ("sst2", 2.0), ("mosi", 3.0))
    shares = recipe.domain_shares(rows, recipe.TextConfig(passes=passes))
    np.testing.assert_allclose(shares, np.array([2, 1, 5]) / 8)


def test_temperatures_and_offsets_belong_to_their_heads(recipe: Any) -> None:
    softened, _ = answer(recipe, [1.0, 1e-9, 1e-9], emotion=np.array([2.0, 1.0]))
    assert softened[0] == pytest.approx(2 / 8, abs=1e-5)
    offsets = np.zeros((2, 7))
    offsets[1, 1] = np.log(10.0)
    _, lifted = (
        answer(recipe, [1e-9, 1.0, 1e-9], offsets=offsets),
        answer(recipe, [1e-9, 1.0, 1e-9], offsets=offsets)[0],
    )
    assert lifted[1] == pytest.approx(10 / 19, abs=1e-5)


# --- training


def small(recipe: Any) -> Any:
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(3)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = BertConfig(vocab_size=len(PIECES), **sizes, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    return recipe.TextNetwork(BertModel(config, add_pooling_layer=False), 16, dropout=0.1).train()


def test_a_row_teaches_the_heads_of_its_domain_alone(recipe: Any) -> None:
    import torch

    pytest.importorskip("transformers", reason="transformers, of the extra train, holds the encoder")
    network = small(recipe)
    module = recipe.TextTraining(network, torch.ones(7), recipe.DistillationTargets.nothing(1), recipe.TextConfig())
    module.log = lambda *_: None
    batch = {
        "ids": torch.tensor([[3, 6, 4]]),
        "mask": torch.ones(1, 3, dtype=torch.int64),
        "emotions": torch.tensor([-100]),
        "sentiments": torch.tensor([2]),
        "domains": torch.tensor([2]),
    }
    module.training_step(batch, 0).backward()
    assert not network.emotion.weight.grad.any()
    sentiment = network.sentiment.weight.grad.reshape(3, 3, -1)
    assert not sentiment[:2].any()
    assert not sentiment[2, SENTIMENT.index("neutral")].any()
    assert sentiment[2, SENTIMENT.index("positive")].any()


def a_step(recipe: Any, taught: Any) -> tuple[Any, dict[str, Any]]:
    """A module, and a batch of two reviews, for which ``taught`` holds what teachers say."""
    import torch

    module = recipe.TextTraining(small(recipe), torch.ones(7), taught, recipe.TextConfig(teacher_share=1.0))
    batch = {
        "ids": torch.tensor([[3, 6, 4], [3, 7, 4]]),
        "mask": torch.ones(2, 3, dtype=torch.int64),
        "emotions": torch.tensor([-100, -100]),
        "sentiments": torch.tensor([2, 0]),
        "domains": torch.tensor([2, 2]),
        "rows": torch.tensor([4, 1]),
    }
    return module, batch


def test_teachers_teach_the_heads_that_they_have_learned_on_every_row(recipe: Any) -> None:
    import torch

    pytest.importorskip("transformers", reason="transformers, of the extra train, holds the encoder")
    generator = torch.Generator().manual_seed(0)
    emotions = torch.rand(5, 2, 7, generator=generator).softmax(dim=2)
    sentiments = torch.rand(5, 3, 3, generator=generator).softmax(dim=2)
    module, batch = a_step(recipe, recipe.DistillationTargets(emotions, sentiments, domains=(1,)))
    network = module.network.eval()
    _, z, s, _ = network(batch["ids"], batch["mask"])
    of_emotions = -(emotions[[4, 1], 1] * z[:, 1].log_softmax(dim=1)).sum(dim=1).mean()
    of_sentiments = -(sentiments[[4, 1], 1] * s[:, 1].log_softmax(dim=1)).sum(dim=1).mean()
    loss = module._loss(batch)
    assert loss.item() == pytest.approx((of_emotions + 0.5 * of_sentiments).item(), rel=1e-5)
    loss.backward()
    assert network.emotion.weight.grad.reshape(2, 7, -1)[1].any()
    assert not network.emotion.weight.grad.reshape(2, 7, -1)[0].any()


def test_a_domain_is_the_mean_over_the_teachers_that_learned_it(recipe: Any, rows: Any, tokenizer: Any) -> None:
    import torch

    pytest.importorskip("transformers", reason="transformers, of the extra train, holds the encoder")
    networks = [small(recipe).eval(), small(recipe).eval()]
    with torch.no_grad():
        networks[1].sentiment.weight.mul_(-2)
    teachers = [recipe.Teacher(network, domains) for network, domains in zip(networks, ((0, 2), (2,)), strict=True)]
    encoded = [encoding.ids for encoding in tokenizer.encode_batch(rows.texts)]
    targets = recipe.distillation_targets(encoded, teachers, recipe.TextConfig(bfloat16=False))
    assert targets.domains == (0, 2)
    assert not targets.sentiments[:, 1].any()
    said = [torch.from_numpy(recipe.logits_of(network, encoded[7:8])[1])[0] for network in networks]
    assert targets.sentiments[7, 0].numpy() == pytest.approx(said[0][0].softmax(dim=0).numpy(), abs=1e-6)
    polar = [s[2][[0, 2]].softmax(dim=0) for s in said]
    assert targets.sentiments[7, 2, [0, 2]].numpy() == pytest.approx(((polar[0] + polar[1]) / 2).numpy(), abs=1e-6)
    assert float(targets.sentiments[7, 2, 1]) == 0


def test_words_are_moved_to_where_they_hurt_most_and_back(recipe: Any) -> None:
    import torch

    pytest.importorskip("transformers", reason="transformers, of the extra train, holds the encoder")
    module, batch = a_step(recipe, recipe.DistillationTargets.nothing(5))
    module.network.eval()
    module.log = lambda *_: None
    module._trainer = type("T", (), {"precision_plugin": type("P", (), {"forward_context": staticmethod(nullcontext)})})
    words = module.network.encoder.embeddings.word_embeddings.weight
    plain, seen = words.detach().clone(), []
    loss = module._loss

    def spy(batch: Any) -> Any:
        value = loss(batch)
        seen.append((value.item(), words.detach().clone()))
        return value

    module._loss = spy
    module.training_step(batch, 0).backward()
    first = words.grad.clone()
    module.on_after_backward()
    assert torch.equal(words.detach(), plain)
    moved = seen[1][1] - plain
    assert float(moved.norm()) == pytest.approx(module.config.perturbation, rel=1e-4)
    assert torch.allclose(moved, module.config.perturbation * first / first.norm(), atol=1e-6)
    assert seen[1][0] > seen[0][0]
    assert not torch.allclose(words.grad, first)


def trained(recipe: Any, rows: Any, tokenizer: Any, folder: Path, config: Any) -> dict[str, Any]:
    import torch

    module = recipe.TextTraining(
        small(recipe), torch.ones(7), recipe.DistillationTargets.nothing(len(rows.texts)), config
    )
    recipe.run(module, rows, tokenizer, folder, config)
    return dict(module.network.state_dict())


def test_a_killed_run_ends_like_an_undisturbed_one_and_learns(
    recipe: Any, rows: Any, tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("transformers", reason="transformers, of the extra train, holds the encoder")
    import torch

    rates = {
        "learning_rate": 5e-3,
        "head_learning_rate": 1e-2,
        "mask_share": 0.0,
        "mistyped_rows": 0.1,
        "perturbation": 0.02,
    }
    config = recipe.TextConfig(epochs=6, batch_size=8, **rates)
    whole = trained(recipe, rows, tokenizer, tmp_path / "whole", config)
    step, taken = recipe.TextTraining.training_step, []

    def die_in_the_second_epoch(self: Any, batch: Any, number: int) -> Any:
        if self.current_epoch == 1 and number == 2:
            raise RuntimeError("killed")
        taken.append(number)
        return step(self, batch, number)

    monkeypatch.setattr(recipe.TextTraining, "training_step", die_in_the_second_epoch)
    with pytest.raises(RuntimeError, match="killed"):
        trained(recipe, rows, tokenizer, tmp_path / "killed", config)
    monkeypatch.setattr(recipe.TextTraining, "training_step", step)
    resumed = trained(recipe, rows, tokenizer, tmp_path / "killed", config)
    assert taken
    for name, value in whole.items():
        assert value.equal(resumed[name]), name
    network = small(recipe).eval()
    network.load_state_dict(whole)
    chosen = np.flatnonzero(rows.held_out)
    encoded = [tokenizer.encode(rows.texts[i]).ids for i in chosen]
    _, sentiments, _ = recipe.logits_of(network, encoded)
    S = torch.softmax(torch.from_numpy(sentiments[:, 2]), dim=1).numpy()
    reviewed = rows.domains[chosen] == 2
    assert (S[reviewed][:, [0, 2]].argmax(axis=1) * 2 == rows.sentiments[chosen][reviewed]).mean() > 0.9
