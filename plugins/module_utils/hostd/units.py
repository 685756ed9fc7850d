# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The command ``cnm`` and the units of systemd that restore a host's networks, as texts by path.  Pure."""

from __future__ import annotations

import string
from collections.abc import Iterable, Sequence

from ..plan.constants import VERSION
from ..plan.forms import path, watched_owner
from ..plan.records import dataclass
from .verbs import completion, manual, overview

COMMAND = "/usr/local/sbin/cnm"

COMPLETION = "/usr/local/share/bash-completion/completions/cnm"

MANUAL = "/usr/local/share/man/man8/cnm.8"

BESIDE = (COMMAND, COMPLETION, MANUAL)
"""What is elsewhere than the units."""

UNITS = "/etc/systemd/system"

MARK = "# Made by cnm.fabric, which replaces and removes it: changes are lost."
"""In the second line of the command, and the first of every other file; what has none of it is not ours."""

PARTLY = 3
"""Exit status of a restore that could not bring back everything; a crash of Python is 1."""

_RULES, _NETWORKS, _PARENT = "cnm-rules.service", "cnm-networks.service", "cnm-parent@.service"
_SANDBOX = "cnm-sandbox@.target"

RESOLVER_RESTART = "cnm-resolver@.service"
"""The unit that starts a sandbox's resolver again when it has ended."""

_RESOLVER_CHECK = "cnm-resolver-check@.service"

RESTORE = "cnm-restore.service"
"""The unit that brings back what has ended, of which there is one on the host."""

_OWNERS, _OWNERS_EVENT = "cnm-owners.service", "cnm-owners-event.service"
OWNERS_PATH = "cnm-owners.path"
"""The unit that hears of owners of namespaces; it is restarted when its file has changed."""

STARTED = _RULES
"""The unit that is started as soon as it is installed: only an active unit is restarted with another."""

ACTIVE = (
    *(_RULES, _NETWORKS, OWNERS_PATH, _OWNERS, RESTORE),
    *(unit.replace("@", "@*") for unit in (_RESOLVER_CHECK, RESOLVER_RESTART)),
)
"""Units that may be active, and are stopped before they are removed."""

SANDBOXES = _SANDBOX.replace("@", "@*")
"""The pattern of sandboxes' targets."""

_LINK = "-> "

_DEVICES = f"{UNITS}/sys-subsystem-net-devices-"

_PLAIN = frozenset(f"{string.ascii_letters}{string.digits}:_.")

_COMMAND = """#!{python} -IS
{mark}
import os
import sys

HELP = {help!r}

if os.geteuid() != 0:  # who cannot read the rest
    words = sys.argv[1:]
    if words in (["--version"], ["version"], ["-v"]):
        print("cnm {version}")
    elif words[:1] in ([], ["help"], ["--help"], ["-h"]) or words[1:] in (["--help"], ["-h"]):
        print(HELP, end="")
    else:
        sys.exit("cnm: this needs root")
    sys.exit()
sys.path.insert(0, {half!r})
from {module} import main

sys.exit(main(sys.argv[1:]))
"""

_SERVICE = """
[Service]
Type=oneshot
{more}SuccessExitStatus={partly}
TimeoutStartSec=300
SyslogIdentifier=cnm
"""

# The network waits for it, so it does without Python unless nft refuses.  Where nftables.service has loaded the tables
# together with its own there is nothing to do.
_LOAD = (
    "/bin/sh -c 'there=$$(nft list tables); for rules in /var/lib/cnm/*/rules.nft; do "
    '[ -e "$$rules" ] || continue; read -r table <"$$rules"; echo "$$there" | grep -qxF "$$table" && continue; '
    'cat "$$rules" "$${rules%%/*}/user.nft" 2>/dev/null | nft -f - 2>/dev/null || nft -f "$$rules" || '
    "failed=yes; done; "
    f'[ -z "$$failed" ] || exec {COMMAND} restore --rules\''
)

_RESTART_LOCK = "/var/lib/cnm/.half"
"""A directory that nobody else can open, and so not lock."""

# Who ends while the unit that starts it is still at work starts that a second time in vain, so its last step looks.
_IS_THERE = (
    '/bin/sh -c \'for record in /run/cnm/*/resolvers/"$$1".pid; do '
    '[ ! -e "$$record" ] || { read -r pid <"$$record" && kill -0 "$$pid"; } || exit 1; done\' sh %I'
)

_TEXTS = {
    # nftables.service flushes the whole ruleset when it is started, stopped or reloaded: this one follows it.
    _RULES: f"""{MARK}
[Unit]
Description=Firewall rules of cnm.fabric, as last planned
DefaultDependencies=no
RequiresMountsFor=/var/lib/cnm /usr/local/sbin
Wants=network-pre.target
Before=network-pre.target shutdown.target
Conflicts=shutdown.target
After=local-fs.target systemd-sysctl.service nftables.service
PartOf=nftables.service
ReloadPropagatedFrom=nftables.service
# As often as that one.
StartLimitIntervalSec=0
"""
    + _SERVICE.format(
        more=f"RemainAfterExit=yes\nExecStart={_LOAD}\nExecReload={_LOAD}\nExecReload={COMMAND} restore --rules\n"
        f"ExecStop=-{COMMAND} keep-user-rules\n",
        partly=PARTLY,
    )
    + "\n[Install]\nWantedBy=sysinit.target nftables.service\n",
    _NETWORKS: f"""{MARK}
[Unit]
Description=Networks of cnm.fabric, as last planned
RequiresMountsFor=/var/lib/cnm /usr/local/sbin
Wants={_RULES}
After={_RULES} network-pre.target networking.service systemd-networkd.service NetworkManager.service
After=systemd-resolved.service
Before=network-online.target
"""
    + _SERVICE.format(more=f"RemainAfterExit=yes\nExecStart={COMMAND} restore --own\n", partly=PARTLY)
    + "\n[Install]\nWantedBy=multi-user.target\n",
    _PARENT: f"""{MARK}
[Unit]
Description=Networks of cnm.fabric on the link %I, which has appeared
After={_NETWORKS}
"""
    + _SERVICE.format(more=f"ExecStart={COMMAND} restore --own\nExecStart={COMMAND} restore --owners\n", partly=PARTLY),
    # A second between two attempts, or what ends at once would take the host's time.
    RESTORE: f"""{MARK}
[Unit]
Description=Networks of cnm.fabric again, as a daemon of theirs has ended
ConditionPathExistsGlob=|/run/cnm/*/frr/*.pid
ConditionPathExistsGlob=|/run/cnm/*/renewal-*.json
After={_NETWORKS}
StartLimitIntervalSec=0
"""
    + _SERVICE.format(more=f"ExecStartPre=/bin/sleep 1\nExecStart={COMMAND} restore --own\n", partly=PARTLY),
    # It has no default dependencies, or it would wait for what it starts, which may wait for the network to be online.
    _SANDBOX: f"""{MARK}
[Unit]
Description=Sandbox %I of cnm.fabric
DefaultDependencies=no
BindsTo=run-netns-%i.mount
After=run-netns-%i.mount
Conflicts=shutdown.target
Before=shutdown.target
""",
    # Stopped by a run, it has no record any more.  One at a time: the first starts all that have ended.
    RESOLVER_RESTART: f"""{MARK}
[Unit]
Description=Resolver of sandbox %I again, as it has ended
ConditionPathExistsGlob=/run/cnm/*/resolvers/%I.pid
OnSuccess={_RESOLVER_CHECK.replace("@", "@%i")}
StartLimitIntervalSec=0

[Service]
Type=oneshot
ExecStart=/usr/bin/flock {_RESTART_LOCK} {COMMAND} restore --resolver %I
ExecStart={_IS_THERE}
TimeoutStartSec=300
Restart=on-failure
RestartSec=10
SyslogIdentifier=cnm
""",
    # Between the last step of that unit and its end there is a moment in which it is started in vain, too.
    _RESOLVER_CHECK: f"""{MARK}
[Unit]
Description=Look whether the resolver of sandbox %I still runs
OnFailure={RESOLVER_RESTART.replace("@", "@%i")}
StartLimitIntervalSec=0

[Service]
Type=oneshot
ExecStartPre=/bin/sleep 1
ExecStart={_IS_THERE}
SyslogIdentifier=cnm
""",
}
"""The units by name."""

# A path unit is deaf while the service that it starts runs.  So that one is short, and asks for a reload, of which
# systemd carries out another one when it is asked for during a reload; during a start it would not.
_OWNERS_TEXTS = {
    OWNERS_PATH: f"""{MARK}
[Unit]
Description=Starts and ends of whose namespaces are sandboxes of cnm.fabric

[Path]
{{watched}}Unit={_OWNERS_EVENT}
TriggerLimitIntervalSec=0

[Install]
WantedBy=paths.target
""",
    _OWNERS_EVENT: f"""{MARK}
[Unit]
Description=Look again at the sandboxes of cnm.fabric in others' namespaces
Requires={_OWNERS}
After={_OWNERS} docker.service
StartLimitIntervalSec=0

[Service]
Type=oneshot
ExecStart=systemctl --no-block --quiet reload {_OWNERS}
# A container's start is no news for the journal.
LogLevelMax=notice
""",
    _OWNERS: f"""{MARK}
[Unit]
Description=Sandboxes of cnm.fabric in others' namespaces
RequiresMountsFor=/var/lib/cnm /usr/local/sbin
After={_NETWORKS}
StartLimitIntervalSec=0
"""
    + _SERVICE.format(
        more=f"RemainAfterExit=yes\nExecStart=/bin/true\nExecReload={COMMAND} restore --owners\n",
        partly=PARTLY,
    ),
}

# When Docker starts, it makes anew the chain that it drops our packets in.
_ENGINE = "docker.service"

_WATCHED = {
    "docker": ("/run/docker/containerd", "/run/docker/runtime-runc/moby"),
    "podman": ("/run/crun", "/run/runc"),
    "machine": ("/run/systemd/machines",),
    # Its start makes our rule anew, and its containers do not matter.
    _ENGINE: (),
    # A process does not come back with its number, and this path is none for systemd.
    "pid": (),
    "path": (),
}
"""By owner the directories in which an entry comes and goes with each of its containers."""

_OWNERS_WANTED_BY = ((OWNERS_PATH, "paths.target"), (_OWNERS_EVENT, "multi-user.target"), (_OWNERS_EVENT, _ENGINE))

NAMES = frozenset({*_TEXTS, *_OWNERS_TEXTS})

_WANTED_BY = ((_RULES, "sysinit.target"), (_RULES, "nftables.service"), (_NETWORKS, "multi-user.target"))


@dataclass(frozen=True)
class HostHalf:
    """What the command is started with."""

    python: str
    """The interpreter's path."""
    folder: str
    """The folder in which the host half is kept, for Python's search path."""
    module: str
    """The module with ``main``, by its dotted name."""


def escape(text: str) -> str:
    """A text within a unit's name, as systemd-escape(1) writes it."""
    octets = (chr(octet) for octet in text.encode("utf-8", "surrogateescape"))
    return "".join("-" if octet == "/" else octet if octet in _PLAIN else f"\\x{ord(octet):02x}" for octet in octets)


def target_of(sandbox: str) -> str:
    """The target that is active while the sandbox is as planned."""
    return _SANDBOX.replace("@", f"@{escape(sandbox)}")


def is_link(text: str) -> bool:
    """Whether a text of `files` stands for a symbolic link."""
    return text.startswith(_LINK)


def target(text: str) -> str:
    """Where the symbolic link leads that a text of `files` stands for."""
    return text[len(_LINK) :]


def is_of_a_parent(place: str) -> bool:
    """Whether the path is that of a link that starts another attempt when a parent appears."""
    return place.startswith(_DEVICES)


def _for_owners(owners: Sequence[str]) -> dict[str, str]:
    """Units by name for sandboxes in the namespaces of these."""
    watched = sorted({path for owner in owners for path in _WATCHED.get(owner, (owner,))})
    lines = "".join(f"PathChanged={path}\n" for path in watched)
    names = (_OWNERS, _OWNERS_EVENT, *([OWNERS_PATH] if watched else [])) if owners else ()
    return {name: _OWNERS_TEXTS[name].format(watched=lines) for name in names}


def files(half: HostHalf, parents: Iterable[str], owners: Iterable[str] = ()) -> dict[str, str]:
    """The command and the units by path; of a symbolic link the text is ``-> `` and its target.

    ``parents`` are the names of links whose appearance starts another attempt, ``owners`` those of `Boot`.  Raises
    FormError for a path that is none.
    """
    command = _COMMAND.format(
        python=path(half.python),
        mark=MARK,
        help=overview(),
        version=VERSION,
        half=path(half.folder),
        module=half.module,
    )
    result = {COMMAND: command, COMPLETION: completion(MARK), MANUAL: manual(MARK, VERSION)}
    result.update({f"{UNITS}/{name}": text for name, text in _TEXTS.items()})
    for unit, by in _WANTED_BY:
        result[f"{UNITS}/{by}.wants/{unit}"] = f"{_LINK}{UNITS}/{unit}"
    owners = sorted(map(watched_owner, owners))
    found = _for_owners(owners)
    result.update({f"{UNITS}/{name}": text for name, text in found.items()})
    for name, by in _OWNERS_WANTED_BY:
        if name in found and (by != _ENGINE or not {"docker", _ENGINE}.isdisjoint(owners)):
            result[f"{UNITS}/{by}.wants/{name}"] = f"{_LINK}{UNITS}/{name}"
    for parent in sorted(parents):
        name = escape(parent)
        directory = f"{_DEVICES}{name}.device.wants"
        result[f"{directory}/{_PARENT.replace('@', f'@{name}')}"] = f"{_LINK}{UNITS}/{_PARENT}"
    return result


OURS = (
    "cnm-*.service",
    "cnm-*.path",
    "cnm-*.target",
    "*.wants/cnm-*.service",
    "*.wants/cnm-*.path",
    "*.service.d/cnm.conf",
)
"""Patterns, below `UNITS`, of everything that may be ours there."""
