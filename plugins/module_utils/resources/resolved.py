# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What systemd-resolved is told of links of ours: whom to ask for the names of a domain.

The settings are the link's: resolved keeps them when it is restarted, and forgets them when the link is removed.  So a
link with a server is one that we have told, as we tell link managers to leave our links alone.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from ..kernel.host import Host
from ..kernel.programs import find_program
from ..plan import forms
from ..plan.base import Key
from ..plan.marks import role_of
from ..plan.settings import Resolved
from .base import Found, Kind, Operation

_TOLD = "/run/systemd/resolve/netif/{}"
"""Where resolved keeps what it was told of a link, by its index."""
_UNIT = "systemd-resolved.service"
_FIXED = {"default-route": "no", "dnssec": "no", "dnsovertls": "no"}
"""The server is asked for nothing else; it signs nothing, and is on this host."""


class ResolvedError(OSError):
    """systemd-resolved did not take a setting."""


def _resolvectl(host: Host) -> str:
    """The program; "" unless systemd-resolved runs, as the program would start it."""
    systemctl, program = find_program("systemctl"), find_program("resolvectl")
    if systemctl is None or program is None:
        return ""
    return "" if host.run_command([systemctl, "is-active", "--quiet", _UNIT])[0] else program


def _settings(host: Host, program: str, verb: str) -> dict[str, str]:
    """A setting of all links by their names, from lines such as ``Link 5 (cnm-b0123456789): 127.0.0.12``."""
    result = {}
    for line in host.run_command([program, "--no-pager", verb])[1].splitlines():
        head, _colon, value = line.partition("): ")
        if head.startswith("Link ") and "(" in head:
            result[head.partition("(")[2]] = value.strip()
    return result


class ResolvedKind(Kind[Resolved]):
    """Settings of links in systemd-resolved."""

    name = "resolved"
    # Once the resolver answers.
    stages = (82,)

    def observe(self, host: Host, wanted: Sequence[Resolved]) -> dict[Key, Found[Resolved]]:
        links = host.snapshot("").links
        ours = {name for name, link in links.items() if role_of(link["alias"], host.project)}
        looked = {name for name in ours if host.looks_at(("resolved", name))}
        if not wanted and not any(os.path.exists(_TOLD.format(links[name]["index"])) for name in looked):
            return {}
        program = _resolvectl(host) if looked else ""
        if not program:
            # Who starts it later is told by the next run.
            self._say(host, wanted)
            return {item.key: Found(item) for item in wanted if item.link in looked}
        servers, domains = _settings(host, program, "dns"), _settings(host, program, "domain")
        routes = _settings(host, program, "default-route")
        result = {}
        for link in sorted(looked):
            server, domain = servers.get(link, ""), domains.get(link, "")
            if server or domain:
                own = domain.startswith("~") and routes.get(link) == "no"
                found = Resolved(link, server, domain[1:] if own else domain)
                result[found.key] = Found(found)
        return result

    @staticmethod
    def _say(host: Host, wanted: Sequence[Resolved]) -> None:
        if wanted:
            text = (
                f"systemd-resolved does not run, so only who asks {wanted[0].server} gets the names of "
                f"{wanted[0].domain}: start it, or have your resolver forward that domain there"
            )
            host.warnings += [] if text in host.warnings else [text]

    def create(self, host: Host, resources: Sequence[Resolved]) -> None:
        program = _resolvectl(host)
        for item in resources if program else ():
            domain = f"~{forms.dns_name(item.domain)}"
            self._tell(host, program, item.link, {"dns": forms.address(item.server), "domain": domain, **_FIXED})

    @staticmethod
    def _tell(host: Host, program: str, link: str, settings: Mapping[str, str]) -> None:
        for verb, value in settings.items():
            code, _output, errors = host.run_command([program, verb, link, value])
            if code:
                raise ResolvedError(f"resolvectl {verb} {link} {value}: {forms.printable(errors.strip(), 200)}")

    def change(self, host: Host, operations: Sequence[Operation[Resolved]]) -> None:
        self.create(host, [operation.resource for operation in operations])

    def delete(self, host: Host, resources: Sequence[Resolved]) -> None:
        program = _resolvectl(host)
        for item in resources if program else ():
            if item.link in host.snapshot("").links:
                host.run_command([program, "revert", item.link])
