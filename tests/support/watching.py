# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What answers while a system (`systems.py`) reboots, and when: pings and calls all the time, from another one."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping

from systems import System

SERVER = """
[Unit]
BindsTo=cnm-sandbox@%i.target
After=cnm-sandbox@%i.target

[Service]
ExecStart=/usr/bin/python3 /root/server.py 80 81
NetworkNamespacePath=/run/netns/%i
"""

SERVER_PROGRAM = """
import contextlib, selectors, socket, sys
chosen = selectors.DefaultSelector()
for port in map(int, sys.argv[1:]):
    chosen.register(socket.create_server(("", port), backlog=500), selectors.EVENT_READ)
while True:
    for key, _events in chosen.select():
        with contextlib.suppress(OSError):
            connection, _caller = key.fileobj.accept()
            with connection:
                connection.sendall(socket.gethostname().encode())
"""
"""It says which host's it is."""

CALLER = """
import asyncio, signal, sys, time
signal.signal(signal.SIGINT, signal.SIG_DFL)  # which a run in the background ignores
target, port, who, pause = sys.argv[1:]

async def call():
    try:
        async with asyncio.timeout(0.3):
            reader, writer = await asyncio.open_connection(target, int(port))
            try:
                said = await reader.read() if who else b""
            finally:
                writer.close()
        if said.decode() == who:
            print(f"[{time.time()}]", flush=True)
    except OSError:
        pass

async def main():
    tasks = set()
    while True:
        task = asyncio.create_task(call())
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        await asyncio.sleep(float(pause))

asyncio.run(main())
"""
"""It does not wait for one call before the next: what answers for a moment only is seen."""

# ping has the time before errors, too.
_SUCCESS = re.compile(r"^\[([\d.]+)\](?: \d+ bytes from .*)?$", re.MULTILINE)


class Watch:
    """Something that a system tries all the time, with the time of each success in brackets."""

    def __init__(self, system: System, within: str, command: list[str]) -> None:
        where = ["nsenter", f"--net=/run/netns/{within}"] if within else []
        # A pipe would be full before it is read.
        self._output = tempfile.TemporaryFile(mode="w+")  # noqa: SIM115  closed when it has been read
        self._process = system.popen(
            *where, *command, stdout=self._output, stderr=subprocess.DEVNULL, start_new_session=True
        )

    def has_succeeded(self) -> bool:
        """Whether it has succeeded so far."""
        return os.fstat(self._output.fileno()).st_size > 0 and bool(self._found())

    def times(self) -> list[float]:
        """When it succeeded, after which it ends."""
        os.killpg(self._process.pid, signal.SIGINT)
        self._process.wait()
        with self._output:
            return self._found()

    def _found(self) -> list[float]:
        # Read beside the position of who writes, which it would share.
        text = os.pread(self._output.fileno(), os.fstat(self._output.fileno()).st_size, 0).decode()
        return [float(found) for found in _SUCCESS.findall(text)]


def pings(system: System, target: str, within: str = "", pause_s: float = 0.01) -> Watch:
    """Pings to an address, from the system or a sandbox of its."""
    return Watch(system, within, ["ping", "-D", "-n", "-i", str(pause_s), target])


def calls(system: System, target: str, port: int, within: str = "", who: str = "", pause_s: float = 0.01) -> Watch:
    """Connections to a port, from the system or a sandbox of its; with ``who`` those that this host answers."""
    return Watch(system, within, ["python3", "-c", CALLER, target, str(port), who, str(pause_s)])


def serve(system: System, sandbox: str) -> None:
    """A server at ports 80 and 81 of a sandbox, as an application that its target starts."""
    system.write("/root/server.py", SERVER_PROGRAM)
    system.write("/etc/systemd/system/server@.service", SERVER)
    system.sh("systemctl daemon-reload")
    system.sh(f"systemctl add-wants cnm-sandbox@{sandbox}.target server@{sandbox}; systemctl start server@{sandbox}")


def task_on(system: System) -> str:
    """The service's task that has its place on the system."""
    return re.findall(r"shop\.\d", system.sh("ls /run/netns"))[0]


def address(system: System, sandbox: str, within: str) -> str:
    """The address of a sandbox that begins so."""
    found = re.search(rf"inet ({within}\S+)/", system.sh(f"nsenter --net=/run/netns/{sandbox} ip address"))
    assert found
    return found[1]


def wait_for(watched: Mapping[str, Watch], patience_s: float) -> None:
    """Wait until each has succeeded."""
    deadline = time.monotonic() + patience_s
    while silent := [name for name, watch in watched.items() if not watch.has_succeeded()]:
        assert time.monotonic() < deadline, f"no answer: {silent}"
        time.sleep(0.1)


def reboot(system: System, watched: Mapping[str, Watch], patience_s: float) -> dict[str, float]:
    """Reboot it when all of these answer; seconds from the start of the boot until each does again."""
    wait_for(watched, patience_s)
    system.reboot(wait=False)
    booted = time.time()
    system.until("systemctl is-system-running --wait | grep -q running", patience_s)
    system.until("cnm status", patience_s)
    time.sleep(1)
    back = {}
    for name, watch in watched.items():
        after = [moment for moment in watch.times() if moment > booted]
        assert after, f"{name} is not back"
        back[name] = round(after[0] - booted, 2)
    return back
