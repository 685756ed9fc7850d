# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What the planner must know of a host.  Reads only, and needs nothing installed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Optional

from .kernel.host import Host
from .kernel.nft import NftError
from .plan import OTHERS, Nftables, role_of, table_name
from .resources.nftables import FAMILY, parse
from .resources.sysctl import read_sysctl
from .state import State, former_values

_FORWARDING = "net.ipv4.ip_forward"
_RESOLV_CONF = Path("/etc/resolv.conf")
_BEHIND_A_STUB = (Path("/run/systemd/resolve/resolv.conf"), Path("/run/NetworkManager/no-stub-resolv.conf"))
_SEARCH_PATH = "/usr/sbin:/sbin:/usr/bin:/bin:/usr/local/sbin"


def read_resolv_conf(text: str) -> dict[str, list[str]]:
    """resolv.conf's servers, search domains and options; of search lines the last counts (resolv.conf(5))."""
    result: dict[str, list[str]] = {"servers": [], "search": [], "options": []}
    for line in text.splitlines():
        words = line.split("#")[0].split(";")[0].split()
        if len(words) < 2:
            continue
        if words[0] == "nameserver":
            result["servers"].append(words[1].partition("%")[0])
        elif words[0] in ("search", "domain"):
            result["search"] = words[1:]
        elif words[0] == "options":
            result["options"] += words[1:]
    return result


def _is_loopback(server: str) -> bool:
    try:
        return ip_address(server).is_loopback
    except ValueError:
        return True


def resolvers(paths: Sequence[Path] = (_RESOLV_CONF, *_BEHIND_A_STUB)) -> dict[str, list[str]]:
    """The host's resolver settings; where it asks a stub on its loopback, the servers behind that."""
    settings = {"servers": [], "search": [], "options": []}  # type: dict[str, list[str]]
    for position, path in enumerate(paths):
        try:
            found = read_resolv_conf(path.read_text(encoding="utf-8", errors="replace"))
        except OSError:
            continue
        if position == 0:
            settings = found
        servers = [server for server in found["servers"] if not _is_loopback(server)]
        if servers:
            return {**settings, "servers": servers}
    return {**settings, "servers": []}


def _foreign_routes(host: Host) -> list[dict[str, Any]]:
    snapshot = host.snapshot("")
    result = []
    for route in snapshot.routes:
        link = snapshot.link_by_index(route["dev"] or 0)
        if link is None or role_of(link["alias"], host.project) is not None:
            continue
        result.append({"destination": route["destination"], "link": link["name"], "via": route["via"]})
    return sorted(result, key=lambda item: (item["destination"], item["link"]))


def _foreign_bridges(host: Host) -> list[str]:
    links = host.snapshot("").links.values()
    return sorted(link["name"] for link in links if link["kind"] == "bridge" and not link["alias"].startswith("cnm:"))


def _table(host: Host) -> Optional[Nftables]:
    """The project's table, None if there is no such table."""
    if host.nft is None:
        return None
    try:
        text = host.nft.run(f"list table {FAMILY} {table_name(host.project)}")
    except NftError:
        return None
    table = parse(text, host.project, "", frozenset())
    return table if table is not None and table.role else None


def _forwarded_before(table: Optional[Nftables]) -> bool:
    """Whether the host forwarded before we asked it to.  Where the record is lost, the table still knows."""
    former = former_values().get(_FORWARDING, {}).get("value")
    if (
        former is None
        and table is not None
        and any(c.name == OTHERS and c.rules[-1:] == ("drop",) for c in table.chains)
    ):
        return False
    return (former or read_sysctl(_FORWARDING)) == "1"


def _distribution() -> list[str]:
    try:
        lines = Path("/etc/os-release").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    values = dict(line.split("=", 1) for line in lines if "=" in line)
    return [word for key in ("ID", "ID_LIKE") for word in values.get(key, "").strip('"').split()]


def probe(host: Host, with_model: bool) -> dict[str, Any]:
    """The module's result: plain data, a few kilobytes; with the kept plan's model on request."""
    state = State(host.project)
    kept = state.kept
    plan = json.loads(kept["plan"]) if kept else {}
    answer: dict[str, Any] = {"revision": kept.get("revision", 0), "digest": kept.get("digest", "")}
    answer["leases"] = plan.get("leases", {})
    if with_model:
        answer["model"] = plan.get("model", {})
    table = _table(host)
    missing = [] if host.nft is not None else ["nft"]
    if shutil.which("dnsmasq", path=_SEARCH_PATH) is None:
        missing.append("dnsmasq")
    return {
        "routes": _foreign_routes(host),
        "bridges": _foreign_bridges(host),
        "resolvers": resolvers(),
        "forwarding_before": _forwarded_before(table),
        "has_table": table is not None,
        "missing": missing,
        "distribution": _distribution(),
        "kept": answer,
    }
