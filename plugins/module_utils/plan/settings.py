# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Resources: sysctls, files and resolvers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Optional

from .base import Key, Resource


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
    links: tuple[str, ...] = ()
    """Links that forward by themselves: turning forwarding off for all turns it off for them too."""
    optional: bool = False
    """Whether a kernel that has no such parameter does without."""

    @property
    def key(self) -> Key:
        return (self.kind, self.namespace, self.name)

    @property
    def parents(self) -> tuple[Key, ...]:
        return (("namespace", self.namespace),) if self.namespace else ()


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
    hidden: tuple[str, ...] = ()
    """As found: those that those they are for may not read."""
    shared: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """File name to digests of shared texts (see `Mesh`) that follow what `files` says of it."""

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
    """Files of names it serves: path to SHA-256 of the content it must have loaded; a change is a reload.

    "" is the file's content as the same plan has it.
    """
    running: bool = True

    @property
    def key(self) -> Key:
        return (self.kind, self.namespace)
