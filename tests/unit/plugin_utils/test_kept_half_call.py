# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What the controller makes of what a host printed when its kept host half was called."""

from __future__ import annotations

import json
import shlex
from typing import Any

import pytest

from ansible_collections.cnm.fabric.plugins.module_utils.hostd import half
from ansible_collections.cnm.fabric.plugins.module_utils.plan.calls import BEGIN, END
from ansible_collections.cnm.fabric.plugins.plugin_utils import kept_half_call
from ansible_collections.cnm.fabric.plugins.plugin_utils.kept_half_call import answer, command, request


def test_the_controller_expects_the_files_that_run_on_the_host() -> None:
    assert half.digest(half.running()) == kept_half_call.DIGEST


def test_a_command_has_the_digest_and_none_of_the_arguments() -> None:
    text = command("probe", "", None)
    assert f"/var/lib/cnm/.half/{kept_half_call.DIGEST}/python" in text
    assert '"$python" -I -S' in text
    assert shlex.split(text)[-1] == "probe"
    mine = command("probe", "LANG=C http_proxy=x", "/opt/python -X dev")
    assert "; LANG=C http_proxy=x /opt/python -X dev -I -S" in mine


def test_arguments_go_by_standard_input() -> None:
    given = request("converge", {"state": "absent", "bgp_password": "hush"}, True)
    assert given is not None
    read = json.loads(given)
    assert (read["check"], read["arguments"]["bgp_password"], read["arguments"]["lock_timeout"]) == (True, "hush", 60)
    assert request("converge", {"state": "gone"}, True) is None


@pytest.mark.parametrize("before", ["", "Welcome {to} [this] host\n", "no end of line"])
@pytest.mark.parametrize("after", ["", "bye }\n"])
def test_an_answer_is_found_in_what_else_a_shell_prints(before: str, after: str) -> None:
    text = json.dumps({"msg": f"a text with\n{END}\nin it"})
    assert answer("probe", 0, f"{before}\n{BEGIN}\n\n{text}\n{END}\n{after}", "") == json.loads(text)


@pytest.mark.parametrize("output", ["", "Traceback", '{"changed": false}', "python: not found"])
def test_without_its_first_line_no_host_half_was_there(output: str) -> None:
    assert answer("probe", 83, output, "sh: cannot open") is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("not JSON", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("1" * 10_000, "is not JSON"),
        ("x" * (2**26 + 1), "with more than 64 MB"),
    ],
)
def test_an_answer_of_a_wrong_form_is_refused_in_words(text: str, said: str) -> None:
    refused: Any = answer("probe", 0, f"{BEGIN}\n{text}\n{END}\n", "")
    assert refused["failed"] is True
    assert said in refused["msg"]


def test_a_call_that_ended_early_fails_with_what_it_said_last() -> None:
    refused: Any = answer("converge", 137, f"\n{BEGIN}\n", "Killed\x1b[2J\n\n")
    assert refused["failed"] is True
    assert refused["msg"].startswith("cnm.fabric.converge ended on the host without an answer: Killed")
    assert "\x1b" not in refused["msg"]
    assert refused["rc"] == 137
