# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What is made from the verbs of `cnm`: arguments, help, the manual page, the completion; what `cnm logs` selects."""

from __future__ import annotations

import argparse
import shutil
import subprocess
from typing import Any

import pytest

from ansible_collections.cnm.fabric.plugins.module_utils.hostd import cli, entering, verbs
from ansible_collections.cnm.fabric.plugins.module_utils.hostd.output import Usage


def values(*words: str) -> dict[str, Any]:
    return vars(cli.parsed(words))


def test_options_of_docker_exec_come_before_the_sandbox_and_the_commands_own_after_it() -> None:
    found = values("exec", "-it", "-u", "0:4", "-e", "A=1", "--env", "B=2", "-w", "/", "c1", "ls", "-l", "-u", "x")
    assert (found["sandbox"], found["command"]) == ("c1", ["ls", "-l", "-u", "x"])
    assert (found["user"], found["env"], found["workdir"], found["tty"]) == ("0:4", ["A=1", "B=2"], "/", True)
    assert values("exec", "c1", "--", "id")["command"] == ["id"]
    with pytest.raises(Usage, match="which command"):
        values("exec", "c1")


def test_words_of_docker_network_are_understood() -> None:
    assert values("network", "ls") == values("ls")
    assert values("network", "inspect", "front") == values("inspect", "front")


@pytest.mark.parametrize("words", [[], ["nonsense"], ["network"], ["inspect"], ["ls", "--nonsense"]])
def test_other_words_are_an_error_of_usage(words: list[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        values(*words)
    assert raised.value.code == 2


def test_the_help_lists_every_verb_but_the_hidden_one(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.parsed(["--help"])
    said = capsys.readouterr().out
    assert all(f"    {verb.name} " in said for verb in verbs.VERBS)
    assert not any(verb.words in said for verb in verbs.HIDDEN)


def test_the_manual_page_has_every_option_and_groff_finds_no_fault() -> None:
    page = verbs.manual("first line", "1.2.3")
    for verb in verbs.VERBS:
        for option in (*verb.options, *verbs.COMMON):
            assert all(flag.replace("-", "\\-") in page for flag in option.flags)
    program = shutil.which("groff")
    if program:
        done = subprocess.run(
            [program, "-man", "-Tutf8", "-ww"], input=page, capture_output=True, text=True, check=True
        )
        assert done.stderr == ""
        assert "cnm exec [OPTION...] SANDBOX COMMAND..." in done.stdout


def test_no_text_is_a_request_to_roff() -> None:
    assert verbs._roff(".sy reboot") == "\\&.sy reboot"
    assert verbs._roff("'\\fB") == "\\&'\\efB"


def test_the_completion_is_a_script_of_bash_that_expands_no_names() -> None:
    script = verbs.completion("# first line")
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    assert "compgen" not in script.replace("# Without compgen -W", "")


def test_logs_select_roots_lines_of_a_sandbox_and_its_resolvers() -> None:
    units = [
        *(r"cnm-resolver-a\x2db-12.scope", r"cnm-resolver-a\x2db-345.scope", r"cnm-resolver-a\x2db-c-3.scope"),
        *("cnm-resolver-c1-7.scope", "ssh.service", r"cnm-resolver-a\x2db-12.scope.evil"),
    ]
    assert entering.selected(["a-b"], units, "999") == [
        *("_UID=0", "SYSLOG_IDENTIFIER=cnm", "CNM_SANDBOX=a-b"),
        *("+", r"_SYSTEMD_UNIT=cnm-resolver-a\x2db-12.scope"),
        *("+", r"_SYSTEMD_UNIT=cnm-resolver-a\x2db-345.scope"),
    ]
    assert entering.selected([], units, "999") == ["_UID=0", "SYSLOG_IDENTIFIER=cnm", "+", "_UID=999"]
    assert entering.selected([], [], "", "blue") == ["_UID=0", "SYSLOG_IDENTIFIER=cnm", "CNM_PROJECT=blue"]


@pytest.mark.parametrize("text", ["x", "-1", "1 --file=/etc/shadow", ""])
def test_a_number_of_lines_that_is_none_is_refused(text: str) -> None:
    arguments = argparse.Namespace(json=False, follow=False, tail=text, since=None)
    with pytest.raises(Usage, match="not a number"):
        entering._options(arguments)
