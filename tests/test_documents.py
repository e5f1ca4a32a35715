"""The house rules of the documents: what they name exists, and what exists is named."""

import re
from pathlib import Path

import pytest

from app import problems
from app.main import create_app
from app.settings import Settings
from training.__main__ import app as training_verbs
from training.bars import MEANINGS

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"")


def name(path: Path) -> str:
    """A document's name in a test report."""
    return str(path.relative_to(ROOT))


def settings_names() -> set[str]:
    """Every environment variable that the service reads: the fields of its settings object."""
    return set(Settings.model_fields)


def without_code(text: str) -> str:
    """A document without its code, in which brackets are no links."""
    return re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)


def anchors(text: str) -> set[str]:
    """The anchors that the headings of a document give, as GitHub spells them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_every_link_leads_somewhere(document: Path) -> None:
    links = [first or second for first, second in LINK.findall(without_code(document.read_text()))]
    dead = []
    for link in links:
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        if not target.exists() or (anchor and anchor not in anchors(target.read_text())):
            dead.append(link)
    assert dead == []


def test_every_page_can_be_reached_from_the_index() -> None:
    seen: set[Path] = set()
    waiting = [ROOT / "docs" / "index.md"]
    while waiting:
        page = waiting.pop()
        seen.add(page)
        links = (first for first, _ in LINK.findall(page.read_text()))
        linked = ((page.parent / link.partition("#")[0]).resolve() for link in links)
        waiting += [path for path in linked if path.suffix == ".md" and path.is_file() and path not in seen]
    assert set((ROOT / "docs").rglob("*.md")) - seen == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_every_make_command_exists(document: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    code = "\n".join(re.findall(r"```.*?```|`[^`\n]+`", document.read_text(), flags=re.DOTALL))
    assert set(re.findall(r"\bmake ([a-z-]+)", code)) - targets == set()


def test_the_readme_names_the_commands_a_newcomer_needs() -> None:
    readme = (ROOT / "README.md").read_text()
    for command in ("make demo", "make serve", "make test", "make training", "make bench"):
        assert command in readme


def test_every_setting_is_documented_and_every_documented_setting_exists() -> None:
    page = (ROOT / "docs" / "reference" / "configuration.md").read_text()
    assert set(re.findall(r"^\| `([A-Z_]+)` \|", page, flags=re.MULTILINE)) == settings_names()


def test_nothing_is_left_to_be_written() -> None:
    unfinished = re.compile(r"\b(TODO|TBD|FIXME|XXX|lorem ipsum|coming soon)\b", flags=re.IGNORECASE)
    assert [name(page) for page in DOCUMENTS if unfinished.search(page.read_text())] == []


def test_every_problem_code_is_documented_and_every_documented_one_exists() -> None:
    page = (ROOT / "docs" / "reference" / "http-api.md").read_text()
    rows = re.findall(r"^\| (\d{3}) \| (.+) \|$", page, flags=re.MULTILINE)
    documented = {(int(status), code) for status, codes in rows for code in re.findall(r"`([a-z-]+)`", codes)}
    catalogue = [kind for kind in vars(problems).values() if isinstance(kind, problems.Kind)]
    assert documented == {(kind.status, kind.code) for kind in catalogue}


def test_every_route_is_on_the_map() -> None:
    page = (ROOT / "docs" / "reference" / "http-api.md").read_text()
    rows = [line.split("|")[1] for line in page.splitlines() if re.match(r"\| `(GET|POST|DELETE) ", line)]
    mapped = {re.sub(r"\{\w+\}", "{}", path) for row in rows for path in re.findall(r"(/[\w/{}.]*)`", row)}
    served = {re.sub(r"\{\w+\}", "{}", path) for path in create_app(Settings()).openapi()["paths"]}
    assert mapped - {"/"} == served


def test_every_metric_is_documented_and_every_documented_one_is_measured() -> None:
    metrics = section("reference/bundles.md", "The metrics")
    rows = [line.split("|")[1] for line in metrics.splitlines() if line.startswith("| `")]
    assert {metric for row in rows for metric in re.findall(r"`(\w+)`", row)} == set(MEANINGS)


def test_every_training_verb_is_documented_and_every_documented_one_exists() -> None:
    verbs = section("howto/train-a-bundle.md", "The verbs, in order")
    documented = set(re.findall(r"^\| `([a-z0-9-]+)` \|", verbs, flags=re.MULTILINE))
    assert documented == {command.name for command in training_verbs.registered_commands}


def section(page: str, heading: str) -> str:
    """What stands under one heading of a page below docs/."""
    return (ROOT / "docs" / page).read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
