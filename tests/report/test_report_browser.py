"""The page in a real browser: nothing missing, nothing asked of a network, nothing wider than the screen."""

from __future__ import annotations

import base64
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest


def _module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("browser", Path(__file__).parents[1] / "browser.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tools = _module()
pytestmark = pytest.mark.skipif(
    tools.find_browser() is None, reason=f"none of {', '.join(tools.NAMES)} is installed"
)
PICTURES = """(async () => {
    await Promise.all([...document.images].map(image => image.decode()));
    return [...document.images].map(image => {
        const box = image.getBoundingClientRect();
        return [image.naturalWidth, image.naturalHeight, box.width, box.height, image.alt.length];
    });
})()"""
WIDER = """[...document.querySelectorAll('body *')]
    .filter(e => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest('.scroll, pre'))
    .map(e => e.tagName + '.' + e.className)"""


@pytest.fixture
def page(tiny_report: Path) -> Path:
    return tiny_report


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator:
    opened = tools.Browser(tools.find_browser(), tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


@pytest.mark.parametrize(("width", "height"), [(360, 740), (768, 1024), (1280, 900)])
def test_pictures_are_seen_and_nothing_is_wider_than_the_screen(page, browser, width, height):
    browser.show(page, width, height)
    pictures = browser.ask(PICTURES)
    assert len(pictures) == page.read_text(encoding="utf-8").count("<img ")
    assert len(pictures) >= 8
    assert min(min(numbers) for numbers in pictures) > 0
    assert browser.ask("document.documentElement.scrollWidth <= innerWidth")
    assert browser.ask(WIDER) == []


def test_no_complaint_no_failure_and_no_request_but_the_page_itself(page, browser):
    browser.show(page, 1280, 900)
    assert browser.happened("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled") == []
    assert browser.happened("Network.loadingFailed") == []
    urls = {event["request"]["url"] for event in browser.happened("Network.requestWillBeSent")}
    assert {url for url in urls if not url.startswith("data:")} == {page.resolve().as_uri()}


def test_links_of_the_contents_lead_to_sections(page, browser):
    browser.show(page, 768, 1024)
    assert browser.ask("[...document.querySelectorAll('nav a')].every(a => document.querySelector(a.hash))")
    assert browser.ask("document.querySelectorAll('nav a').length") == browser.ask(
        "document.querySelectorAll('main section').length"
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast(page, browser, scheme):
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    browser.show(page, 768, 1024)
    colours = browser.ask(
        "[...document.querySelectorAll('p, li, td, th, a, dt, figcaption, h2, .warning li')].map(e => {"
        " let b = e; while (b && getComputedStyle(b).backgroundColor.endsWith(', 0)')) b = b.parentElement;"
        " return [getComputedStyle(e).color, getComputedStyle(b || document.body).backgroundColor] })"
    )
    pairs = {tuple(pair) for pair in colours}
    assert len(pairs) > 3
    assert min(tools.contrast(*pair) for pair in pairs) >= 4.5
    browser.call("Emulation.setEmulatedMedia", features=[])


def test_it_prints_on_several_pages(page, browser):
    browser.show(page, 1280, 900)
    printed = base64.b64decode(browser.call("Page.printToPDF", preferCSSPageSize=True)["data"])
    assert printed.startswith(b"%PDF-")
    sheets = re.findall(rb"/Type\s*/Page\b", printed)
    assert 3 < len(sheets) < 40
    # A4 in points
    boxes = {
        tuple(round(float(n)) for n in box.split())
        for box in re.findall(rb"/MediaBox\s*\[([^\]]*)\]", printed)
    }
    assert boxes == {(0, 0, 595, 842)}
