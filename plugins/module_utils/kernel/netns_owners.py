# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Finds the network namespaces of containers, machines and processes by their names.  Reads only.

Docker is asked over its socket with the standard library, as its SDK would have to be installed on every host.  podman
and systemd-machined are asked with their own programs.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Any
from urllib.parse import quote

from ..plan.forms import OWNERS
from ..plan.records import dataclass
from . import contained, namespaces
from .files import open_guarded
from .nft import RunCommand
from .programs import find_program

_DOCKER_HOST = "unix:///var/run/docker.sock"
_UNIX = "unix://"
_PATIENCE_S = 10
_OK, _NOT_FOUND = 200, 404
_LONGEST = 4 << 20
"""The largest answer, in octets."""
_OF_THE_HOST = ("/etc/", "/usr/", "/run/systemd/", "/run/NetworkManager/")
_TIMED_OUT = 124
"""The exit status of timeout(1)."""


class OwnerError(Exception):
    """The namespace is unavailable; the message says why and what to do."""


class Gone(OwnerError):
    """The owner answers that it does not run, or is not there: whatever was its namespace is so no more."""


class Silent(OwnerError):
    """The owner does not answer; it is not asked about its other namespaces either."""


@dataclass(frozen=True)
class Owned:
    """A namespace as its owner describes it now."""

    path: str
    number: int
    """Its inode."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Paths on the host of the ``resolv.conf`` and ``hosts`` that its processes see."""


def words(owner: str, reference: str) -> str:
    """The owner's name in messages."""
    noun = {
        "docker": "the container {} of Docker",
        "podman": "the container {} of podman",
        "pid": "the process {}",
        "machine": "the machine {}",
        "path": "{}",
    }[owner]
    return noun.format(reference)


def find(owner: str, reference: str, run_command: RunCommand) -> Owned:
    """The owner's namespace.  Raises OwnerError, Gone among them, or FormError for a reference of the wrong form."""
    reference = OWNERS[owner](reference)
    path, files = _FINDERS[owner](reference, run_command)
    number = namespaces.number(path)
    if number is None:
        raise _without_namespace(owner, reference, path)
    if number == namespaces.own_number():
        raise OwnerError(
            f"{words(owner, reference)} is in the host's own network namespace: to use the host's network, declare a "
            "sandbox with network_mode: host"
        )
    return Owned(path, number, files)


def _without_namespace(owner: str, reference: str, path: str) -> OwnerError:
    if owner == "path" and os.path.exists(path):
        return OwnerError(f"{path} is not a network namespace")
    problem = "does not exist" if owner == "path" else "has no network namespace: it has just ended"
    return Gone(f"{words(owner, reference)} {problem}")


_PathAndFiles = tuple[str, dict[str, str]]


def _of_process(pid: int) -> str:
    return f"/proc/{pid}/ns/net"


def _request(where: str, path: str) -> str:
    """Status and text of the answer.  Raises OwnerError."""
    from . import http_by_socket  # noqa: PLC0415  # a third of all imports of a call, and only for Docker

    try:
        return http_by_socket.get(where[len(_UNIX) :], path, _PATIENCE_S, _LONGEST)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise OwnerError(_no_engine(where, reason)) from error


def _no_engine(where: str, reason: str) -> str:
    return f"no Docker Engine answers at {where} ({reason}): start it, or name its socket in DOCKER_HOST"


def _ask_docker(path: str) -> tuple[int, Any]:
    """Status and answer.  A child process asks, as an answer may be slow or endless."""
    where = os.environ.get("DOCKER_HOST") or _DOCKER_HOST
    if not where.startswith(_UNIX):
        raise OwnerError(f"DOCKER_HOST is {where}: set it to a Docker Engine on this host, as unix://…")
    (answer,) = contained.each(lambda asked: _request(where, asked), [path], _PATIENCE_S)
    if answer.broken:
        raise Silent(_no_engine(where, f"no answer in {_PATIENCE_S} seconds"))
    if answer.error:
        raise Silent(answer.error)
    status, _space, text = answer.text.partition(" ")
    try:
        return int(status), json.loads(text or "null")
    except ValueError as error:
        raise OwnerError(_no_engine(where, "the answer is not that of a Docker Engine")) from error


def _docker(reference: str, run_command: RunCommand) -> _PathAndFiles:
    del run_command
    status, answer = _ask_docker(f"/containers/{quote(reference, safe='')}/json")
    who = words("docker", reference)
    if status == _NOT_FOUND:
        raise Gone(f"this host's Docker Engine has no container {reference}: start it with --network none")
    if status != _OK or not isinstance(answer, dict):
        raise OwnerError(
            f"the Docker Engine's answer about the container {reference}: {_message(answer) or f'status {status}'}"
        )
    return _container(who, answer)


def _message(answer: Any) -> str:
    return str(answer.get("message", "")) if isinstance(answer, dict) else ""


def _podman(reference: str, run_command: RunCommand) -> _PathAndFiles:
    who = words("podman", reference)
    code, output, errors = _run(run_command, ["podman", "inspect", "--type", "container", "--", reference], "podman")
    if code:
        if "no such container" in errors.lower():
            raise Gone(f"root's podman on this host has no container {reference}: start it with --network none")
        raise OwnerError(f"podman's answer about the container {reference}: {errors.strip() or f'exit code {code}'}")
    try:
        answer = json.loads(output)[0]
    except (ValueError, LookupError) as error:
        raise OwnerError(f"podman inspect does not describe the container {reference}") from error
    return _container(who, answer)


def _container(who: str, answer: Mapping[str, Any]) -> _PathAndFiles:
    """Read a container's description, which is similar for Docker and podman.  Raises OwnerError."""
    try:
        return _described(who, answer)
    except (AttributeError, TypeError, ValueError, OverflowError) as error:
        raise OwnerError(f"the answer about {who} is not a description of a container") from error


def _described(who: str, answer: Mapping[str, Any]) -> _PathAndFiles:
    state, mode = answer.get("State") or {}, str((answer.get("HostConfig") or {}).get("NetworkMode", ""))
    if mode != "none":
        raise OwnerError(
            f"{who} already has a network (--network {mode or 'default'}): create it with --network none, so that this "
            "collection can connect it"
        )
    if not state.get("Running") or not state.get("Pid"):
        raise Gone(f"{who} is not running ({state.get('Status') or 'stopped'}): start it")
    files = {"resolv.conf": answer.get("ResolvConfPath"), "hosts": answer.get("HostsPath")}
    mounts = {str(item.get("Destination")): str(item.get("Source")) for item in answer.get("Mounts") or ()}
    files.update({name: mounts[f"/etc/{name}"] for name in files if f"/etc/{name}" in mounts})
    paths = {name: _without_links(path) for name, path in files.items() if path}
    return _of_process(int(state["Pid"])), {name: path for name, path in paths.items() if _is_its_own(path)}


def _without_links(path: Any) -> str:
    """The path with /var/run resolved to /run."""
    text = str(path)
    return text[len("/var") :] if text.startswith("/var/run/") else text


def _is_its_own(path: str) -> bool:
    """Whether a file exists and is the container's own, not one of the host's that is mounted in it.

    `open_guarded` opens it by the same path later, and does not follow symlinks either.
    """
    try:
        descriptor = open_guarded(path, os.O_RDONLY)
    except (OSError, ValueError):
        return False
    try:
        return not path.startswith(_OF_THE_HOST) and not any(
            os.path.samestat(os.fstat(descriptor), os.stat(one))
            for one in ("/etc/resolv.conf", "/etc/hosts")
            if os.path.exists(one)
        )
    finally:
        os.close(descriptor)


def _pid(reference: str, run_command: RunCommand) -> _PathAndFiles:
    del run_command
    if not os.path.exists(f"/proc/{reference}"):
        raise Gone(f"there is no process {reference} on this host: start it, or correct its number")
    return _of_process(int(reference)), {}


def _machine(reference: str, run_command: RunCommand) -> _PathAndFiles:
    arguments = ["machinectl", "show", "--property=Leader", "--value", "--", reference]
    code, output, errors = _run(run_command, arguments, "systemd-container")
    leader = output.strip()
    if code or not re.fullmatch("[0-9]{1,10}", leader):
        reason = errors.strip() or f"exit code {code}"
        problem = f"there is no machine {reference} on this host ({reason}): start it with --private-network"
        raise Gone(problem) if "no machine" in reason.lower() else OwnerError(problem)
    return _of_process(int(leader)), {}


def _path(reference: str, run_command: RunCommand) -> _PathAndFiles:
    del run_command
    return reference, {}


def _run(run_command: RunCommand, arguments: list[str], package: str) -> tuple[int, str, str]:
    program = find_program(arguments[0])
    if program is None:
        raise OwnerError(f"this host has no program {arguments[0]}: install the package {package}")
    # The program may wait for a service that does not answer.
    limit = find_program("timeout")
    code, output, errors = run_command([*([limit, "-k1", str(_PATIENCE_S)] if limit else []), program, *arguments[1:]])
    if limit and code == _TIMED_OUT:
        raise Silent(f"{arguments[0]} did not answer in {_PATIENCE_S} seconds: find out what it waits for")
    if len(output) > _LONGEST:
        raise OwnerError(f"the output of {arguments[0]} is larger than {_LONGEST >> 20} MB")
    return code, output, errors


_FINDERS: dict[str, Callable[[str, RunCommand], _PathAndFiles]] = {
    "docker": _docker,
    "podman": _podman,
    "pid": _pid,
    "machine": _machine,
    "path": _path,
}
