# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Every console block of README and docs/, typed as it stands: the commands succeed, and print what the page shows."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from fleet import Fleet
from lab import SEARCH, Lab, labs
from overlaying import ended
from transcripts import Shell, follow

CHECKOUT = Path(__file__).resolve().parents[2]
TUTORIAL = CHECKOUT / "docs" / "tutorial.md"
PAGES = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").rglob("*.md"))]
REPOSITORIES = "https://github.com/cnm-fabric/"
NOT_THE_REPOSITORY = (".git", "__pycache__", "*_cache", ".hypothesis", ".ansible", "*.sqlite3", "*.tar.gz")


def has_transcript(page: Path) -> bool:
    return "```console\n" in page.read_text(encoding="utf-8")


@pytest.fixture
def home() -> Iterator[Path]:
    """A home with nothing in it; its name is short, for sockets of ssh are in it."""
    made = Path(tempfile.mkdtemp(prefix="cnm-"))
    yield made
    shutil.rmtree(made, ignore_errors=True)  # sockets of ssh go by themselves


def environment(home: Path, *first: Path) -> dict[str, str]:
    """What a new user has in the environment."""
    kept = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "CNM_CACHE"))}
    path = ":".join([*map(str, first), *SEARCH])
    return {**kept, "HOME": str(home), "PATH": path, "LC_ALL": "C.UTF-8", "ANSIBLE_NOCOLOR": "1"}


def repository(place: Path) -> None:
    """The checkout, as it is now, as a repository that can be cloned."""
    shutil.copytree(CHECKOUT, place, ignore=shutil.ignore_patterns(*NOT_THE_REPOSITORY), symlinks=True)
    git = ["git", "-C", str(place), "-c", "user.name=cnm", "-c", "user.email=cnm@localhost"]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "as it is now"]):
        subprocess.run([*git, *words], check=True, capture_output=True)


def test_the_tutorial_is_what_a_new_user_sees(home: Path) -> None:
    repository(home / "repositories" / "cnm.fabric")
    given = environment(home)
    given["GIT_CONFIG_COUNT"] = "1"
    given["GIT_CONFIG_KEY_0"] = f"url.{home}/repositories/.insteadOf"
    given["GIT_CONFIG_VALUE_0"] = REPOSITORIES
    assert "tutorial" not in labs(), "there is a lab of the name tutorial: sudo ./run lab down --name tutorial"
    shell = Shell(home, given)
    try:
        follow(TUTORIAL.read_text(encoding="utf-8"), shell, counted=True)
        assert "tutorial" not in labs()
    finally:
        shell.close()
        Lab("tutorial").down()


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if page != TUTORIAL and has_transcript(page)],
    ids=lambda page: str(page.relative_to(CHECKOUT)),
)
def test_a_page_shows_what_its_commands_print(page: Path, trio: Lab, home: Path) -> None:
    """Its hosts are node1 to node3 at 192.0.2.11 to .13, in the folder ``inventory``; files that it shows are there."""
    ways = home / "ssh_config"
    text = trio.ssh_config.read_text(encoding="utf-8")
    for number, host in enumerate(trio.hosts, start=1):
        text = text.replace(f"Host {host}\n", f"Host {host} 192.0.2.1{number}\n")
    ways.write_text(text, encoding="utf-8")
    programs = home / "bin"
    programs.mkdir()
    (programs / "ssh").write_text(f'#!/bin/sh\nexec /usr/bin/ssh -F {ways} "$@"\n', encoding="utf-8")
    (programs / "ssh").chmod(0o755)
    desk = home / "desk"
    (desk / "inventory").mkdir(parents=True)
    hosts = "".join(
        f"    {host}: {{ansible_host: 192.0.2.1{number}, ansible_user: root}}\n"
        for number, host in enumerate(trio.hosts, start=1)
    )
    (desk / "inventory" / "hosts.yml").write_text(f"all:\n  hosts:\n{hosts}", encoding="utf-8")
    given = environment(home, programs, Path(sys.executable).parent)
    given["ANSIBLE_COLLECTIONS_PATH"] = os.environ["ANSIBLE_COLLECTIONS_PATH"]
    given["ANSIBLE_PYTHON_INTERPRETER"] = "/usr/bin/python3"
    shell = Shell(desk, given)
    with ended(Fleet(trio, home / "fleet")):
        try:
            follow(page.read_text(encoding="utf-8"), shell)
        finally:
            shell.close()
