# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The command `cnm` on a host, as one uses it who knows Docker, and what the journal says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from systems import Controller, System, systems

VARIABLES: dict[str, Any] = {
    "cnm_networks": {"front": {"subnet": "10.0.0.0/24"}, "back": {"subnet": "10.0.1.0/24", "internal": True}},
    "cnm_sandboxes": {
        "c1": {"networks": ["front", "back"], "ports": ["8080:80"]},
        "c2": {"networks": ["front"]},
        "here": {"network_mode": "host"},
    },
}
FIELDS = ("CNM_PROJECT", "CNM_SANDBOX", "CNM_NETWORK", "PRIORITY")


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[System, Controller]]:
    """A system with its networks."""
    folder = tmp_path_factory.mktemp("command")
    with systems(folder, "n1") as (system,):
        controller = Controller(folder, system)
        controller.run("site", VARIABLES)
        yield system, controller


def entries(system: System, *matches: str) -> dict[str, list[str]]:
    """The journal's entries of ours by message: project, sandbox, network and priority."""
    system.sh("journalctl --sync")
    text = system.sh(f"journalctl -o json --no-pager _UID=0 SYSLOG_IDENTIFIER=cnm {' '.join(matches)}")
    found = [json.loads(line) for line in text.splitlines()]
    return {item["MESSAGE"]: [item.get(name, "") for name in FIELDS] for item in found}


def logs(system: System, arguments: str = "") -> list[str]:
    """What `cnm logs` prints, without the times."""
    system.sh("journalctl --sync")
    return [line.partition("]: ")[2] for line in system.sh(f"cnm logs {arguments}").splitlines()]


def said(system: System, script: str) -> str:
    """What a command that fails says."""
    return system.run(f"cd /; {script} 2>&1 && echo it succeeded").stdout


class TestJournal:
    def test_a_run_says_what_it_made_with_the_names_as_fields_and_how_it_ended(
        self, here: tuple[System, Controller]
    ) -> None:
        found = entries(here[0])
        assert found["created sandbox c1"] == ["default", "c1", "", "6"]
        assert found["created network front"] == ["default", "", "front", "6"]
        assert found["created network back in sandbox c1"] == ["default", "c1", "back", "6"]
        assert found["created applications in sandbox c1"] == ["default", "c1", "", "6"]
        (result,) = [text for text in found if text.startswith("site changed ")]
        assert found[result] == ["default", "", "", "5"]

    def test_a_run_that_removes_repairs_or_fails_says_so(self, here: tuple[System, Controller]) -> None:
        system, controller = here
        system.sh("ip -n c1 link set eth0 down")
        fewer = {**VARIABLES, "cnm_sandboxes": {**VARIABLES["cnm_sandboxes"], "c3": {"networks": ["front"]}}}
        controller.run("site", fewer)
        controller.run("site", VARIABLES)
        system.sh("ip link add br-wrong type bridge")
        wrong = {"driver_opts": {"com.docker.network.bridge.name": "br-wrong"}, "subnet": "10.0.9.0/24"}
        networks = {**VARIABLES["cnm_networks"], "wrong": wrong}
        wanting = {**VARIABLES["cnm_sandboxes"], "c4": {"networks": ["wrong"]}}
        controller.run("site", {"cnm_networks": networks, "cnm_sandboxes": wanting}, fails=True)
        system.sh("ip link del br-wrong")
        found = entries(system)
        (failure,) = [text for text in found if "br-wrong" in text]
        assert failure.startswith("site failed: the adopted bridge br-wrong does not have the gateway's address")
        assert found[failure] == ["default", "", "", "3"]
        assert "changed network front in sandbox c1" in found
        assert found["removed sandbox c3"] == ["default", "c3", "", "6"]

    def test_a_restore_says_what_it_did_once_and_by_hand_too(self, here: tuple[System, Controller]) -> None:
        system, _controller = here
        system.sh("ip -n c2 link set eth0 down")
        assert system.sh("cnm restore") == "restored network front in sandbox c2\n"
        assert entries(system)["restored network front in sandbox c2"] == ["default", "c2", "front", "6"]
        system.sh("ip -n c2 link set eth0 down; systemctl restart cnm-networks")
        system.sh("journalctl --sync")
        lines = system.sh("journalctl -u cnm-networks -o cat --no-pager").splitlines()
        assert lines.count("restored network front in sandbox c2") == 1

    def test_logs_are_of_a_sandbox_and_of_all_and_not_what_anybody_else_says(
        self, here: tuple[System, Controller]
    ) -> None:
        system, _controller = here
        system.sh("useradd -M mallory 2>/dev/null || :")
        forged = "MESSAGE=created sandbox c1 by mallory\\nSYSLOG_IDENTIFIER=cnm\\nCNM_SANDBOX=c1\\n"
        system.sh(f"printf '{forged}' | setpriv --reuid=mallory --regid=mallory --clear-groups logger --journald")
        of_c1 = logs(system, "c1")
        assert "created network back in sandbox c1" in of_c1
        assert [line for line in of_c1 if "sandbox c2" in line or "mallory" in line] == []
        everything = logs(system)
        assert "created sandbox c2" in everything
        assert not any("mallory" in line for line in everything)
        assert logs(system, "-n 1") == everything[-1:]
        assert logs(system, "--since 1h") == everything
        # Its resolver's lines are among them.
        found = [json.loads(line) for line in system.sh("cnm logs --json c1").splitlines()]
        assert {"c1"} <= {item.get("CNM_SANDBOX") for item in found} <= {"c1", None}
        assert [json.loads(system.sh("cnm logs --json -n 1 c1"))] == found[-1:]

    def test_what_a_sandboxs_root_writes_cannot_become_a_line_or_a_field(self, here: tuple[System, Controller]) -> None:
        system, controller = here
        alias = r"cnm:default:endpoint/x\nPRIORITY=0\nCNM_SANDBOX=forged\n\033[2J/c2"
        system.sh(f"ip -n c2 link add odd0 alias \"$(printf '{alias}')\" type bridge")
        controller.run("site", VARIABLES)
        found = entries(system)
        assert not any(fields[1] == "forged" or fields[3] == "0" for fields in found.values())
        assert not any("\033" in text or "\n" in text for text in found)


class TestCommand:
    def test_commands_run_in_a_sandbox_as_with_docker_exec(self, here: tuple[System, Controller]) -> None:
        system, _controller = here
        assert "10.0.0.2/24" in system.sh("cnm exec c1 ip -br addr")
        assert system.sh("cnm exec -it -e A=b -w /usr c1 sh -c 'echo $A $PWD; cat /etc/hostname'") == "b /usr\nc1\n"
        assert system.sh("cnm exec -u nobody c1 -- sh -c 'id -un; echo $HOME'") == "nobody\n/nonexistent\n"
        assert system.sh("cnm exec -u 0:4 c1 id -G") == "0\n" or "4" in system.sh("cnm exec -u 0:4 c1 id -g")
        assert system.sh("cnm exec here ip -br addr show lan0").split()[2] == f"{system.address}/24"
        assert system.status("cnm exec c1 sh -c 'exit 7'") == 7
        # As a shell and docker tell a command's own failure from one that there is not, or that is none.
        for user in ("", "-u nobody "):
            assert system.status(f"cnm exec {user}c1 nosuch") == 127
            assert system.status(f"cnm exec {user}c1 /etc/passwd") == 126
        assert system.status("cnm exec here nosuch") == 127
        assert said(system, "cnm exec c1 nosuch") == "cnm: this host has no program `nosuch`\n"
        assert said(system, "cnm exec C2 id") == "cnm: this host has no sandbox C2: did you mean c2?\n"
        assert said(system, "cnm exec -u nobdy c1 id") == "cnm: this host has no user or group nobdy\n"
        assert system.status("cnm exec c1") == 2

    def test_a_command_goes_on_without_the_terminal_that_detached_it(self, here: tuple[System, Controller]) -> None:
        system, _controller = here
        script = "until test -e /run/go; do sleep 0.05; done; ip -br addr show eth0 >/run/detached"
        assert system.sh(f"cnm exec -d c1 sh -c '{script}'") == ""  # and its output is closed
        system.sh("touch /run/go")
        system.until("grep -q 10.0.0.2/24 /run/detached")

    def test_what_people_who_know_docker_type_works_or_is_answered(self, here: tuple[System, Controller]) -> None:
        system, _controller = here
        assert system.sh("cnm ps --format '{{.Names}}'").split() == ["c1", "c2", "here"]
        assert system.sh("cnm ps -aq -f network=back").split() == ["c1"]
        assert system.sh("cnm network ls -f driver=bridge --format '{{.Name}}'").split() == ["back", "bridge", "front"]
        (row,) = system.sh("cnm ps c1 --format json").splitlines()
        assert json.loads(row)["Ports"] == "0.0.0.0:8080->80/tcp"
        assert "cnm_sandboxes" in said(system, "cnm rm c1")
        assert said(system, "cnm logs C2") == "cnm: this host has no sandbox C2: did you mean c2?\nit succeeded\n"
        assert system.sh("cnm inspect -f '{{.Name}} {{.IPAM.Driver}}' front") == "front default\n"

    def test_every_verb_has_help_with_an_example_and_the_manual_page_says_the_same(
        self, here: tuple[System, Controller]
    ) -> None:
        system, _controller = here
        page = system.sh("cat /usr/local/share/man/man8/cnm.8").replace("\\-", "-")
        for verb in ("ls", "ps", "inspect", "exec", "logs", "status", "restore"):
            text = system.sh(f"cnm {verb} --help")
            example = text.rpartition("Example: ")[2].strip()
            assert example.startswith(f"cnm {verb}")
            assert example in page
        assert system.sh("cnm --version").split()[0] == "cnm"
        assert system.status("cnm nonsense") == 2

    def test_who_is_not_root_has_help_and_the_version_and_nothing_else(self, here: tuple[System, Controller]) -> None:
        system, _controller = here
        anybody = "setpriv --reuid=65534 --regid=65534 --clear-groups cnm"
        for words in ("", "help", "--help", "exec --help"):
            assert "cnm exec [OPTION...] SANDBOX COMMAND..." in system.sh(f"{anybody} {words}")
        assert system.sh(f"{anybody} --version") == system.sh("cnm --version")
        assert said(system, f"{anybody} ps") == "cnm: this needs root\n"
        assert said(system, f"{anybody} exec c1 id") == "cnm: this needs root\n"

    @pytest.mark.parametrize(
        ("typed", "offered"),
        [
            ("cnm s", "status"),
            ("cnm re", "restore"),
            ("cnm exec c", "c1 c2"),
            ("cnm exec -it c", "c1 c2"),
            ("cnm exec c1 c", ""),
            ("cnm inspect ba", "back"),
            ("cnm network in", "inspect"),
            ("cnm logs --s", "--since"),
            ("cnm ps c1 h", "here"),
        ],
    )
    def test_bash_completes_verbs_options_and_names(
        self, here: tuple[System, Controller], typed: str, offered: str
    ) -> None:
        script = (
            f". /usr/local/share/bash-completion/completions/cnm; COMP_WORDS=({typed}); "
            'COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _cnm; echo "${COMPREPLY[@]}"'
        )
        assert here[0].sh(f"bash -c '{script}'").split() == offered.split()

    def test_status_names_what_differs_by_sandbox_and_network(self, here: tuple[System, Controller]) -> None:
        system, _controller = here
        system.sh("ip -n c1 link set eth1 down; ip netns delete c2")
        lines = system.run("cnm status").stdout.splitlines()
        assert lines[0].startswith("project default: ")
        assert "  network back in sandbox c1 differs: link eth1 of c1 on back (down)" in lines
        assert "  sandbox c2 is missing" in lines
        assert "  network front in sandbox c2 is missing" in lines
        assert not any("left over" in line for line in lines), lines
        assert system.status("cnm status") == 1
        system.sh("cnm restore")
        assert system.sh("cnm status") == "project default: as planned\n"

    def test_a_teardown_leaves_neither_page_nor_completion_and_says_what_it_removed(
        self, here: tuple[System, Controller]
    ) -> None:
        system, controller = here
        controller.run("teardown", VARIABLES)
        assert (
            system.run("ls -d /usr/local/share/man/man8 /usr/local/share/bash-completion /usr/local/sbin/cnm").stdout
            == ""
        )
        assert entries(system)["removed sandbox c1"] == ["default", "c1", "", "6"]
