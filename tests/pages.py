"""The pages of the documentation as tests read them: their blocks of code, links and commands."""

from __future__ import annotations

import contextlib
import doctest
import io
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from command import Run

__all__ = ["DOCS", "PAGES", "ROOT", "Block", "blocks", "commands", "links", "prose", "run_page", "shown_commands"]

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
BUILT = (DOCS / "_build", DOCS / "reference" / "generated")

PAGES = sorted(
    page
    for page in (*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *(ROOT / "src" / "affuse" / "assets").rglob("*.md"))
    if not any(page.is_relative_to(folder) for folder in BUILT)
)

_FENCE = re.compile(r"^(?P<marks>```+)(?P<language>[^\n`]*)\n(?P<text>.*?)^(?P=marks)\s*$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)")
_OUTPUT = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@dataclass(frozen=True)
class Block:
    """A fenced block of a page: its language, its text, and the line that it starts at."""

    language: str
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    """Fenced blocks of a page, from the top."""
    source = page.read_text(encoding="utf-8")
    return [
        Block(found["language"].strip(), found["text"], source.count("\n", 0, found.start()) + 1)
        for found in _FENCE.finditer(source)
    ]


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def links(page: Path) -> list[str]:
    """Targets of a page's links and pictures."""
    return _LINK.findall(re.sub(r"`[^`\n]*`", "", prose(page)))


def shown_commands(block: Block) -> Iterator[tuple[str, str]]:
    """(command, output) of a block of a terminal; without a `$`, every line is a command without output."""
    text = re.sub(r"\\\n\s*", " ", block.text)
    if not text.lstrip().startswith("$ "):
        yield from ((line, "") for line in text.splitlines() if line.strip())
        return
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield command, output


def commands(page: Path) -> list[list[str]]:
    """Arguments of every `affuse` command of a page, in blocks and within sentences."""
    lines = [
        command
        for block in blocks(page)
        if block.language in ("", "bash", "console", "sh", "text")
        for command, _ in shown_commands(block)
    ]
    lines += [found.replace("\n", " ") for found in re.findall(r"`(affuse [^`]*)`", prose(page))]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("affuse ")]


def run_page(page: Path, call: Run, wanted: Callable[[str], bool] = lambda command: True) -> int:
    """Run a page from the top: Python in one namespace, `affuse` commands of console blocks, outputs compared.

    A text block after a Python block is what it prints. Blocks and commands that are not wanted are left out. Returns
    the number of those that ran.
    """
    names: dict[str, Any] = {"__name__": "page"}
    printed, ran = "", 0
    for block in blocks(page):
        if block.language == "python" and wanted(block.text):
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                exec(compile("\n" * block.line + block.text, str(page), "exec"), names)
            printed, ran = out.getvalue(), ran + 1
        elif block.language == "text" and printed:
            _same(block.text, (printed,), page, block.line)
            printed = ""
        elif block.language == "console":
            for command, output in shown_commands(block):
                if wanted(command):
                    done = call(*shlex.split(command, comments=True)[1:])
                    assert done.code == 0, f"{page.name}:{block.line}: {command}\n{done.err}"
                    printed_by_it = (done.out + done.err, done.err + done.out)  # how the two mix is not known
                    _same(output, printed_by_it, page, block.line)
                    ran += 1
    return ran


def _same(promised: str, printed: Sequence[str], page: Path, line: int) -> None:
    """Check that a page promises one of these outputs; how long the rules of tables are does not matter."""
    checker = doctest.OutputChecker()
    promised, *printed = (re.sub("─+", "─", text) for text in (promised, *printed))
    if promised and not any(checker.check_output(promised, output, _OUTPUT) for output in printed):
        difference = checker.output_difference(doctest.Example("", promised), printed[0], _OUTPUT)
        raise AssertionError(f"{page.name}:{line}\n{difference}")
