# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""A process on the host that renews ESP states before their sequence numbers run out.

A state's sequence number has 32 bits.  After the last one the kernel stops sending, because AES-GCM must never reuse a
nonce with the same key, and anyone on an encrypted network can send 2³² packets.  Extended sequence numbers need a
replay window, and with one peers would reject a rebooted host.  So a state that has sent `WORN` packets is recreated
with the same key; receivers accept it, as they have no replay window.

The nonces still differ.  A nonce is the key's four octets of salt, then the sequence number xor eight octets that the
kernel draws at random for each state (crypto/seqiv.c).  The number changes only the lower four of these, so nonces
repeat only if two states with the same key drew the same upper four.  For n states the probability is n²/2³³: after
10¹² packets (n = 512), one in 32768.  Each epoch has its own keys.

The process stores no secret: it reads the keys from the kernel.  It holds the host's lock only while it works.  It
sleeps until the kernel notifies it.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Optional

from .hostd import half
from .hostd.units import RESTORE
from .kernel import processes
from .kernel.netlink import Message
from .kernel.scopes import ScopeError, guarded, hand_over
from .kernel.xfrm import OUT, Policy, State, XfrmSocket, delete_state, ends, expiries, new_policy, new_state, template
from .plan.marks import request_id
from .plan.sending import START
from .state.files import RUN, Unsafe, forget, load, remove_empty, write_atomically
from .state.lock import Locked, locked

LOOK = 1 << 25
"""Packets after which the process checks a state again.

Far below `WORN`: a large packet that is segmented later (GSO) counts as one and uses up to 64 sequence numbers.
"""

WORN = 1 << 31
"""Sequence numbers after which a state is recreated: half of all, so that enough are left meanwhile."""

_MEMORY_AT_MOST = 256 << 20
"""Octets that the process may use."""

_LOCK_PATIENCE, _AGAIN, _STOP_PATIENCE = 60.0, 10.0, 5.0
_GONE = "ZX"
_PROGRAM = "import sys; sys.path.insert(0, sys.argv[1]); from {} import main; main(sys.argv[2])"


def is_due(state: State) -> bool:
    """Whether the state has to be checked; never if the kernel is locked down and hides its key."""
    return any(state.key) and (state.sent >= WORN or 0 < state.limit <= state.packets)


def keeping(states: Sequence[State], policies: Iterable[Policy]) -> list[Message]:
    """Messages that recreate worn states and set the next notification limit of the others.  Pure."""
    sending = [policy for policy in policies if policy.direction == OUT]
    messages: list[Message] = []
    for state in filter(is_due, states):
        if state.sent >= WORN:
            messages += _renewed(state, states, sending)
        else:
            messages.append(new_state(replace(state, limit=state.packets + LOOK), replace=True))
    return messages


def _renewed(state: State, states: Iterable[State], policies: Iterable[Policy]) -> list[Message]:
    """Remove and recreate the state; meanwhile its packets use the other epoch's key, so none is lost."""
    affected = [
        policy
        for policy in policies
        if state.spi in policy.spis and ends(policy.selector)[:2] == (state.source, state.destination)
    ]
    others = [
        other
        for other in states
        if (other.source, other.destination) == (state.source, state.destination)
        and other.spi != state.spi
        and other.sent < WORN
    ]
    detour = [template(state.source, state.destination, other.spi, other.reqid) for other in others[:1]]
    return [
        *(new_policy(replace(policy, templates=tuple(detour)), replace=True) for policy in affected if detour),
        delete_state(state),
        new_state(replace(state, limit=LOOK)),
        *(new_policy(policy, replace=True) for policy in affected if detour),
    ]


def look(project: str) -> None:
    """Renew what is due, in the calling thread's network namespace.  Raises OSError."""
    reqid = request_id(project)
    with XfrmSocket() as xfrm:
        states = _states(xfrm, project)
        if any(map(is_due, states)):
            xfrm.send(keeping(states, [policy for policy in xfrm.policies() if reqid in policy.reqids]))


def _states(xfrm: XfrmSocket, project: str) -> list[State]:
    reqid = request_id(project)
    return [state for state in xfrm.states() if state.reqid == reqid]


# --- starting and stopping the process ---


def _record(project: str) -> Path:
    """The record of the process, one for each network namespace: several hosts may share a file system."""
    return RUN / project / f"renewal-{_here()}.json"


def _here() -> int:
    """The number of the calling thread's network namespace."""
    return os.stat("/proc/thread-self/ns/net").st_ino


def _process(project: str) -> Optional[processes.Process]:
    """The process of this namespace, if the recorded one still runs."""
    noted = load(_record(project))
    process = processes.read(noted["pid"]) if isinstance(noted.get("pid"), int) else None
    is_ours = process is not None and process.started == noted.get("started") and process.net == _here()
    return process if is_ours else None


def is_running(project: str) -> bool:
    """Whether a process renews the project's keys in this namespace."""
    process = _process(project)
    return process is not None and not processes.is_stopped(process)


def start(project: str) -> None:
    """Start the process in the calling thread's network namespace, unless it runs.  Raises OSError.

    Where systemd runs, it looks after the process, and brings it back when it has ended.
    """
    if is_running(project):
        return
    stop(project)
    own_half = half.sent()
    if own_half is None:
        root = __file__[: __file__.rindex(__name__.replace(".", "/"))]  # it may be a compiled file
        program = [_PROGRAM.format(__name__), root]
    else:
        program = [START, "renewal"]
    command = [sys.executable, "-ISB", "-c", *program, project]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd="/", env={}
    ) as child:
        if child.stdin is None or child.stdout is None:
            raise OSError("no pipe to the process that renews keys")
        if own_half is not None:
            child.stdin.write(own_half.bundle)
            child.stdin.flush()
        line = child.stdout.readline().strip()
        process = processes.read(int(line)) if line.isdigit() else None
        if process is None:
            raise OSError("the process that renews worn keys did not start")
        write_atomically(_record(project), json.dumps({"pid": process.pid, "started": process.started}), 0o600)
        try:
            words = f"renewal of keys of project {project}"
            hand_over(guarded("renewal", process.pid, words, _MEMORY_AT_MOST, RESTORE))
        except ScopeError as error:
            raise OSError(str(error)) from error
        # It starts only once recorded, as an unrecorded process would never be stopped.
        child.stdin.write(b"\n")


def stop(project: str) -> None:
    """Stop the process and remove its record."""
    process = _process(project)
    record = _record(project)
    # It is not to be started again: what does that looks for the record.
    forget(record)
    processes.end([process] if process is not None else [], _STOP_PATIENCE)
    remove_empty(record.parent)


# --- the process itself ---


def main(project: str) -> None:
    """The process's main loop.  It prints its process id and starts once it reads a line."""
    with expiries() as events:
        os.setsid()
        if os.fork():
            os._exit(0)
        os.write(1, f"{os.getpid()}\n".encode())
        if not os.read(0, 1):
            return
        nothing = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1):
            os.dup2(nothing, descriptor)
        os.close(nothing)
        while True:
            events.settimeout(None if _looked(project) else _AGAIN)
            # The notification's content does not matter, nor (ENOBUFS) whether some were lost.
            with contextlib.suppress(OSError):
                events.recv(1 << 16)


def _looked(project: str) -> bool:
    """Renew under the host's lock, so that no run interferes; returns whether that succeeded."""
    try:
        with XfrmSocket() as xfrm:
            if not any(map(is_due, _states(xfrm, project))):
                return True
        with locked(f"renewal of worn keys of project {project}", _LOCK_PATIENCE):
            look(project)
    except (Locked, Unsafe, OSError):
        return False
    return True
