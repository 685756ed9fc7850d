# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""How nftables.service loads the host's kept tables together with its own.

That service flushes the whole ruleset when it is started, stopped or reloaded.  A drop-in has it do so and load the
kept tables in one transaction, so there is no moment without them.  If the kernel refuses that, the service's own rules
are loaded as ever, and the unit that follows it puts ours right.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Optional

from ..kernel.files import overriding
from .units import COMMAND, MARK, UNITS

_FOLDERS = (UNITS, "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system")
"""Where systemd looks for units, of the highest precedence first (systemd.unit(5)).  /lib is /usr/lib with systemd."""

_SERVICE = "nftables.service"
_OWN = "cnm.conf"

DROP_IN = f"{UNITS}/{_SERVICE}.d/{_OWN}"

_SETTINGS = ("ExecStart", "ExecReload", "ExecStop")

_FILE = r"(?:/[A-Za-z0-9_][A-Za-z0-9_.-]*)+"
_COMMAND = re.compile(
    rf"(?P<nft>{_FILE}) (?:-f (?P<file>{_FILE})|'?(?P<flush>flush ruleset)(?:; include \"(?P<then>{_FILE})\";')?)"
)
"""What distributions write: Debian and Arch ``nft -f FILE``, Fedora ``nft 'flush ruleset; include "FILE";'``."""

_KEPT = "/var/lib/cnm/*"

_LOAD = (
    '/bin/sh -c \'ours() {{ echo "$$1"; cat {kept}/rules.nft; }}; '
    'users() {{ for rules in {kept}/rules.nft; do cat "$${{rules%%/*}}/user.nft"; done; }}; '
    '{{ ours "$$1"; users; }} 2>/dev/null | {nft} -f - 2>/dev/null || '
    '{{ echo "kept rules of user chains were left out" >&2; ours "$$1" 2>/dev/null | {nft} -f - 2>/dev/null; }} || '
    '{{ echo "the tables of cnm.fabric were left out" >&2; echo "$$1" | {nft} -f -; }}\' sh {text}'
)


def drop_in(folders: Sequence[str] = _FOLDERS) -> Optional[str]:
    """The drop-in for nftables.service; None if there is no such unit, or somebody has changed what it runs."""
    commands = _commands([Path(folder) for folder in folders])
    if commands is None:
        return None
    lines = [MARK, "[Service]"]
    for setting in _SETTINGS:
        match = _COMMAND.fullmatch(commands[setting]) if setting in commands else None
        if match is None:
            return None
        lines.append(f"{setting}=")
        if setting != "ExecStart":
            # The user's rules as they are now: the flush removes them.
            lines.append(f"{setting}=-{COMMAND} keep-user-rules")
        lines.append(f"{setting}={_LOAD.format(kept=_KEPT, nft=match['nft'], text=_quoted(_transaction(match)))}")
    return "\n".join(lines) + "\n"


def _transaction(match: re.Match[str]) -> str:
    """The command's work in nft's language."""
    included = match["file"] or match["then"]
    parts = [match["flush"] or "", f'include "{included}"' if included else ""]
    return "; ".join(part for part in parts if part)


def _quoted(text: str) -> str:
    """A word of a unit's command line (systemd.service(5))."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _commands(folders: Sequence[Path]) -> Optional[dict[str, str]]:
    """What the service runs by setting, without our drop-in; None if there is no such unit.

    A setting with several commands is left out.
    """
    found: dict[str, list[str]] = {setting: [] for setting in _SETTINGS}
    texts = list(_texts(folders))
    for text in texts:
        for line in text.replace("\\\n", " ").splitlines():
            name, _equals, value = (part.strip() for part in line.partition("="))
            if name in found:
                found[name] = [*found[name], value] if value else []
    return {name: values[0] for name, values in found.items() if len(values) == 1} if texts else None


def _texts(folders: Sequence[Path]) -> Iterator[str]:
    """The unit's file and then its drop-ins, as systemd reads them."""
    unit = next((folder / _SERVICE for folder in folders if (folder / _SERVICE).is_file()), None)
    if unit is None:
        return
    with contextlib.suppress(OSError, ValueError):
        yield unit.read_text(encoding="utf-8")
        for path in overriding(folder / f"{_SERVICE}.d" for folder in folders):
            if path.name != _OWN:
                yield path.read_text(encoding="utf-8")
