"""Recompile the pins in requirements/ from pyproject.toml (`make lock`).

uv resolves each profile at once for every supported Python and processor, and fails where that
cannot be done. The pins carry no addresses and no hashes. Needs Python 3.11 with uv and packaging.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from floors import ARCHITECTURES, PYTHONS, REPOSITORY, dotted, glibc_floor
from setup_env import name_of, optional_extras, pip_settings

HEADER = """\
# Every package of the {profile} profile, pinned. Written by `make lock` from pyproject.toml.
# Install with `pip install --no-deps -r requirements/{profile}.txt`; `make setup` does it for you.
"""
VERSIONS = [dotted(version) for version in PYTHONS]
OLDEST, NEWEST = VERSIONS[0], VERSIONS[-1]
# Where the pins have to hold: for markers, and in the words of uv's setting `environments`.
ENVIRONMENTS = [
    {
        **{"os_name": "posix", "platform_system": "Linux", "sys_platform": "linux"},
        **{"python_version": version, "python_full_version": f"{version}.0"},
        "platform_machine": machine,
    }
    for version in VERSIONS
    for machine in ARCHITECTURES
]
SYSTEMS = [
    f"sys_platform == 'linux' and platform_machine == '{machine}' and python_version <= '{NEWEST}'"
    for machine in ARCHITECTURES
]
# In place of uv's markers, which name the system too.
SHORT_MARKERS = [
    *(f'python_version {sign} "{version}"' for version in VERSIONS[1:] for sign in ("<", ">=")),
    *(f'platform_machine == "{name}"' for name in ARCHITECTURES),
]
# uv does not read pip's settings; these variables tell it the same. Of pip's sources only the main
# index counts: what lies in further ones, or in a folder of wheels, others may not find.
UV_VARIABLES = {
    "index-url": "UV_DEFAULT_INDEX",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
    "client-cert": "SSL_CLIENT_CERT",
    "proxy": "ALL_PROXY",
    "timeout": "UV_HTTP_TIMEOUT",
    "default-timeout": "UV_HTTP_TIMEOUT",
}


def uv_environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Return the variables for uv: what pip is set to, unless uv was told something else."""
    told = {UV_VARIABLES[name]: settings[name] for name in settings if name in UV_VARIABLES}
    return {**told, **os.environ}


def uv_compile(folder: Path, *arguments: str) -> None:
    """Run `uv pip compile` in a folder, with wheels alone: no machine shall build anything."""
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--only-binary=:all:"]
    environment = uv_environment(pip_settings(sys.executable))
    done = subprocess.run([*command, *arguments], cwd=folder, env=environment, stderr=-1, text=True)
    if done.returncode:
        raise SystemExit(f"uv could not resolve the pins:\n{done.stderr}")


EXTRA_HEADER = """\
# What the optional extra {extra} adds to a profile, pinned. Written by `make lock` from
# pyproject.toml. `make setup EXTRAS={extra}` installs it.
"""


def short_marker(marker: str) -> str:
    """Shorten a marker of uv's to what tells our environments apart: nothing, if all have it."""

    def answers(text: str) -> list[bool]:
        return [Marker(text).evaluate(environment) for environment in ENVIRONMENTS]

    if all(answers(marker)):
        return ""
    same = (short for short in SHORT_MARKERS if answers(short) == answers(marker))
    return f" ; {next(same, marker)}"


def lock(profile: str, project: Mapping, seed: str = "", extra: str | None = None) -> str:
    """Resolve a profile of a parsed pyproject.toml and return the text of its pin file.

    The versions in `seed`, the text of such a file, stay where they can. With an optional `extra`
    it is the text of the extra's pin file.
    """
    rules = project["tool"]["profiles"][profile]
    names = rules["extras"] + ([extra] if extra else [])
    stated = [project["project"]["optional-dependencies"][name] for name in names]
    roots = [Requirement(text) for text in sum(stated, project["project"]["dependencies"])]
    # Few sources hold a local build (2.13.0+cpu): the release of that version is resolved instead.
    local = [f"{r.name}={r.specifier}".partition("+")[0] for r in roots if "+" in str(r.specifier)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "pyproject.toml").write_text(f"[tool.uv]\nenvironments = {json.dumps(SYSTEMS)}")
        (folder / "roots.in").write_text("\n".join(map(str, roots)))
        (folder / "local").write_text("\n".join(local))
        (folder / "left-out").write_text("\n".join(rules["leave-out"]))
        (folder / "pins").write_text(seed)
        files = ["--overrides=local", "--excludes=left-out", "--output-file=pins", "roots.in"]
        shape = ["--universal", "--python-version", OLDEST, "--annotation-style=line"]
        uv_compile(folder, *shape, "--no-header", "--no-emit-index-url", *files)
        found = re.findall(r"(?m)^(\S+)==(\S+) ; (.+?)  # via (.+)$", (folder / "pins").read_text())
    # What pyproject.toml states with === or a local part is pinned in the same words.
    exact = {canonicalize_name(r.name): str(r.specifier) for r in roots}
    exact = {name: text for name, text in exact.items() if "+" in text or "===" in text}
    lines = []
    for name, version, marker, via in found:
        askers = via.replace("-r roots.in", "pyproject.toml").split(", ")
        askers = askers if len(askers) <= 5 else [*askers[:4], f"{len(askers) - 4} more"]
        pin = name + exact.get(name, f"=={version}") + short_marker(marker)
        lines += [pin, f"    # via {', '.join(askers)}"]
    if extra:
        return EXTRA_HEADER.format(extra=extra) + "\n".join(beyond(lines, seed, profile)) + "\n"
    return HEADER.format(profile=profile) + "\n".join(lines) + "\n"


def beyond(lines: list[str], seed: str, profile: str) -> list[str]:
    """Return the lines of pins that the profile in `seed` does not have; none of its may move."""
    own, _, _ = seed.partition(EXTRA_HEADER[:20])
    there = {name_of(line): line for line in own.splitlines() if line and line[0].isalnum()}
    kept: list[str] = []
    for pin, via in zip(lines[::2], lines[1::2], strict=True):
        if name_of(pin) not in there:
            kept += [pin, via]
        elif pin != there[name_of(pin)]:
            raise SystemExit(f"The extra would move a pin of {profile}: {pin}")
    return kept


def check_wheels(profile: str, text: str) -> None:
    """Make sure that each pin has a wheel for every Python, processor and C library it serves."""
    with tempfile.TemporaryDirectory() as folder:
        # As above: of a local build, the release.
        Path(folder, "pins").write_text(re.sub(r"(?m)==(\S+)\+\S+", r"===\1", text))
        for version in VERSIONS:
            for machine in ARCHITECTURES:
                libc = "_".join(map(str, glibc_floor(profile, machine)))
                system = [
                    "--python-version",
                    version,
                    f"--python-platform={machine}-manylinux_{libc}",
                ]
                uv_compile(
                    Path(folder), *system, "--no-deps", f"--output-file={os.devnull}", "pins"
                )


def main() -> None:
    """Write the pin files of the asked profiles."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("profiles", nargs="*", default=["cpu", "gpu"], metavar="cpu|gpu")
    parser.add_argument("--keep", action="store_true", help="move only the pins that have to move")
    options = parser.parse_args()
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    for profile in options.profiles:
        path = REPOSITORY / "requirements" / f"{profile}.txt"
        print(f"Resolving the {profile} profile ...", flush=True)
        text = lock(profile, project, path.read_text() if options.keep else "")
        print("  looking for a wheel of each pin on every machine ...", flush=True)
        check_wheels(profile, text)
        path.write_text(text)
        print(f"  {path.relative_to(REPOSITORY)}: {text.count('# via')} packages")
    for extra, path in optional_extras(REPOSITORY).items():
        print(f"Resolving the extra {extra} ...", flush=True)
        seed = (REPOSITORY / "requirements" / "cpu.txt").read_text()
        if options.keep and path.is_file():
            seed += path.read_text()
        text = lock("cpu", project, seed, extra)
        check_wheels("cpu", text)
        path.write_text(text)
        print(f"  {path.relative_to(REPOSITORY)}: {text.count('# via')} packages")


if __name__ == "__main__":
    main()
