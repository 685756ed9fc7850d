# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What a host keeps of a project: its last plan, keys if it may, and the verified nftables tables.

Only networks that come back by themselves after a boot depend on it.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Optional

from ..plan.codec import content_digest
from ..plan.esp import Way
from .files import LIB, RUN, boot_id, forget, load, make_directory, remove_empty, sync_directory, write_atomically


class State:
    """A project's files: ``/var/lib/cnm/<project>`` outlives a reboot, ``/run/cnm/<project>`` does not."""

    def __init__(self, project: str) -> None:
        self.lib = LIB / project
        self.run = RUN / project

    @property
    def kept(self) -> dict[str, Any]:
        """The last plan as ``{"revision": 7, "digest": "…", "plan": "<json>"}``; empty if missing or damaged.

        ``shared`` lists the digests of its shared texts, all of which exist.
        """
        data = load(self.lib / "plan.json")
        kinds = {"revision": int, "digest": str, "plan": str}
        complete = all(isinstance(data.get(name), kind) for name, kind in kinds.items())
        if not complete or content_digest(data["plan"]) != data["digest"]:
            return {}
        return data if self.shared().keys() >= set(data.get("shared", ())) else {}

    def shared(self) -> dict[str, str]:
        """The kept shared texts by digest; damaged ones are left out."""
        paths = sorted((self.lib / "shared").glob("*"))
        texts = {path.name: path.read_text(encoding="utf-8", errors="replace") for path in paths}
        return {digest: text for digest, text in texts.items() if content_digest(text) == digest}

    def keep(self, plan: str, digest: str, revision: int, shared: Mapping[str, str], signature: str = "") -> None:
        """Keep an applied plan, its shared texts and the lease store's signature."""
        envelope = {"revision": revision, "digest": digest, "plan": plan}
        if signature:
            envelope["signature"] = signature
        if shared:
            envelope["shared"] = sorted(shared)
        if envelope == self.kept:
            return
        folder = self.lib / "shared"
        for name in shared.keys() - self.shared().keys():
            write_atomically(folder / name, shared[name], 0o600, lasting=True)
        write_atomically(self.lib / "plan.json", json.dumps(envelope), 0o600, lasting=True)
        sync_directory(self.lib)
        for path in folder.glob("*"):
            if path.name not in shared:
                path.unlink(missing_ok=True)
        remove_empty(folder)

    @contextlib.contextmanager
    def underway(self, digest: str, revision: int, kept: Mapping[str, Any]) -> Iterator[None]:
        """Note, while a plan other than the kept one is applied, that it is: what kills the run leaves the note."""
        if kept.get("digest") == digest:
            forget(self._underway)
            yield
            return
        write_atomically(self._underway, json.dumps({"digest": digest, "revision": revision}), 0o600, lasting=True)
        sync_directory(self.lib)
        try:
            yield
        finally:
            forget(self._underway)
            remove_empty(self.lib, LIB)

    def cut_off(self, kept: Mapping[str, Any]) -> Optional[int]:
        """The revision of the plan that a run was applying when it was killed; None if none was."""
        note = load(self._underway)
        revision = note.get("revision")
        return revision if isinstance(revision, int) and note.get("digest") != kept.get("digest") else None

    def forget_cut_off(self) -> None:
        """Forget that a run was cut off."""
        forget(self._underway)

    @property
    def _underway(self) -> Path:
        return self.lib / "underway.json"

    @property
    def pair_keys(self) -> dict[Way, bytes]:
        """The kept keys of encrypted overlays; empty if none are kept, or they are damaged."""
        keys = load(self._keys).get("pair_keys")
        try:
            return {Way.from_text(way): bytes.fromhex(key) for way, key in keys.items()} if keys else {}
        except (AttributeError, TypeError, ValueError):
            return {}

    @property
    def bgp_password(self) -> str:
        """The kept password of BGP sessions; "" if none is kept."""
        text = load(self._keys).get("bgp_password")
        return text if isinstance(text, str) else ""

    @property
    def _keys(self) -> Path:
        return self.lib / "keys" / "keys.json"

    def keeps_keys(self, pair_keys: Mapping[Way, bytes], bgp_password: str = "") -> bool:
        """Whether keys are kept: these, if any are given."""
        same = not pair_keys or self.pair_keys == pair_keys
        return self._keys.is_file() and same and bgp_password in ("", self.bgp_password)

    def keep_keys(self, pair_keys: Mapping[Way, bytes], bgp_password: str = "") -> None:
        """Keep keys for a boot without a controller, readable by root alone; without any, what is kept stays."""
        if self.keeps_keys(pair_keys, bgp_password):
            return
        self._write_keys(pair_keys or self.pair_keys, bgp_password or self.bgp_password)

    def drop_keys(self, pair_keys: bool, bgp_password: bool) -> None:
        """Drop the kept keys of encrypted overlays, or the kept password, that nothing needs any more."""
        kept = self.pair_keys, self.bgp_password
        left = ({} if pair_keys else kept[0]), ("" if bgp_password else kept[1])
        if left != kept:
            self._write_keys(*left)

    def _write_keys(self, pair_keys: Mapping[Way, bytes], bgp_password: str) -> None:
        make_directory(self.lib)
        with contextlib.suppress(FileExistsError):
            self._keys.parent.mkdir(mode=0o700)
        os.chmod(self._keys.parent, 0o700)
        texts = {way.text: key.hex() for way, key in sorted(pair_keys.items())}
        write_atomically(
            self._keys, json.dumps({"pair_keys": texts, "bgp_password": bgp_password}), 0o600, lasting=True
        )

    def forget_keys(self) -> None:
        """Remove the kept keys."""
        forget(self._keys)
        remove_empty(self._keys.parent)

    @property
    def user_rules(self) -> str:
        """The kept rules of the user's chains in the host's tables, in nft's language; "" if there are none."""
        with contextlib.suppress(OSError, ValueError):
            return self._user_rules.read_text(encoding="utf-8")
        return ""

    @property
    def _user_rules(self) -> Path:
        return self.lib / "user.nft"

    def keep_user_rules(self, found: Mapping[str, str]) -> None:
        """Keep what was found in the user's chains, by table: a flush and a reboot remove it.

        A table that was not read keeps what is kept of it.
        """
        if not found or not self.lib.is_dir():
            return
        text = "".join(f"table {table} {{\n{block}\n}}\n" for table, block in sorted(found.items()) if block)
        if text == self.user_rules:
            return
        if text:
            write_atomically(self._user_rules, text, 0o600, lasting=True)
        else:
            forget(self._user_rules)

    def set_user_rules_aside(self) -> Path:
        """Rename the kept rules, which cannot be loaded, so that they are not replaced; returns where they are now."""
        aside = self._user_rules.with_name("user.nft.refused")
        self._user_rules.replace(aside)
        return aside

    @property
    def verified_tables(self) -> dict[str, list[object]]:
        """The kept `Host.verified_tables`; empty after a boot, as they describe the running kernel."""
        data = load(self.run / "tables.json")
        tables = data.get("tables")
        return tables if data.get("boot") == boot_id() and isinstance(tables, dict) else {}

    def keep_verified_tables(self, tables: Mapping[str, list[object]]) -> None:
        """Keep them until the next boot."""
        path = self.run / "tables.json"
        if tables == self.verified_tables:
            return
        if not tables:
            forget(path)
            remove_empty(self.run)
            return
        write_atomically(path, json.dumps({"boot": boot_id(), "tables": tables}))

    def drop(self) -> None:
        """Remove the plan and its directories."""
        import shutil  # noqa: PLC0415  # only here, and slow to load

        for directory in (self.lib, self.run):
            shutil.rmtree(directory, ignore_errors=True)
        remove_empty(LIB)


def keeping_projects() -> list[str]:
    """The projects that keep a plan on this host, sorted."""
    return sorted(path.parent.name for path in LIB.glob("*/plan.json"))
