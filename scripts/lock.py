"""Recompile requirements/cpu.txt and requirements/gpu.txt from pyproject.toml (`make lock`).

pip resolves each profile without installing it. From its report we keep what the profile reaches
once the packages it leaves out are gone, for every supported Python and processor, and write one
pin a line: no addresses, no hashes. Needs pip 25.1 or newer and packaging in its interpreter.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from setup_env import CPU_TORCH_INDEX, NOT_FOUND, PYTHONS, REPOSITORY, dotted

MACHINES = ("x86_64", "aarch64")
HEADER = """\
# Every package of the {profile} profile, pinned. Written by `make lock` from pyproject.toml.
# Install with `pip install --no-deps -r requirements/{profile}.txt`; `make setup` does it for you.
"""


@dataclass(frozen=True)
class Package:
    """One resolved package: its version and the requirements it declares."""

    name: str
    version: str
    requires: tuple[str, ...]


def root_requirements(project: Mapping, profile: str) -> list[str]:
    """Collect the direct requirements of a profile from a parsed pyproject.toml."""
    extras = project["tool"]["profiles"][profile]["extras"]
    optional = project["project"]["optional-dependencies"]
    return [*project["project"]["dependencies"], *(r for extra in extras for r in optional[extra])]


def resolve(requirements: Iterable[str], constraints: Iterable[str]) -> dict[str, Package]:
    """Ask pip for a full set of versions; nothing is installed.

    A requirement that pip's own sources lack is looked for once more on PyTorch's CPU index.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        wanted = Path(folder, "requirements.txt")
        limits = Path(folder, "constraints.txt")
        wanted.write_text("\n".join(requirements))
        limits.write_text("\n".join(constraints))
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed"]
        command += ["--quiet", "--report", report, "-r", wanted, "-c", limits]
        # Not every release for 3.11 serves 3.11.2, which Debian 12 has: ask for the first one. For
        # this pip wants wheels alone, which suits us: nothing is ever built on a learner's machine.
        oldest = f"{dotted(PYTHONS[0])}.0"
        command += ["--python-version", oldest, "--only-binary", ":all:", "--target", folder]
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
        if done.returncode and NOT_FOUND + "torch" in done.stderr:
            command += ["--extra-index-url", CPU_TORCH_INDEX]
            done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            raise SystemExit(f"pip could not resolve the requirements:\n{done.stderr}")
        metadata = [entry["metadata"] for entry in json.loads(report.read_text())["install"]]
    return {
        canonicalize_name(m["name"]): Package(
            m["name"], m["version"], tuple(m.get("requires_dist", ()))
        )
        for m in metadata
    }


def environments() -> list[dict[str, str]]:
    """List the marker environments that the pins have to serve."""
    return [
        {
            **default_environment(),
            "python_version": f"{major}.{minor}",
            "python_full_version": f"{major}.{minor}.0",
            "platform_machine": machine,
        }
        for major, minor in PYTHONS
        for machine in MACHINES
    ]


def reachable(
    roots: Iterable[str],
    packages: Mapping[str, Package],
    left_out: Iterable[str],
    environment: Mapping[str, str],
) -> tuple[dict[str, set[str]], dict[str, str]]:
    """Walk the requirements of one environment.

    Returns what asks for each package, and the requirements that no resolved package answers.
    """
    seen: set[tuple[str, str]] = set()
    askers: dict[str, set[str]] = {}
    missing: dict[str, str] = {}
    queue = [("pyproject.toml", "", requirement) for requirement in roots]
    while queue:
        asker, extra, text = queue.pop()
        requirement = Requirement(text)
        name = canonicalize_name(requirement.name)
        applies = not requirement.marker or requirement.marker.evaluate(
            {**environment, "extra": extra}
        )
        if not applies or name in left_out:
            continue
        askers.setdefault(name, set()).add(asker)
        if name not in packages:
            missing[name] = f"{requirement.name}{requirement.specifier}"
            continue
        for wanted in ("", *requirement.extras):
            if (name, wanted) not in seen:
                seen.add((name, wanted))
                queue += [(name, wanted, r) for r in packages[name].requires]
    return askers, missing


def marker_for(hits: list[dict[str, str]]) -> str:
    """Write the marker that is true exactly in the given environments; empty for all of them."""
    pythons = [f"{major}.{minor}" for major, minor in PYTHONS]
    cells = {(hit["python_version"], hit["platform_machine"]) for hit in hits}
    machines = [m for m in MACHINES if any(cell[1] == m for cell in cells)]
    versions = [p for p in pythons if any(cell[0] == p for cell in cells)]
    if len(cells) != len(machines) * len(versions):
        raise SystemExit(f"no simple marker says {sorted(cells)}")
    parts = []
    if versions != pythons:
        if versions == pythons[-len(versions) :]:
            parts.append(f'python_version >= "{versions[0]}"')
        elif versions == pythons[: len(versions)]:
            parts.append(f'python_version <= "{versions[-1]}"')
        else:
            raise SystemExit(f"no simple marker says {versions}")
    if machines != list(MACHINES):
        parts.append(f'platform_machine == "{machines[0]}"')
    return " and ".join(parts)


def lock(profile: str, project: Mapping, constraints: list[str]) -> str:
    """Resolve a profile and return the text of its pin file."""
    roots = root_requirements(project, profile)
    left_out = set(project["tool"]["profiles"][profile]["leave-out"])
    asked_with_local = {Requirement(r).name for r in roots if "+" in r}
    extra_requirements: dict[str, str] = {}
    constraints = list(constraints)
    while True:
        packages = resolve([*roots, *extra_requirements.values()], constraints)
        # A local build (2.13.0+cpu) that happens to lie on this machine is not the release that
        # others will find under that version.
        strays = [p for p in packages.values() if "+" in p.version and p.name not in left_out]
        strays = [p for p in strays if p.name not in asked_with_local]
        if strays:
            constraints += [f"{p.name}==={p.version.split('+')[0]}" for p in strays]
            continue
        walks = [(env, *reachable(roots, packages, left_out, env)) for env in environments()]
        missing = {name: text for _, _, lacks in walks for name, text in lacks.items()}
        if not missing:
            break
        if missing.keys() <= extra_requirements.keys():
            raise SystemExit(f"pip does not resolve {', '.join(missing.values())}")
        extra_requirements |= missing
    lines = []
    for name in sorted(packages):
        hits = [env for env, askers, _ in walks if name in askers]
        if not hits:
            continue
        marker = marker_for(hits)
        via = sorted({asker for _, askers, _ in walks for asker in askers.get(name, ())})
        pin = f"{packages[name].name}=={packages[name].version}"
        lines.append(f"{pin} ; {marker}" if marker else pin)
        via = via if len(via) <= 5 else [*via[:4], f"{len(via) - 4} more"]
        lines.append(f"    # via {', '.join(via)}")
    return HEADER.format(profile=profile) + "\n".join(lines) + "\n"


def pinned(path: Path) -> list[str]:
    """Read the `name==version` pins of a file, without markers and comments."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [line.split(" ;")[0] for line in lines if "==" in line and not line.startswith("#")]


def main() -> int:
    """Write the pin files of the asked profiles."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("profiles", nargs="*", default=["cpu", "gpu"], metavar="cpu|gpu")
    parser.add_argument("--keep", action="store_true", help="move only the pins that have to move")
    options = parser.parse_args()
    if sys.version_info[:2] != PYTHONS[0]:
        print(f"Lock with Python {dotted(PYTHONS[0])}, the oldest: its pins fit the newer ones.")
        return 1
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    for profile in options.profiles:
        path = REPOSITORY / "requirements" / f"{profile}.txt"
        print(f"Resolving the {profile} profile ...", flush=True)
        path.write_text(lock(profile, project, pinned(path) if options.keep else []))
        print(f"  {path.relative_to(REPOSITORY)}: {len(pinned(path))} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
