# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""ansible-playbook without its start: Ansible is imported once, and each run is a fork of the process that did.

A run is a process of its own with its own arguments, environment, folder and temporary files, as if it had been started
afresh; it shares what was imported and the modules that Ansible packed to send.  Two such processes take turns, with
other hash seeds, so that a set's order differs from one run to the next as it does between real starts.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from importlib import _bootstrap_external as _external  # type: ignore[attr-defined]
from pathlib import Path
from typing import Any, Optional

_SEEDS = ("1", "2")
_OF_ONE_RUN = ("CNM_RECORD", "PYTEST_CURRENT_TEST")
"""Variables that Ansible does not read when it is imported."""
_IMPORTED = """
ansible.cli.playbook ansible.executor.playbook_executor ansible.executor.task_queue_manager
ansible.executor.process.worker ansible.executor.task_executor ansible.executor.module_common
ansible.plugins.strategy.linear ansible.plugins.connection.ssh ansible.plugins.shell.sh ansible.plugins.become.sudo
ansible.plugins.callback.default ansible.plugins.inventory.yaml ansible.plugins.inventory.host_list
ansible.plugins.inventory.script ansible.plugins.inventory.auto ansible.plugins.inventory.ini
ansible.plugins.filter.core ansible.plugins.filter.mathstuff ansible.plugins.filter.urls ansible.plugins.filter.urlsplit
ansible.plugins.filter.encryption ansible.plugins.test.core ansible.plugins.test.files ansible.plugins.test.mathstuff
ansible.plugins.test.uri ansible.plugins.vars.host_group_vars ansible.plugins.cache.memory
ansible_collections.cnm.fabric.plugins.action.probe ansible_collections.cnm.fabric.plugins.action.plan
ansible_collections.cnm.fabric.plugins.action.converge ansible_collections.cnm.fabric.plugins.action.inspect
ansible_collections.cnm.fabric.plugins.action.verify
"""

_started: dict[str, _Starter] = {}
_packed = ""
"""The folder of the modules that Ansible packed, of both processes."""
_turn = 0


def run(argv: Sequence[str], environment: Mapping[str, str], folder: Path, patience: float) -> tuple[int, str]:
    """``ansible-playbook`` with these arguments: its exit code and what it printed.

    ``subprocess.TimeoutExpired`` if it takes longer than ``patience`` seconds.
    """
    global _turn, _packed  # noqa: PLW0603  # of this process
    _turn = (_turn + 1) % len(_SEEDS)
    seed = _SEEDS[_turn]
    known = {key: value for key, value in environment.items() if key not in _OF_ONE_RUN}
    starter = _started.get(seed)
    if starter is None or not starter.serves(known):
        if starter is not None:
            for each in _started.values():
                each.end()
            _started.clear()
            shutil.rmtree(_packed, ignore_errors=True)
        if not os.path.isdir(_packed):
            _packed = tempfile.mkdtemp(prefix="cnm-packed-")
            atexit.register(shutil.rmtree, _packed, True)
        starter = _started[seed] = _Starter(known, seed, _packed)
    return starter.run(argv, environment, folder, patience)


class _Starter:
    """The process that has imported Ansible, with an environment that it read when it did."""

    def __init__(self, environment: Mapping[str, str], seed: str, packed: str) -> None:
        self._environment = dict(environment)
        self._directory = tempfile.mkdtemp(prefix="cnm-ansible-")
        self._address = os.path.join(self._directory, "socket")
        self._process = subprocess.Popen(
            [sys.executable, __file__, self._address, packed],
            env={**environment, "PYTHONHASHSEED": seed},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        atexit.register(self.end)
        assert self._process.stdout is not None
        if not self._process.stdout.readline():
            raise RuntimeError("Ansible could not be imported; see above")

    def serves(self, environment: Mapping[str, str]) -> bool:
        """Whether it runs, and would read the same environment if it were started now."""
        return self._process.poll() is None and self._environment == environment

    def run(
        self, argv: Sequence[str], environment: Mapping[str, str], folder: Path, patience: float
    ) -> tuple[int, str]:
        with tempfile.TemporaryFile(dir=self._directory) as printed, socket.socket(socket.AF_UNIX) as asked:
            asked.connect(self._address)
            request = {"argv": list(argv), "environment": dict(environment), "folder": str(folder)}
            socket.send_fds(asked, [b"\0"], [printed.fileno()])
            asked.sendall(json.dumps(request).encode() + b"\n")
            with asked.makefile("rb") as replies:
                pid = int(replies.readline())
                if not select.select([asked], [], [], patience)[0]:
                    os.kill(pid, signal.SIGKILL)
                    raise subprocess.TimeoutExpired(list(argv), patience)
                code = int(replies.readline() or b"-1")
            printed.seek(0)
            return code, printed.read().decode(errors="replace")

    def end(self) -> None:
        """End it; it ends of itself if this process does not get here."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        shutil.rmtree(self._directory, ignore_errors=True)


# --- the process that has imported Ansible ----------------------------------------------------------------------------


def _serve(address: str, packed: str) -> None:
    import importlib
    import warnings

    own = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != own]
    from ansible.plugins.loader import init_plugin_loader  # the first of Ansible, for its order of imports matters

    init_plugin_loader()
    zipfile.ZipFile = _Compiled  # type: ignore[misc]
    warnings.filterwarnings("ignore", message="AnsibleCollectionFinder has already been configured")
    for name in _IMPORTED.split():
        importlib.import_module(name)
    _read_plugins()
    gc.freeze()  # else each run copies what was imported, to collect garbage there
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen(16)
        os.write(1, b"ready\n")
        while True:
            ready, _out, _problems = select.select([listening, 0], [], [], 5)
            _reap()
            if 0 in ready:
                for directory in (os.path.dirname(address), packed):
                    shutil.rmtree(directory, ignore_errors=True)
                return
            if listening in ready:
                connection, _peer = listening.accept()
                with connection:
                    if os.fork() == 0:
                        listening.close()
                        _run(connection, packed)


def _read_plugins() -> None:
    """Let Ansible read the plugins and their options that each run would read again."""
    from ansible.plugins import loader

    for kind in ("callback", "vars", "inventory", "connection", "shell", "become", "cache", "strategy"):
        for _plugin in getattr(loader, f"{kind}_loader").all(class_only=True):
            pass


class _Compiled(zipfile.ZipFile):
    """A module's archive with each Python file compiled beside it; a host with another Python compiles it as usual.

    Hosts cannot keep what they compile, for a module is sent as an archive: that costs more than all else that they do.
    """

    def close(self) -> None:
        written = self.namelist() if self.fp is not None and self.mode == "w" else []
        for name in (name for name in written if name.endswith(".py")):
            code = _external._code_to_hash_pyc(  # type: ignore[attr-defined]
                compile(self.read(name), name, "exec", dont_inherit=True), b"\0" * 8, False
            )
            self.writestr(f"{name}c", code)
        super().close()


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def _run(connection: socket.socket, packed: str) -> None:
    """One run, in a process of its own, which ends here."""
    atexit._clear()  # what the starter has to remove is not this process's to remove
    code: Optional[int] = 1
    with connection.makefile("rb") as stream:
        _byte, (printed, *_rest), _flags, _address = socket.recv_fds(connection, 1, 1)
        request: dict[str, Any] = json.loads(stream.readline())
    connection.sendall(b"%d\n" % os.getpid())
    nothing = os.open(os.devnull, os.O_RDWR)
    for number, opened in ((0, nothing), (1, printed), (2, printed)):
        os.dup2(opened, number)
    os.close(nothing)
    os.close(printed)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = ["ansible-playbook", *request["argv"]]
    from ansible import constants
    from ansible.cli.playbook import PlaybookCLI

    with tempfile.TemporaryDirectory(prefix="cnm-ansible-run-") as directory:
        os.symlink(packed, os.path.join(directory, "ansiballz_cache"))
        constants.DEFAULT_LOCAL_TMP = directory
        try:
            PlaybookCLI.cli_executor(sys.argv)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            atexit._run_exitfuncs()
    connection.sendall(b"%d\n" % code)
    os._exit(0)


if __name__ == "__main__":
    _serve(*sys.argv[1:])
