"""The page /docs in Chromium: it loads nothing else, works by keyboard, in light and dark, and on a phone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.harness import ForkedServer, ServerProcess
from tests.http.test_chromium import browser

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

__all__ = ["browser"]

PHONE = {"width": 360, "height": 740}
COLOURS = "[document.body, document.querySelector('h1')].map(each => getComputedStyle(each))"


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ForkedServer() as running:
        yield running


@contextmanager
def docs(browser: Browser, server: ServerProcess, **options: Any) -> Iterator[Page]:
    """The page in a context of its own. It may ask for its style alone, and say nothing in the console."""
    with browser.new_context(**options) as context:
        page, asked, said = context.new_page(), list[str](), list[str]()
        page.on("request", lambda request: asked.append(request.url.removeprefix(server.url)))
        page.on("console", lambda message: said.append(message.text))
        page.goto(f"{server.url}/docs")
        yield page
        assert (set(asked) - {"/favicon.ico"}, said) == ({"/docs", "/docs.css"}, [])


def test_the_keyboard_reaches_everything(browser: Browser, server: ServerProcess) -> None:
    with docs(browser, server) as page:
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
        assert page.locator(".skip").bounding_box()["x"] >= 0  # type: ignore[index]
        page.keyboard.press("Enter")
        assert page.evaluate("location.hash") == "#main"
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        target = page.evaluate("document.querySelector(location.hash).id")
        assert target == "NewTopic"
        assert page.evaluate("document.getElementById('NewTopic').getBoundingClientRect().top") < 200
        outline = page.evaluate(
            "document.querySelector('nav a').focus() || getComputedStyle(document.activeElement).outlineStyle"
        )
        assert outline != "none"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_follows_the_mode_of_the_reader(scheme: Any, browser: Browser, server: ServerProcess) -> None:
    with docs(browser, server, color_scheme=scheme) as page:
        back, text = page.evaluate(f"(([body, title]) => [body.backgroundColor, title.color])({COLOURS})")
        assert (brightness(back) > brightness(text)) == (scheme == "light")
        assert abs(brightness(back) - brightness(text)) > 150


def brightness(colour: str) -> float:
    """The mean of the three parts of ``rgb(r, g, b)``."""
    return sum(map(float, colour.removeprefix("rgb(").removesuffix(")").split(","))) / 3


def test_it_fits_a_phone(browser: Browser, server: ServerProcess) -> None:
    with docs(browser, server, viewport=PHONE) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
