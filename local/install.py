"""Makes `.venv` and installs what is asked for; a second run finds all done and ends at once.

It runs under the system's Python, before anything is installed. So it uses only the standard
library, and interpreters that are too old for the rest (3.6 and up) can read it and report that.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NEEDED = (3, 11)
NEWEST = 14
SETS = {
    "worker": ("worker.txt", "local.txt"),
    "models": ("models.txt", "local.txt"),
    "dev": ("dev.txt",),
}
"""Each set includes the one before it."""

PIP_FAILED = (
    "pip could not install everything (its lines above say why); check the network and the free"
    " disk space, then run this again"
)
MODEL_FREE = ("", "auto", "camera")


class InstallError(Exception):
    """The message is one sentence for the person who ran it."""


def main(wanted: str, root: Path = ROOT) -> int:
    """Install "run" (what this machine can use) or "dev" (everything, tests and tools too)."""
    try:
        restart_if_old(wanted)
        Environment(root).install(choose_set(wanted, root))
    except InstallError as error:
        print(f"stillreel: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stillreel: interrupted; the next run goes on from here", file=sys.stderr)
        return 130
    return 0


def restart_if_old(wanted: str) -> None:
    """Continue under a newer Python if this one is too old.

    Raises:
        InstallError: there is no newer one.
    """
    if sys.version_info >= NEEDED:
        return
    for minor in range(NEWEST, NEEDED[1] - 1, -1):
        newer = shutil.which(f"python3.{minor}")
        if newer and not subprocess.call([newer, "-c", ""], stderr=subprocess.DEVNULL):
            os.execv(newer, [newer, "-m", "local.install", wanted])  # noqa: S606  its own name
    raise InstallError(
        f"Python 3.11 or newer is needed, and {sys.executable} is"
        f" {sys.version_info[0]}.{sys.version_info[1]}; install one, or name it:"
        " make run PYTHON=/path/to/python3.11"
    )


def choose_set(wanted: str, root: Path) -> str:
    if wanted == "dev":
        return "dev"
    return "models" if names_a_model(engines_setting(root)) or sees_gpu() else "worker"


def engines_setting(root: Path) -> str:
    """Return STILLREEL_ENGINES from the environment, else from the `.env` in that folder."""
    name = "STILLREEL_ENGINES"
    if name in os.environ:
        return os.environ[name]
    # This type is too new for Pythons before 3.11.
    from shared.env_file import EnvFileError, read_env_file

    try:
        return read_env_file(root / ".env").get(name, "")
    except EnvFileError as error:
        raise InstallError(str(error)) from error


def names_a_model(engines: str) -> bool:
    """Say whether an engine that needs torch is named; your own engines bring what they need."""
    from shared.engines.entries import EngineKind, split_entries  # As too new as the file of env.

    return any(
        name not in MODEL_FREE
        if target is None
        else target.partition(":")[0] == EngineKind.DIFFUSERS
        for name, target in split_entries(engines)
    )


def sees_gpu() -> bool:
    try:
        found = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    # If one card is lost it fails, but still shows the others.
    return any(re.match(r"GPU \d+:", line) for line in found.stdout.splitlines())


class Environment:
    """The environment of one working copy, made from the pins in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.venv = root / ".venv"
        self.python = self.venv / "bin" / "python"
        self.stamp = self.venv / "stillreel.json"

    def install(self, name: str) -> None:
        """Install one of SETS, unless it or a larger one is installed from the same pins."""
        fingerprint = self.pins()
        if self.is_installed(name, fingerprint):
            return
        self.stamp.unlink(missing_ok=True)
        self.make()
        if name != "worker":
            say("installing torch, the largest part (with CUDA about 3 GB)")
            self.pip("torch")
        say(f"installing the libraries ({name})")
        files = (part for file in SETS[name] for part in ("-r", f"requirements/{file}"))
        self.pip_in_one_line(*files)
        self.stamp.write_text(json.dumps({"set": name, "pins": fingerprint}))

    def is_installed(self, name: str, fingerprint: str) -> bool:
        try:
            stamp = json.loads(self.stamp.read_text())
        except (OSError, ValueError):
            return False
        order = list(SETS)
        has = stamp.get("set")
        return (
            has in order
            and stamp.get("pins") == fingerprint
            and order.index(has) >= order.index(name)
            and self.runs("-c", "pass")
        )

    def pins(self) -> str:
        """Return a fingerprint of every requirement and of the Python that will run them."""
        digest = hashlib.sha256(f"{sys.version_info[:2]}".encode())
        requirements = sorted((self.root / "requirements").glob("*.txt"))
        for path in (self.root / "constraints.txt", *requirements):
            digest.update(path.read_bytes())
        return digest.hexdigest()

    def make(self) -> None:
        """Make the environment, unless this same Python has made it."""
        here = tuple(sys.version_info[:2])
        if self.runs("-c", f"import sys, pip; sys.exit(sys.version_info[:2] != {here})"):
            return
        say(f"making .venv with Python {here[0]}.{here[1]}")
        made = subprocess.run(
            [sys.executable, "-m", "venv", "--clear", str(self.venv)], check=False
        )
        if made.returncode:
            raise InstallError(
                "Python could not make a virtual environment (its lines above say why); on Debian"
                f" and Ubuntu this needs the package python3.{here[1]}-venv"
            )

    def runs(self, *arguments: str) -> bool:
        """Say whether the environment's Python runs this without an error."""
        try:
            return not subprocess.run(
                [str(self.python), *arguments], capture_output=True, check=False
            ).returncode
        except OSError:
            return False

    def pip(self, *arguments: str) -> None:
        """Install with pip; on a terminal pip's own bars show the progress of a large download."""
        done = subprocess.run(self.pip_argv(*arguments), cwd=self.root, env=pip_env(), check=False)
        if done.returncode:
            raise InstallError(PIP_FAILED)

    def pip_in_one_line(self, *arguments: str) -> None:
        """Install many small packages; pip's hundreds of lines become one line that changes."""
        lines = []
        with subprocess.Popen(
            self.pip_argv(*arguments),
            cwd=self.root,
            env=pip_env(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as running:
            assert running.stdout
            for line in running.stdout:
                lines.append(line)
                if line.startswith(("Collecting", "Installing")):
                    show_in_place(" ".join(line.split()[:2]))
        show_in_place("")
        if running.returncode:
            sys.stderr.write("".join(lines[-20:]))
            raise InstallError(PIP_FAILED)

    def pip_argv(self, *arguments: str) -> "list[str]":
        argv = [str(self.python), "-m", "pip", "install", "--disable-pip-version-check"]
        return [*argv, "-c", "constraints.txt", *arguments]


def pip_env() -> "dict[str, str]":
    return {**os.environ, "PIP_USER": "0"}


def show_in_place(text: str) -> None:
    if sys.stdout.isatty():
        print(f"\r\033[K  {text}" if text else "\r\033[K", end="", flush=True)


def say(line: str) -> None:
    print(f"stillreel: {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
