"""The chat page: two people by keyboard, payloads as text, presence, and a restart of the server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from tests.examples.pages import check_looks, wait_for_state, wait_for_texts
from tests.examples.programs import Program

if TYPE_CHECKING:
    from playwright.sync_api import Page

HTML = "<img src=x onerror=\"document.title='run'\">"


@pytest.fixture(scope="module", autouse=True)
def site(site_port: int) -> Iterator[None]:
    with Program("http.server 8000", "Serving HTTP", port=site_port):
        yield


def join(page: Page, name: str) -> None:
    """Enter the room by keyboard alone: the first field has the focus."""
    page.keyboard.type(name)
    page.keyboard.press("Enter")
    wait_for_state(page, "open")


def say(page: Page, text: str) -> None:
    page.keyboard.type(text)
    page.keyboard.press("Enter")


def test_two_people_see_each_other_and_what_they_say(open_page: Callable[[str], Page]) -> None:
    alice, bob = open_page("/chat/"), open_page("/chat/")
    wait_for_state(alice, "not connected")
    join(alice, "alice")
    join(bob, "bob")
    for page in (alice, bob):
        wait_for_texts(page, "#people li", "alice", "bob")
    say(alice, "hello")
    say(alice, HTML)
    for page in (alice, bob):
        wait_for_texts(page, "#messages li", "alicehello", f"alice{HTML}")
        assert page.title() == "Chat"
        check_looks(page)
