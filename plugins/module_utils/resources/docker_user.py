# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Our only rule in a foreign table: in DOCKER-USER, the chain that Docker reserves for its users.

Docker's chain FORWARD drops packets that are not Docker's, ours included.  The rule accepts packets that our
table has accepted and marked.  It is written with ``iptables``, as Docker documents, and recognised by its comment.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from ..kernel.forwarding import DOCKER_CHAIN
from ..kernel.host import Host
from ..kernel.netfilter import has_iptables_chain
from ..kernel.programs import find_program
from ..plan.base import Key
from ..plan.marks import FORWARDED, mark
from ..plan.nftables import DockerUser
from .base import Found, Kind, Operation

_PROGRAMS = {4: "iptables", 6: "ip6tables"}
_LEGACY = {4: Path("/proc/net/ip_tables_names"), 6: Path("/proc/net/ip6_tables_names")}


class IptablesError(OSError):
    """iptables refused a command; the message is its own."""


def families_to_open(host: Host) -> list[int]:
    """Families in which a Docker Engine has its chain.

    Whether it drops forwarded traffic that is not its own depends on who turned forwarding on first, which each boot
    decides anew.
    """
    return [family for family in _PROGRAMS if _rules(host, family) is not None]


def _rules(host: Host, family: int) -> Optional[list[str]]:
    """The rules of Docker's chain as ``iptables -S`` prints them; None if there is no such chain."""
    program = find_program(_PROGRAMS[family])
    if program is None or not _may_have(host, family):
        return None
    code, output, _errors = host.run_command([program, "-w", "-S", DOCKER_CHAIN])
    return None if code else [line.strip() for line in output.splitlines()]


def _may_have(host: Host, family: int) -> bool:
    """Whether iptables needs to be asked, which costs a process."""
    try:
        if "filter" in _LEGACY[family].read_text(encoding="ascii").split():
            return True
    except OSError:
        pass
    return has_iptables_chain(family, DOCKER_CHAIN)


def _rule(project: str) -> list[str]:
    bits = f"{FORWARDED:#x}/{FORWARDED:#x}"
    comment = mark(project, "forwarded")
    return [DOCKER_CHAIN, "-m", "mark", "--mark", bits, "-m", "comment", "--comment", comment, "-j", "ACCEPT"]


class DockerUserKind(Kind[DockerUser]):
    """Our rule as ``iptables -S DOCKER-USER`` shows it."""

    name = "docker_user"
    stages = (5,)

    def observe(self, host: Host, wanted: Sequence[DockerUser]) -> dict[Key, Found[DockerUser]]:
        comment = mark(host.project, "forwarded")
        result: dict[Key, Found[DockerUser]] = {}
        for family in _PROGRAMS:
            rules = _rules(host, family)
            found = DockerUser(family)
            # Without Docker's chain nothing is dropped, and nothing has to be opened until Docker makes it.
            idle = not _may_have(host, family) and found in wanted
            if idle or any(comment in rule.replace('"', "").split() for rule in rules or ()):
                result[found.key] = Found(found)
        return result

    def create(self, host: Host, resources: Sequence[DockerUser]) -> None:
        for item in resources:
            rules = [rule for rule in _rules(host, item.family) or [] if rule.startswith("-A ")]
            # After the user's rules, but before the RETURN that ends the chain in older Engines.
            position = len(rules) if rules[-1:] == [f"-A {DOCKER_CHAIN} -j RETURN"] else len(rules) + 1
            chain, *rule = _rule(host.project)
            self._run(host, item.family, ["-I", chain, str(position), *rule])

    def change(self, host: Host, operations: Sequence[Operation[DockerUser]]) -> None:
        """The rule has no attributes that could differ."""

    def delete(self, host: Host, resources: Sequence[DockerUser]) -> None:
        for item in resources:
            self._run(host, item.family, ["-D", *_rule(host.project)])

    @staticmethod
    def _run(host: Host, family: int, arguments: Sequence[str]) -> None:
        program = find_program(_PROGRAMS[family]) or _PROGRAMS[family]
        code, _output, errors = host.run_command([program, "-w", *arguments])
        if code:
            raise IptablesError(f"{_PROGRAMS[family]} {' '.join(arguments)}: {errors.strip()}")
