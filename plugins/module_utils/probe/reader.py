# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Reads the facts of a host that planning needs.  Changes nothing and needs no package installed."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Optional

from ..kernel import ipvs, namespaces, systemd
from ..kernel.files import read_text
from ..kernel.forwarding import forwards_for_itself
from ..kernel.host import Host
from ..kernel.listening_sockets import listeners
from ..kernel.management_link import reached_by
from ..kernel.netfilter import Netfilter
from ..kernel.nft import NftError
from ..kernel.programs import find_program
from ..plan.constants import FRR, LINK_MANAGERS
from ..plan.families import FORWARDING
from ..plan.marks import ADOPTED, LAN_GROUP, OTHERS, RESOLVER_USER, is_pruned, project_of, role_of, table_name
from ..plan.nftables import Nftables
from ..plan.plan import plan_data
from ..resources import docker_user, frr, own_namespaces, resolver
from ..resources.nftables import FAMILY
from ..resources.nftables_reading import UNREADABLE, listed
from ..resources.sysctl import forwarding_of, host_forwards, read_sysctl
from ..resources.xfrm import lacking
from ..state.kept import State
from ..state.sysctls import original_values
from . import apparmor, upstreams
from .front_ends import active, let_by
from .obstacles import Obstacles

_NFTABLES_CONF = Path("/etc/nftables.conf")
_UNITS = Path("/etc/systemd/system")
_NEIGHBOURS = ("gc_thresh1", "gc_thresh2", "gc_thresh3")
_RA_PROTOCOL = 9
_MAC_LENGTH = 17
_TAKING = ("bridge", "bond", "team", "openvswitch")
"""Link kinds that take over all traffic of their ports."""
_SCOPE_GLOBAL = 0
_OTHERS_NAMESPACES = ("/run/docker/netns",)
"""Where a Docker Engine keeps its overlays' namespaces, which ``docker info`` does not show."""
_RESOLV_CONF = Path("/etc/resolv.conf")
_BEHIND_A_STUB = (
    Path("/run/systemd/resolve/resolv.conf"),
    Path("/run/NetworkManager/no-stub-resolv.conf"),
    Path("/run/dnsmasq/resolv.conf"),
)
_UPSTREAM = re.compile("^server=[0-9a-f]", re.MULTILINE)
"""In a servers file of a resolver that forwards: a server is an address (`plugin_utils.dns.resolvers`)."""
_OS_RELEASE = "/etc/os-release"


def read_resolv_conf(text: str) -> dict[str, list[str]]:
    """Servers, search domains and options of a resolv.conf; the last search line counts (resolv.conf(5))."""
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


def _is_address(server: str) -> bool:
    try:
        ip_address(server)
    except ValueError:
        return False
    return True


def resolvers(paths: Sequence[Path] = (_RESOLV_CONF, *_BEHIND_A_STUB)) -> dict[str, list[str]]:
    """The host's resolver settings; if a local stub resolver is configured, its upstream servers where known."""
    settings = {"servers": [], "search": [], "options": []}  # type: dict[str, list[str]]
    for position, path in enumerate(paths):
        text = read_text(str(path))
        if text is None:
            continue
        found = read_resolv_conf(text)
        found["servers"] = [server for server in found["servers"] if _is_address(server)]
        if position == 0:
            settings = found
        servers = [server for server in found["servers"] if not ip_address(server).is_loopback]
        if servers:
            return {**settings, "servers": servers}
    return settings


def _role(link: Mapping[str, Any], project: str) -> Optional[str]:
    """The link's role if this project made it; None for other links and for adopted bridges."""
    role = role_of(link["alias"], project)
    return None if role is not None and role.startswith(ADOPTED) else role


def _foreign_routes(host: Host) -> list[dict[str, Any]]:
    snapshot = host.snapshot("")
    result = []
    for route in snapshot.routes:
        link = snapshot.link_by_index(route["dev"] or 0)
        # Objects of single-object modules belong to no plan: their prefixes count as used.
        if link is None or is_pruned(_role(link, host.project)):
            continue
        result.append({"destination": route["destination"], "link": link["name"], "via": route["via"]})
    return sorted(result, key=lambda item: (item["destination"], item["link"]))


def _foreign_addresses(host: Host) -> list[dict[str, Any]]:
    """Addresses by which other hosts may reach this one, with their links and MTUs."""
    snapshot = host.snapshot("")
    result = []
    for entry in snapshot.addresses:
        link = snapshot.link_by_index(entry["index"])
        if link is None or entry["scope"] != _SCOPE_GLOBAL or _role(link, host.project) is not None:
            continue
        address = entry["address"].partition("/")[0]
        if not ip_address(address).is_loopback:
            result.append({"address": address, "link": link["name"], "mtu": link["mtu"]})
    return sorted(result, key=lambda item: (item["link"], item["address"]))


def _foreign_vnis(host: Host) -> list[int]:
    """VNIs of VXLANs in any namespace that no plan of this project made: a host can have one of each VNI and port.

    Our own namespaces are skipped; in foreign ones a mark of ours proves nothing.
    """
    own = own_namespaces.recorded(host.project)
    planned = own_namespaces.planned(host.project) if own is None else ()
    foreign = [
        name
        for name, number in namespaces.numbers().items()
        if (name not in planned if own is None else name not in own or own[name].number != number)
    ]
    foreign += [f"{folder}/{name}" for folder in _OTHERS_NAMESPACES for name in _listed(folder)]
    found: set[int] = set()
    for namespace in ["", *foreign]:
        try:
            links = host.links(namespace).values() if namespace else host.snapshot("").links.values()
        except (OSError, ValueError, LookupError):
            continue
        found.update(
            link["data"]["id"]
            for link in links
            if link["kind"] == "vxlan"
            and "id" in link["data"]
            and not (not namespace and is_pruned(role_of(link["alias"], host.project)))
        )
    return sorted(found)


def _listed(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _links(host: Host) -> list[dict[str, Any]]:
    """Links that can be a network's parent: all but bridge ports whose other end is in a namespace."""
    snapshot = host.snapshot("")
    result = []
    for link in snapshot.links.values():
        if link["master"] and link["link_netnsid"] is not None:
            continue
        owner, role = project_of(link["alias"]), _role(link, host.project)
        made = link["group"] == LAN_GROUP and (is_pruned(role) or not link["alias"])
        master, below = snapshot.link_by_index(link["master"]), None
        if link["link_netnsid"] is None and link["link"] != link["index"]:
            below = snapshot.link_by_index(link["link"])
        result.append(
            {
                "name": link["name"],
                "kind": link["kind"],
                "mtu": link["mtu"],
                "up": link["up"],
                "loopback": link["loopback"],
                "ethernet": len(link["mac"]) == _MAC_LENGTH,
                "below": below["name"] if below and link["kind"] != "veth" else "",
                "master": master["name"] if master and link["slave"] in _TAKING else "",
                "ours": role if role is not None and is_pruned(role) else "",
                "made": made,
                "single_object": role is not None and not is_pruned(role),
                "owner": owner if owner is not None and owner != host.project else "",
            }
        )
    return sorted(result, key=lambda item: str(item["name"]))


def _foreign_bridges(host: Host) -> list[str]:
    links = host.snapshot("").links.values()
    return sorted(link["name"] for link in links if link["kind"] == "bridge" and not link["alias"].startswith("cnm:"))


def _table(host: Host) -> Optional[Nftables]:
    """The project's table; None if it is missing or unreadable."""
    item = Nftables("", FAMILY, table_name(host.project))
    table = listed(host, [item], {})[item.key]
    return table if table is not None and table.role and table.flags != UNREADABLE else None


def _has_table(host: Host) -> bool:
    """Whether there is one that is the project's."""
    table = host.tables("").get((FAMILY, table_name(host.project)))
    return table is not None and role_of(table.comment, host.project) is not None


def _others(read: Callable[[], Optional[Nftables]]) -> Sequence[str]:
    """The rules of the chain for traffic that is not ours."""
    table = read()
    return next((chain.rules for chain in table.chains if chain.name == OTHERS), ()) if table is not None else ()


def _forwarded_before(table: Callable[[], Optional[Nftables]]) -> list[int]:
    """Families that the host forwarded before; if the record is lost, they are read from the nftables table."""
    originals = original_values()
    result = []
    for family, name in FORWARDING.items():
        known = forwards_for_itself(family) or (host_forwards(family) and name in originals)
        if known or (host_forwards(family) and f"meta nfproto ipv{family} drop" not in _others(table)):
            result.append(family)
    return result


def _forwarding_links(host: Host, table: Callable[[], Optional[Nftables]]) -> dict[str, list[str]]:
    """Links that forwarded before we turned forwarding on, by family; ``default`` stands for new links."""
    result = {}
    for family, name in FORWARDING.items():
        entry = original_values().get(name)
        if entry is not None:
            found = entry.get("links", [])
        elif read_sysctl(name) == "0":
            links = [link for link, about in host.snapshot("").links.items() if not about["alias"].startswith("cnm:")]
            found = [link for link in ("default", *links) if read_sysctl(forwarding_of(name, link)) == "1"]
        else:
            passed = rf'meta nfproto ipv{family} iifname "(.+)" accept'
            found = [known[1] for rule in _others(table) if (known := re.fullmatch(passed, rule))]
        result[str(family)] = sorted(found)
    return result


def _ra_links(host: Host) -> list[str]:
    """Links with a default route from router advertisements, and those already set to keep accepting them."""
    own_sysctls = {name for name, entry in original_values().items() if host.project in entry["holders"]}
    snapshot = host.snapshot("")
    learned = {
        route["dev"]
        for route in snapshot.routes
        if route["destination"] == "default" and route["protocol"] == _RA_PROTOCOL
    }
    return sorted(
        name
        for name, link in snapshot.links.items()
        if (link["index"] in learned and link["accept_ra"] == 1)
        or f"net.ipv6.conf.{name.replace('.', '/')}.accept_ra" in own_sysctls
    )


def _neighbour_tables() -> dict[str, int]:
    """Their sizes, or those that they had before we changed them."""
    result = {}
    before = original_values()
    for family in (4, 6):
        for name in _NEIGHBOURS:
            sysctl = f"net.ipv{family}.neigh.default.{name}"
            value = before[sysctl]["value"] if sysctl in before else read_sysctl(sysctl)
            if value is not None and value.isdigit():
                result[f"ipv{family}.{name}"] = int(value)
    return result


_BRIDGED = "icmpv6 type nd-neighbor-advert iifgroup . @th,64,128 { 1 . 1 } drop; arp saddr ip 0.0.0.0 drop;"


def _filters_bridges(host: Host, rules: str) -> bool:
    """Whether nft and the kernel support these rules on bridged frames."""
    chain = f"chain c {{ type filter hook prerouting priority -300; {rules} }}"
    try:
        return host.nft is not None and namespaces.run_in_new(host.nft.run, f"table bridge t {{ {chain}\n}}") == ""
    except NftError:
        return False


def _no_esp(host: Host) -> dict[str, str]:
    """By family, a sentence that says why encryption is impossible; the kernel may load modules for this."""
    result = {str(family): problem for family in (4, 6) if (problem := lacking(family)) is not None}
    chains = "chain c { type filter hook input priority 0; meta ipsec missing drop; ipsec in reqid 1 drop; };"
    chains += "chain d { type filter hook postrouting priority 0; rt ipsec missing drop; }"
    try:
        if host.nft is not None:
            namespaces.run_in_new(host.nft.run, f"table inet t {{ {chains}\n}}")
    except NftError as error:
        problem = f"this host's nftables cannot match IPsec packets ({error}): remove `encrypted` from the networks"
        result.update({str(family): problem for family in (4, 6) if str(family) not in result})
    return result


def flushing(config: Path = _NFTABLES_CONF, units: Path = _UNITS) -> Optional[str]:
    """The distribution's ruleset file if its enabled service flushes all tables, ours included, at its start."""
    lines = [line.split("#")[0].split() for line in (read_text(str(config)) or "").splitlines()]
    enabled = any(units.glob("*.wants/nftables.service"))
    return str(config) if enabled and ["flush", "ruleset"] in lines else None


def _dropping(host: Host) -> dict[str, list[str]]:
    """Chains with policy drop that are not ours, by hook, such as ``ip filter FORWARD``."""
    result: dict[str, list[str]] = {"forward": [], "input": []}
    with contextlib.suppress(OSError), Netfilter() as netfilter:
        for chain in netfilter.base_chains():
            if chain.type == "filter" and chain.drops and chain.hook in result:
                result[chain.hook].append(f"{chain.family} {chain.table} {chain.name}")
    if (FAMILY, "firewalld") in host.tables(""):
        for chains in result.values():
            chains.append("inet firewalld")
    return result


def _distribution() -> list[str]:
    lines = (read_text(_OS_RELEASE) or "").splitlines()
    values = dict(line.split("=", 1) for line in lines if "=" in line)
    return [word for key in ("ID", "ID_LIKE") for word in values.get(key, "").strip('"').split()]


def link_managers(root: Path = Path("/")) -> list[str]:
    """Those that the host has, whether they run or not, of `LINK_MANAGERS`; the one of systemd only where it runs."""
    programs = {"udev": ("bin/udevadm", "sbin/udevadm"), "networkd": ("lib/systemd/systemd-networkd",)}
    programs["NetworkManager"] = ("sbin/NetworkManager", "bin/NetworkManager")
    if not (root / "run/systemd/system").is_dir():
        return []
    return [
        name
        for name in LINK_MANAGERS
        if any((root / top / path).exists() for top in ("usr", "") for path in programs[name])
    ]


def _unless_odd(default: Any, read: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function that reads other programs' files; the default if their format is unknown."""
    try:
        return read(*arguments)
    except (OSError, ValueError, LookupError, TypeError):
        return default


def _confined(project: str) -> bool:
    return apparmor.keeps_dnsmasq_from(tuple(f"/run/cnm/{project}/{folder}/any" for folder in ("resolvers", "names")))


def _forwards(plan: Mapping[str, Any]) -> bool:
    """Whether a resolver of the kept plan forwards names; without a plan, one may soon."""
    texts = [text for item in plan.get("resources", ()) for text in item.get("files", {}).values()]
    return not plan or any(_UPSTREAM.search(text) for text in texts)


def _failing(plan: Mapping[str, Any], settings: Mapping[str, Sequence[str]]) -> dict[str, str]:
    return upstreams.failing(settings["servers"], settings["search"]) if _forwards(plan) else {}


def probe(
    host: Host,
    more: Sequence[str] = (),
    encryption: bool = False,
    ask_resolvers: bool = False,
    obstacles: Optional[Obstacles] = None,
) -> dict[str, Any]:
    """The module's result: plain data, a few kilobytes; ``more`` sections of the kept plan on request.

    Encryption is tried only on request, as the kernel may have to load modules for it.  ``ask_resolvers``: ask the
    host's upstream resolvers whether they answer, unless no sandbox of the kept plan would.  ``obstacles``: what to
    look for that may be in a plan's way.
    """
    state = State(host.project)
    kept = state.kept
    plan = plan_data(kept["plan"]) if kept else {}
    answer: dict[str, Any] = {"revision": kept.get("revision", 0), "digest": kept.get("digest", "")}
    answer["shared"], answer["signature"] = kept.get("shared", []), kept.get("signature", "")
    answer.update({section: plan.get(section, {}) for section in ("leases", "module_state", *more)})
    rejects_bridged = _filters_bridges(host, f"{_BRIDGED} reject;")
    table = cache(lambda: _table(host))  # read if the record is lost: a large one takes long to list
    dropping = _unless_odd({"forward": [], "input": []}, _dropping, host)
    front_ends = _unless_odd([], active, host)
    settings = _unless_odd({"servers": [], "search": [], "options": []}, resolvers)
    in_the_way = _unless_odd({}, obstacles.found, host) if obstacles is not None else {}
    missing = [] if host.nft is not None else ["nft"]
    missing += [name for name in ("dnsmasq", "conntrack") if find_program(name) is None]
    missing += [FRR] if not frr.is_installed() else []
    missing += [RESOLVER_USER] if resolver.user() is None else []
    return {
        "routes": _foreign_routes(host),
        "addresses": _foreign_addresses(host),
        "vnis": _unless_odd([], _foreign_vnis, host),
        "links": _links(host),
        "reached_by": _unless_odd([], reached_by, host),
        "bridges": _foreign_bridges(host),
        "resolvers": settings,
        "failing_resolvers": _unless_odd({}, _failing, plan, settings) if ask_resolvers else {},
        "forwarding_before": _forwarded_before(table),
        "forwarding_links": _forwarding_links(host, table),
        "ra_links": _ra_links(host),
        "neighbour_tables": _unless_odd({}, _neighbour_tables),
        "listeners": _unless_odd([], listeners),
        "dropping": dropping["forward"],
        "closed": dropping["input"],
        "front_ends": front_ends,
        "let_by": _unless_odd([], let_by, front_ends),
        "flushing": _unless_odd(None, flushing),
        "filters_bridges": rejects_bridged or _filters_bridges(host, _BRIDGED),
        "rejects_bridged": rejects_bridged,
        "ipvs": ipvs.is_available(),
        "missing_links": in_the_way.get("missing_links", []),
        "missing_shaping": in_the_way.get("missing_shaping", []),
        "foreign": in_the_way.get("foreign", {}),
        "absent_owners": in_the_way.get("absent_owners", []),
        "occupied": in_the_way.get("occupied", {}),
        "no_esp": _no_esp(host) if encryption else {},
        "docker_user": _unless_odd([], docker_user.families_to_open, host),
        "has_frr": frr.is_present(host.project),
        "has_table": _has_table(host),
        "link_managers": _unless_odd([], link_managers),
        "systemd": systemd.is_running(),
        "dnsmasq_confined": _unless_odd(False, _confined, host.project),
        "missing": missing,
        "distribution": _unless_odd([], _distribution),
        "kept": answer,
    }
