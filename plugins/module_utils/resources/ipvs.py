# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Virtual servers of IPVS, and its connection timeouts.

A virtual server cannot carry an ownership mark.  In our namespaces all are ours; in foreign namespaces that are
sandboxes, those identified by a packet mark; elsewhere only those that a module names.
"""

from __future__ import annotations

import errno
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import Optional

from ..kernel import ipvs, namespaces
from ..kernel.host import Host
from ..kernel.ipvs import IpvsSocket
from ..kernel.netlink import Message, NetlinkError
from ..plan.balancing import Ipvs, IpvsTimeouts, RealServer
from ..plan.base import Key
from ..plan.families import family_of
from ..plan.marks import role_of
from .base import Difference, Found, Kind, Operation, by_namespace
from .entry_table import shortened

_GONE = (errno.ENOENT, errno.ESRCH)
_DEFAULT = IpvsTimeouts("")


def _order(server: RealServer) -> tuple[int, str, int]:
    return family_of(server.address), server.address, server.port


def sorted_servers(servers: Iterable[RealServer]) -> tuple[RealServer, ...]:
    """Real servers in the order of `Ipvs.servers`."""
    return tuple(sorted(servers, key=_order))


def virtual_server(host: Host, item: Ipvs) -> Optional[Ipvs]:
    """The virtual server of that name as found; None if there is none."""
    if not ipvs.is_loaded():
        return None
    try:
        found = host.run_in(item.namespace, _read, {item.name})
    except FileNotFoundError:
        return None
    return replace(found[0], namespace=item.namespace) if found else None


def _read(of: Optional[Collection[str]], marked: bool = False) -> list[Ipvs]:
    """Virtual servers of the thread's namespace: all, or those named and, if ``marked``, those with a packet mark."""
    with IpvsSocket() as control:
        services = [item for item in control.services() if of is None or item.name in of or (marked and item.mark)]
        return [replace(item, servers=sorted_servers(control.servers(item))) for item in services]


def _read_timeouts() -> Optional[IpvsTimeouts]:
    with IpvsSocket() as control:
        return control.timeouts()


def _send(messages: Sequence[Message], removals: Sequence[Message] = ()) -> None:
    with IpvsSocket() as control:
        control.send(messages)
        for error in control.try_send(removals):
            if error is not None and error.errno not in _GONE:
                raise error


def _try(family: int, scheduler: str) -> None:
    with IpvsSocket() as control:
        control.send([ipvs.new_service(ipvs.number(), Ipvs("", family, mark=1, scheduler=scheduler))])


def _lacking(family: int, scheduler: str) -> Optional[str]:
    """A sentence if the kernel lacks what is needed.  Tried in a temporary namespace."""
    try:
        namespaces.run_in_new(_try, family, scheduler)
    except NetlinkError as error:
        if not ipvs.is_loaded():
            return f"this kernel has neither IPVS nor its module ip_vs ({error.message})"
        if error.errno == errno.ENOENT:
            return f"this kernel's IPVS has no scheduler {scheduler} (module ip_vs_{scheduler})"
        return f"this kernel has no IPVS for IPv{family} ({error.message})"
    except OSError as error:
        return f"this kernel has no IPVS ({error.strerror})"
    return None


def _prunes(host: Host, namespace: str) -> bool:
    """Whether unwanted objects there are removed, as in a plan's namespaces."""
    if namespace in host.attached:
        return True
    if namespace not in host.own_namespaces:
        return False
    links = host.snapshot(namespace).links
    return host.prunes(role_of(links.get("lo", {}).get("alias", ""), host.project))


def _words(server: RealServer) -> str:
    address = server.address
    if server.port:
        address = f"[{address}]:{server.port}" if family_of(address) == 6 else f"{address}:{server.port}"
    words = [f"{address} weight {server.weight}"]
    words += [server.method] if server.method != "masquerade" else []
    words += [f"upper {server.upper}"] if server.upper else []
    words += [f"lower {server.lower}"] if server.lower else []
    return " ".join(words)


class IpvsKind(Kind[Ipvs]):
    """Virtual servers, as ``ipvsadm -S -n`` lists them."""

    name = "ipvs"
    stages = (47,)

    def __init__(self) -> None:
        self._named: dict[str, set[str]] = {}
        """Virtual servers that this run has observed or changed, by namespace."""

    def observe(self, host: Host, wanted: Sequence[Ipvs]) -> dict[Key, Found[Ipvs]]:
        for item in wanted:
            self._named.setdefault(item.namespace, set()).add(item.name)
        result: dict[Key, Found[Ipvs]] = {}
        if not ipvs.is_loaded():
            return result
        for namespace in sorted(host.own_namespaces | host.attached | self._named.keys()):
            names = None if namespace in host.own_namespaces else self._named.get(namespace, ())
            try:
                services = host.run_in(namespace, _read, names, namespace in host.attached)
            except FileNotFoundError:
                continue
            stale = bool(services) and _prunes(host, namespace)
            for service in services:
                found = replace(service, namespace=namespace)
                result[found.key] = Found(found, stale=stale)
        return result

    def differences(self, wanted: Ipvs, found: Ipvs) -> list[Difference]:
        result = super().differences(replace(wanted, servers=()), replace(found, servers=()))
        want, have = set(wanted.servers), set(found.servers)
        if want != have:
            sides = ([_words(item) for item in sorted(side, key=_order)] for side in (want - have, have - want))
            result.append(Difference("servers", *(shortened(side) for side in sides)))
        return result

    def check_dependencies(self, host: Host, wanted: Sequence[Ipvs]) -> Optional[str]:
        for family, scheduler in sorted({(item.family, item.scheduler) for item in wanted}):
            problem = _lacking(family, scheduler)
            if problem is not None:
                return f"{problem}: set cnm_load_balancer: nftables, which does not need it, or use another kernel"
        return None

    def create(self, host: Host, resources: Sequence[Ipvs]) -> None:
        self.change(host, [Operation("create", item) for item in resources])

    def change(self, host: Host, operations: Sequence[Operation[Ipvs]]) -> None:
        found = {item.resource.key: item.found for item in operations}
        kind = ipvs.number()
        for namespace, group in by_namespace(item.resource for item in operations).items():
            messages, removals = [], []
            for item in group:
                before = found[item.key]
                messages += list(_writing(kind, item, before))
                removals += list(_removing(kind, item, before)) if before is not None else []
            host.run_in(namespace, _send, messages, removals)

    def delete(self, host: Host, resources: Sequence[Ipvs]) -> None:
        for namespace, group in by_namespace(resources).items():
            kind = ipvs.number()
            host.run_in(namespace, _send, [], [ipvs.del_service(kind, item) for item in group])


def _writing(kind: int, wanted: Ipvs, found: Optional[Ipvs]) -> Iterable[Message]:
    """Messages that create or change it; real servers that are no longer wanted are removed later."""
    if found is None:
        yield ipvs.new_service(kind, wanted)
    elif replace(wanted, servers=()) != replace(found, servers=()):
        yield ipvs.set_service(kind, wanted)
    before = {(item.address, item.port): item for item in (found.servers if found is not None else ())}
    for server in wanted.servers:
        have = before.get((server.address, server.port))
        if have is None:
            yield ipvs.new_server(kind, wanted, server)
        elif have != server:
            yield ipvs.set_server(kind, wanted, server)


def _removing(kind: int, wanted: Ipvs, found: Ipvs) -> Iterable[Message]:
    wanted_servers = {(item.address, item.port) for item in wanted.servers}
    return (
        ipvs.del_server(kind, wanted, item) for item in found.servers if (item.address, item.port) not in wanted_servers
    )


class IpvsTimeoutsKind(Kind[IpvsTimeouts]):
    """Timeouts of our namespaces, as ``ipvsadm -l --timeout`` shows them."""

    name = "ipvs_timeouts"
    stages = (46,)

    def observe(self, host: Host, wanted: Sequence[IpvsTimeouts]) -> dict[Key, Found[IpvsTimeouts]]:
        wanted_namespaces = {item.namespace for item in wanted}
        result: dict[Key, Found[IpvsTimeouts]] = {}
        if not ipvs.is_loaded():
            return result
        balancing = {name for name in host.attached if name in wanted_namespaces or host.run_in(name, _read, (), True)}
        for namespace in sorted(host.own_namespaces | balancing):
            found = host.run_in(namespace, _read_timeouts)
            if found is not None and (namespace in wanted_namespaces or found != _DEFAULT):
                item = replace(found, namespace=namespace)
                result[item.key] = Found(item, stale=_prunes(host, namespace))
        return result

    def check_dependencies(self, host: Host, wanted: Sequence[IpvsTimeouts]) -> Optional[str]:
        return None

    def create(self, host: Host, resources: Sequence[IpvsTimeouts]) -> None:
        for item in resources:
            host.run_in(item.namespace, _send, [ipvs.set_timeouts(ipvs.number(), item)])

    def change(self, host: Host, operations: Sequence[Operation[IpvsTimeouts]]) -> None:
        self.create(host, [operation.resource for operation in operations])

    def delete(self, host: Host, resources: Sequence[IpvsTimeouts]) -> None:
        """The kernel always has timeouts: restore its defaults."""
        self.create(host, [replace(_DEFAULT, namespace=item.namespace) for item in resources])
