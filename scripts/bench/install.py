"""Downloads and compiles peers into a cache folder, with each registry's ordinary client; installs nothing elsewhere.

It raises Missing, with the reason, if a peer is not available; the benchmark reports that peer as missing.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
SCRIPTS = HERE / "peers"
INSTALL_SECONDS = 600


class Missing(Exception):
    """A peer is not available here; the text gives the reason."""


@dataclass(frozen=True, slots=True)
class Cache:
    """The folder with every compiled or downloaded program. Existing files are used again."""

    root: Path

    def compiled(self, source: Path) -> Path:
        program = self.root / source.stem
        if _older(program, source):
            self.root.mkdir(parents=True, exist_ok=True)
            _run("cc", "-O2", "-Wall", "-Wextra", "-o", program, source)
        return program

    def compiled_go(self, source: Path, package: str, library: str) -> Path:
        """Compile with Debian's compiler and one of Debian's source packages, which are not Go modules."""
        program = self.root / source.stem
        if _older(program, source):
            go = self.debian_file("golang-go", "usr/lib/go")
            code = self.debian_file(package, f"usr/share/gocode/src/{library}")
            folders = {"GOROOT": str(go), "GOPATH": str(code).removesuffix(f"/src/{library}")}
            settings = {"GO111MODULE": "off", "GOCACHE": str(self.root.absolute() / "go")}
            _run(go / "bin" / "go", "build", "-o", program, source, environment=folders | settings)
        return program

    def python(self) -> Path:
        """Return the interpreter of a virtual environment with peers/requirements.txt."""
        return self.environment("python", Path(sys.executable), SCRIPTS / "requirements.txt")

    def environment(self, name: str, interpreter: Path, requirements: Path) -> Path:
        """Return the interpreter of a virtual environment with these requirements."""
        done = self.root / name / "requirements.txt"
        if not _same_text(requirements, done):
            _run(interpreter, "-m", "venv", "--clear", done.parent)
            _run(done.parent / "bin" / "pip", "install", "--quiet", "--requirement", requirements)
            done.write_text(requirements.read_text())
        return done.parent / "bin" / "python"

    def node_modules(self) -> Path:
        """Return the folder with the packages of peers/package.json."""
        package, done = SCRIPTS / "package.json", self.root / "node" / "package.json"
        if not (_same_text(package, done) and (done.parent / "node_modules").exists()):
            done.parent.mkdir(parents=True, exist_ok=True)
            done.write_text(package.read_text())
            _run("npm", "install", "--prefix", done.parent, "--no-audit", "--no-fund", "--silent")
        return done.parent / "node_modules"

    def revision(self, repository: Path, commit: str) -> Path:
        """Return a folder with the package of this repository as it was in a commit."""
        folder = self.root / "revisions" / commit
        if not folder.exists():
            folder.parent.mkdir(parents=True, exist_ok=True)
            archive, unfinished = folder.with_suffix(".tar"), folder.with_suffix(".unfinished")
            unfinished.mkdir(exist_ok=True)
            _run("git", "-C", repository, "archive", "--output", archive, commit, "pubsub")
            _run("tar", "--extract", "--file", archive, "--directory", unfinished)
            archive.unlink()
            unfinished.rename(folder)
        return folder

    def debian_file(self, package: str, path: str) -> Path:
        """Return a file of a Debian package: the installed one, or one from an unpacked copy."""
        own = Path("/", path)
        file = own if own.exists() else self._unpacked(package) / path
        if not file.exists():
            raise Missing(f"Debian's {package} has no {path} here")
        return file

    def _unpacked(self, package: str) -> Path:
        """Return a folder with the files of the package and of its dependencies that are not installed here."""
        tree, archives = self.root / "debian" / package, self.root / "archives" / package
        if not tree.exists():
            (archives / "partial").mkdir(parents=True, exist_ok=True)
            # Without the system's cache and lock it needs no root rights; the lists of packages must exist.
            own_folder = ("-o", f"Dir::Cache::archives={archives.absolute()}", "-o", "Debug::NoLocking=1")
            options = ("--download-only", "--no-install-recommends", "--yes")
            _run("apt-get", "install", *options, *own_folder, package)
            unfinished = tree.with_suffix(".unfinished")
            unfinished.mkdir(parents=True, exist_ok=True)
            for archive in archives.glob("*.deb"):
                _run("dpkg-deb", "--extract", archive, unfinished)
            unfinished.rename(tree)
        return tree


def commit_of(repository: Path, revision: str) -> str:
    """Return the full name of a commit."""
    return _run("git", "-C", repository, "rev-parse", "--verify", f"{revision}^{{commit}}").strip()


def interpreter_of(version: str) -> Path:
    """Return an interpreter of this version, such as 3.12: the first one of the PATH, or of pyenv, that runs."""
    name = f"python{version}"
    pyenv = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/{name}"))
    for found in [shutil.which(name), *pyenv]:
        if found and subprocess.run([found, "-c", ""], capture_output=True).returncode == 0:
            return Path(found)
    raise Missing(f"there is no {name} here")


def library_path(program: Path) -> str:
    """Return the folders of the shared libraries of an unpacked program."""
    return ":".join(str(folder.absolute()) for folder in program.parents[1].glob("lib/*-linux-gnu*"))


def _run(*command: str | Path, environment: Mapping[str, str] | None = None) -> str:
    try:
        return subprocess.run(
            command,
            env={**os.environ, **(environment or {})},
            check=True,
            capture_output=True,
            text=True,
            timeout=INSTALL_SECONDS,
        ).stdout
    except FileNotFoundError:
        raise Missing(f"{command[0]} is not installed") from None
    except subprocess.TimeoutExpired:
        raise Missing(f"{command[0]} did not end in {INSTALL_SECONDS} s") from None
    except subprocess.CalledProcessError as error:
        lines = error.stderr.strip().splitlines() or ["it gave no reason"]
        raise Missing(f"{Path(command[0]).name} failed: {lines[-1]}") from None


def _older(made: Path, source: Path) -> bool:
    return not made.exists() or made.stat().st_mtime < source.stat().st_mtime


def _same_text(left: Path, right: Path) -> bool:
    return right.exists() and left.read_text() == right.read_text()
