# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Geneve links."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional

from ...kernel.host import Host
from ...plan.links import Geneve, Link
from .common import create_tunnel


def create_geneve(host: Host, item: Link, geneve: Geneve) -> None:
    create_tunnel(host, item, True, ("Geneve link", f"VNI {geneve.id} on port {geneve.port}"))


def geneve_of(link: Mapping[str, Any]) -> Optional[Geneve]:
    if link["kind"] != "geneve":
        return None
    data = link["data"]
    return Geneve(data.get("id", 0), data.get("remote", ""), data.get("port", 0))
