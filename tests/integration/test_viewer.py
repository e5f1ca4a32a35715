"""A person in a real browser: choose an image, watch, walk through the frames. Skipped where there is no Chromium."""

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from app.keys import FileKeys, new_key
from app.settings import Settings
from app.stack import Stack
from tests.integration.test_explanation import SAMPLE
from tests.many_directions import write_many_directions
from workers.jobstore import utc_now

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed; it comes with extra test")
pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no {CHROMIUM}; Debian's package is chromium")

expect = playwright.expect
expect.set_options(timeout=30_000)  # ms; a busy machine may be slow, a broken page never gets there


@pytest.fixture(scope="module")
def browser() -> Iterator["playwright.Browser"]:
    """A headless Chromium."""
    with playwright.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, "--disable-sync"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: "playwright.Browser", stack: Stack) -> Iterator["playwright.Page"]:
    """The viewer, open; afterwards, nothing was asked of another machine and no policy or script was broken."""
    page = browser.new_page(base_url=stack.url)
    asked: list[str] = []
    faults: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda said: faults.append(said.text) if "Content Security Policy" in said.text else None)
    page.goto("/")
    yield page
    page.close()
    assert faults == []
    assert {urlsplit(url).netloc for url in asked if not url.startswith("blob:")} == {urlsplit(stack.url).netloc}


def explain(page: "playwright.Page", data: bytes = SAMPLE) -> None:
    """Choose an image and ask."""
    file = {"name": "band.png", "mimeType": "image/png", "buffer": data}
    page.get_by_label("Image", exact=True).set_input_files(file)
    page.get_by_role("button", name="Explain").click()


def test_an_image_becomes_a_strip_whose_frames_can_be_walked_by_keyboard(page: "playwright.Page") -> None:
    explain(page)
    slider = page.get_by_role("slider", name="Frame")
    expect(slider).to_be_focused()
    expect(page.locator("#mark")).to_have_text("start")
    expect(page.locator("#probability")).to_have_text(re.compile(r"^20\s%$"))
    slider.press("End")
    expect(page.locator("#probability")).to_have_text(re.compile(r"^95\s%$"))
    expect(page.locator("#decision")).to_have_text("yes")
    slider.press("Home")
    expect(page.locator("#probability")).to_have_text(re.compile(r"^5\s%$"))
    expect(page.locator("#film button[aria-current=true]")).to_have_count(1)


def test_pointing_at_a_thumbnail_shows_its_frame(page: "playwright.Page") -> None:
    explain(page)
    page.locator("#film button.flip").hover()
    expect(page.locator("#mark")).to_have_text("flip")
    assert page.locator("#frame").evaluate("image => image.complete && image.naturalWidth") == 16


def test_all_figures_stand_in_a_table_and_the_report_can_be_fetched(page: "playwright.Page") -> None:
    explain(page)
    page.get_by_text("All figures").click()
    expect(page.locator("#figures tr")).to_have_count(10)  # nine frames, and the flip between two of them
    expect(page.locator("#figures tr.flip td").last).to_have_text("flip")
    with page.expect_download() as download:
        page.get_by_role("link", name="Report").click()
    assert b'"frames"' in download.value.path().read_bytes()


def test_the_strip_itself_is_shown(page: "playwright.Page") -> None:
    explain(page)
    sheet = page.get_by_alt_text("The whole strip")
    expect(sheet).to_be_visible()
    assert sheet.evaluate("async image => { await image.decode(); return image.naturalWidth }") > 9 * 16


def test_the_strip_runs_and_what_speaks_against_it_is_said(page: "playwright.Page") -> None:
    explain(page)
    motion = page.get_by_alt_text("The strip in motion")
    expect(motion).to_be_visible()
    assert motion.evaluate("async image => { await image.decode(); return image.naturalWidth }") >= 176
    expect(page.get_by_role("link", name="Animation")).to_be_visible()
    expect(page.get_by_alt_text("Heatmap: what changes along the strip")).to_be_visible()
    expect(page.locator("#verdict")).to_have_text("To be read with caution")
    expect(page.locator("#reasons li")).to_have_count(1)


def test_a_classifier_with_several_directions_lets_one_be_chosen_and_grades_are_said_as_grades(
    browser: "playwright.Browser", toy_settings: Settings, tmp_path: Path
) -> None:
    write_many_directions(tmp_path)
    asks = {"BUNDLES_DIR": tmp_path, "RUN_DIR": toy_settings.RUN_DIR.with_name("many")}
    with Stack(toy_settings.model_copy(update=asks), quiet=True) as stack:
        page = browser.new_page(base_url=stack.url)
        page.goto("/")
        chosen = page.get_by_label("What changes")
        expect(chosen.locator("option")).to_have_text(
            ["present", "slight: slight", "ordinal: how clear", re.compile("attribute-1: 75.% of the effect")]
        )
        chosen.select_option("ordinal")
        explain(page)
        expect(page.locator("#probability")).to_have_text(re.compile(r"^grade \d\.\d+$"))
        expect(page.locator("#sentence")).to_contain_text("grade")
        expect(page.locator("#title")).to_have_text("how clear")
        page.close()


def test_the_address_keeps_the_job(page: "playwright.Page") -> None:
    explain(page)
    expect(page.locator("#result")).to_be_visible()
    page.reload()
    expect(page.locator("#probability")).to_have_text(re.compile(r"^20\s%$"))


def test_a_file_that_is_no_image_is_told_about_and_the_next_one_works(page: "playwright.Page") -> None:
    explain(page, b"This is not a knee.")
    expect(page.get_by_role("alert")).to_contain_text("not an image that is read here")
    explain(page)
    expect(page.locator("#result")).to_be_visible()


def test_where_a_key_is_asked_for_the_page_asks_for_it_until_it_is_good(
    browser: "playwright.Browser", toy_settings: Settings, tmp_path: Path
) -> None:
    shown, kept = new_key("viewer", ("explain", "read"), utc_now())
    FileKeys(tmp_path / "keys.json").add(kept)
    asks = {"KEYS": "file", "KEYS_FILE": tmp_path / "keys.json", "RUN_DIR": toy_settings.RUN_DIR.with_name("keys")}
    with Stack(toy_settings.model_copy(update=asks), quiet=True) as stack:
        page = browser.new_page(base_url=stack.url)
        page.goto("/")
        for key in ("cf_nobody", shown):
            page.get_by_label("Key", exact=True).fill(key)
            page.get_by_role("button", name="Go on").click()
            if key != shown:
                expect(page.locator("#key-hint")).to_contain_text("not known")
        expect(page.locator("dialog")).to_be_hidden()
        explain(page)
        expect(page.locator("#result")).to_be_visible()
        assert page.get_by_alt_text("The whole strip").evaluate(
            "image => image.decode().then(() => image.naturalWidth)"
        )
        page.reload()
        expect(page.locator("#result")).to_be_visible()
        page.close()


def test_the_page_says_what_it_is_not_for(page: "playwright.Page") -> None:
    expect(page.locator("footer")).to_contain_text("research use, not for diagnosis")


def test_the_documentation_needs_no_other_machine(page: "playwright.Page") -> None:
    page.goto("/docs")
    expect(page.get_by_text("Explain a classifier's answer about an image")).to_be_visible()
