"""deploy/cluster/: the files for Compose, HAProxy and Redis agree, and the programs accept them."""

from __future__ import annotations

import ipaddress
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from pubsub.settings import Settings
from pubsub.settings_reader import check_settings
from tests.harness import REPOSITORY, eventually, free_port, on_one_loop
from tests.test_kubernetes import SEVERAL

CLUSTER = REPOSITORY / "deploy/cluster"
COMPOSE: dict[str, Any] = yaml.safe_load((CLUSTER / "docker-compose.yml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
SERVERS = {name: each for name, each in SERVICES.items() if each["image"] == "pubsub"}
HAPROXY = (CLUSTER / "haproxy.cfg").read_text()
REDIS = (CLUSTER / "redis.conf").read_text()
PATH = f"{os.environ['PATH']}:/usr/sbin"  # the folder of HAProxy, which is not in an ordinary user's PATH


def settings() -> Settings:
    environment = SERVERS["pubsub-1"]["environment"]
    return check_settings({name.lower(): str(value) for name, value in environment.items()})


def seconds(directive: str) -> float:
    (found,) = re.findall(rf"^ +timeout {directive} +(\d+)s", HAPROXY, re.MULTILINE)
    return float(found)


def directives(text: str) -> dict[str, str]:
    """Return the directives of a file for Redis by name."""
    lines = [line.split(None, 1) for line in text.splitlines() if line and not line.startswith("#")]
    return {name: value.strip() for name, value in lines}


def test_three_servers_are_the_same() -> None:
    assert list(SERVERS) == ["pubsub-1", "pubsub-2", "pubsub-3"]
    first, second, third = SERVERS.values()
    assert first == second == third
    assert (CLUSTER / first["build"]).resolve() == REPOSITORY


def test_variables_of_the_servers_are_settings() -> None:
    assert settings().port == Settings().port
    assert urlsplit(settings().journal_url).hostname in SERVICES


def test_haproxy_leads_to_the_servers() -> None:
    led = re.findall(r"^ +server (\S+) (\S+):(\d+)$", HAPROXY, re.MULTILINE)
    assert [(name, host) for name, host, _ in led] == [(name, name) for name in SERVERS]
    assert {int(port) for *_, port in led} == {settings().port}
    (bound,) = re.findall(r"^ +bind :(\d+)$", HAPROXY, re.MULTILINE)
    assert SERVICES["haproxy"]["ports"] == [f"${{PORT:-8080}}:{bound}"]


def test_a_server_is_taken_out_while_it_still_serves() -> None:
    (interval, fall) = re.findall(r"default-server check inter (\d+)s fall (\d+)", HAPROXY)[0]
    assert int(interval) * int(fall) + seconds("connect") < settings().drain_sec
    assert "option httpchk GET /health" in HAPROXY


def test_a_server_has_time_to_close_its_clients() -> None:
    grace = float(SERVERS["pubsub-1"]["stop_grace_period"].removesuffix("s"))
    assert grace > settings().drain_sec + settings().shutdown_timeout_sec


def test_haproxy_waits_for_heartbeats_and_closes_idle_connections_first() -> None:
    for direction in ("client", "server", "tunnel"):
        assert seconds(direction) > 2 * settings().ping_period_sec
    assert seconds("http-keep-alive") < settings().idle_timeout_sec


def test_a_publish_is_never_sent_twice_by_haproxy() -> None:
    """The default retries a request only if no connection was made."""
    assert "retry-on" not in HAPROXY


def test_servers_trust_haproxy_for_addresses() -> None:
    (network,) = COMPOSE["networks"]["cluster"]["ipam"]["config"]
    assert settings().trusted_proxies == network["subnet"]
    assert ipaddress.ip_network(network["subnet"]).is_private
    assert all(each["networks"] == ["cluster"] for each in SERVICES.values())
    assert re.search(r"^ +option forwardfor\b", HAPROXY, re.MULTILINE)


def test_all_that_is_mounted_exists() -> None:
    for each in (SERVICES["redis"], SERVICES["haproxy"]):
        for source, target in (volume.split(":")[:2] for volume in each["volumes"]):
            assert (CLUSTER / source).is_file() if source.startswith("./") else source in COMPOSE["volumes"], target
    assert SERVICES["redis"]["command"][1] in SERVICES["redis"]["volumes"][0]


def test_haproxy_accepts_its_file() -> None:
    if shutil.which("haproxy", path=PATH) is None:
        assert os.environ.get("CI") != "true", "needs haproxy: apt-get install haproxy"
        pytest.skip("needs haproxy: apt-get install haproxy")
    command = ["haproxy", "-c", "-f", str(CLUSTER / "haproxy.cfg")]
    checked = subprocess.run(command, env={"PATH": PATH}, capture_output=True, text=True, timeout=30)
    assert checked.returncode == 0, checked.stderr
    complaints = [line for line in checked.stderr.splitlines() if "[WARNING]" in line or "[ALERT]" in line]
    assert all("could not resolve address 'pubsub-" in each for each in complaints), "here nothing has these names"


@pytest.fixture
def redis_port(tmp_path: Path) -> Iterator[int]:
    """A Redis with the file for Compose, on a port and in a folder of its own."""
    if shutil.which("redis-server") is None:
        assert os.environ.get("CI") != "true", "needs redis-server: apt-get install redis-server"
        pytest.skip("needs redis-server: apt-get install redis-server")
    port = free_port()
    command = ["redis-server", str(CLUSTER / "redis.conf"), "--port", str(port), "--dir", str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        yield port
    finally:
        process.kill()
        process.wait()


@on_one_loop
async def test_redis_accepts_its_file(redis_port: int) -> None:
    import redis

    with redis.Redis(port=redis_port, decode_responses=True) as client:
        await eventually(lambda: answers(client))
        expected = directives(REDIS)
        found = {name: client.config_get(name)[name] for name in expected if name != "client-output-buffer-limit"}
    assert found.pop("maxmemory") == str(int(expected.pop("maxmemory").removesuffix("mb")) << 20)
    del expected["client-output-buffer-limit"]
    assert found == {name: value.strip('"') for name, value in expected.items()}


def answers(client: Any) -> bool:
    import redis

    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


def test_redis_in_kubernetes_has_the_same_directives() -> None:
    there = directives(SEVERAL.of("Secret", "pubsub-redis")["stringData"]["redis.conf"])
    del there["requirepass"], there["dir"]
    assert there == directives(REDIS)
