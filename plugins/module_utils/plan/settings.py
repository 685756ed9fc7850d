# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Resources: sysctls, files, resolvers, targets for applications, and what brings them back after a boot."""

from __future__ import annotations

from dataclasses import field
from typing import ClassVar, Optional

from .base import Key, Resource
from .records import dataclass


@dataclass(frozen=True)
class Sysctl(Resource):
    """A kernel parameter in dotted form.  The host's own value is recorded and restored when no plan needs another."""

    kind: ClassVar[str] = "sysctl"
    namespace: str
    name: str
    value: str
    held: bool = True
    """Whether this project needs the value; the last project to drop it restores the host's own."""
    former: Optional[str] = None
    """The host's own value, if the controller knows it; used if the host has lost its record."""
    links: tuple[str, ...] = ()
    """Links that forwarded before; turning forwarding off for all links turns it off for them too."""
    optional: bool = False
    """Whether a kernel may lack the parameter."""

    @property
    def key(self) -> Key:
        return (self.kind, self.namespace, self.name)

    @property
    def parents(self) -> tuple[Key, ...]:
        return (("namespace", self.namespace),) if self.namespace else ()


@dataclass(frozen=True)
class File(Resource):
    """Our files in a directory.  Other files in it are not touched.

    One of the files starts with a comment line with the mark of ``role``, which identifies the directory as ours.
    """

    kind: ClassVar[str] = "file"
    directory: str
    role: str = ""
    files: dict[str, str] = field(default_factory=dict)
    """File name to whole content; mode 0644."""
    hidden: tuple[str, ...] = ()
    """As found: files whose mode keeps their readers from reading them."""
    shared: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """File name to digests of shared texts (see `PeerTable`) that are appended to its text in `files`."""

    @property
    def key(self) -> Key:
        return (self.kind, self.directory)

    @property
    def label(self) -> str:
        return self.directory


@dataclass(frozen=True)
class Resolver(Resource):
    """The DNS server of a sandbox: a dnsmasq in its namespace; in the host's, "", for the host or for others."""

    kind: ClassVar[str] = "resolver"
    namespace: str
    config: tuple[str, ...] = ()
    """Lines of its configuration file; a change restarts it."""
    running: bool = True
    supervised: bool = False
    """Whether systemd has it in a unit of its own, and has it started again when it ends."""
    outdated: bool = False
    """As found: whether the program that it runs has been replaced since, as by an upgrade."""
    lan: bool = False
    """Whether it is the host's that others ask."""

    @property
    def key(self) -> Key:
        return (self.kind, self.namespace, *(["lan"] if self.lan else []))

    @property
    def label(self) -> str:
        return "LAN" if self.lan else self.namespace or "host"


@dataclass(frozen=True)
class Resolved(Resource):
    """What systemd-resolved is told of a link of ours: which server knows the names of which domain.

    It asks that server for these names alone.  A link's setting goes when the link does.  A server in resolved.conf
    would be asked for all other names too: whatever the domains, the servers there are everyone's.
    """

    kind: ClassVar[str] = "resolved"
    link: str
    """In the host's namespace."""
    server: str = ""
    domain: str = ""

    @property
    def key(self) -> Key:
        return (self.kind, self.link)

    @property
    def parents(self) -> tuple[Key, ...]:
        return (("link", "", self.link),)


@dataclass(frozen=True)
class LoadedNames(Resource):
    """The files of names that a host's resolvers have loaded, all of them in one record."""

    kind: ClassVar[str] = "names"
    directory: str
    loaded: dict[str, str] = field(default_factory=dict)
    """File name to a digest that another content of the file changes; a change makes its readers load it again."""

    @property
    def key(self) -> Key:
        return (self.kind, self.directory)

    @property
    def label(self) -> str:
        return self.directory


@dataclass(frozen=True)
class Boot(Resource):
    """What brings the networks back without a controller: the host half, its command ``cnm``, units of systemd.

    All projects of a host have them in common; the last one removes them.
    """

    kind: ClassVar[str] = "boot"
    keep_keys: bool = False
    """Whether the host keeps the keys of its encrypted overlays, in a file that only root can read."""
    awaited: tuple[str, ...] = ()
    """Links of others that networks are made on: when one appears, what could not be restored is tried again."""
    owners: tuple[str, ...] = ()
    """In whose namespaces there are sandboxes: ``docker``, ``podman``, ``machine``, ``pid``, directories of paths, or
    ``path`` for one that systemd cannot watch; their starts and ends are watched.  ``docker.service`` is for its start
    alone, without the containers'."""
    flaws: dict[str, str] = field(default_factory=dict)
    """As found: what is missing or differs, by path."""

    @property
    def key(self) -> Key:
        return (self.kind, "host")


@dataclass(frozen=True)
class Target(Resource):
    """``cnm-sandbox@NAME.target`` of systemd, which units of applications in a sandbox are bound to."""

    kind: ClassVar[str] = "target"
    namespace: str
    """The sandbox."""
    active: bool = True
    """Whether it is active, and was started for the namespace that has the name now."""

    @property
    def key(self) -> Key:
        return (self.kind, self.namespace)

    @property
    def parents(self) -> tuple[Key, ...]:
        return (("namespace", self.namespace),)
