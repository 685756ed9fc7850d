# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""How pages are read as what their reader types and sees, and that a page which is wrong fails."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from transcripts import Command, File, Shell, follow, missing, steps

ROOT = Path(__file__).resolve().parents[2]


def page(*blocks: str) -> str:
    return "# A page\n\n" + "\n\nand\n\n".join(f"```{block}\n```" for block in blocks) + "\n"


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    made = Shell(tmp_path, {"PATH": "/usr/bin:/bin"})
    yield made
    made.close()


def test_a_page_has_files_and_commands_in_order() -> None:
    text = page("yaml\n# a/b.yml\nx: 1", "console\n$ one\nsaid\n# two \\\n  more", "sh\nnever", "yaml\nno: file")
    assert steps(text) == [
        File("a/b.yml", "# a/b.yml\nx: 1\n", 4),
        Command("one", ("said",), 11),
        Command("two \\\n  more", (), 13),
    ]


def test_a_console_block_without_a_prompt_is_an_error() -> None:
    with pytest.raises(ValueError, match="line 4: a console block begins with a prompt"):
        steps(page("console\n[WARNING]: no command"))


@pytest.mark.parametrize(
    "name", ["README.md", *(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))]
)
def test_every_page_can_be_read_as_one(name: str) -> None:
    steps((ROOT / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "line",
    [
        "64 bytes from c1 (10.0.0.2): icmp_seq=1 ttl=64 time=0.070 ms",
        "node1 : ok=7 changed=2 unreachable=0 failed=0 …",
        "a  wide   table",
        "ID 0123456789ab",
        "…",
    ],
)
def test_what_varies_is_not_compared(line: str) -> None:
    printed = (
        "64 bytes from c1 (10.0.0.2): icmp_seq=1 ttl=64 time=1.5 ms\n"
        "node1        : ok=3    changed=1    unreachable=0    failed=0    skipped=1\na wide table\nID ba9876543210\n"
    )
    assert missing([line], printed) == []


@pytest.mark.parametrize("line", ["node1 : ok=3 changed=0 …", "a wide", "64 bytes from c2 …", "10.0.0.3"])
def test_everything_else_is(line: str) -> None:
    assert missing([line], "node1 : ok=3 changed=1 x\na wide table\n64 bytes from c1\n10.0.0.2\n") == [line]


def test_numbers_of_tasks_are_compared_where_that_is_asked_for(shell: Shell) -> None:
    line = "node1 : ok=3 changed=2 …"
    assert missing([line], "node1 : ok=4 changed=2 x\n") == []
    assert missing([line], "node1 : ok=4 changed=2 x\n", counted=True) == [line]
    assert missing([line], "node1 : ok=3 changed=1 x\n", counted=True) == [line]
    assert missing([line], "node1 : ok=3 changed=2 x\n", counted=True) == []
    wrong = page("console\n$ echo ok=4\nok=3")
    follow(wrong, shell)
    with pytest.raises(AssertionError, match="does not print"):
        follow(wrong, shell, counted=True)


def test_a_shell_keeps_where_it_is_and_what_is_set(shell: Shell, tmp_path: Path) -> None:
    follow(
        page("console\n$ mkdir d && cd d\n$ x=1", "yaml\n# e/f.yml\na: 1", "console\n$ cat e/f.yml; echo $x\na: 1\n1"),
        shell,
    )
    assert (tmp_path / "d" / "e" / "f.yml").exists()


def test_a_command_that_fails_or_prints_something_else_is_named_by_its_line(shell: Shell) -> None:
    with pytest.raises(AssertionError, match="line 5: false: exit status 1"):
        follow(page("console\n$ true\n$ false"), shell)
    with pytest.raises(AssertionError, match="line 4: echo a: does not print\nb"):
        follow(page("console\n$ echo a\nb"), shell)


def test_a_command_without_an_end_is_ended(shell: Shell) -> None:
    with pytest.raises(TimeoutError, match="sleep 60: no end after 1 s"):
        shell.run("sleep 60", 1)
