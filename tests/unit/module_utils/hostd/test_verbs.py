# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What is made from the verbs of `cnm`: arguments, help, the manual page, the completion; what `cnm logs` selects."""

from __future__ import annotations

import argparse
import json
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
        ("sandbox ls -q", "ps -q"),
        ("sandboxes", "ps"),
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
    assert named == {"cnm_networks", "cnm_sandboxes", "cnm_services", "cnm_compose"}
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
        ("net ls", "there is no cnm net: did you mean network?"),
        ("netwrok ls", "there is no cnm netwrok: did you mean network?"),
        ("comopse up", "did you mean compose?"),
        ("insp app", "did you mean inspect?"),
        ("up", "cnm.fabric.site"),
        ("apply", "cnm.fabric.site"),
        ("deploy", "cnm.fabric.site"),
        ("plan", "cnm.fabric.site with --check"),
        ("down", "cnm.fabric.teardown"),
        ("verify", "cnm.fabric.verify"),
        ("check", "cnm status"),
        ("drift", "cnm status"),
        ("task ls", "this host's tasks"),
        ("tasks", "this host's tasks"),
        ("services", "this host's tasks"),
        ("service ls", "this host's tasks"),
        ("service create web", "cnm_services"),
        ("scale web=3", "deploy.replicas of the service in cnm_services"),
        ("service scale web=3", "deploy.replicas of the service in cnm_services"),
        ("service logs web", "journalctl -u UNIT"),
        ("sandbox", "cnm ps"),
        ("sandbox rm c1", "cnm_sandboxes"),
        *((word, "cnm exec SANDBOX bash") for word in ("shell c1", "enter c1", "ssh c1", "bash", "attach c1")),
        ("show app", "cnm inspect NAME"),
        ("list", "cnm ls"),
        ("ls app", "cnm ls does not take app: type cnm inspect app"),
        ("status app", "it is always the whole host"),
        ("restore c1", "it is always the whole host"),
        ("--project foo ps", "options stand after the command: cnm ps --project foo"),
        ("--project=foo exec c1 id", "options stand after the command: cnm exec --project=foo c1 id"),
        ("-q ps c1", "options stand after the command: cnm ps -q c1"),
        ("--json", "cnm has no --json: options stand after the command"),
        ("-H node1 ps", "cnm has no -H: run it on that host"),
        ("--contxt x ps", "cnm has no --contxt: options stand after the command"),
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


@pytest.mark.parametrize(
    ("typed", "names", "meant"),
    [
        ("APP", ["app", "none"], "app"),
        ("nope", ["none", "app"], ""),
        ("dbb", ["db", "web"], "db"),
        ("wbe", ["db", "web"], "web"),
        ("frnt", ["front", "back"], "front"),
        ("c9", ["c1", "c2"], ""),
        ("databse", ["database"], "database"),
    ],
)
def test_the_closest_name_is_one_that_may_have_been_meant(typed: str, names: list[str], meant: str) -> None:
    assert output.closest(typed, names) == meant
    told = str(output.unknown("network or sandbox", typed, names, "cnm ls and cnm ps list"))
    assert told.endswith(f": did you mean {meant}?" if meant else ": cnm ls and cnm ps list what there is")


def test_a_task_that_is_not_here_may_be_on_another_host() -> None:
    elsewhere = (
        "this host has no sandbox {}: a task may be on another host; cnm.fabric.inspect, on the controller, says where"
    )
    assert str(output.unknown("sandbox", "web.2", ["web.1", "c1"], "cnm ps lists")) == elsewhere.format("web.2")
    assert str(output.unknown("sandbox", "web.2", ["c1"], "cnm ps lists")) == elsewhere.format("web.2")
    assert str(output.unknown("sandbox", "wbe.1", ["web.1"], "cnm ps lists")).endswith("did you mean web.1?")


DOCUMENTS = [
    {"Name": "app", "Internal": False, "IPAM": {"Driver": "default", "Config": [{"Subnet": "10.0.0.0/24"}]}},
    {"name": "c1", "endpoints": {"app": ["10.0.0.2/24"]}, "network_mode": None},
]


@pytest.mark.parametrize(
    ("template", "shown"),
    [
        ("{{.Name}}", "app\nc1\n"),
        ("{{ .Name }}:\\t{{json .Name}}", 'app:\t"app"\nc1:\t"c1"\n'),
    ],
)
def test_a_format_takes_fields_out_of_what_is_inspected(
    template: str, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    output.print_filled(DOCUMENTS, template)
    assert capsys.readouterr().out == shown


def test_a_field_that_is_no_text_is_json_and_all_of_it_is_an_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_filled(DOCUMENTS[:1], "{{.Internal}} {{.IPAM.Driver}} {{.IPAM.Config}}")
    assert capsys.readouterr().out == 'false default [{"Subnet": "10.0.0.0/24"}]\n'
    for template in ("json", "{{json .}}"):
        output.print_filled(DOCUMENTS, template)
        assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == DOCUMENTS
    output.print_filled([{"Name": "a\033[2Jb"}], "{{.Name}}")
    assert "\033" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("template", "answer"),
    [
        ("{{.Nme}}", "there is no {{.Nme}}: it has Name, Internal, IPAM"),
        ("{{.IPAM.Nme}}", "it has Driver, Config"),
        ("{{.Name.First}}", "it has no fields"),
        ("{{range .Containers}}", "{{.FIELD}} and {{json .FIELD}} alone"),
    ],
)
def test_a_field_that_is_not_there_is_refused_with_those_that_are(template: str, answer: str) -> None:
    with pytest.raises(Usage, match=re.escape(answer)):
        output.print_filled(DOCUMENTS, template)


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
