"""`make schemathesis`: holds a whole service to its OpenAPI document, all phases, stateful links; prints figures.

The service is the real one, on toy bundles: broker, worker and HTTP face, with keys asked for. What schemathesis makes
up is completed by `contract_hooks`; `schemathesis.toml` says what is expected.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import httpx2

from app.keys import FileKeys, new_key
from app.settings import Settings
from app.stack import Stack
from tests.toys import write_toys
from workers.jobstore import utc_now

ROOT = Path(__file__).parents[2]
CASES_PER_EXAMPLE = 35
"""About how many cases one more example for each operation and phase makes."""


@dataclass(frozen=True)
class Outcome:
    """What came of a run."""

    passed: bool
    cases: int
    answers: dict[str, int]
    said: str

    @property
    def accepted(self) -> int:
        """How many made-up requests became a job, or met the job that an equal one had become."""
        return self.answers.get("202", 0) + self.answers.get("200", 0)


def main() -> int:
    """Run until at least so many cases were tried; print one JSON object; exit with 1 on any failure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=5000, help="how many cases at least")
    wanted = parser.parse_args().cases
    passed, cases, answers = True, 0, Counter[str]()
    while passed and cases < wanted:
        outcome = run(examples=max(20, (wanted - cases) // CASES_PER_EXAMPLE))
        print(outcome.said, file=sys.stderr)
        passed, cases = outcome.passed, cases + outcome.cases
        answers.update(outcome.answers)
    print(json.dumps({"cases": cases, "passed": passed, "answers_to_explain": dict(sorted(answers.items()))}))
    return 0 if passed else 1


def run(examples: int, *more: str) -> Outcome:
    """One run of every phase against a service of its own.

    Args:
        examples: How many examples of each operation.
        more: Further arguments of `st run`.
    """
    with tempfile.TemporaryDirectory(prefix="contrafact-") as folder:
        shown, kept = new_key("contract", ("explain", "read"), utc_now(), most_jobs=10_000)
        keys, bundles = Path(folder) / "keys.json", Path(folder) / "bundles"
        FileKeys(keys).add(kept)
        write_toys(bundles)
        place = {"RUN_DIR": Path(folder) / "run", "BUNDLES_DIR": bundles, "KEYS_FILE": keys}
        with Stack(Settings(**place, PORT=0, REDIS_URL=None, THREADS=1, KEYS="file"), quiet=True) as stack:
            return _test(stack.url, shown, examples, *more)


def _test(url: str, key: str, examples: int, *more: str) -> Outcome:
    program = [str(Path(sys.executable).with_name("st")), "--config-file", "tests/integration/schemathesis.toml", "run"]
    asked = [f"{url}/openapi.json", "--header", f"Authorization: Bearer {key}", "--max-examples", str(examples)]
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": "tests.integration.contract_hooks", "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        [*program, *asked, "--no-color", *more], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    cases = re.search(r"([\d,]+) generated", ran.stdout)
    return Outcome(ran.returncode == 0, int(cases[1].replace(",", "")) if cases else 0, _answers(url, key), ran.stdout)


def _answers(url: str, key: str) -> dict[str, int]:
    """How POST /explain was answered, by status."""
    metrics = httpx2.get(f"{url}/metrics", headers={"Authorization": f"Bearer {key}"}, trust_env=False).text
    counted = re.findall(
        r'contrafact_http_requests_total\{method="POST",route="/explain",status="(\d+)"\} ([\d.]+)', metrics
    )
    return {status: int(float(count)) for status, count in counted}


if __name__ == "__main__":
    sys.exit(main())
