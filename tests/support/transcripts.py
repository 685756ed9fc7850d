# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Pages of the documentation as what they ask their reader to do: files to write, and commands with what they print.

A block of the language ``console`` is a transcript: a line that begins with ``$ `` or ``# `` is typed, and what follows
is what it prints.  A line that is only ``…`` stands for lines left out, one that ends with ``…`` for a longer one.  Any
other block whose first line is a comment with a path is a file.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PATH = re.compile(r"# ((?:[\w.-]+/)*[\w.-]+\.(?:yml|cfg|ini|sh))\n")
_PROMPT = re.compile(r"[$#] ")

# What is not the same twice, or on another machine.
_VARIES = (
    (re.compile(r"\b[0-9a-f]{10,64}\b"), "HEX"),
    (re.compile(r"\d+\.\d+(/\d+\.\d+)+"), "TIMES"),
    (re.compile(r"\btime[= ]\d+(\.\d+)? ?ms"), "TIME"),
    (re.compile(r"\bin \d+\.\d+ s\b"), "TIME"),
    (re.compile(r"\*{3,}"), "***"),
    (re.compile(r"\s+"), " "),
)
# What depends on what the hosts have already.
_COUNTS = (
    (re.compile(r"\b(ok|skipped)=\d+"), r"\1=N"),
    (re.compile(r"\bchanged=[1-9]\d*"), "changed=N"),
)


@dataclass(frozen=True)
class File:
    """A file that the page shows, to be written at a path below where its reader is."""

    path: str
    text: str
    line: int


@dataclass(frozen=True)
class Command:
    """A command, and the lines that it prints according to the page."""

    words: str
    shown: tuple[str, ...]
    line: int


def steps(page: str) -> list[File | Command]:
    """What a page has its reader write and type, in order."""
    found: list[File | Command] = []
    for block in _BLOCK.finditer(page):
        line = page.count("\n", 0, block.start()) + 2
        language, text = block.groups()
        path = _PATH.match(text)
        if language == "console":
            found += _commands(text, line)
        elif path:
            found.append(File(path[1], text, line))
    return found


def _commands(text: str, line: int) -> list[Command]:
    found: list[Command] = []
    lines = text.splitlines()
    if not lines or not _PROMPT.match(lines[0]):
        raise ValueError(f"line {line}: a console block begins with a prompt, $ or #")
    for number, content in enumerate(lines):
        before = found[-1] if found else None
        if before is not None and before.words.endswith("\\") and not before.shown:
            found[-1] = Command(f"{before.words}\n{content}", (), before.line)
        elif _PROMPT.match(content):
            found.append(Command(content[2:], (), line + number))
        else:
            assert before is not None
            found[-1] = Command(before.words, (*before.shown, content), before.line)
    return found


def plain(text: str, counted: bool = False) -> str:
    """A line without what is not the same twice, and without numbers of tasks unless they are ``counted``."""
    for pattern, word in _VARIES if counted else (*_COUNTS, *_VARIES):
        text = pattern.sub(word, text)
    return text.strip()


def missing(shown: Sequence[str], output: str, counted: bool = False) -> list[str]:
    """Lines that a page shows and a command did not print; in which order hosts answer does not matter."""
    printed = {plain(line, counted) for line in output.splitlines()}
    absent = []
    for line in shown:
        wanted, cut, _rest = plain(line, counted).partition("…")
        if wanted and not (any(known.startswith(wanted.strip()) for known in printed) if cut else wanted in printed):
            absent.append(line)
    return absent


class Shell:
    """A bash that keeps its directory, its variables and what was activated in it, as a terminal does."""

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            ["/bin/bash", "--norc", "--noprofile"],
            cwd=directory,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, command: str, patience: float = 300) -> tuple[int, str]:
        """Exit status and output of a command; it is killed, with the shell, when it takes longer than ``patience``."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        end = f"end-of-{os.urandom(8).hex()}"
        self._process.stdin.write(f"{{ {command}\n}} </dev/null\nprintf '\\n%s\\n' \"{end} $?\"\n")
        self._process.stdin.flush()
        timer = threading.Timer(patience, self.kill)
        timer.start()
        lines: list[str] = []
        try:
            for line in self._process.stdout:
                if line.startswith(end):
                    return int(line.split()[1]), "".join(lines)
                lines.append(line)
        finally:
            timer.cancel()
        raise TimeoutError(f"{command}: no end after {patience:.0f} s\n{''.join(lines)}")

    @property
    def directory(self) -> Path:
        """Where the shell is."""
        return Path(f"/proc/{self._process.pid}/cwd").resolve()

    def kill(self) -> None:
        """End the shell and what it runs."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, 9)

    def close(self) -> None:
        """End the shell."""
        self.kill()
        self._process.wait()


def follow(page: str, shell: Shell, patience: float = 300, counted: bool = False) -> None:
    """Do what a page says; AssertionError with the line of the page where something else happens than it says.

    Numbers of tasks are compared if they are ``counted``: they differ with what hosts have already.
    """
    for step in steps(page):
        if isinstance(step, File):
            path = shell.directory / step.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(step.text, encoding="utf-8")
            continue
        status, output = shell.run(step.words, patience)
        assert status == 0, f"line {step.line}: {step.words}: exit status {status}\n{output}"
        absent = missing(step.shown, output, counted)
        assert not absent, f"line {step.line}: {step.words}: does not print\n{chr(10).join(absent)}\nbut\n{output}"
