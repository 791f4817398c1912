"""``pubsub verify`` through the real proxies: by the recipes of docs/operation.md, and with each setting wrong."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pubsub.verify import advice
from tests.cli.running import Commands, Done
from tests.credentials import SECRET, make_token
from tests.harness import ForkedServer, ServerProcess, free_port
from tests.http.test_proxy_recipes import PATH, caddy, haproxy, nginx, running

RIGHTS = {"subscribe": ["verify.>"], "publish": ["verify.>"], "admin": True}
UPGRADE = "proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;"
HOST = "proxy_set_header Host $http_host;"
SHORT = f"{UPGRADE} {HOST}"
GOOD = f"{SHORT} client_max_body_size 2m;"

# Wrong settings of nginx, and the checks that fail by each, with the advice that the first of them gives.
WRONG: dict[str, tuple[str, set[str], str]] = {
    "as it comes": ("client_max_body_size 2m;", {"upgrade"}, advice.HTTP_1_0),
    "without the upgrade": (f"{HOST} proxy_http_version 1.1; client_max_body_size 2m;", {"upgrade"}, advice.UPGRADE),
    "without the host": (f"{UPGRADE} client_max_body_size 2m;", {"origin"}, advice.ORIGIN),
    "short bodies": (f"{SHORT} client_max_body_size 10k;", {"body"}, advice.BODY_LIMIT),
    "buffers": (f"{GOOD} proxy_ignore_headers X-Accel-Buffering; gzip on; gzip_types text/event-stream;",
                {"stream"}, advice.BUFFERED),
    "error pages": (f"{GOOD} proxy_intercept_errors on; error_page 404 405 /sorry;", {"errors"},
                    advice.ERROR_PAGES),
    "lost header": (f'{GOOD} proxy_set_header Last-Event-ID "";', {"last-event-id"}, advice.LAST_EVENT_ID),
    "idle": (f"{GOOD} proxy_read_timeout 1s;", {"heartbeat", "heartbeat-sse"}, advice.IDLE),
}  # fmt: skip


def needs(program: str) -> None:
    if shutil.which(program, path=PATH) is None:
        assert os.environ.get("CI") != "true", f"needs {program}: apt-get install {program}"
        pytest.skip(f"needs {program}: apt-get install {program}")


def nginx_with(folder: Path, servers: str) -> list[str]:
    """Return the command of an nginx with these servers."""
    folders = "".join(f"{each}_temp_path {folder}/{each};" for each in ("proxy", "fastcgi", "uwsgi", "scgi"))
    config = folder / "nginx.conf"
    config.write_text(
        f"daemon off; master_process off; pid {folder}/pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off; client_body_temp_path {folder}/body; {folders}\n{servers} }}"
    )
    return ["nginx", "-e", "stderr", "-c", str(config)]


def site(port: int, upstream: str, settings: str) -> str:
    return f"server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://{upstream}; {settings} }} }}\n"


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ForkedServer("--trusted-proxies", "127.0.0.1", "--compression", "on", "--ping-period-sec", "0.5") as process:
        yield process


@pytest.fixture
def run(server: ServerProcess, capfd: pytest.CaptureFixture[str]) -> Commands:
    return Commands(server, capfd)


def failures(done: Done) -> dict[str, str]:
    """Return the advice of each check that failed."""
    return {each["name"]: each["advice"] for each in done.lines[0]["checks"] if each["state"] == "failed"}


@pytest.mark.parametrize("make_command", [nginx, haproxy, caddy], ids=lambda make: make.__name__)
def test_all_is_well_with_the_recipes(
    make_command: Callable[[Path, int, int], list[str]], run: Commands, server: ServerProcess, tmp_path: Path
) -> None:
    needs(make_command.__name__)
    port = free_port()
    with running(make_command(tmp_path, port, server.port), port, tmp_path):
        done = run("verify", "--json", "--ca", str(tmp_path / "cert.pem"), url=f"https://127.0.0.1:{port}")
    assert failures(done) == {}, done.out
    assert (done.status, done.lines[0]["counts"]["skipped"]) == (0, 0), done.out


@pytest.fixture(scope="module")
def wrong_proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, int]]:
    """One nginx with all the wrong settings, each on a port of its own, before a server with a slow heartbeat."""
    needs("nginx")
    ports, folder = {name: free_port() for name in WRONG}, tmp_path_factory.mktemp("nginx")
    with ForkedServer("--trusted-proxies", "127.0.0.1") as process:
        sites = "".join(site(ports[name], f"127.0.0.1:{process.port}", each[0]) for name, each in WRONG.items())
        with running(nginx_with(folder, sites), ports["idle"], folder):
            yield ports


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_setting_is_named(name: str, run: Commands, wrong_proxy: dict[str, int]) -> None:
    _, failed, told = WRONG[name]
    flags = ["--seconds", "5"] if name == "idle" else ["--quick"]
    done = run("verify", "--json", *flags, url=f"http://127.0.0.1:{wrong_proxy[name]}")
    found = failures(done)
    assert (set(found), done.status) == (failed, 1), done.out
    assert told in "".join(found.values())


def test_servers_that_share_no_topics(run: Commands, server: ServerProcess, tmp_path: Path) -> None:
    needs("nginx")
    port = free_port()
    with ForkedServer() as other:
        both = f"upstream both {{ server 127.0.0.1:{server.port}; server 127.0.0.1:{other.port}; }}\n"
        with running(nginx_with(tmp_path, both + site(port, "both", GOOD)), port, tmp_path):
            done = run("verify", "--json", "--quick", url=f"http://127.0.0.1:{port}")
    assert failures(done) == {"topics": advice.SPREAD}, done.out


def test_lost_credentials(run: Commands, tmp_path: Path) -> None:
    needs("nginx")
    port, token = free_port(), make_token("alice", **RIGHTS)
    lost = 'proxy_set_header Authorization "";'
    environment = {"JWT_SECRET": SECRET, "API_KEYS": "ops:admin:ops-key"}
    with ForkedServer(environment=environment) as process:
        sites = site(port, f"127.0.0.1:{process.port}", f"{GOOD} {lost}")
        with running(nginx_with(tmp_path, sites), port, tmp_path):
            done = run("verify", "--json", "--quick", "--token", token, url=f"http://127.0.0.1:{port}")
            with_key = run("verify", "--json", "--quick", "--token", token, "--api-key", "ops-key",
                           url=f"http://127.0.0.1:{port}")  # fmt: skip
    assert failures(done)["credentials"] == advice.CREDENTIALS_LOST
    assert failures(with_key) == {"upgrade": advice.CREDENTIALS_LOST}


def test_proxy_without_a_server(run: Commands, tmp_path: Path) -> None:
    needs("nginx")
    port = free_port()
    with running(nginx_with(tmp_path, site(port, f"127.0.0.1:{free_port()}", GOOD)), port, tmp_path):
        done = run("verify", "--json", "--quick", url=f"http://127.0.0.1:{port}")
    assert failures(done) == {"reach": advice.UPSTREAM}


@pytest.mark.parametrize(
    ("setting", "failed"),
    [("", set()), ("timeout tunnel 1s", {"heartbeat", "heartbeat-sse"}), ("compression algo gzip", set())],
    ids=["as it comes", "idle", "compression"],
)
def test_haproxy(setting: str, failed: set[str], run: Commands, server: ServerProcess, tmp_path: Path) -> None:
    needs("haproxy")
    port, config = free_port(), tmp_path / "haproxy.cfg"
    with ForkedServer() as slow:
        config.write_text(
            "defaults\n mode http\n timeout connect 5s\n timeout client 75s\n timeout server 75s\n"
            f" {setting}\nlisten pubsub\n bind 127.0.0.1:{port}\n server pubsub 127.0.0.1:{slow.port}\n"
        )
        with running(["haproxy", "-db", "-f", str(config)], port, tmp_path):
            flags = ["--seconds", "4"] if failed else ["--quick"]
            done = run("verify", "--json", *flags, url=f"http://127.0.0.1:{port}")
    assert set(failures(done)) == failed, done.out
