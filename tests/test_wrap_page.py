"""The page "Wrap your own model as an expert" runs as printed."""

from __future__ import annotations

import contextlib
import io
import re
import sys
import tomllib
import types
from pathlib import Path

import pytest

from affuse.experts import LANGUAGES, Expert, LanguageModel, TextExpert

PAGE = Path(__file__).parent.parent / "docs" / "wrap-your-expert.md"

pytestmark = pytest.mark.skipif(not PAGE.is_file(), reason="the pages are not part of this source distribution")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)


def printed_by(codes: list[str], module: types.ModuleType) -> str:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        for code in codes:
            exec(compile(code, str(PAGE), "exec"), module.__dict__)
    return printed.getvalue()


def test_scikit_learn_and_onnx_run_and_print_what_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    module = types.ModuleType("my_package")
    assert printed_by(blocks("python"), module) == "".join(blocks("text"))
    for block, (group, kind) in zip(
        blocks("toml"), (("affuse.experts", Expert), ("affuse.languages", LanguageModel)), strict=True
    ):
        for place in tomllib.loads(block)["project"]["entry-points"][group].values():
            assert issubclass(getattr(module, place.removeprefix("my_package:")), kind)
    monkeypatch.setitem(LANGUAGES.built_in, "el", "my_package:Greek")  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "my_package", module)
    assert TextExpert().language_of("καλημέρα") == "el"


def test_transformers_run_and_print_what_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "hello", "day"]
    plain = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=plain, model_max_length=16, **special)
    config = transformers.BertConfig(
        vocab_size=len(words),
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=16,
        id2label={0: "sadness", 1: "joy", 2: "anger"},
        label2id={"sadness": 0, "joy": 1, "anger": 2},
    )
    tokenizer.save_pretrained(tmp_path / "my-model")
    transformers.BertForSequenceClassification(config).save_pretrained(tmp_path / "my-model")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (code,) = blocks("python transformers")
    assert printed_by([code], types.ModuleType("my_package")) == blocks("text transformers")[0]
