"""``make audit``: are there known vulnerabilities in what an environment holds? pip-audit's answer in a sentence.

pip-audit ends with 0 where it could look up nothing at all; here that is no answer, and ends with 2.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

__all__ = ["main", "verdict"]

_UNKNOWN = "so nothing is known about vulnerabilities here; run make audit where advisories can be asked for"


def verdict(report: dict[str, Any]) -> tuple[int, str]:
    """Exit code and sentence for a report of pip-audit: 0 nothing known, 1 vulnerable, 2 not (wholly) looked up."""
    found = report["dependencies"]
    skipped = sorted(own["name"] for own in found if "skip_reason" in own)
    hit = {own["name"]: [one["id"] for one in own["vulns"]] for own in found if own.get("vulns")}
    asked = len(found) - len(skipped)
    if not asked:
        return 2, f"The package index knows none of the packages (of {len(found)}) in their versions, {_UNKNOWN}."
    named = "; ".join(f"{name} ({', '.join(ids)})" for name, ids in sorted(hit.items())) or "none"
    sentence = f"Packages looked up: {asked}. Known vulnerabilities: {named}."
    if skipped:
        sentence += f" Not looked up: {', '.join(skipped)}."
    return 1 if hit else 2 if skipped else 0, sentence


def main() -> int:
    """Run pip-audit, keep its report, and print the sentence."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tool", required=True, help="the command pip-audit")
    parser.add_argument("--packages", required=True, help="folder site-packages that is looked at")
    parser.add_argument("--service", choices=["pypi", "osv"], default="pypi", help="who is asked for advisories")
    parser.add_argument("--out", type=Path, required=True, help="file of the report (JSON)")
    chosen = parser.parse_args()
    chosen.out.unlink(missing_ok=True)
    options = [
        "--vulnerability-service",
        chosen.service,
        "--skip-editable",
        "--progress-spinner",
        "off",
        "--format",
        "json",
        "--output",
        str(chosen.out),
    ]
    done = subprocess.run(
        [chosen.tool, "--path", chosen.packages, *options], capture_output=True, text=True, check=False
    )
    if not chosen.out.is_file():
        reason = (done.stderr.strip().splitlines() or ["pip-audit said nothing"])[-1]
        print(f"Advisories could not be asked for ({reason[:300]}), {_UNKNOWN}.")
        return 2
    code, sentence = verdict(json.loads(chosen.out.read_text(encoding="utf-8")))
    print(sentence)
    return code


if __name__ == "__main__":
    sys.exit(main())
