"""Packaging: the wheel, the Dockerfile, the systemd unit, the Makefile, the lock files. Contacts no registry."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from signal import SIGTERM
from typing import IO

import pytest

from pubsub.http.listener import BACKLOG
from pubsub.settings import Settings

ROOT = Path(__file__).parents[1]
SCRIPTS = Path(sysconfig.get_path("scripts"))

# Paths and registries of other machines. The pattern is written so that it does not match itself.
MACHINE = re.compile(
    rb"(?<![\w.])/(?:work|root|tmp)/|pypi\.org|pythonhosted\.org|npmjs\.(?:org|com)|(?:deb|security)\.debian\.org"
)


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def run(*command: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run a command in an environment without the developer's settings."""
    env = {"PATH": os.environ["PATH"]}
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=30, check=False)


def succeed(*command: str | Path, cwd: Path = ROOT) -> str:
    done = run(*command, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def image_context() -> set[str]:
    """Make a folder with the files that the Dockerfile copies from the repository."""
    copies = re.findall(r"^COPY (?!--from)(.+) \S+$", read("Dockerfile"), re.MULTILINE)
    return {name for names in copies for name in names.split()}


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an environment with a wheel built from the image's files; it uses the developer's dependencies."""
    work = tmp_path_factory.mktemp("wheel")
    source, environment = work / "source", work / "environment"
    source.mkdir()
    for path in (ROOT / name for name in image_context()):
        (shutil.copytree if path.is_dir() else shutil.copy)(path, source / path.name)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    succeed(*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", work, source)
    venv.create(environment, symlinks=True)
    succeed(*pip, "--python", environment, "install", "--no-deps", "--no-index", *work.glob("*.whl"))
    site = succeed(environment / "bin/python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))")
    Path(site.strip(), "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return environment


def test_wheel_is_what_runs(environment: Path, tmp_path: Path) -> None:
    found = succeed(environment / "bin/python", "-c", "import pubsub; print(pubsub.__file__)", cwd=tmp_path)
    package = Path(found.strip()).parent
    assert package.is_relative_to(environment)
    assert files(package) == files(ROOT / "pubsub")


def files(package: Path) -> set[Path]:
    found = (path for path in package.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {path.relative_to(package) for path in found}


def test_command_shows_help(environment: Path, tmp_path: Path) -> None:
    shown = succeed(environment / "bin/pubsub", "--help", cwd=tmp_path)
    assert all(command in shown for command in ("serve", "health", "client"))


def test_server_serves_and_stops(environment: Path, tmp_path: Path) -> None:
    pubsub = environment / "bin/pubsub"
    serve = (pubsub, "serve", "--host", "127.0.0.1", "--port", "0")
    with subprocess.Popen(serve, cwd=tmp_path, env={}, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            url = wait_until_listening(server.stderr)
            assert run(pubsub, "health", "--url", url, cwd=tmp_path).returncode == 0
            server.send_signal(SIGTERM)
            _, log = server.communicate(timeout=20)
            assert server.returncode == 0, log
        finally:
            server.kill()
    assert run(pubsub, "health", "--url", url, cwd=tmp_path).returncode == 1


def wait_until_listening(log: IO[str]) -> str:
    """Return the URL that the server's log names. It ends with the log, or by the test's time limit."""
    lines: list[str] = []
    for line in log:
        lines.append(line)
        if found := re.search(r"Listening on (http://\S+)", line):
            return found[1]
    raise AssertionError("".join(lines))


def test_dockerfile_passes_hadolint() -> None:
    succeed(SCRIPTS / "hadolint", "Dockerfile")


def test_image_gets_what_it_copies() -> None:
    let_through = {line[1:] for line in read(".dockerignore").splitlines() if line.startswith("!")}
    assert image_context() == let_through
    assert all((ROOT / name).exists() for name in let_through)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
def test_unit_is_valid_and_hardened(tmp_path: Path) -> None:
    unit = tmp_path / "pubsub.service"
    # The command must exist for `verify`.
    unit.write_text(read("deploy/pubsub.service").replace("/opt/pubsub/bin/pubsub", sys.executable))
    verified = run("systemd-analyze", "verify", "--man=no", unit)
    assert (verified.returncode, verified.stderr) == (0, "")
    socket = read("deploy/pubsub.socket")
    for name, text in {"as it is": socket, "with all": re.sub(r"^#(\w+=)", r"\1", socket, flags=re.MULTILINE)}.items():
        (tmp_path / "pubsub.socket").write_text(text)
        verified = run("systemd-analyze", "verify", "--man=no", tmp_path / "pubsub.socket", unit)
        assert (verified.returncode, verified.stderr) == (0, ""), name
    # In tenths: the largest allowed value is 2.5.
    succeed("systemd-analyze", "security", "--offline=true", "--threshold=25", "--no-pager", unit)


@pytest.mark.parametrize(
    ("name", "limit"),
    [("docker-compose.yml", r"stop_grace_period: (\d+)s"), ("deploy/pubsub.service", r"TimeoutStopSec=(\d+)")],
)
def test_supervisors_wait_for_the_shutdown(name: str, limit: str) -> None:
    found = re.search(limit, read(name))
    assert found is not None
    assert int(found[1]) > Settings().shutdown_timeout_sec


def test_sockets_of_systemd_are_those_of_the_settings() -> None:
    unit = read("deploy/pubsub.socket")
    assert re.findall(r"^ListenStream=(.+)", unit, re.MULTILINE) == [str(Settings().port)]
    assert re.findall(r"^#SocketMode=(.+)", unit, re.MULTILINE) == [Settings().socket_mode]
    assert re.findall(r"^Backlog=(.+)", unit, re.MULTILINE) == [str(BACKLOG)]
    assert "Accept=" not in unit, "it would start a server for each connection"


def test_help_lists_every_verb() -> None:
    makefile = read("Makefile")
    listed = [line.split()[0] for line in succeed("make", "--silent", "help").splitlines()]
    assert set(listed) == set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    phony = re.search(r"^verbs := (.*)", makefile, re.MULTILINE)
    assert phony is not None
    assert listed == phony[1].split()


def test_tests_run_on_the_versions_that_are_shipped() -> None:
    shipped = pins("requirements.lock")
    assert shipped
    assert shipped <= pins("requirements-dev.lock")


def pins(lock: str) -> set[str]:
    return set(re.findall(r"^\S+==\S+", read(lock), re.MULTILINE))


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs the repository")
def test_no_file_names_a_machine() -> None:
    names = succeed("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    paths = [ROOT / name for name in names if (ROOT / name).is_file()]
    assert paths
    found = {path.name: match[0] for path in paths if (match := MACHINE.search(path.read_bytes()))}
    assert not found
