"""The dashboard in use, in Chromium: keys, a hidden page, a restart, the keyboard, screen readers, phones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pytest

from tests.credentials import API_KEYS, SECRET, make_token
from tests.harness import ForkedServer, ServerProcess, free_port
from tests.http.dashboard_page import LONGEST, PHONE, RULES, call, create, dashboard, faults, publish, show, subscriber
from tests.http.test_chromium import browser

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

__all__ = ["browser"]

SCREENS = [
    "", "topics", "topics/orders", f"topics/{LONGEST}", "clients", "clients?gone=1", "clients/alice", "slow",
    "why?client=alice&topic=orders&message=1", "publish?topic=orders", "storage", "settings", "tokens",
]  # fmt: skip


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ForkedServer() as running:
        for name in ("orders", LONGEST):
            create(running, name, presence=True)
            publish(running, name, {"amount": 1}, "x" * 3000)
        with subscriber(running, "alice", "orders"):
            yield running


@pytest.fixture(scope="module")
def guarded() -> Iterator[ServerProcess]:
    """A server with keys, and with tokens."""
    with ForkedServer(environment={"API_KEYS": API_KEYS, "JWT_SECRET": SECRET}) as running:
        call(running, "POST", "/topics", {"name": "orders"}, key="ops-key")
        yield running


def sign_in(page: Page, key: str) -> None:
    page.get_by_label("API key or token").fill(key)
    page.get_by_role("button", name="Sign in").click()


def test_a_key_is_asked_for_and_kept_in_the_tab(browser: Browser, guarded: ServerProcess) -> None:
    from playwright.sync_api import expect

    with dashboard(browser, guarded, "topics") as page:
        sign_in(page, "wrong")
        expect(page.get_by_text("key: unknown")).to_be_visible()
        sign_in(page, "ops-key")
        expect(page.get_by_role("link", name="orders")).to_be_visible()
        page.reload()
        expect(page.get_by_role("link", name="orders")).to_be_visible()
        assert page.evaluate("[localStorage.length, document.cookie, location.href.includes('ops-key')]") == [
            0, "", False,
        ]  # fmt: skip
        other = page.context.new_page()
        other.goto(f"{guarded.url}/admin")
        expect(other.get_by_role("heading", name="Sign in")).to_be_visible()
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_a_key_follows_a_topic_by_a_stream(browser: Browser, guarded: ServerProcess) -> None:
    from playwright.sync_api import expect

    with dashboard(browser, guarded, "topics/orders", permissions=["clipboard-read", "clipboard-write"]) as page:
        sign_in(page, "ops-key")
        expect(page.get_by_text("Live, the newest first")).to_be_visible()
        call(guarded, "POST", "/topics/orders/messages", {"payload": "hello"}, key="shop-key")
        expect(page.locator(".messages > li").first).to_contain_text("hello")
        page.get_by_role("button", name="Copy as curl").first.click()
        expect(page.get_by_text("Copied")).to_be_visible()
        copied = page.evaluate("navigator.clipboard.readText()")
        assert copied == f"""curl -H "X-API-Key: $KEY" '{guarded.url}/topics/orders'"""


def test_a_key_that_reads_sees_and_cannot_touch(browser: Browser, guarded: ServerProcess) -> None:
    from playwright.sync_api import expect

    with dashboard(browser, guarded, "topics") as page:
        sign_in(page, "board-key")
        expect(page.get_by_text("that may only read")).to_be_visible()
        expect(page.get_by_role("link", name="orders")).to_be_visible()
        expect(page.get_by_role("button", name="New topic")).to_be_disabled()
        expect(page.get_by_role("button", name="Delete orders")).to_be_disabled()
        show(page, "topics/orders")
        expect(page.get_by_role("button", name="Purge…")).to_be_disabled()
        show(page, "publish")
        expect(page.get_by_role("button", name="Publish")).to_be_disabled()
        show(page, "settings")
        secret = page.locator("tr", has=page.get_by_text("JWT_SECRET", exact=True))
        expect(secret.get_by_text("secret", exact=True)).to_be_visible()
        expect(secret).not_to_contain_text(SECRET)


def test_a_token_with_admin_signs_in(browser: Browser, guarded: ServerProcess) -> None:
    from playwright.sync_api import expect

    with dashboard(browser, guarded, "topics/orders") as page:
        sign_in(page, make_token("reader", subscribe=["orders"]))
        expect(page.get_by_text("it needs admin")).to_be_visible()
        sign_in(page, make_token("ops", admin=True))
        expect(page.get_by_text("Live, the newest first")).to_be_visible()
        show(page, "clients")
        expect(page.get_by_role("button", name="Disconnect")).to_have_count(0)
        show(page, "topics/orders")
        expect(page.get_by_text("Live, the newest first")).to_be_visible()


HIDE = """hidden => {
    Object.defineProperty(document, "hidden", {value: hidden, configurable: true});
    document.dispatchEvent(new Event("visibilitychange"));
}"""


def is_followed(server: ServerProcess) -> bool:
    """True if a page has subscribed to the topic."""
    clients = call(server, "GET", "/clients")["clients"]
    return any(each["client_id"].startswith("dashboard-") and each["subscriptions"] for each in clients)


def test_a_hidden_page_asks_for_nothing(browser: Browser, server: ServerProcess) -> None:
    from playwright.sync_api import expect

    with dashboard(browser, server, "topics/orders?last=0", with_clock=True) as page:
        expect(page.get_by_text("Live, the newest first")).to_be_visible()
        messages = page.locator(".messages > li")
        while not is_followed(server):
            page.wait_for_timeout(10)
        publish(server, "orders", "before")
        expect(messages).to_have_count(1)
        asked: list[str] = []
        page.evaluate(HIDE, True)
        page.on("request", lambda request: asked.append(request.url))
        page.clock.run_for(120_000)
        assert asked == []
        assert "dashboard-" not in str(call(server, "GET", "/clients"))
        publish(server, "orders", "meanwhile")
        page.evaluate(HIDE, False)
        page.clock.run_for(5_000)
        page.clock.resume()
        expect(messages.first).to_contain_text("meanwhile")
        expect(messages).to_have_count(2)  # from where it was: nothing is missing, and nothing there twice
        assert any("/admin/overview" in url for url in asked)


def test_a_screen_that_was_left_asks_for_nothing(browser: Browser, server: ServerProcess) -> None:
    """Also if its last question is answered only then."""
    from playwright.sync_api import expect

    with dashboard(browser, server, "topics", with_clock=True) as page:
        orders = page.get_by_role("link", name="orders", exact=True)
        expect(orders).to_be_visible()
        held: list[Any] = []
        page.route("**/slow", lambda route: held.append(route))
        with page.expect_request("**/slow"):
            show(page, "slow")
        show(page, "topics")
        expect(orders).to_be_visible()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        held[0].fulfill(json={"slow": []})
        page.evaluate("fetch('health').then(answer => answer.text())")  # its answer comes behind the other one
        for _ in range(2):
            with page.expect_request("**/admin/topics?*"):
                page.clock.run_for(10_000)
        assert not any(url.endswith("/slow") for url in asked)


def test_a_restart_is_told_and_the_page_goes_on(browser: Browser) -> None:
    from playwright.sync_api import expect

    port = str(free_port())
    with ForkedServer("--port", port) as first:
        create(first, "before")
        with dashboard(browser, first, "topics", with_clock=True) as page:
            expect(page.get_by_role("link", name="before")).to_be_visible()
            first.stop()
            page.clock.run_for(20_000)
            expect(page.get_by_text("The server does not answer.")).to_be_visible()
            expect(page.get_by_role("link", name="before")).to_be_visible()
            with ForkedServer("--port", port) as second:
                create(second, "after")
                page.clock.run_for(20_000)
                expect(page.get_by_text("The server was restarted at")).to_be_visible()
                expect(page.get_by_role("link", name="after")).to_be_visible()
                page.get_by_role("button", name="Dismiss").click()
                expect(page.get_by_text("The server was restarted at")).to_have_count(0)


@pytest.mark.parametrize(("scheme", "rules"), [("light", RULES), ("dark", ["color-contrast"])])
def test_axe_finds_no_fault(scheme: Any, rules: Sequence[str], browser: Browser, server: ServerProcess) -> None:
    """The dark scheme has other colours, and all else is the same."""
    from playwright.sync_api import expect

    with dashboard(browser, server, color_scheme=scheme, bypass_csp=True) as page:
        for screen in SCREENS:
            show(page, screen)
            expect(page.locator("h1")).to_be_visible()
            expect(page.get_by_text("Loading")).to_have_count(0)
            assert faults(page, rules) == [], screen
        show(page, "topics")
        page.get_by_role("button", name="New topic").click()
        assert faults(page, rules) == []


def test_it_fits_a_phone(browser: Browser, server: ServerProcess) -> None:
    from playwright.sync_api import expect

    with dashboard(browser, server, viewport=PHONE, has_touch=True) as page:
        for screen in SCREENS:
            show(page, screen)
            expect(page.get_by_text("Loading")).to_have_count(0)
            assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], screen
        show(page, "topics")
        page.get_by_role("link", name="orders", exact=True).tap()
        expect(page.get_by_role("heading", level=1)).to_have_text("orders")


def test_the_keyboard_is_enough(browser: Browser, server: ServerProcess) -> None:
    from playwright.sync_api import expect

    with dashboard(browser, server, "topics") as page:
        expect(page.get_by_role("link", name="orders", exact=True)).to_be_visible()
        assert page.evaluate("document.activeElement.tagName") == "H1"
        page.keyboard.press("Tab")
        page.keyboard.type("order")
        expect(page.locator("tbody tr")).to_have_count(1)
        page.get_by_role("button", name="Subscribers").focus()
        page.keyboard.press("Enter")
        expect(page.locator("th[aria-sort=descending]")).to_contain_text("Subscribers")
        page.get_by_role("link", name="orders", exact=True).focus()
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", level=1)).to_be_focused()
        summary = page.locator(".messages summary").first
        summary.focus()
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
        page.keyboard.press("Enter")
        expect(page.locator(".payload")).to_be_visible()
        page.get_by_role("button", name="Delete…").focus()
        page.keyboard.press("Enter")
        expect(page.get_by_role("dialog")).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_have_count(0)
        expect(page.get_by_role("button", name="Delete…")).to_be_focused()


def test_the_page_loads_nothing_from_elsewhere(browser: Browser, server: ServerProcess) -> None:
    from playwright.sync_api import expect

    with dashboard(browser, server, "why") as page:
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.reload()
        show(page, "")
        expect(page.locator(".chart svg")).to_have_count(5)
        assert asked
        assert all(url.startswith(server.url) for url in asked)
