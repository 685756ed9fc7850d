# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Modules for a single kernel object: the engine of `site`, limited to that object.

Its mark says that a module made it: no plan prunes it, and no module takes over objects of plans or other modules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from . import entrypoints
from .arguments import Options
from .engine import engine
from .entrypoints import Refused
from .kernel import namespaces
from .kernel.host import Host
from .kernel.management_link import reached_by
from .kernel.nft import RunCommand
from .plan.addresses import Address
from .plan.base import Key, Resource
from .plan.families import family_of
from .plan.links import Link, Parent
from .plan.marks import PORT, SINGLE_OBJECT, is_pruned, project_of, role_of
from .plan.records import dataclass
from .resources.base import Operation

COMMON: dict[str, dict[str, Any]] = {
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "project": {"type": "str", "default": "default"},
    "lock_timeout": {"type": "int", "default": 60},
}
"""Options of all these modules, documented in the fragment ``cnm.fabric.single_object``."""

LINK: dict[str, dict[str, Any]] = {
    "name": {"type": "str", "required": True},
    "namespace": {"type": "str"},
    "addresses": {"type": "list", "elements": "str"},
    "mtu": {"type": "int"},
    "mac_address": {"type": "str"},
}
"""The options of links that are named by one end."""

_TAKING = ("bridge", "bond", "team", "openvswitch")
_NONE = Parent("")
_ON_ETHERNET = ("macvlan", "ipvlan")

_WHERE = {"network": "cnm_networks", "endpoint": "cnm_sandboxes", "sandbox": "cnm_sandboxes"}


@dataclass(frozen=True)
class Prerequisite:
    """An object that must exist first: a namespace, or a link or bridge in it."""

    option: str
    namespace: str
    link: str = ""
    bridge: bool = False


@dataclass(frozen=True)
class DesiredObject:
    """What a module call wants.  As a container it holds the keys that the run may touch."""

    resources: tuple[Resource, ...]
    """The object and its dependents; for a removal only the object."""
    hanging: tuple[Key, ...] = ()
    """Key prefixes of its possible dependents, wanted or not: ``("address", "", "br0")``."""
    needs: tuple[Prerequisite, ...] = ()

    def __contains__(self, key: object) -> bool:
        return any(key == item.key for item in self.resources) or (
            isinstance(key, tuple) and any(key[: len(start)] == start for start in self.hanging)
        )

    def missing(self, host: Host) -> list[str]:
        """Missing prerequisites, as sentences.  Raises Refused if another object has the name of one."""
        return list(_missing(host, self.needs))

    def completed(self, host: Host) -> DesiredObject:
        """The same with defaults that depend on the host filled in."""
        del host
        return self


def answer(module: Any, read: Callable[[Options], DesiredObject]) -> None:
    """Run a module: read its options, bring the object to them, exit."""
    try:
        options = Options(module.params)
        desired = read(options)
        if options.errors:
            raise Refused("; ".join(options.errors))
        request = entrypoints.Request(
            project=options["project"],
            absent=options.absent,
            check=module.check_mode,
            force=module.params.get("force", False),
            lock_timeout=options["lock_timeout"],
        )
        result = converge(desired, request, module.run_command)
    except Refused as refusal:
        module.fail_json(msg=str(refusal))
    for warning in result.pop("warnings"):
        module.warn(warning)
    module.exit_json(**result)


def converge(desired: DesiredObject, request: entrypoints.Request, run_command: RunCommand) -> dict[str, Any]:
    """Bring this object, and nothing else, to the wanted state; returns the module's result.  Raises Refused."""
    with entrypoints.working(request, run_command) as host:
        missing = desired.missing(host)
        if missing and not request.check and not request.absent:
            raise Refused("; ".join(missing))
        desired = desired.completed(host)
        worker = engine.Engine(host)
        wanted = desired.resources
        operations = worker.converge(wanted, True, desired)
        _refuse_others(host, operations)
        if request.absent:
            wanted = ()
            operations = worker.converge(wanted, True, desired)
            _refuse_others(host, operations)
        if not request.check:
            operations = worker.converge(wanted, False, desired)
        result = entrypoints.outcome(worker, operations)
        if not request.absent:
            # In check mode these are warnings, as an earlier task of the play may create what is missing.
            warnings = [f"A real run would fail here unless this is fixed first: {text}" for text in missing]
            result["warnings"] = [*warnings, *result["warnings"]]
        return result


def desired_link(options: Options, kind: str, role: str) -> DesiredObject:
    """A link of a kind with its addresses, from the options in `LINK`."""
    namespace, name = options.namespace(), options.link()
    needs = (Prerequisite("namespace", namespace),)
    if options.absent:
        return DesiredObject((Link(namespace, name, kind, role),), needs=needs)
    addresses = options.addresses()
    link = Link(
        namespace,
        name,
        kind,
        role,
        mac=options.mac(),
        mtu=options.mtu(addresses or ()),
        # Accept no router advertisements, and disable IPv6 on links without IPv6 addresses.
        disable_ipv6=6 not in map(family_of, addresses) if addresses else None,
        accept_ra=0,
    )
    return DesiredObject(
        (link, *(Address(namespace, name, address) for address in addresses or ())),
        (("address", namespace, name),) if addresses is not None else (),
        needs,
    )


def on_parent(options: Options, kind: str, mode: str = "", flag: str = "", vlan: int = 0) -> DesiredObject:
    """A link of a kind on the host's link named by ``parent``."""
    desired = desired_link(options, kind, SINGLE_OBJECT + kind)
    link, *rest = desired.resources
    if options.absent or not isinstance(link, Link):
        return desired
    name = options["parent"]
    if name == "lo":
        options.wrong("parent", "lo is not connected to a network: write a link that is, like eth0")
    parent = Parent(name, mode, flag, vlan)
    return OnParent(
        (replace(link, parent=parent), *rest),
        desired.hanging,
        (*desired.needs, Prerequisite("parent", "", name)),
        parent,
        kind,
    )


@dataclass(frozen=True)
class OnParent(DesiredObject):
    """A link on a parent; the parent must exist and be usable as one."""

    parent: Parent = _NONE
    kind: str = ""

    def missing(self, host: Host) -> list[str]:
        unmet = super().missing(host)
        link, below = self.resources[0], host.snapshot("").links.get(self.parent.link)
        if below is None or not isinstance(link, Link):
            return unmet
        problem = self._unfit(below)
        if self.parent.mode == "passthru" and self.parent.link in reached_by(host):
            problem = "Ansible reaches this host through it, and the mode passthru would take it from the host"
        if link.mtu is not None and link.mtu > below["mtu"]:
            raise Refused(f"mtu: {link.mtu} exceeds the MTU of {self.parent.link}, {below['mtu']}: lower it")
        if problem:
            raise Refused(f"parent: {self.parent.link}: {problem}: write another link")
        return unmet

    def _unfit(self, below: Mapping[str, Any]) -> str:
        if self.kind not in _ON_ETHERNET:
            return ""
        if below["kind"] in _ON_ETHERNET:
            return f"it is a {below['kind']} link itself"
        return f"it is a port of a {below['slave']}, which gets all its traffic" if below["slave"] in _TAKING else ""


def namespace_label(namespace: str) -> str:
    """A namespace's name in a sentence."""
    return f"namespace {namespace}" if namespace else "the host's own namespace"


def _missing(host: Host, needs: Sequence[Prerequisite]) -> Iterator[str]:
    there = {"", *namespaces.names()}
    for need in needs:
        if need.namespace not in there:
            yield (
                f"{need.option}: there is no network namespace {need.namespace} on this host: create it first, with "
                "cnm.fabric.namespace"
            )
            continue
        links = host.snapshot(need.namespace).links
        owner = project_of(links.get("lo", {}).get("alias", "")) if need.namespace else None
        if owner is not None and owner != host.project:
            raise Refused(
                f"{need.option}: {namespace_label(need.namespace)} belongs to project {owner}: set `project` to it"
            )
        if need.link and need.link not in links:
            noun = "bridge" if need.bridge else "link"
            yield f"{need.option}: there is no {noun} {need.link} in {namespace_label(need.namespace)}: create it first"
        elif need.bridge and links[need.link]["kind"] != "bridge":
            raise Refused(f"{need.option}: {need.link} in {namespace_label(need.namespace)} is not a bridge")


def _refuse_others(host: Host, operations: Sequence[Operation[Any]]) -> None:
    """Raise Refused if an operation would take over an object of a plan or of another module of this project."""
    conflicts: list[str] = []
    for operation in operations:
        resource, found = operation.resource, operation.found
        if isinstance(resource, Link) and operation.action in ("create", "replace"):
            conflicts += _names_taken(host, resource, found)
        role = getattr(found, "role", "")
        if operation.action == "delete":
            made_otherwise = bool(role) and is_pruned(role)
        else:
            made_otherwise = any(item.attribute in ("role", "single_object") for item in operation.differences)
        if made_otherwise and (role or hasattr(found, "single_object")):
            conflicts.append(f"{resource.kind} {resource.label} was made {_maker(role)}")
    if conflicts:
        raise Refused("; ".join(conflicts))


def _names_taken(host: Host, wanted: Link, found: Any) -> Iterator[str]:
    """Links of this project, made by other means, that have the name of one of the two ends."""
    ends = [] if found is not None else [(wanted.namespace, wanted.name)]
    before = getattr(found, "peer", None)
    if wanted.peer is not None and (before is None or before.name != wanted.peer.name):
        ends.append((wanted.peer.namespace, wanted.peer.name))
    for namespace, name in ends:
        link = host.snapshot(namespace).links.get(name)
        role = role_of(link["alias"], host.project) if link is not None else None
        if role is not None:
            yield f"link {name} already exists in {namespace_label(namespace)}, made {_maker(role)}"


def _maker(role: str) -> str:
    """Who made an object of this role, and where to change it."""
    role = role[len(PORT) :] if role.startswith(PORT) else role
    noun = role.partition("/")[0]
    if role.startswith(SINGLE_OBJECT):
        return f"by the module cnm.fabric.{role.split('/')[1]}: change it there"
    return f"by cnm.fabric.site from {_WHERE.get(noun, 'the cnm_ variables')}: change it there"
