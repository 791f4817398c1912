"""An operator who watches: each second a scrape of the metrics, and what the open overview of the dashboard asks for.

    python scripts/bench/watcher.py PORT

The page asks every five seconds; here it is each second, so that a short measurement has its share of it, and more. The
first line of the output is printed once both have an answer. It ends when its standard input ends, and then prints the
numbers of answers as JSON. The exit status is 1 if an answer was missing.
"""

import http.client
import json
import os
import sys
import threading
import time

PERIOD = 1.0
"""Seconds from one question to the next one."""
PATIENCE = 30
SCRAPE = {
    "Accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5",
    "Accept-Encoding": "gzip",
}
PAGE = {"Accept": "*/*", "Accept-Encoding": "gzip, deflate, br, zstd"}


class Watcher:
    """Asks for one path on one connection, as Prometheus and a browser do."""

    def __init__(self, port: int, path: str, headers: dict[str, str]) -> None:
        self.answers = 0
        self.answered = threading.Event()
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        self._path = path
        self._headers = headers

    def run(self) -> None:
        due = time.monotonic()
        while True:
            self._connection.request("GET", self._path, headers=self._headers)
            response = self._connection.getresponse()
            if response.read() and response.status == 200:
                self.answers += 1
                self.answered.set()
            due += PERIOD
            time.sleep(max(0.0, due - time.monotonic()))


def main() -> int:
    os.nice(10)  # the load generator, which measures, runs first on the same core
    port = int(sys.argv[1])
    watchers = [Watcher(port, "/metrics", SCRAPE), Watcher(port, "/admin/overview", PAGE)]
    for each in watchers:
        threading.Thread(target=each.run, daemon=True).start()
    for each in watchers:
        if not each.answered.wait(PATIENCE):
            return 1
    print("watching", flush=True)
    sys.stdin.read()
    scrapes, updates = (each.answers for each in watchers)
    print(json.dumps({"scrapes": scrapes, "updates": updates}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
