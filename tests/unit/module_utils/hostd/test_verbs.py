# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What is made from the verbs of `cnm`: arguments, help, the manual page, the completion; what `cnm logs` selects."""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
from typing import Any

import pytest

from ansible_collections.cnm.fabric.plugins.module_utils.hostd import cli, entering, output, verbs
from ansible_collections.cnm.fabric.plugins.module_utils.hostd.output import Usage
from ansible_collections.cnm.fabric.plugins.plugin_utils.declaration.schema import ENTRIES, SETTINGS


def values(*words: str) -> dict[str, Any]:
    return vars(cli.parsed(words))


def test_options_of_docker_exec_come_before_the_sandbox_and_the_commands_own_after_it() -> None:
    found = values("exec", "-it", "-u", "0:4", "-e", "A=1", "--env", "B=2", "-w", "/", "c1", "ls", "-l", "-u", "x")
    assert (found["sandbox"], found["command"]) == ("c1", ["ls", "-l", "-u", "x"])
    assert (found["user"], found["env"], found["workdir"], found["tty"]) == ("0:4", ["A=1", "B=2"], "/", True)
    assert values("exec", "c1", "--", "id")["command"] == ["id"]
    with pytest.raises(Usage, match="which command"):
        values("exec", "c1")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("network ls -q", "ls -q"),
        ("network inspect front", "inspect front"),
        ("container ls --format json", "ps --format json"),
        ("container exec -d c1 id", "exec -d c1 id"),
    ],
)
def test_words_of_docker_with_another_name_here_are_understood(typed: str, meant: str) -> None:
    assert values(*typed.split()) == values(*meant.split())


def test_each_word_of_docker_leads_to_a_verb_and_none_hides_one() -> None:
    ours = {verb.name for verb in (*verbs.VERBS, *verbs.HIDDEN)}
    assert {same[0] for same in verbs.SAME.values()} <= {*ours, "--version"}
    assert not ours & {word.split()[0] for word in (*verbs.INSTEAD, *map(" ".join, verbs.SAME)) if " " not in word}
    assert not [text for text in verbs.INSTEAD.values() if "{" in text]


def test_variables_to_change_instead_are_there() -> None:
    named = set(re.findall(r"cnm_\w+", " ".join(verbs.INSTEAD.values())))
    assert named == {"cnm_networks", "cnm_sandboxes", "cnm_compose"}
    assert named <= ENTRIES.keys() | SETTINGS["properties"].keys()


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        ("network create x", "cnm_networks"),
        ("network", "cnm ls"),
        ("container rm c1", "cnm_sandboxes"),
        ("restart web", "cnm restore"),
        ("port web", "cnm ps SANDBOX"),
        ("compose up", "cnm_compose"),
        ("stauts", "did you mean status?"),
        ("xyzzy", "cnm --help lists"),
        ("ps --no-tunc", "cnm ps does not take --no-tunc: cnm ps --help"),
        ("inspect -f {{.Name}} web", "jq -r"),
    ],
)
def test_other_words_are_answered_with_what_to_type_instead(typed: str, answer: str) -> None:
    with pytest.raises(Usage, match=re.escape(answer)):
        values(*typed.split())


def test_a_missing_name_is_an_error_of_usage() -> None:
    with pytest.raises(SystemExit) as raised:
        values("inspect")
    assert raised.value.code == 2


@pytest.mark.parametrize("typed", ["", "help", "--help"])
def test_help_is_asked_for_in_every_way(typed: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        values(*typed.split())
    assert raised.value.code == 0
    assert "list sandboxes" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        values("help", "ps")
    assert "usage: cnm ps" in capsys.readouterr().out


ROWS = [
    {"Names": "c1", "Status": "up", "Networks": "front 10.0.0.2/24", "Ports": "0.0.0.0:80->80/tcp"},
    {"Names": "c2", "Status": "missing", "Networks": "back", "Ports": ""},
]


@pytest.mark.parametrize(
    ("template", "shown"),
    [
        ("{{.Names}}", "c1\nc2\n"),
        ("{{ .Names }}:\\t{{.Status}}", "c1:\tup\nc2:\tmissing\n"),
        ("table {{.Names}}\\t{{.Ports}}", "SANDBOX   PORTS\nc1        0.0.0.0:80->80/tcp\nc2\n"),
        ("table", "SANDBOX   STATUS    NETWORKS            PORTS\n"),
        ("json", '{"Names": "c1", "Status": "up", "Networks": "front 10.0.0.2/24"'),
    ],
)
def test_a_format_of_docker_says_what_is_printed(template: str, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    output.print_rows(ROWS, template, verbs.SANDBOX_FIELDS)
    assert capsys.readouterr().out.startswith(shown)


@pytest.mark.parametrize("template", ["{{.ID}}", "{{range .Names}}", "{{.Names"])
def test_a_format_that_cannot_be_is_refused_with_those_that_can(template: str) -> None:
    with pytest.raises(Usage, match=r"it has \{\{.Names\}\}, "):
        output.print_rows(ROWS, template, verbs.SANDBOX_FIELDS)


def test_every_filter_has_to_hold() -> None:
    def kept(*filters: str) -> list[str]:
        return [row["Names"] for row in output.keep_matching(ROWS, filters, verbs.SANDBOX_FILTERS)]

    assert kept("name=c") == ["c1", "c2"]
    assert kept("name=c", "status=missing") == ["c2"]
    assert kept("network=front") == ["c1"]
    for wrong in ("name", "label=x"):
        with pytest.raises(Usage, match="with a field of name, status, network"):
            kept(wrong)


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
