# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The command ``cnm`` on a host without systemd, as a process of its own: what it says, and how it ends."""

from __future__ import annotations

import os
import pty
import subprocess
import time

from host import LARGE, a_plan, on_a_host, run_command, sh

from ansible_collections.cnm.fabric.plugins.module_utils import entrypoints


def site() -> None:
    """A controller's run, which leaves the command on the host."""
    made = a_plan(LARGE)
    entrypoints.converge(entrypoints.Request("default", made.to_json(), digest=made.digest), run_command)


def said(script: str) -> tuple[int, str]:
    """How a shell script ends, and all that it prints."""
    done = subprocess.run(
        ["bash", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return done.returncode, done.stdout


def on_a_terminal(columns: int, *words: str) -> list[str]:
    """The lines that the command prints on a terminal of that width."""
    child, terminal = pty.fork()
    if child == 0:
        os.execvp("sh", ["sh", "-c", 'stty cols "$0" && exec "$@"', str(columns), *words])
    text = b""
    while True:
        try:
            part = os.read(terminal, 4096)
        except OSError:  # its last process has ended
            break
        if not part:
            break
        text += part
    os.close(terminal)
    assert os.waitpid(child, 0)[1] == 0, text
    return text.decode().splitlines()


@on_a_host
def test_a_program_that_is_not_there_or_none_is_said_also_by_a_command_that_leaves_the_terminal() -> None:
    site()
    for way in ("", "-d ", "-u nobody ", "-d -u nobody ", "-d -w /usr "):
        missing, none = said(f"cnm exec {way}c1 nosuchprog"), said(f"cnm exec {way}c1 /etc/passwd")
        assert missing == (127, "cnm: this host has no program `nosuchprog`\n"), way
        assert none == (126, "cnm: /etc/passwd cannot be run: it is no program, or not for this user\n"), way
    assert said("cnm exec -d -w /etc c1 ./passwd")[0] == 126
    sh("mkdir -p /root/only; printf '#!/bin/sh\\n' >/root/only/tool; chmod 755 /root/only/tool; chmod 700 /root")
    assert said("cnm exec c1 /root/only/tool") == (0, "")
    assert said("cnm exec -u nobody -d c1 /root/only/tool")[0] == 126
    assert said("cnm exec -d -e PATH=/root/only c1 tool") == (0, "")
    assert said("cnm exec -d -e PATH=/root/only c1 id")[0] == 127
    # A program that there is goes on alone, and what it prints goes nowhere.
    assert said("cnm exec -d c1 sh -c 'echo hello; ip -br address show eth0 >/run/detached'") == (0, "")
    until = time.monotonic() + 10
    while "10.0.0." not in sh("cat /run/detached 2>/dev/null || :") and time.monotonic() < until:
        time.sleep(0.05)
    assert "10.0.0." in sh("cat /run/detached")


@on_a_host
def test_what_was_meant_is_said_of_a_command_in_quotes_an_option_too_late_and_a_missing_directory() -> None:
    site()
    words = "give the program and its arguments as separate words: cnm exec c1 ls -l"
    assert said('cnm exec c1 "ls -l"') == (127, f"cnm: this host has no program `ls -l`: {words}\n")
    assert said("cnm exec c1 -u nobody id") == (
        127,
        "cnm: this host has no program `-u`: options of cnm exec stand before the sandbox\n",
    )
    assert said("cnm exec -w /nope c1 true") == (1, "cnm: this host has no directory /nope\n")
    assert said("cnm exec -w /etc/passwd c1 true") == (1, "cnm: this host has no directory /etc/passwd\n")
    assert said("cnm exec front true") == (1, "cnm: front is a network: cnm ps lists the sandboxes\n")


@on_a_host
def test_a_variable_without_a_value_is_the_callers_or_none() -> None:
    site()
    show = "c1 sh -c 'echo ${HERE-unset}'"
    assert said(f"HERE=there cnm exec -e HERE {show}") == (0, "there\n")
    assert said(f"unset HERE; cnm exec -e HERE {show}") == (0, "unset\n")
    assert said(f"cnm exec -e HERE= {show}") == (0, "\n")
    assert said(f"cnm exec -e =x {show}")[0] == 1


@on_a_host
def test_a_reader_that_has_ended_ends_the_command_silently() -> None:
    site()
    for words in ("inspect front back c1", "ls --json", "ps", "--help", "ps --format '{{.Names}}'"):
        assert said(f"{{ sleep 0.2; cnm {words}; }} | true") == (0, ""), words


@on_a_host
def test_a_list_too_wide_for_the_terminal_has_a_line_for_each_network() -> None:
    site()
    wide = on_a_terminal(200, "cnm", "ps", "c1", "c2")
    assert wide == sh("cnm ps c1 c2").splitlines()
    assert on_a_terminal(0, "cnm", "ps", "c1", "c2") == wide
    assert "front 10.0.0.2/24, back 10.0.1.2/24" in wide[1]
    assert on_a_terminal(50, "cnm", "ps", "c1", "c2") == [
        "SANDBOX   STATUS   NETWORKS            PORTS",
        "c1        up       front 10.0.0.2/24",
        "                   back 10.0.1.2/24",
        "c2        up       back 10.0.1.3/24",
    ]


@on_a_host
def test_without_a_journal_it_is_said_where_else_to_look() -> None:
    site()
    status, text = said("cnm logs c1")
    assert status == 1
    assert "this host has no journal" in text
    assert "cnm status" in text
