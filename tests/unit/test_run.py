# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What ``./run`` says about itself, without root and without installing anything."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LAB = ROOT / "tests" / "support" / "lab.py"


def said(*arguments: str) -> str:
    done = subprocess.run([ROOT / "run", *arguments], capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else f"{done.returncode}: {done.stderr}"


@pytest.mark.parametrize("word", ["-h", "--help"])
def test_the_help_of_playbook_lists_every_playbook_with_what_it_does(word: str) -> None:
    lines = said("playbook", word).splitlines()
    for playbook in (ROOT / "playbooks").glob("*.yml"):
        assert [line for line in lines if re.match(rf"  {playbook.stem} +[A-Z].+", line)], playbook


def test_a_playbook_that_is_not_there_is_said_before_anything_is_installed() -> None:
    assert said("playbook", "sight") == "1: run: there is no playbook sight; see ./run playbook --help\n"
    assert said("playbook") == "1: run: which playbook? see ./run playbook --help\n"


@pytest.mark.parametrize("command", ["demo", "lab", "test", "vm"])
def test_each_command_has_a_help(command: str) -> None:
    assert "./run" in said(command, "--help").splitlines()[0]


def test_what_the_demo_says_to_type_is_understood_however_many_labs_there_are() -> None:
    text = (ROOT / "tests" / "run" / "demo.sh").read_text(encoding="utf-8")
    typed = re.findall(r"sudo \./run lab ([^\"\n]+)", text)
    assert len(typed) == 4
    for line in typed:
        command, *rest = line.split()
        assert rest[:2] == ["--name", "demo"]
        done = subprocess.run([sys.executable, LAB, command, "--help"], capture_output=True, text=True, check=True)
        assert "--name" in done.stdout
