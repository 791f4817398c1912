"""The dashboard of one of several servers in Chromium: it lists them all, and says which did not answer."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from tests.cluster.test_processes import QuickServer
from tests.http.dashboard_page import call, create, dashboard, show, subscriber
from tests.http.test_chromium import browser
from tests.redis.driver import prefixes
from tests.redis.programs import RedisServer

if TYPE_CHECKING:
    from playwright.sync_api import Browser

__all__ = ["browser"]


def test_the_dashboard_shows_all_servers(browser: Browser, redis_server: RedisServer) -> None:
    from playwright.sync_api import expect

    url = redis_server.url(f"cluster-{next(prefixes)}")
    with QuickServer("--journal-url", url) as one, QuickServer("--journal-url", url) as other:
        create(one, "orders")
        ids = [call(server, "GET", "/health")["server"] for server in (one, other)]
        with subscriber(other, "far-away", "orders"), dashboard(browser, one) as page:
            servers = page.get_by_role("region", name="Servers, table")
            for each in ids:
                expect(servers.get_by_text(each)).to_be_visible()
            expect(servers.locator("tr", has_text=ids[0]).get_by_text("shown here")).to_be_visible()
            expect(servers.locator("tr", has_text=ids[1]).get_by_text("shown here")).to_have_count(0)
            show(page, "clients")
            row = page.locator("tr", has_text="far-away")
            expect(row.get_by_text(ids[1][:8])).to_be_visible()
            show(page, "storage")
            expect(page.get_by_text("Everything is stored.")).to_be_visible()
            expect(page.get_by_text("Nothing is on disk here.")).to_be_visible()
            other.process.send_signal(signal.SIGSTOP)
            show(page, "slow")
            expect(page.get_by_text("No answer from")).to_contain_text(ids[1][:8])
            other.process.send_signal(signal.SIGCONT)
