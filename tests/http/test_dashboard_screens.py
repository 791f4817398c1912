"""The screens of the dashboard in Chromium: each function by its visible effect, and hostile names as text."""

from __future__ import annotations

import itertools
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from tests.credentials import SECRET, make_token
from tests.harness import ForkedServer, ServerProcess, new_id
from tests.http.dashboard_page import HOSTILE, LONGEST, call, create, dashboard, publish, show, subscriber
from tests.http.test_chromium import browser

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

__all__ = ["browser"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    flags = ("--data-dir", str(tmp_path_factory.mktemp("journal")), "--subscriber-queue-size", "5")
    with ForkedServer(*flags) as running:
        yield running


@pytest.fixture
def page(browser: Browser, server: ServerProcess) -> Iterator[Page]:
    with dashboard(browser, server) as opened:
        yield opened


def test_the_overview_is_one_sentence_and_charts(page: Page) -> None:
    from playwright.sync_api import expect

    expect(page.locator(".health")).to_contain_text(re.compile("Healthy|Working|Overloaded"))
    expect(page.locator(".chart svg")).to_have_count(5)
    expect(page.locator(".plot").first).to_have_attribute("aria-label", re.compile(r"published: now \d"))
    expect(page.get_by_text("Connections that moved here")).to_be_visible()
    moment = page.locator(".chart time").first
    page.locator(".plot").first.hover()
    expect(moment).to_have_text(re.compile(r"^\d\d:\d\d:\d\d$"))
    expect(page.locator(".plot circle")).to_have_count(2)
    page.locator("h1").hover()
    expect(moment).to_have_text("now")
    assert page.title() == "Overview · pubsub"


def overview_of(page: Page, server: ServerProcess, **changed: Any) -> None:
    """Show the overview with an answer of the server in which some fields are other ones."""

    def answer(route: Any) -> None:
        found = route.fetch()
        route.fulfill(response=found, json=found.json() | changed)

    page.unroute("**/admin/overview")
    page.route("**/admin/overview", answer)
    show(page, "slow")
    show(page, "")


def test_the_overview_draws_the_last_15_minutes(page: Page, server: ServerProcess) -> None:
    from playwright.sync_api import expect

    series = call(server, "GET", "/admin/overview")["series"]
    at = [1756112400 + 5 * number for number in range(181)]
    flat = {name: [1] * 181 for name in series}
    delivered = [100] * 90 + [200, None] + [100] * 88 + [50]
    overview_of(page, server, series=flat | {"at": at, "published": [10] * 180 + [20], "delivered": delivered})
    chart = page.locator(".chart").first
    expect(chart.locator("figcaption")).to_have_text(re.compile(r"published 20\s*delivered 50\s*now"))
    label = "Messages a second, last 15 minutes. published: now 20, highest 20; delivered: now 50, highest 200"
    expect(chart.locator(".plot")).to_have_attribute("aria-label", label)
    line = chart.locator("path[stroke='var(--second)']").get_attribute("d") or ""
    points = [tuple(map(float, each.split(","))) for each in line.removeprefix("M").split("L")]
    width = chart.locator("svg").bounding_box()["width"]  # type: ignore[index]
    assert len(points) == 180
    assert (points[0][0], points[-1][0]) == pytest.approx((58, width - 12))
    heights = [height for _, height in points]
    high, usual, low = heights[90], heights[0], heights[-1]
    assert (min(heights), max(heights)) == (high, low)
    assert usual - high == pytest.approx(2 * (low - usual))
    chart.locator("svg").hover(position={"x": points[90][0], "y": 50})
    expect(chart.locator("figcaption")).to_have_text(re.compile(r"published 10\s*delivered 200\s*\d\d:07:30$"))
    assert chart.locator("circle").nth(1).get_attribute("cy") == str(heights[90])


def test_the_overview_tells_the_health_in_one_sentence(page: Page, server: ServerProcess) -> None:
    from playwright.sync_api import expect

    series = call(server, "GET", "/admin/overview")["series"]
    health = page.locator(".health")
    calm = {"series": series | {"loop_lag_ms": [0.1]}, "lost": {}, "lagging": 0}
    for kind, text, changed in (
        ("good", "Healthy: no messages now, 3 subscribers, and nothing was lost", {"subscribers": 3}),
        ("warn", "1 client cannot keep up at the moment", {"lagging": 1}),
        ("warn", "subscribers lost 242 messages, most by overflow", {"lost": {"expired": 2, "overflow": 240}}),
        ("bad", "Overloaded: each client waits 250 ms longer", {"series": series | {"loop_lag_ms": [250, 300]}}),
        ("good", "Healthy", {"series": series | {"loop_lag_ms": [0.1, 300]}}),  # busy for a moment
        ("bad", "Degraded: durable topics cannot be stored (no space)", {"state": "degraded", "reason": "no space"}),
        (
            "bad",
            "Degraded: publishes may fail (away). Subscribers stay connected.",
            {"state": "degraded", "reason": "away", "servers": []},
        ),
        ("warn", "Shutting down", {"state": "draining"}),
    ):
        overview_of(page, server, **calm | changed)
        expect(health).to_contain_text(text)
        expect(health).to_have_class(f"health {kind}")
    lost = {"expired": 2, "overflow": 240}
    overview_of(page, server, lost=lost, arrivals={"moved": 5, "new": 1, "recovered": 4, "told": 2})
    expect(page.locator(".counts li").first).to_contain_text("overflow240")
    deployment = page.get_by_label("Last deployment")
    expect(deployment).to_contain_text(re.compile("moved here5.*New connections1.*recovered4.*gap2"))


def test_a_topic_is_created_with_options_and_deleted_by_its_name(page: Page, server: ServerProcess) -> None:
    from playwright.sync_api import expect

    show(page, "topics")
    page.get_by_role("button", name="New topic").click()
    page.get_by_label("Name", exact=True).fill("new.topic")
    page.get_by_label("Messages kept").fill("7")
    page.get_by_label("When a subscriber's queue is full").select_option("latest")
    page.get_by_label("Presence").check()
    page.get_by_role("button", name="Create topic").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("new.topic")
    options = call(server, "GET", "/topics/new.topic")["options"]
    assert (options["history"], options["overflow"], options["presence"], options["durable"]) == (
        7, "latest", True, False,
    )  # fmt: skip
    show(page, "topics")
    page.get_by_role("button", name="Delete new.topic").click()
    delete = page.get_by_role("button", name="Delete topic")
    expect(delete).to_be_disabled()
    page.get_by_label("Name of the topic").fill("new.topic")
    delete.click()
    expect(page.get_by_role("link", name="new.topic")).to_have_count(0)
    assert "new.topic" not in [each["name"] for each in call(server, "GET", "/topics")["topics"]]


def test_a_topic_that_exists_is_told_in_the_form(page: Page, server: ServerProcess) -> None:
    from playwright.sync_api import expect

    create(server, "twice")
    show(page, "topics")
    page.get_by_role("button", name="New topic").click()
    page.get_by_label("Name", exact=True).fill("twice")
    page.get_by_role("button", name="Create topic").click()
    expect(page.get_by_role("alert")).to_have_text("topic already exists")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_topics_are_searched_sorted_and_paged_by_url(page: Page, server: ServerProcess) -> None:
    from playwright.sync_api import expect

    for number in range(55):
        create(server, f"page.{number:02}")
    publish(server, "page.31", 1, 2, 3)
    show(page, "topics")
    page.get_by_label("Search topics").fill("page.")
    expect(page.get_by_text("Page 1 of 2")).to_be_visible()
    page.get_by_role("link", name="Next").click()
    expect(page.get_by_role("link", name="page.54")).to_be_visible()
    page.get_by_role("button", name="Published").click()
    expect(page.locator("tbody tr").first).to_contain_text("page.31")
    expect(page.locator("th[aria-sort=descending]")).to_contain_text("Published")
    assert "search=page.&" in page.url
    page.reload()
    expect(page.locator("tbody tr").first).to_contain_text("page.31")


def test_messages_a_second_of_each_topic(browser: Browser, server: ServerProcess) -> None:
    """Each answer is 50 messages further than the one five seconds before. A topic made anew has no rate yet."""
    from playwright.sync_api import expect

    def answer(route: Any) -> None:
        seq = next(seqs)
        rows = [{"name": "same", "epoch": "e", "seq": seq}, {"name": "new", "epoch": str(seq), "seq": seq}]
        rest = {"messages": 1, "subscribers": 0, "bytes": 0, "options": {"overflow": "drop_oldest"}}
        route.fulfill(json={"topics": [row | rest for row in rows], "found": 2})

    seqs = itertools.count(100, 50)
    with dashboard(browser, server, with_clock=True) as page:
        page.route("**/admin/topics?*", answer)
        show(page, "topics")
        rates = page.locator("tbody td:nth-child(3)")
        expect(rates).to_have_count(2)
        page.clock.run_for(5000)
        expect(rates).to_have_text([re.compile(r"^(10|[5-9])(\.\d)?$"), "\N{EN DASH}"])


def test_live_messages_pause_and_go_on(page: Page, server: ServerProcess) -> None:
    from playwright.sync_api import expect

    create(server, "live")
    publish(server, "live", "old")
    show(page, "topics/live")
    messages = page.locator(".messages > li")
    expect(messages).to_have_count(1)
    publish(server, "live", {"n": 2})
    expect(messages.first).to_contain_text('{"n":2}')
    page.get_by_role("button", name="Pause").click()
    publish(server, "live", 3, 4)
    expect(page.get_by_text("Paused: 2 new")).to_be_visible()
    expect(messages).to_have_count(2)
    page.get_by_role("button", name="Go on").click()
    expect(messages).to_have_count(4)
    page.get_by_label("Replay").select_option("last 50")
    expect(messages).to_have_count(4)


def test_a_filter_and_a_jump(page: Page, server: ServerProcess) -> None:
    from playwright.sync_api import expect

    create(server, "filtered")
    publish(server, "filtered", *({"amount": amount} for amount in range(1, 21)))
    show(page, "topics/filtered")
    page.get_by_label("Filter in CEL").fill("payload.amount > 18")
    page.get_by_role("button", name="Filter", exact=True).click()
    messages = page.locator(".messages > li")
    expect(messages).to_have_count(2)
    page.get_by_label("Filter in CEL").fill("payload.")
    page.get_by_role("button", name="Filter", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("filter")
    page.get_by_label("Filter in CEL").fill("")
    page.get_by_role("button", name="Filter", exact=True).click()
    expect(page.get_by_role("alert")).to_have_count(0)
    page.get_by_label("Jump to seq").fill("15")
    page.get_by_role("button", name="Jump").click()
    expect(messages.first).to_contain_text('{"amount": 15}')
    assert "seq=15" in page.url


def test_older_and_newer_messages_follow_each_other(page: Page, server: ServerProcess) -> None:
    from playwright.sync_api import expect

    create(server, "long", history=200)
    publish(server, "long", *range(1, 151))
    show(page, "topics/long?seq=101")
    numbers = page.locator(".messages .seq")
    expect(numbers).to_have_count(50)
    page.get_by_role("link", name="Older").click()
    expect(numbers.first).to_have_text("#51")
    expect(numbers.last).to_have_text("#100")
    page.get_by_role("link", name="Newer").click()
    expect(numbers.first).to_have_text("#101")
    page.get_by_role("link", name="Newer").click()
    expect(page.get_by_text("The topic keeps no message from this seq on.")).to_be_visible()
    show(page, "topics/long?seq=10")
    page.get_by_role("link", name="Older").click()
    expect(numbers.first).to_have_text("#1")


def test_a_message_is_published_again_as_it_was_written(page: Page, server: ServerProcess) -> None:
    from playwright.sync_api import expect

    create(server, "again")
    show(page, "publish?topic=again")
    payload = '{"exact": 12345678901234567890, "a": 1.0, "x": "},\\"seq\\":1,\\"ts\\":"}'
    page.get_by_label("Payload").fill('{"exact": }')
    expect(page.get_by_text("Line 1, column 11: expected a value, found }")).to_be_visible()
    expect(page.get_by_role("button", name="Publish")).to_be_disabled()
    page.get_by_label("Payload").fill(payload)
    page.get_by_role("button", name="Publish").click()
    expect(page.get_by_text("Published as seq 1")).to_be_visible()
    show(page, "topics/again?seq=1")
    expect(page.locator(".payload")).to_contain_text("12345678901234567890")
    page.get_by_role("button", name="Publish again").click()
    expect(page.get_by_text("Published as seq 2")).to_be_visible()
    kept = page.request.get(f"{server.url}/topics/again/messages?last_n=2").text()
    assert kept.count(f'"payload":{payload}}}') == 2


def test_a_payload_that_looks_like_the_end_of_its_event_is_shown_whole(page: Page, server: ServerProcess) -> None:
    """The payload has the text that follows it in the answer of the server, for each second of the next minutes."""
    from playwright.sync_api import expect

    create(server, "cut")
    now = time.time()
    moments = [time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now + second)) for second in range(-1, 180)]
    payload = json.dumps([{"a": {}, "seq": 1, "ts": moment} for moment in moments], separators=(",", ":"))
    show(page, "publish?topic=cut")
    page.get_by_label("Payload").fill(payload)
    page.get_by_role("button", name="Publish").click()
    expect(page.get_by_text("Published as seq 1")).to_be_visible()
    show(page, "topics/cut?seq=1")
    expect(page.locator(".payload")).to_contain_text(moments[-1])
    page.get_by_role("button", name="Publish again").click()
    expect(page.get_by_text("Published as seq 2")).to_be_visible()
    kept = page.request.get(f"{server.url}/topics/cut/messages?last_n=2").text()
    assert kept.count(f'"payload":{payload}}}') == 2


def test_a_payload_has_line_breaks_if_it_is_not_too_long(page: Page, server: ServerProcess) -> None:
    from playwright.sync_api import expect

    create(server, "lines")
    publish(server, "lines", ["x" * (20_000 - 4)], ["x" * (20_001 - 4)])
    for seq, text in ((1, f'[\n  "{"x" * 19_996}"\n]'), (2, f'["{"x" * 19_997}"]')):
        show(page, f"topics/lines?seq={seq}")
        expect(page.locator("details[open] .seq")).to_have_text(f"#{seq}")
        assert page.locator("details[open] .payload").text_content() == text


def test_messages_with_the_same_id_have_their_own_payloads(page: Page, server: ServerProcess) -> None:
    from playwright.sync_api import expect

    create(server, "ids")
    twice = new_id()
    call(server, "POST", "/topics/ids/messages", [{"id": twice, "payload": 1.0}, {"id": twice, "payload": 2.0}])
    show(page, "topics/ids?seq=1")
    expect(page.locator(".messages summary code")).to_have_text(["1.0", "2.0"])


def test_a_publish_that_is_refused_says_why(page: Page, server: ServerProcess) -> None:
    from playwright.sync_api import expect

    create(server, "expected")
    show(page, "publish?topic=expected")
    page.get_by_label("Only if seq is").fill("5")
    page.get_by_role("button", name="Publish").click()
    expect(page.get_by_role("alert")).to_contain_text("0")


def test_purge_forgets_messages(page: Page, server: ServerProcess) -> None:
    from playwright.sync_api import expect

    create(server, "purged")
    publish(server, "purged", 1, 2)
    show(page, "topics/purged")
    page.get_by_role("button", name="Purge…").click()
    page.get_by_label("Name of the topic").fill("purged")
    page.get_by_role("button", name="Forget messages").click()
    expect(page.get_by_text("2 messages are forgotten.")).to_be_visible()
    assert call(server, "GET", "/topics/purged")["bytes"] == 0


def test_a_slow_consumer_its_lag_its_dead_letters_and_the_reason(page: Page, server: ServerProcess) -> None:
    from playwright.sync_api import expect

    create(server, "dead")
    create(server, "orders", dead_letter="dead", presence=True)
    with subscriber(server, HOSTILE, "orders"):
        for _ in range(20):
            publish(server, "orders", *["x" * 50_000] * 10)
        show(page, "slow")
        row = page.locator("tbody tr", has_text=HOSTILE)
        expect(row).to_contain_text("orders")
        show(page, "topics/orders")
        expect(page.get_by_label("Consumer lag").get_by_role("row").nth(1)).to_contain_text(HOSTILE)
        show(page, "topics/dead")
        expect(page.get_by_label("Consumer lag")).to_contain_text("Every subscriber of this topic keeps up.")
        show(page, "topics/orders")
        expect(page.get_by_label("Present", exact=True)).to_contain_text(HOSTILE)
        show(page, f"why?client={quote(HOSTILE)}&topic=orders&message=1")
        expect(page.locator(".timeline")).to_contain_text("Subscribed to the topic")
        expect(page.locator(".trace h3")).to_contain_text("sent")
        show(page, "why?" + f"client={quote(HOSTILE)}&topic=orders&message=150")
        expect(page.locator(".trace .badge")).to_have_text("dropped")
        expect(page.locator(".trace .badge")).to_have_class("badge bad")
        show(page, "why?" + f"client={quote(HOSTILE)}&topic=orders&message=200")
        expect(page.locator(".trace .badge")).to_have_text("queued")
        expect(page.locator(".trace .badge")).to_have_class("badge warn")
        show(page, "clients")
        row = page.locator("tbody tr", has_text=HOSTILE)
        expect(row).to_contain_text("orders")
        row.get_by_role("button", name="Disconnect").click()
        expect(row).to_have_count(0)
    show(page, "clients?gone=1")
    expect(page.locator("tbody tr", has_text=HOSTILE)).to_contain_text("An operator disconnected it.")
    page.get_by_role("link", name=HOSTILE).click()
    expect(page.get_by_label("Ended connections", exact=True)).to_contain_text("An operator disconnected it.")
    show(page, "topics/dead")
    expect(page.locator(".letters li").first).to_contain_text(HOSTILE)
    seq = call(server, "GET", "/topics/orders")["seq"]
    page.get_by_role("button", name="Redrive").click()
    expect(page.get_by_text(re.compile(r"letters read: \d+ messages published again"))).to_be_visible()
    assert call(server, "GET", "/topics/orders")["seq"] > seq
    show(page, "")
    expect(page.get_by_label("Ended in 15 minutes")).to_contain_text("disconnected")


def test_the_slowest_are_sorted_by_each_column(page: Page) -> None:
    from playwright.sync_api import expect

    rows = [("bob", "b", 7, 300, 2), ("alice", "c", 9, 100, 1), ("carol", "a", 8, 200, 3)]
    names = ("client_id", "topic", "queued", "lag_bytes", "lag_sec")
    found = {"slow": [dict(zip(names, row, strict=True)) for row in rows]}
    page.route("**/slow", lambda route: route.fulfill(json=found))
    show(page, "slow")
    clients = page.locator("tbody td:first-child")
    expect(clients).to_have_text(["alice", "carol", "bob"])
    for column, order in (
        ("Messages", ["bob", "carol", "alice"]),
        ("Client", ["alice", "bob", "carol"]),
        ("Topic", ["carol", "bob", "alice"]),
        ("Bytes", ["bob", "carol", "alice"]),
        ("Oldest", ["carol", "bob", "alice"]),
        ("Oldest", ["alice", "bob", "carol"]),
    ):
        page.get_by_role("button", name=column).click()
        expect(clients).to_have_text(order)


def test_clients_that_are_gone_are_read_in_pages(page: Page) -> None:
    from playwright.sync_api import expect

    asked: list[str] = []

    def answer(route: Any) -> None:
        asked.append(route.request.url)
        found = route.fetch()
        route.fulfill(response=found, json={"clients": [], "next": None if "cursor=77" in asked[-1] else "77"})

    page.route("**/clients?*", answer)
    show(page, "clients?gone=1")
    page.get_by_role("link", name="Older").click()
    expect(page.get_by_role("link", name="Newest")).to_be_visible()
    expect(page.get_by_role("link", name="Older")).to_have_count(0)
    assert "ended=true" in asked[0]
    assert "cursor=0" in asked[0]
    assert "cursor=77" in asked[-1]


def test_a_name_with_any_signs_is_one_name_in_the_url(page: Page, server: ServerProcess) -> None:
    from playwright.sync_api import expect

    create(server, "any")
    name = "a/b?c=%41&d#e +ü"
    with subscriber(server, name, "any"):
        show(page, "clients")
        page.get_by_role("link", name=name, exact=True).click()
        expect(page.get_by_role("heading", level=1)).to_have_text(name)
        expect(page.get_by_label("Subscriptions")).to_contain_text("any")
        page.get_by_role("link", name="Why did it not get a message?").click()
        expect(page.get_by_label("Client")).to_have_value(name)


def test_hostile_payloads_and_long_names_are_text(page: Page, server: ServerProcess) -> None:
    from playwright.sync_api import expect

    create(server, LONGEST)
    publish(server, LONGEST, HOSTILE, {HOSTILE: [HOSTILE, 2**60 + 1]})
    show(page, f"topics/{LONGEST}")
    expect(page.get_by_role("heading", level=1)).to_have_text(LONGEST)
    expect(page.locator(".messages > li").first).to_contain_text(HOSTILE)
    page.locator(".messages summary").first.click()
    expect(page.locator(".payload")).to_contain_text(HOSTILE)
    expect(page.locator(".payload")).to_contain_text(str(2**60 + 1))
    assert page.locator("main img").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    show(page, f"clients/{quote(HOSTILE)}")
    expect(page.get_by_role("heading", level=1)).to_have_text(HOSTILE)


def test_storage_settings_and_a_screen_that_does_not_exist(page: Page, server: ServerProcess) -> None:
    from playwright.sync_api import expect

    create(server, "stored", durable=True)
    publish(server, "stored", 1)
    storage = call(server, "GET", "/admin/storage")
    show(page, "storage")
    expect(page.get_by_text("Everything is stored.")).to_be_visible()
    expect(page.get_by_text("journal.db", exact=True)).to_be_visible()
    page.route("**/admin/storage", lambda route: route.fulfill(json=storage | {"failure": "no space"}))
    show(page, "settings")
    page.get_by_label("only those that were changed").check()
    expect(page.locator("tbody")).to_contain_text("SUBSCRIBER_QUEUE_SIZE")
    expect(page.locator("tbody")).not_to_contain_text("PING_PERIOD_SEC")
    show(page, "storage")
    expect(page.locator(".health.bad")).to_contain_text("no space")
    show(page, "nowhere")
    expect(page.get_by_text("There is no such screen.")).to_be_visible()


def test_every_call_is_there_as_a_command(browser: Browser, server: ServerProcess) -> None:
    from playwright.sync_api import expect

    create(server, "copied")
    with dashboard(browser, server, "topics/copied", permissions=["clipboard-read", "clipboard-write"]) as page:
        page.get_by_role("button", name="Copy as curl").first.click()
        expect(page.get_by_text("Copied", exact=True)).to_be_visible()
        assert page.evaluate("navigator.clipboard.readText()") == f"curl '{server.url}/topics/copied'"
        show(page, "publish?topic=copied")
        page.get_by_label("Payload").fill('"it\'s"')
        page.get_by_role("button", name="Copy as curl").click()
        expect(page.get_by_text("Copied", exact=True)).to_be_visible()
        expected = f"""curl -d '{{"payload":"it'\\''s"}}' '{server.url}/topics/copied/messages'"""
        assert page.evaluate("navigator.clipboard.readText()") == expected
        for screen in ("", "topics", "clients", "clients?gone=1", "slow", "storage", "settings", "tokens"):
            show(page, screen)
            expect(page.get_by_role("button", name="Copy as curl").first).to_be_visible()


def test_a_token_is_tested(browser: Browser, tmp_path: Path) -> None:
    from playwright.sync_api import expect

    with (
        ForkedServer(environment={"JWT_SECRET": SECRET}) as server,
        dashboard(browser, server, "tokens") as page,
    ):
        page.get_by_label("Token (JWT)").fill(make_token("alice", subscribe=["orders.*"]))
        page.get_by_label("Topic").fill("orders.eu")
        page.get_by_role("button", name="Test the token").click()
        expect(page.get_by_text("may subscribe", exact=True)).to_be_visible()
        expect(page.get_by_text("may not publish", exact=True)).to_be_visible()
        page.get_by_label("Token (JWT)").fill(make_token(exp=1))
        page.get_by_role("button", name="Test the token").click()
        expect(page.get_by_text("Not accepted: token: expired")).to_be_visible()
