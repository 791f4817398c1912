"""The interactive client: whole sessions with the real server."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from tests.client.test_terminal import is_inert
from tests.harness import (
    PATIENCE,
    REPOSITORY,
    ForkedServer,
    Json,
    ServerProcess,
    clean_environment,
    free_port,
)


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ForkedServer() as process:
        yield process


@pytest.fixture
def topic() -> str:
    return f"orders-{uuid.uuid4().hex[:8]}"


def client_command(url: str) -> list[str]:
    return [sys.executable, "-W", "error", "-m", "pubsub", "client", "--url", url]


def client_environment(**more: str) -> dict[str, str]:
    return {"PYTHONPATH": str(REPOSITORY)} | clean_environment() | more


def run_script(url: str, script: str | bytes, *flags: str) -> subprocess.CompletedProcess[str]:
    """Run a piped session to the end of its input."""
    done = subprocess.run(
        [*client_command(url), *flags],
        input=script.encode() if isinstance(script, str) else script,
        capture_output=True,
        timeout=3 * PATIENCE,
        env=client_environment(),
    )
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def start_script(url: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        client_command(url),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        bufsize=1,
        env=client_environment(),
    )


def without_ids(text: str) -> list[str]:
    return re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "ID", text).splitlines()


def test_piped_session(server: ServerProcess, topic: str) -> None:
    script = f'create {topic}\nsub {topic}\npub {topic} hello\npub {topic} {{"test":"data"}}\nhistory {topic} 1\n'
    done = run_script(server.url, f"{script}\nping\ntopics\nunsub {topic}\ndelete {topic}\nquit\nunsub never-reached\n")
    assert (done.returncode, done.stderr) == (0, "")
    lines = without_ids(done.stdout)
    assert [line for line in lines if line.startswith("[")] == [
        f'[{topic}] #1 ID: "hello"',
        f'[{topic}] #2 ID: {{"test":"data"}}',
        f'[{topic}] #2 ID: {{"test":"data"}}',
    ]
    answers = [line for line in lines if not line.startswith("[")]
    assert re.fullmatch(r"ok: pong after [0-9.]+ ms", answers.pop(5))
    assert f"{topic} (1 subscriber)" in answers.pop(5)
    assert answers == [
        f"ok: created {topic}",
        f"ok: subscribed to {topic}",
        f"ok: published to {topic} as #1",
        f"ok: published to {topic} as #2",
        f"ok: 1 message in the history of {topic}",
        f"ok: unsubscribed from {topic}",
        f"ok: deleted {topic}",
    ]


def test_patterns_and_filters_in_a_session(server: ServerProcess, topic: str) -> None:
    done = run_script(
        server.url,
        f"""create {topic}.eu sender
            pub {topic}.eu {{"n":1}}
            pub {topic}.eu {{"n":2}}
            sub '{topic}.*' last=5 filter='payload.n > params.least' params='{{"least":1}}'
            create {topic}.us presence
            pub {topic}.us {{"n":1}}
            pub {topic}.us {{"n":2}}
            history {topic}.us filter='payload.n == 1'
            sub {topic}.us filter='payload.n >'
            unsub '{topic}.*'
            pub {topic}.us {{"n":3}}
        """,
    )
    lines = [re.sub(r"console-\w+", "ME", line.replace(topic, "T")) for line in without_ids(done.stdout)]
    error = lines.pop(-3)
    assert error.startswith("error BAD_REQUEST: filter: ")
    assert lines == [
        "ok: created T.eu",
        "ok: published to T.eu as #1",
        "ok: published to T.eu as #2",
        "ok: subscribed to T.*: T.eu",
        '[T.eu] #2 ID from ME: {"n":2}',
        "topic created: T.us",
        "ok: created T.us",
        "ok: published to T.us as #1",
        '[T.us] #2 ID: {"n":2}',
        "ok: published to T.us as #2",
        "ok: 1 message in the history of T.us",
        '[T.us] #1 ID: {"n":1}',
        "ok: unsubscribed from T.*",
        "ok: published to T.us as #3",
    ]
    assert (done.returncode, done.stderr) == (1, "")


def test_presence_purge_and_conflicts_in_a_session(server: ServerProcess, topic: str) -> None:
    done = run_script(
        server.url,
        f"""create {topic} presence
            sub {topic}
            presence {topic}
            pub {topic} ttl=100 expect=0 hello
            pub {topic} expect=0 "too late"
            purge {topic}
            history {topic} after=0
            rules
            create {topic}.x
            presence {topic}.x
        """,
    )
    lines = [re.sub(r"console-\w+", "ME", line.replace(topic, "T")) for line in without_ids(done.stdout)]
    assert lines.pop().startswith("error BAD_REQUEST: ")
    assert lines == [
        "ok: created T",
        "ok: subscribed to T",
        "ok: 1 client in T: ME",
        '[T] #1 ID: "hello"',
        "ok: published to T as #1",
        "error CONFLICT: expect_seq: expected 0, but the seq of the topic is 1",
        "ok: forgot 1 message of T",
        "ok: 0 messages in the history of T; older ones are no longer kept",
        "rules: none",
        "ok: created T.x",
    ]


def test_dead_letters_are_sent_again_in_a_session(server: ServerProcess, topic: str) -> None:
    event = {"message": {"id": "6ba7b810-9dad-11d1-80b4-00c04fd430c8", "payload": "lost"}}
    letter = {"reason": "overflow", "topic": topic, "client_id": "alice", "from_seq": 1, "to_seq": 2, "count": 2}
    done = run_script(
        server.url,
        f"""create {topic}.dead
            create {topic} dead_letter={topic}.dead
            pub {topic}.dead {json.dumps(letter | {"messages": [event]})}
            sub {topic}
            redrive {topic}.dead
            redrive {topic}.dead after=1
        """,
    )
    lines = [line.replace(topic, "T") for line in without_ids(done.stdout)][4:]
    assert sorted(lines) == [
        '[T] #1 ID: "lost"',
        "ok: published 0 messages of 0 letters in T.dead again, skipped 0",
        "ok: published 1 message of 1 letter in T.dead again, skipped 1",
    ]


def test_a_session_tells_why_a_client_did_not_get_a_message(server: ServerProcess, topic: str) -> None:
    done = run_script(
        server.url,
        f"""create {topic}
            pub {topic} 1
            sub {topic}
            pub {topic} 2
            why me {topic} 1
            why me {topic} 2
            why you {topic} 1
        """,
        "--client",
        "me",
    )
    shown = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "NOW", done.stdout.replace(topic, "T")).splitlines()
    assert shown[-5:] == [
        "ok: 1 connection of me for #1 in T, published at NOW",
        "not_subscribed: the subscription began later: it gets what follows seq 1 "
        "(connected at NOW, subscribed at NOW)",
        "ok: 1 connection of me for #2 in T, published at NOW",
        "sent: it was handed to the socket (connected at NOW, subscribed at NOW)",
        "error 404: client not found",
    ]


def test_everything_sent_before_the_end_of_input_is_shown(server: ServerProcess, topic: str) -> None:
    published = "".join(f"pub {topic} {number}\n" for number in range(50))
    done = run_script(server.url, f"create {topic}\n{published}sub {topic} 50")
    assert without_ids(done.stdout)[-50:] == [f"[{topic}] #{number + 1} ID: {number}" for number in range(50)]


def test_a_failed_command_fails_the_script_but_does_not_end_it(server: ServerProcess, topic: str) -> None:
    done = run_script(server.url, f"sub {topic}\nsubb\ndelete {topic}\npub {topic} [\ncreate {topic}\ncreate {topic}\n")
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        f"error TOPIC_NOT_FOUND: Topic '{topic}' does not exist",
        "error: unknown command 'subb'; did you mean 'sub'?",
        "error 404: topic not found",
        "error: TEXT begins like JSON but is none: Expecting value at character 2 (''); "
        "to send it as text, put it in quotes",
        f"ok: created {topic}",
        "error 409: topic already exists",
    ]


def test_script_from_a_file(server: ServerProcess, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("help ping")
    with script.open() as opened:
        done = subprocess.run(
            client_command(server.url),
            stdin=opened,
            capture_output=True,
            timeout=3 * PATIENCE,
            env=client_environment(),
        )
    assert done.returncode == 0
    assert done.stdout.startswith(b"ping  ")


def test_row_30_escape_sequences_of_others_are_inert(server: ServerProcess, topic: str) -> None:
    """The JSON of a publisher may contain C1, DEL and bidi controls without escapes."""
    script = f'create {topic}\nsub {topic}\npub {topic} "\x9b2J\x7f\u202e"\nsub \x1b[2J\nxy\x1bz\n'
    done = run_script(server.url, script)
    assert f'[{topic}] #1 ID: "\\u009b2J\\u007f\\u202e"' in without_ids(done.stdout)
    assert "error: unknown command 'xy\\u001bz'" in done.stdout
    assert all(is_inert(character) for line in done.stdout.split("\n") for character in line)


def test_bytes_that_are_not_utf_8(server: ServerProcess) -> None:
    done = run_script(server.url, b"pub orders \xff\nping\n")
    assert done.returncode == 1
    assert done.stdout.startswith("error: expected UTF-8, but character 12 of the line is not\nok: pong")


def test_unreachable_server() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    done = run_script(url, "ping\n")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: cannot reach {url}: Connection refused\n"


def test_a_url_that_is_none() -> None:
    done = run_script("localhost", "ping\n")
    assert (done.returncode, done.stdout) == (2, "")
    assert "must look like http://127.0.0.1:8080" in done.stderr


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Enable SIGINT: a shell starts background programs with SIGINT ignored, and a child inherits that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_in_a_script(server: ServerProcess) -> None:
    with start_script(server.url) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("ping\n")
        assert process.stdout.readline().startswith("ok: pong")
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 130
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_nobody_reads_the_output_any_more(server: ServerProcess, topic: str) -> None:
    with start_script(server.url) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"create {topic}\nsub {topic}\n")
        assert process.stdout.readline() == f"ok: created {topic}\n"
        assert process.stdout.readline() == f"ok: subscribed to {topic}\n"
        process.stdout.close()
        run_script(server.url, f"pub {topic} hello\n")
        assert process.wait(PATIENCE) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_operator_ends_the_session(server: ServerProcess) -> None:
    with start_script(server.url) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write("ping\n")
        assert process.stdout.readline().startswith("ok: pong")
        (client,) = http_call("GET", f"{server.url}/clients")["clients"]
        http_call("DELETE", f"{server.url}/clients/{client['client_id']}")
        assert process.wait(PATIENCE) == 1
        assert "error: an operator disconnected this client (4403: " in process.stderr.read()


def http_call(method: str, url: str) -> Json:
    with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=PATIENCE) as response:
        answer: Json = json.load(response)
        return answer


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_reconnects_and_subscribes_again(end: signal.Signals, topic: str) -> None:
    with ForkedServer("--reconnect-spread-sec", "0.1") as first, start_script(first.url) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(f"create {topic}\nsub {topic}\n")
        assert process.stdout.readline() == f"ok: created {topic}\n"
        assert process.stdout.readline() == f"ok: subscribed to {topic}\n"
        first.stop(end)
        assert process.stderr.readline().endswith("; trying again\n")
        with ForkedServer("--port", str(first.port)):
            told = ""
            while "connected again to" not in told:
                told = process.stderr.readline()
                assert told, "the client has ended"
            assert process.stdout.readline() == f"topic deleted: {topic}\n"
            run_script(first.url, f"create {topic}\n")
            assert process.stdout.readline() == f"gap: {topic} was deleted and created again; messages may be missing\n"
            process.stdin.write(f"pub {topic} again\nquit\n")
            output = process.communicate(timeout=PATIENCE)[0]
    assert f'[{topic}] #1 ID: "again"' in without_ids(output)
    assert process.returncode == 0


# --- At a terminal


class Terminal:
    """A client at a pseudo-terminal; ``expect`` reads its output without colours and cursor movements."""

    def __init__(self, url: str, state: Path, **environment: str) -> None:
        self._master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (30, 200))
        more = {"TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1", "XDG_STATE_HOME": str(state)} | environment
        self.process = subprocess.Popen(
            client_command(url), stdin=slave, stdout=slave, stderr=slave, env=client_environment(**more)
        )
        os.close(slave)
        self.raw = ""
        self._seen = 0

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def ready(self) -> None:
        """Wait for the prompt after the message that it is connected: before, the terminal may be in cooked mode."""
        self.expect("connected to")
        self.expect("pubsub>")

    def enter(self, line: str) -> None:
        self.type(f"{line}\r")

    def expect(self, text: str) -> None:
        """Read until ``text`` is shown after the last expected text."""
        deadline = time.monotonic() + PATIENCE
        while (found := self._shown().find(text, self._seen)) < 0:
            assert self.read_some(deadline), f"expected {text!r}, got {self._shown()[self._seen :]!r}"
        self._seen = found + len(text)

    def read_some(self, deadline: float) -> bool:
        """Read some output; return False if none came until ``deadline``, or the client has ended."""
        if not select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))[0]:
            return False
        try:
            self.raw += os.read(self._master, 65536).decode(errors="replace")
        except OSError:  # the client has ended
            return False
        return True

    def shows(self, text: str, *, within: float) -> bool:
        deadline = time.monotonic() + within
        while text not in self._shown()[self._seen :]:
            if not self.read_some(deadline):
                return False
        return True

    def _shown(self) -> str:
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.raw)

    def wait(self) -> int:
        """Read to the end, and return the exit status."""
        while self.read_some(time.monotonic() + PATIENCE):
            pass
        return self.process.wait(PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._master)


def test_session_at_a_terminal(server: ServerProcess, topic: str, tmp_path: Path) -> None:
    with Terminal(server.url, tmp_path) as terminal:
        terminal.expect(f"connected to {server.url} as console-")
        terminal.enter(f"create {topic}")
        terminal.expect(f"ok: created {topic}")
        terminal.enter(f"sub {topic}")
        terminal.expect(f"ok: subscribed to {topic}")
        run_script(server.url, f"pub {topic} from-elsewhere\n")
        terminal.expect(f"[{topic}] #1 ")
        terminal.expect('"from-elsewhere"')
        terminal.enter("subb")
        terminal.expect("did you mean 'sub'?")
        terminal.enter("quit")
        assert terminal.wait() == 0
    assert "\x1b[36m[" in terminal.raw
    assert f"+create {topic}\n" in (tmp_path / "pubsub" / "history").read_text()
    assert (tmp_path / "pubsub" / "history").stat().st_mode & 0o077 == 0


def test_completion_at_a_terminal(server: ServerProcess, topic: str, tmp_path: Path) -> None:
    run_script(server.url, f"create {topic}\n")
    with Terminal(server.url, tmp_path) as terminal:
        terminal.ready()
        terminal.enter(f"sub {topic}")
        terminal.expect(f"ok: subscribed to {topic}")
        terminal.expect("pubsub>")
        terminal.type("unsu\t")
        terminal.expect("b")
        terminal.type(topic[:-4])
        terminal.expect(topic[-5])
        while not terminal.shows(topic[-4:], within=0.2):  # the client fetches the names of topics in the background
            terminal.type("\t")
        terminal.type("\r")
        terminal.expect(f"ok: unsubscribed from {topic}")
        terminal.expect("pubsub>")  # before it the terminal may be in cooked mode, where the kernel takes Ctrl-D
        terminal.type("\x04")
        assert terminal.wait() == 0


def test_ctrl_c_at_a_terminal(server: ServerProcess, tmp_path: Path) -> None:
    with Terminal(server.url, tmp_path) as terminal:
        terminal.ready()
        terminal.type("nonsense\x03")
        terminal.enter("ping")
        terminal.expect("ok: pong")
        terminal.expect("pubsub>")
        terminal.type("x\x03\x03")
        assert terminal.wait() == 0
    assert "unknown command" not in terminal.raw


def test_pasted_lines_at_a_terminal(server: ServerProcess, topic: str, tmp_path: Path) -> None:
    with Terminal(server.url, tmp_path) as terminal:
        terminal.ready()
        terminal.enter(f"\x1b[200~create {topic}\nsub {topic}\nquit\nping\x1b[201~")
        terminal.expect(f"ok: created {topic}")
        terminal.expect(f"ok: subscribed to {topic}")
        assert terminal.wait() == 0
    assert "pong" not in terminal.raw


def test_terminal_without_colours_or_a_place_for_the_history(server: ServerProcess, tmp_path: Path) -> None:
    (tmp_path / "pubsub").write_text("a file where a folder should be")
    with Terminal(server.url, tmp_path, NO_COLOR="1") as terminal:
        terminal.expect("connected to")
        terminal.enter("ping")
        terminal.expect("ok: pong")
        terminal.enter("quit")
        assert terminal.wait() == 0
    assert not re.search(r"\x1b\[[0-9;]*[39][0-9]m", terminal.raw)


def test_terminal_without_prompt_toolkit(server: ServerProcess, tmp_path: Path) -> None:
    (tmp_path / "prompt_toolkit.py").write_text("raise ModuleNotFoundError('gone', name='prompt_toolkit')")
    with Terminal(server.url, tmp_path, PYTHONPATH=f"{tmp_path}:{REPOSITORY}") as terminal:
        terminal.expect("prompt_toolkit is missing; install the extra 'client'")
        terminal.enter("ping")
        terminal.expect("ok: pong")
        terminal.enter("quit")
        assert terminal.wait() == 0


def test_terminal_keeps_trying(tmp_path: Path) -> None:
    with Terminal(f"http://127.0.0.1:{free_port()}", tmp_path) as terminal:
        terminal.expect("Connection refused; trying again")
        terminal.expect("pubsub (connecting)>")
        terminal.enter("ping")
        terminal.expect("error: not connected: cannot reach")
        terminal.enter("quit")
        assert terminal.wait() == 0
