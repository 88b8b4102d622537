"""The worked page "add your own rule" runs as printed, and its rule is as short as promised."""

from __future__ import annotations

import contextlib
import io
import re
import sys
import tomllib
import types
from pathlib import Path

import pytest

PAGE = Path(__file__).parent.parent / "docs" / "add-your-own-rule.md"

pytestmark = pytest.mark.skipif(not PAGE.is_file(), reason="the pages are not part of this source distribution")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)


def test_the_page_runs_and_prints_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    # A module of its own, since a class is read back from disk by the name of its module.
    module = types.ModuleType("my_package")
    monkeypatch.setitem(sys.modules, "my_package", module)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        for block in blocks("python"):
            exec(compile(block, str(PAGE), "exec"), module.__dict__)
    assert printed.getvalue() == blocks("text")[0]
    group = tomllib.loads(blocks("toml")[0])["project"]["entry-points"]["affuse.fusers"]
    assert all(hasattr(module, place.removeprefix("my_package:")) for place in group.values())


def test_a_rule_takes_less_than_twenty_lines() -> None:
    lines = [line for line in blocks("python")[0].splitlines() if line.strip()]
    assert len(lines) < 20
