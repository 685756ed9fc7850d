# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""How the controller calls a host, and what it makes of what the host printed."""

from __future__ import annotations

import json
import marshal
import shlex
import subprocess
import sys
import zlib
from importlib.util import MAGIC_NUMBER
from pathlib import Path
from typing import Any, Optional

import pytest

from ansible_collections.cnm.fabric.plugins.module_utils.hostd import half
from ansible_collections.cnm.fabric.plugins.module_utils.plan.calls import BEGIN, END
from ansible_collections.cnm.fabric.plugins.module_utils.plan.kept_half import DIRECTORY, PACKAGE
from ansible_collections.cnm.fabric.plugins.plugin_utils import host_call
from ansible_collections.cnm.fabric.plugins.plugin_utils.host_call import (
    answer,
    failure,
    kept_command,
    request,
    sent,
    sent_command,
)


def test_the_controller_expects_the_files_that_run_on_the_host() -> None:
    assert half.digest(half.running()) == host_call.DIGEST


def test_a_command_has_the_digest_and_none_of_the_arguments() -> None:
    text = kept_command("probe", "", None)
    assert f"/var/lib/cnm/.half/{host_call.DIGEST}/python" in text
    assert '"$python" -I -S' in text
    assert shlex.split(text)[-1] == "probe"
    mine = kept_command("probe", "LANG=C http_proxy=x", "/opt/python -X dev")
    assert "; LANG=C http_proxy=x /opt/python -X dev -I -S" in mine


def test_arguments_go_by_standard_input() -> None:
    read = json.loads(request({"bgp_password": "hush"}, True))
    assert read == {"check": True, "arguments": {"bgp_password": "hush"}}


def shell(command: str, data: bytes, path: str = "/usr/bin:/bin") -> subprocess.CompletedProcess[str]:
    done = subprocess.run(["/bin/sh", "-c", command], input=data, capture_output=True, env={"PATH": path}, check=False)
    return subprocess.CompletedProcess("sh", done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.mark.parametrize("python", [None, f"/usr/bin/env {sys.executable}"])
def test_a_sent_host_half_answers_where_no_file_of_it_is(python: Optional[str], tmp_path: Path) -> None:
    command = sent_command("verify", "LANG=C", python, ["python3.0", "/usr/bin/python3"])
    done = shell(
        command, sent(tmp_path) + request({"checks": "{", "project": "none", "digest": "", "explain": True}, False)
    )
    said: Any = answer("verify", done.returncode, done.stdout, done.stderr)
    assert said["failed"] is True, done
    assert said["msg"].startswith("JSONDecodeError")
    assert f"{PACKAGE}/calls.py" in said["exception"]


def taken_apart(bundle: bytes) -> tuple[bytes, dict[str, bytes]]:
    """The text of the files as it is sent, and their bytecode by path."""
    text = 30 + sum(int(size) for size in bundle[:20].split())
    return bundle[30:text], marshal.loads(zlib.decompress(bundle[text + len(MAGIC_NUMBER) :]))


def test_it_is_made_once_for_all_processes_of_a_run_and_names_no_folder_of_the_controller(tmp_path: Path) -> None:
    made = sent(tmp_path)
    path = tmp_path / f"cnm-{host_call.DIGEST}"
    assert path.read_bytes() == made
    path.write_bytes(b"what another process has made")
    assert sent(tmp_path) == b"what another process has made"
    codes = taken_apart(made)[1]
    assert codes.keys() == half.running().keys()
    here = str(Path(host_call.__file__).parents[1]).encode()
    assert not any(here in code for code in codes.values())
    assert marshal.loads(codes["calls.py"]).co_filename == f"{DIRECTORY}/sent/{PACKAGE}/calls.py"


def test_without_a_folder_it_is_made_all_the_same(tmp_path: Path) -> None:
    # Bytecode of the same code differs from one time to another in what marshal says of references.
    (text, codes), (wanted, known) = taken_apart(sent(tmp_path / "gone")), taken_apart(sent(tmp_path))
    assert (text, codes.keys()) == (wanted, known.keys())


def test_a_file_that_has_changed_since_is_sent_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(host_call._FILES, "renewal.py", b"before = 1")
    assert host_call._compiled("renewal.py").co_names == ("before",)


def test_a_host_half_that_does_not_arrive_as_a_whole_does_nothing(tmp_path: Path) -> None:
    whole = sent(tmp_path)
    for size in (0, 7, 35, len(whole) - 1):
        done = shell(sent_command("probe", "", None, ["/usr/bin/python3"]), whole[:size])
        assert answer("probe", done.returncode, done.stdout, done.stderr) is None
        told = failure("it could not be started", done.returncode, done.stdout, done.stderr)
        assert told["msg"] == "it could not be started: the host half did not arrive as a whole"


def test_a_host_without_python_or_with_an_old_one_is_told_what_to_do(tmp_path: Path) -> None:
    half_sent = sent(tmp_path)
    done = shell(sent_command("probe", "", None, ["python3.13", "python3"]), half_sent, str(tmp_path))
    assert done.stderr == ("it has no Python: install the package python3, or set ansible_python_interpreter\n")
    old = tmp_path / "python3"
    begin = "import sys; sys.version_info = (3, 8, 2); sys.version = '3.8.2 (default)'"
    script = f"#!{sys.executable}\nimport sys\n{begin}\nexec(sys.argv[sys.argv.index('-c') + 1])\n"
    old.write_text(script, encoding="utf-8")
    old.chmod(0o755)
    done = shell(sent_command("probe", "", None, ["python3.13", "python3"]), half_sent, str(tmp_path))
    assert "cnm.fabric needs Python 3.9 or newer on the host" in done.stderr
    assert "set ansible_python_interpreter to a newer one" in done.stderr
    assert "is 3.8.2)" in done.stderr


def test_an_interpreter_is_found_whatever_the_task_s_environment_says() -> None:
    command = sent_command("probe", "PATH=/nowhere", None, ["python3.0", "python3"])
    assert "did not arrive as a whole" in shell(command, b"").stderr
    assert "\n" not in command


@pytest.mark.parametrize("before", ["", "Welcome {to} [this] host\n", "no end of line"])
@pytest.mark.parametrize("after", ["", "bye }\n"])
def test_an_answer_is_found_in_what_else_a_shell_prints(before: str, after: str) -> None:
    text = json.dumps({"msg": f"a text with\n{END}\nin it"})
    assert answer("probe", 0, f"{before}\n{BEGIN}\n\n{text}\n{END}\n{after}", "") == json.loads(text)


def test_an_answer_that_a_terminal_has_printed_is_the_same() -> None:
    assert answer("probe", 0, f"bye\r\n{BEGIN}\r\n\r\n[1]\r\n{END}\r\n", "") == [1]
    for errors in ("", "Shared connection to 192.0.2.1 closed.\r\n", "Connection to 192.0.2.1 closed.\n"):
        told = failure("it could not be started", 1, "Welcome\r\npython3: not found\r\n", errors)
        assert told["msg"] == "it could not be started: python3: not found"
    told = failure("it could not be started", 2, "", "Unknown option: -I\nusage: python [option]\nTry `python -h'\n")
    assert "needs Python 3.9 or newer" in told["msg"]


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
