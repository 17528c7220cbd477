"""Lists skipped tests with their reasons and counts the outcomes of a JUnit file.

Exit code 1 if a test failed, if none ran, or if one was skipped that ../shared could have served.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

SHARED = Path(__file__).resolve().parents[2] / "shared"
NEEDS = re.compile(r"needs (\S+) of \.\./shared")


def outcome(case: ElementTree.Element) -> str:
    """One of passed, failed, error and skipped."""
    found = {child.tag for child in case} & {"failure", "error", "skipped"}
    return {"failure": "failed"}.get(tag := next(iter(found), "passed"), tag)


def could_have_run(reason: str) -> bool:
    """Whether the test was skipped for a part of ../shared that is there."""
    match = NEEDS.search(reason)
    return match is not None and (SHARED / match.group(1)).exists()


def main(results: Path) -> int:
    """Print the verdict on a JUnit file and return the exit code."""
    cases = list(ElementTree.parse(results).getroot().iter("testcase"))
    skips = Counter(skip.get("message", "") for case in cases for skip in case.iter("skipped"))
    for reason, count in sorted(skips.items()):
        remark = "  <- but ../shared is there: counted as a failure" * could_have_run(reason)
        print(f"skipped {count}: {reason}{remark}")
    tally = Counter(outcome(case) for case in cases)
    unserved = sum(count for reason, count in skips.items() if could_have_run(reason))
    failed = tally["failed"] + tally["error"] + unserved
    print(f"{tally['passed']} passed, {failed} failed, {tally['skipped'] - unserved} skipped")
    return int(failed > 0 or tally["passed"] == 0)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
