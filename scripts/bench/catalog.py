"""The peers of the benchmark: title, command, settings, and the dialect of the load generator that each one speaks."""

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from install import HERE, SCRIPTS, Cache, interpreter_of, library_path

ROOT = HERE.parents[1]
PORT, FOLDER, SETTINGS = "@PORT@", "@FOLDER@", "@SETTINGS@"
"""Placeholders in commands and settings: the server's port, its own folder and its settings file."""
ALONE = "alone"
"""The dialect of a program that is not a server: it gets the cell's window and seconds, and measures itself."""

IN_MEMORY = frozenset({"fanout", "latency", "publish", "connect"})
FEATURES = frozenset({"beside", "filters", "watched", "topics", "idle"})
STREAMS = frozenset({"streams", "idle streams"})
ON_DISK = frozenset({"durable"})
COMPRESSED = frozenset({"deflate"})
TOKENS_CHECKED = frozenset({"flood"})
INTERPRETERS = frozenset({"interpreters"})
"""Groups of cells: for peers that keep messages only in memory, for this server alone, for peers with Server-Sent
Events, for peers that acknowledge messages on disk, for peers with permessage-deflate, for those with tokens, and for
this server in several versions of Python."""


@dataclass(frozen=True, slots=True)
class Launch:
    """A command that starts a peer. `load_options` are additional options for the load generator."""

    command: tuple[str, ...]
    settings: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    load_options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Peer:
    """A program to measure in the cells of `groups`. `prepare` installs it, which takes minutes, or raises Missing.

    `few`: it takes part only in the cells that all peers have in common.
    """

    name: str
    title: str
    dialect: str
    prepare: Callable[[Cache], Launch]
    groups: frozenset[str] = IN_MEMORY
    few: bool = False


def ours(_cache: Cache) -> Launch:
    command = (sys.executable, "-m", "pubsub", "serve", "--host", "127.0.0.1", "--port", PORT)
    return Launch(command, environment={"PYTHONPATH": str(ROOT), "DATA_DIR": "data"})


def ours_with_python(version: str) -> Callable[[Cache], Launch]:
    def prepare(cache: Cache) -> Launch:
        python = cache.environment(f"python{version}", interpreter_of(version), ROOT / "requirements.lock")
        plain = ours(cache)
        return replace(plain, command=(str(python), *plain.command[1:]))

    return prepare


def ours_compressed(cache: Cache) -> Launch:
    plain = ours(cache)
    return replace(plain, environment={**plain.environment, "COMPRESSION": "on"})


BEFORE = frozenset({"before", "before-durable"})


def peers_before(commit: str) -> list["Peer"]:
    """Return this server, and the one of a commit: the same interpreter and packages run both."""

    def before(cache: Cache) -> Launch:
        launch = ours(cache)
        folder = cache.revision(ROOT, commit)
        return replace(launch, environment={**launch.environment, "PYTHONPATH": str(folder)})

    title = f"this server at {commit[:12]}"
    return [
        *(peer for peer in PEERS if peer.prepare is ours),
        Peer("before", title, "pubsub", before, IN_MEMORY | FEATURES | STREAMS),
        Peer("before-durable", f"{title}; a durable topic", "durable", before, ON_DISK),
    ]


SECRET = "a secret for nothing but measurements"
GUARDED = {
    "API_KEYS": "ops:admin:a-key-for-measurements",
    "JWT_SECRET": SECRET,
    "RATE_LIMIT_MSGS_PER_SEC": "1000000",
    "MAX_CONNECTIONS": "16000",
    "MAX_CONNECTIONS_PER_CLIENT": "10",
    "MAX_SUBSCRIPTIONS_PER_CONNECTION": "10",
    "MAX_TOPICS": "20000",
}
"""Settings with every check of clients switched on, and rates and quotas that no client reaches."""
TOKENS = 10_010
"""Number of tokens: 10,000 subscribers and their publishers."""


def ours_guarded(cache: Cache) -> Launch:
    plain = ours(cache)
    cache.root.mkdir(parents=True, exist_ok=True)
    tokens = cache.root / "tokens"
    tokens.write_text("".join(f"{token_of(number)}\n" for number in range(TOKENS)))
    return Launch(plain.command, environment={**plain.environment, **GUARDED}, load_options={"tokens": str(tokens)})


def token_of(number: int) -> str:
    """Sign a token. Each client has its own permissions; the first one is an administrator."""
    import jwt

    own = f"load-{number}"
    rights = {"subscribe": ["bench", f"{own}.>"], "publish": ["bench", f"{own}.*"], "admin": number == 0}
    return jwt.encode({"sub": own, "exp": int(time.time()) + 86_400, "pubsub": rights}, SECRET, "HS256")


def floor(cache: Cache) -> Launch:
    return Launch((str(cache.compiled(HERE / "floor.c")), PORT))


def baseline(_cache: Cache) -> Launch:
    return Launch((sys.executable, str(SCRIPTS / "queue_and_task.py"), PORT))


def python_script(name: str) -> Callable[[Cache], Launch]:
    return lambda cache: Launch((str(cache.python()), str(SCRIPTS / name), PORT))


def socketify_compressed(cache: Cache) -> Launch:
    plain = python_script("socketify_broadcast.py")(cache)
    return replace(plain, command=(*plain.command, "deflate"))


def go(cache: Cache) -> Launch:
    source = SCRIPTS / "channel_and_goroutine.go"
    package = "golang-github-gorilla-websocket-dev"
    return Launch((str(cache.compiled_go(source, package, "github.com/gorilla/websocket")), PORT))


def ws(cache: Cache) -> Launch:
    node = cache.debian_file("nodejs", "usr/bin/node")
    return Launch(
        (str(node), str(SCRIPTS / "ws_broadcast.js"), PORT),
        environment={"NODE_PATH": str(cache.node_modules()), "LD_LIBRARY_PATH": library_path(node)},
    )


def ws_compressed(cache: Cache) -> Launch:
    plain = ws(cache)
    return replace(plain, command=(*plain.command, "deflate"))


def sqlite(_cache: Cache) -> Launch:
    return Launch((sys.executable, str(SCRIPTS / "sqlite_commits.py"), FOLDER))


def redis(cache: Cache) -> Launch:
    program = cache.debian_file("redis-server", "usr/bin/redis-server")
    return Launch(
        (str(program), "--bind", "127.0.0.1", "--port", PORT, "--save", "", "--maxclients", "15000"),
        environment={"LD_LIBRARY_PATH": library_path(program)},
    )


def redis_streams(cache: Cache) -> Launch:
    launch = redis(cache)
    return replace(launch, command=(*launch.command, "--appendonly", "yes", "--appendfsync", "always", "--dir", FOLDER))


NATS_SETTINGS = f"""
listen: "127.0.0.1:-1"
websocket {{ listen: "127.0.0.1:{PORT}", no_tls: true }}
"""


def nats(cache: Cache) -> Launch:
    return Launch((str(cache.python().with_name("nats-server")), "--config", SETTINGS), NATS_SETTINGS)


JETSTREAM_SETTINGS = f"{NATS_SETTINGS}jetstream {{ store_dir: {FOLDER}, sync_interval: always }}"


def jetstream(cache: Cache) -> Launch:
    return replace(nats(cache), settings=JETSTREAM_SETTINGS)


# Mosquitto 2.0 does not start without a listener that is not a WebSocket: here a Unix socket.
MOSQUITTO_SETTINGS = f"""
log_type error
user root
set_tcp_nodelay true
allow_anonymous true
listener 0 {FOLDER}/socket
listener {PORT} 127.0.0.1
protocol websockets
"""


def mosquitto(cache: Cache) -> Launch:
    program = cache.debian_file("mosquitto", "usr/sbin/mosquitto")
    return Launch((str(program), "-c", SETTINGS), MOSQUITTO_SETTINGS, {"LD_LIBRARY_PATH": library_path(program)})


NGINX_SETTINGS = f"""
load_module @MODULE@;
user root;
daemon off;
master_process off;
pid {FOLDER}/pid;
error_log {FOLDER}/error.log;
worker_rlimit_nofile 20000;
events {{ worker_connections 16000; }}
http {{
    access_log off;
    client_body_temp_path {FOLDER};
    proxy_temp_path {FOLDER};
    fastcgi_temp_path {FOLDER};
    uwsgi_temp_path {FOLDER};
    scgi_temp_path {FOLDER};
    nchan_shared_memory_size 256M;
    server {{
        listen 127.0.0.1:{PORT} backlog=4096;
        location /sub {{ nchan_subscriber websocket; nchan_channel_id bench; nchan_subscriber_first_message newest; }}
        location /events {{
            nchan_subscriber eventsource; nchan_channel_id bench; nchan_subscriber_first_message newest;
        }}
        location /pub {{ nchan_publisher websocket; nchan_channel_id bench; nchan_message_buffer_length 1000; }}
    }}
}}
"""
# Nchan makes nginx create /var/lib/nginx/body whatever the settings say; this gives it a private /var/lib.
OWN_VAR_LIB = 'mount -t tmpfs none /var/lib && mkdir /var/lib/nginx && exec "$@"'


def nchan(cache: Cache) -> Launch:
    nginx = cache.debian_file("nginx", "usr/sbin/nginx")
    module = cache.debian_file("libnginx-mod-nchan", "usr/lib/nginx/modules/ngx_nchan_module.so")
    isolated = ("unshare", "--map-root-user", "--mount", "sh", "-c", OWN_VAR_LIB, "sh")
    command = (*isolated, str(nginx), "-p", FOLDER, "-c", SETTINGS, "-e", "stderr")
    return Launch(command, NGINX_SETTINGS.replace("@MODULE@", str(module)))


def nchan_compressed(cache: Cache) -> Launch:
    """Nchan deflates a message once, when it is published."""
    plain = nchan(cache)
    once = "nchan_deflate_message_for_websocket on; nchan_message_buffer_length"
    return replace(plain, settings=plain.settings.replace("nchan_message_buffer_length", once))


SERVERS = "servers"
"""The group of the cells with several servers on one Redis (cluster.py)."""
SERVER_PEERS = {
    "ours alone": "one server without Redis",
    "ours": "this server; with Redis: two of them",
    "python-socketio": "two servers of python-socketio with its Redis manager",
    "a bare PING": "a PING to Redis for each message: the floor of two processes that talk",
    "a bare PUBLISH": "a PUBLISH to Redis for each message, to a process that ignores it: the floor of a push",
}
PEERS = (
    Peer("ours", "this server; a topic in memory", "pubsub", ours, IN_MEMORY | FEATURES | STREAMS | ON_DISK),
    Peer(
        "guarded",
        "this server with tokens, permissions, rates and quotas",
        "pubsub",
        ours_guarded,
        IN_MEMORY | TOKENS_CHECKED,
        few=True,
    ),
    Peer("floor", "a minimal loop in C that only writes the same bytes to the same sockets", "pubsub", floor),
    Peer("socketify", "uWebSockets (C++) from Python; no JSON", "raw", python_script("socketify_broadcast.py")),
    Peer("redis", "Redis pub/sub (C); no WebSocket, no JSON", "redis", redis),
    Peer("nats", "nats-server (Go) over WebSocket; no JSON, acknowledges only in the publish cells", "nats", nats),
    Peer("go", "Go, gorilla, a channel and a goroutine for each client; the same work as ours", "pubsub", go),
    Peer("ws", "ws in node; no JSON", "raw", ws),
    Peer("baseline", "aiohttp, a queue and a task for each client (Python); the same work as ours", "pubsub", baseline),
    Peer("nchan", "nginx with Nchan (C); no JSON", "nchan", nchan, IN_MEMORY | STREAMS, few=True),
    Peer("picows", "picows (Cython); no JSON", "raw", python_script("picows_broadcast.py"), few=True),
    Peer(
        "mosquitto",
        "Mosquitto (C), MQTT over WebSocket; acknowledges only in the publish cells",
        "mqtt",
        mosquitto,
        few=True,
    ),
    Peer(
        "websockets",
        "websockets, broadcast (Python); no JSON",
        "raw",
        python_script("websockets_broadcast.py"),
        few=True,
    ),
    Peer("socketio", "python-socketio on aiohttp", "socketio", python_script("socketio_broadcast.py"), few=True),
    Peer("ours-durable", "this server; a durable topic", "durable", ours, ON_DISK),
    Peer("sqlite", "SQLite and the disk alone: commits of as many rows as are in flight", ALONE, sqlite, ON_DISK),
    Peer("redis-streams", "Redis Streams, synced (appendfsync always)", "redis-stream", redis_streams, ON_DISK),
    Peer("jetstream", "NATS JetStream, synced (sync_interval: always)", "jetstream", jetstream, ON_DISK),
    Peer("ours-deflate", "this server; COMPRESSION is on", "pubsub", ours_compressed, COMPRESSED),
    Peer("nchan-deflate", "nginx with Nchan, which deflates a message once", "nchan", nchan_compressed, COMPRESSED),
    Peer("ws-deflate", "ws in node; permessage-deflate is on", "raw", ws_compressed, COMPRESSED),
    Peer("socketify-deflate", "uWebSockets with its shared compressor", "raw", socketify_compressed, COMPRESSED),
    *(
        Peer(f"python{version}", f"this server in Python {version}", "pubsub", ours_with_python(version), INTERPRETERS)
        for version in ("3.11", "3.12", "3.13", "3.14")
    ),
)
