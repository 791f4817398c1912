"""A web page in Chromium, with the browser's own WebSocket."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from tests.compat.contract import Wire
from tests.http.test_chromium import CHROMIUM, FLAGS

if TYPE_CHECKING:
    from playwright.async_api import Page

PAGE = """async (url) => {
    const received = [], waiting = [];
    window.socket = new WebSocket(url);
    window.next = () => new Promise((resolve) => received.length ? resolve(received.shift()) : waiting.push(resolve));
    window.ended = new Promise((resolve) => { socket.onclose = (event) => resolve(event.code); });
    socket.onmessage = ({ data }) => waiting.length ? waiting.shift()(data) : received.push(data);
    await new Promise((resolve) => { socket.onopen = resolve; });
}"""


class PageWire:
    """A WebSocket of a web page."""

    def __init__(self, page: Page) -> None:
        self._page = page

    async def send(self, text: str) -> None:
        await self._page.evaluate("text => socket.send(text)", text)

    async def receive(self) -> str:
        return str(await self._page.evaluate("next()"))

    async def close(self) -> None:
        await self._page.evaluate("socket.close(1000)")
        assert await self.closed() == 1000

    async def closed(self) -> int:
        return int(await self._page.evaluate("ended"))


@asynccontextmanager
async def open_chromium(url: str) -> AsyncIterator[Wire]:
    if CHROMIUM is None:
        assert os.environ.get("CI") != "true", "needs chromium: apt-get install chromium"
        pytest.skip("needs chromium: apt-get install chromium")
    from playwright.async_api import async_playwright  # here, because not every test process must load it

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = await browser.new_page()
        await page.goto(url.replace("ws:", "http:").partition("/ws?")[0] + "/health")  # a page of the same origin
        await page.evaluate(PAGE, url)
        yield PageWire(page)
        await browser.close()
