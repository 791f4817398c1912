"""Steps of the tests of several pages: wait for texts and for the state of the connection, check the looks."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Page

PHONE = 360  # pixels
NAMED = "[...document.querySelectorAll('input, button')].every(each => each.ariaLabel || each.innerText)"


def wait_for_texts(page: Page, selector: str, *texts: str) -> None:
    """Wait until the elements have exactly these texts, in this order."""
    page.wait_for_function(
        "([selector, texts]) => JSON.stringify([...document.querySelectorAll(selector)].map(each => each.textContent))"
        " === JSON.stringify(texts)",
        arg=[selector, list(texts)],
    )


def wait_for_state(page: Page, state: str) -> None:
    """Wait until the page shows this state, as a word."""
    page.wait_for_function(
        "state => document.getElementById('state').textContent === state"
        " && document.getElementById('state').dataset.state === state",
        arg=state,
    )


def check_looks(page: Page) -> None:
    """Check that nothing sticks out of a phone's screen, that light and dark differ, and that each field has a name."""
    page.set_viewport_size({"width": PHONE, "height": 640})
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE
    page.emulate_media(color_scheme="light")
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.emulate_media(color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light
    assert page.evaluate(NAMED)
