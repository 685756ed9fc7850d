# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Limits and emulated links of endpoints; ours have handles of our own, on links of ours."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..kernel import netlink
from ..kernel.host import Host
from ..kernel.netlink import traffic
from ..plan.base import Key
from ..plan.marks import PORT, role_of
from ..plan.shaping import Shaping
from .base import Found, Kind, Operation, by_namespace

_OURS = (traffic.NETEM_HANDLE, traffic.TBF_HANDLE)
_ABSENT = (errno.ENOENT, errno.EINVAL, errno.ENODEV)
"""What removing a discipline that is not there answers."""


class ShapingKind(Kind[Shaping]):
    """Disciplines of ends outside sandboxes, before these come up."""

    name = "shaping"
    stages = (48,)

    def observe(self, host: Host, wanted: Sequence[Shaping]) -> dict[Key, Found[Shaping]]:
        wanted_by = {item.key: item for item in wanted}
        result: dict[Key, Found[Shaping]] = {}
        for namespace in host.observed_namespaces:
            roles = {
                name: role_of(link["alias"], host.project) for name, link in host.snapshot(namespace).links.items()
            }
            ports = {name for name, role in roles.items() if (role or "").startswith(PORT)}
            names = ports | {item.link for item in wanted if item.namespace == namespace}
            if not names:
                continue
            links = host.snapshot(namespace).links.items()
            indexes = {link["index"]: name for name, link in links if name in names}
            for name, (found, ours) in host.run_in(namespace, _read, namespace, indexes).items():
                want = wanted_by.get(found.key)
                if ours or want is not None:
                    there = found if want is None else replace(found, sandbox=want.sandbox, end=want.end)
                    result[found.key] = Found(there, ours, stale=ours and host.prunes(roles[name]))
        return result

    def create(self, host: Host, resources: Sequence[Shaping]) -> None:
        for namespace, group in by_namespace(resources).items():
            links = host.links(namespace, {item.link for item in group})
            host.send(namespace, [message for item in group for message in _making(_index(item, links), item)])

    def change(self, host: Host, operations: Sequence[Operation[Shaping]]) -> None:
        # A discipline's packets are lost with it, but only for an endpoint whose limits have changed.
        self.delete(host, [item.resource for item in operations])
        self.create(host, [item.resource for item in operations])

    def delete(self, host: Host, resources: Sequence[Shaping]) -> None:
        for namespace, group in by_namespace(resources).items():
            links = host.links(namespace, {item.link for item in group})
            indexes = [links[item.link]["index"] for item in group if item.link in links]
            host.run_in(namespace, _remove, indexes)


def _index(item: Shaping, links: Mapping[str, Mapping[str, Any]]) -> int:
    if item.link not in links:
        raise netlink.NetlinkError(errno.ENODEV, "there is no such link", f"limits of {item.label} on {item.link}")
    return int(links[item.link]["index"])


def _making(index: int, item: Shaping) -> list[netlink.Message]:
    messages = []
    if item.emulates:
        how = {"delay_us": item.delay_us, "jitter_us": item.jitter_us, "loss_ppm": item.loss_ppm, "rate": item.rate}
        messages.append(traffic.new_netem(index, **how))
    if item.ingress:
        messages.append(traffic.new_tbf(index, item.ingress, traffic.NETEM_HANDLE | 1 if item.emulates else None))
    if item.egress:
        messages += [traffic.new_clsact(index), traffic.new_policer(index, item.egress)]
    return messages


def _read(namespace: str, links: Mapping[int, str]) -> dict[str, tuple[Shaping, bool]]:
    """What shapes these links, if anything of ours or of others does, and whether it is ours; in the namespace."""
    by_index: dict[int, list[traffic.Discipline]] = {}
    with traffic.TrafficControl() as kernel:
        for item in kernel.disciplines():
            if item.link in links:
                by_index.setdefault(item.link, []).append(item)
        result = {}
        for index, disciplines in by_index.items():
            filtered = any(item.kind == traffic.CLSACT_KIND for item in disciplines)
            filters = kernel.filters(index) if filtered else []
            found = _shaping(namespace, links[index], disciplines, filters)
            ours = any(item.handle in _OURS for item in disciplines) or any(_is_ours(item) for item in filters)
            if ours or any(item.root for item in disciplines):
                result[links[index]] = found, ours
    return result


def _is_ours(item: traffic.Filter) -> bool:
    return item.received and item.handle == traffic.POLICER_HANDLE


def _shaping(
    namespace: str, link: str, disciplines: Iterable[traffic.Discipline], filters: Iterable[traffic.Filter]
) -> Shaping:
    known = {item.handle: item for item in disciplines}
    netem, tbf = (known.get(handle) for handle in _OURS)
    # A limit stands alone or below the emulation: anything else is not as we make it, and made again.
    emulated = netem is not None and netem.root and netem.kind == "netem"
    limited = tbf is not None and tbf.kind == "tbf" and tbf.root != emulated
    found = Shaping(
        namespace,
        link,
        ingress=tbf.rate if tbf is not None and limited else 0,
        egress=next((item.rate for item in filters if _is_ours(item)), 0),
    )
    if netem is None or not emulated:
        return found
    return replace(found, delay_us=netem.delay_us, jitter_us=netem.jitter_us, loss_ppm=netem.loss_ppm, rate=netem.rate)


def _remove(indexes: Sequence[int]) -> None:
    """Remove what is ours from these links; filters of others, and the place for them, stay."""
    messages = []
    with traffic.TrafficControl() as kernel:
        there = kernel.disciplines()
        for index in indexes:
            found = [item for item in there if item.link == index]
            if any(item.root and item.handle in _OURS for item in found):
                messages.append(traffic.del_root(index))
            if any(item.kind == traffic.CLSACT_KIND for item in found):
                filters = kernel.filters(index)
                if any(_is_ours(item) for item in filters):
                    messages.append(traffic.del_policer(index) if len(filters) > 1 else traffic.del_clsact(index))
        for error in kernel.try_send(messages):
            if error is not None and error.errno not in _ABSENT:
                raise error
