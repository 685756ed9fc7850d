# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The plan: all that passes from the controller to a host.

A plan is a host's complete desired state as a flat, sorted list of resources, plus what the host remembers for the
controller.  As JSON::

    {
      "schema": 1,              # version of this format; a host refuses one it does not know
      "host": "node1",          # inventory name of the host it was made for
      "project": "default",     # cnm_project: part of every ownership mark
      "resources": [            # one object a resource, "kind" first, fields that have their default left out
        {"kind": "link", "namespace": "", "name": "br-2f0c…", "type": "bridge", "role": "network/ps-bridge", …}, …
      ],
      "model": {…},             # what `inspect` shows, in Docker's words; the engine never reads it
      "leases": {…}             # this host's part of the lease store, so that a lost store can be rebuilt
    }

Its digest is the SHA-256 of that text; the same inventory gives the same text, byte for byte.  The lease store's
revision travels beside the plan, not in it: it orders plans in time and must not make equal plans differ.

Conventions: ``namespace`` is the name under ``/run/netns``, ``""`` the host's own; addresses are ``10.0.0.2/24``,
prefixes ``10.0.0.0/24`` or ``default``; MAC addresses lower case; MTUs in bytes.  ``None`` means "not ours to say":
such a field is neither compared nor set.  This file imports nothing but the standard library: both halves use it.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, ClassVar, Optional

SCHEMA = 1

Key = tuple[str, ...]
"""Identity of an object on one host: kind first, then what finds it in the kernel."""


def mark(project: str, role: str) -> str:
    """The ownership mark of an object, as a link alias or table comment shows it: ``cnm:default:sandbox/c1``."""
    return f"cnm:{project}:{role}"


def role_of(text: str, project: str) -> Optional[str]:
    """What a mark says the object is, or None if it is not a mark of this project."""
    prefix = mark(project, "")
    return text[len(prefix) :] if text.startswith(prefix) else None


def table_name(project: str) -> str:
    """The nftables table of a project: ``cnm`` for the project named default, ``cnm_<project>`` for another."""
    return "cnm" if project == "default" else "cnm_" + project.replace("-", "_")


LINK_GROUP = 0x636E6E
"""Group of the bridges of all projects on a host: what one project's rules must know of another's."""

OTHERS = "others"
"""Chain of the host's table for what is not ours: it drops where the host did not forward before us."""


class PlanError(ValueError):
    """The text is not a plan this version can read; the message says why."""


@dataclass(frozen=True)
class Resource(ABC):
    """One kernel object (or file, or process) as it should be or as it was found."""

    kind: ClassVar[str] = ""

    @property
    @abstractmethod
    def key(self) -> Key:
        """What identifies the object on its host."""

    @property
    def inside(self) -> tuple[Key, ...]:
        """Keys of objects this one lives in: when one of them goes, it is gone too, without an operation of its own."""
        return ()

    @property
    def label(self) -> str:
        """Its name for people, as in an operation or an error."""
        return "/".join(part for part in self.key[1:] if part)


@dataclass(frozen=True)
class Namespace(Resource):
    """A network namespace of ours, mounted on ``/run/netns/<name>``.  Its ``lo`` carries the mark and is up."""

    kind: ClassVar[str] = "namespace"
    name: str
    role: str = ""
    """What it is, for the mark: ``sandbox/c1``."""
    loopback_up: bool = True

    @property
    def key(self) -> Key:
        return (self.kind, self.name)


@dataclass(frozen=True)
class Peer:
    """The other end of a veth pair, usually a bridge port on the host."""

    namespace: str = ""
    name: str = ""
    master: str = ""
    isolated: bool = False
    """Bridge port flag: isolated ports cannot speak to each other (ICC off)."""
    up: bool = True


@dataclass(frozen=True)
class Link(Resource):
    """A network link.  A veth pair is one resource, named by its end in the sandbox; ``peer`` is the other end."""

    kind: ClassVar[str] = "link"
    namespace: str
    name: str
    type: str
    """The kernel's link kind: ``bridge``, ``veth``."""
    role: str = ""
    """What it is, for the mark: ``network/ps-bridge``, ``endpoint/ps-bridge/c1``."""
    mac: Optional[str] = None
    mtu: Optional[int] = None
    up: bool = True
    disable_ipv6: Optional[bool] = None
    accept_ra: Optional[int] = None
    """The sysctls of that name, written while the link is still down (CVE-2020-13401, CVE-2024-32473)."""
    peer: Optional[Peer] = None
    group: Optional[int] = None
    """Link group: `LINK_GROUP` for what the firewall guards, whichever project it belongs to."""

    @property
    def key(self) -> Key:
        return (self.kind, self.namespace, self.name)

    @property
    def inside(self) -> tuple[Key, ...]:
        # A pair is removed by its far end: with its namespace it would go only when the last process in there does.
        return (("namespace", self.namespace),) if self.namespace and self.peer is None else ()


@dataclass(frozen=True)
class Address(Resource):
    """An address with its prefix length on a link.  All addresses of global scope on our links are ours."""

    kind: ClassVar[str] = "address"
    namespace: str
    link: str
    address: str
    connected: bool = True
    """Whether the kernel has the on-link route that comes with the address; a link that is down has none to show."""

    @property
    def key(self) -> Key:
        return (self.kind, self.namespace, self.link, self.address)

    @property
    def inside(self) -> tuple[Key, ...]:
        return (("namespace", self.namespace), ("link", self.namespace, self.link))


@dataclass(frozen=True)
class Route(Resource):
    """A unicast route in the main table.  Ours carry the route protocol `ROUTE_PROTOCOL`."""

    kind: ClassVar[str] = "route"
    namespace: str
    destination: str
    """``default`` or a prefix."""
    family: int = 4
    via: Optional[str] = None
    link: str = ""

    @property
    def key(self) -> Key:
        return (self.kind, self.namespace, str(self.family), self.destination)

    @property
    def inside(self) -> tuple[Key, ...]:
        # The kernel drops a link's routes with the address they were reached through.
        return (
            ("namespace", self.namespace),
            ("link", self.namespace, self.link),
            ("addresses", self.namespace, self.link),
        )

    @property
    def label(self) -> str:
        return "/".join(part for part in (self.namespace, self.destination) if part)


ROUTE_PROTOCOL = 137


@dataclass(frozen=True)
class Sysctl(Resource):
    """A kernel parameter in dotted form.  The host's former value is remembered and put back when it is dropped."""

    kind: ClassVar[str] = "sysctl"
    namespace: str
    name: str
    value: str
    held: bool = True
    """Whether this project is among those that need the value; the last of them puts the host's own back."""
    former: Optional[str] = None
    """The host's own value where the controller knows it, should the host have lost its record."""

    @property
    def key(self) -> Key:
        return (self.kind, self.namespace, self.name)

    @property
    def inside(self) -> tuple[Key, ...]:
        return (("namespace", self.namespace),) if self.namespace else ()


@dataclass(frozen=True)
class Chain:
    """A chain of a table: ``hook`` is ``type filter hook forward priority 0``-like text, "" for a regular chain."""

    name: str
    hook: str = ""
    rules: tuple[str, ...] = ()
    user: bool = False
    """The user's own chain: made if it is missing, its content never read or changed."""


@dataclass(frozen=True)
class Collection:
    """A set or map of a table, its declaration and elements in nft's language."""

    name: str
    declaration: str
    """``type ifname;`` for a set, ``type ipv4_addr : verdict;`` for a map, with flags if any."""
    elements: tuple[str, ...] = ()

    @property
    def noun(self) -> str:
        """``set`` or ``map``."""
        return "map" if ":" in self.declaration else "set"


@dataclass(frozen=True)
class Nftables(Resource):
    """One nftables table with everything in it, changed in one transaction."""

    kind: ClassVar[str] = "nftables"
    namespace: str
    family: str
    name: str
    role: str = ""
    collections: tuple[Collection, ...] = ()
    chains: tuple[Chain, ...] = ()
    flags: str = ""
    """As found: ``dormant`` is a table whose rules are asleep."""

    @property
    def key(self) -> Key:
        return (self.kind, self.namespace, self.family, self.name)

    @property
    def inside(self) -> tuple[Key, ...]:
        return (("namespace", self.namespace),) if self.namespace else ()

    @property
    def label(self) -> str:
        table = f"{self.family} {self.name}"
        return f"{self.namespace}/{table}" if self.namespace else table


@dataclass(frozen=True)
class File(Resource):
    """A directory's files of ours.  Other files beside them are left alone.

    One of the files starts with a comment line that is the mark of ``role``: by that the directory is known as ours.
    """

    kind: ClassVar[str] = "file"
    directory: str
    role: str = ""
    files: dict[str, str] = field(default_factory=dict)
    """File name to whole content; mode 0644."""

    @property
    def key(self) -> Key:
        return (self.kind, self.directory)

    @property
    def label(self) -> str:
        return self.directory


@dataclass(frozen=True)
class Resolver(Resource):
    """The DNS server of a sandbox: a dnsmasq in its namespace."""

    kind: ClassVar[str] = "resolver"
    namespace: str
    config: tuple[str, ...] = ()
    """Lines of its configuration file; a change restarts it."""
    names: dict[str, str] = field(default_factory=dict)
    """Files of names it serves: path to SHA-256 of the content it must have loaded; a change is a reload."""
    running: bool = True

    @property
    def key(self) -> Key:
        return (self.kind, self.namespace)


KINDS: dict[str, type[Resource]] = {
    cls.kind: cls for cls in (Nftables, Sysctl, Namespace, Link, Address, Route, File, Resolver)
}
_NESTED: dict[tuple[str, str], type[Any]] = {
    ("link", "peer"): Peer,
    ("nftables", "collections"): Collection,
    ("nftables", "chains"): Chain,
}


def content_digest(text: str) -> str:
    """SHA-256 of a text, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def _default(spec: Any) -> Any:
    if spec.default is not MISSING:
        return spec.default
    return spec.default_factory() if spec.default_factory is not MISSING else MISSING


def _plain(value: Any) -> Any:
    if hasattr(value, "__dataclass_fields__"):
        return {
            spec.name: _plain(getattr(value, spec.name))
            for spec in fields(value)
            if getattr(value, spec.name) != _default(spec)
        }
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value


def encode(resource: Resource) -> dict[str, Any]:
    """A resource as JSON data; fields with their default value are left out."""
    return {"kind": resource.kind, **_plain(resource)}


def _build(cls: type[Any], kind: str, data: Any) -> Any:
    values = {}
    for spec in fields(cls):
        if spec.name not in data:
            continue
        value = data[spec.name]
        nested = _NESTED.get((kind, spec.name))
        if nested is not None and value is not None:
            value = (
                tuple(_build(nested, "", item) for item in value)
                if isinstance(value, list)
                else _build(nested, "", value)
            )
        elif isinstance(value, list):
            value = tuple(value)
        values[spec.name] = value
    return cls(**values)


def decode(data: dict[str, Any]) -> Resource:
    """The resource of that JSON data; PlanError if its kind is unknown or a field is missing."""
    kind = str(data.get("kind", ""))
    cls = KINDS.get(kind)
    if cls is None:
        raise PlanError(f"the plan has a resource of kind {kind!r}, which this version does not know")
    try:
        resource = _build(cls, kind, data)
    except TypeError as error:
        raise PlanError(f"the plan has a {kind} that cannot be read: {error}") from error
    return resource  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Plan:
    """A host's plan; see the module's text for its JSON."""

    host: str
    project: str = "default"
    resources: tuple[Resource, ...] = ()
    model: dict[str, Any] = field(default_factory=dict)
    leases: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """The plan as one line of JSON, the same for equal plans."""
        data = {
            "schema": SCHEMA,
            "host": self.host,
            "project": self.project,
            "resources": [encode(resource) for resource in sorted(self.resources, key=lambda item: item.key)],
            "model": self.model,
            "leases": self.leases,
        }
        return json.dumps(data, sort_keys=True, separators=(",", ":"))

    @property
    def digest(self) -> str:
        """SHA-256 of the plan's JSON, in hex."""
        return content_digest(self.to_json())

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Read a plan; PlanError says what is wrong with the text."""
        try:
            data = json.loads(text)
        except ValueError as error:
            raise PlanError(f"the plan is not JSON: {error}") from error
        if not isinstance(data, dict) or data.get("schema") != SCHEMA:
            found = data.get("schema") if isinstance(data, dict) else None
            raise PlanError(
                f"the plan's format is {found}, this version reads {SCHEMA}: use the same collection on both"
            )
        return cls(
            host=data["host"],
            project=data["project"],
            resources=tuple(decode(item) for item in data["resources"]),
            model=data["model"],
            leases=data["leases"],
        )
