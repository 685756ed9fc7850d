# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The lease stores there are: one file beside this one each, imported when it is used."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

from ..declaration.lease_store import CONSUL, ETCD, SQLITE, ZOOKEEPER
from ..declaration.topology import LeaseStore
from .parts import PartStore
from .sqlite import SqliteBackend

# Hidden, so that an inventory that is a whole folder does not take it for one of its sources.
DEFAULT_FILE = ".cnm-leases.sqlite3"
_FILES = ("ca_cert", "client_cert", "client_key")
_BACKENDS: Mapping[str, tuple[str, str]] = {
    ETCD: ("etcd", "EtcdBackend"),
    ZOOKEEPER: ("zookeeper", "ZooKeeperBackend"),
    CONSUL: ("consul", "ConsulBackend"),
}
"""Module and class, by the scheme of the URL."""


def open_store(store: LeaseStore, inventory_directory: str) -> PartStore:
    """The store that checked settings name; relative paths, and the default file, are beside the inventory.

    Nothing is connected to yet.  Raises LeaseError if the library is missing that the store needs.
    """
    beside = Path(inventory_directory)
    if store.kind == SQLITE:
        return PartStore(SqliteBackend(beside / (store.where or DEFAULT_FILE)))
    files: dict[str, Any] = {name: _beside(beside, getattr(store, name)) for name in _FILES}
    module, name = _BACKENDS[store.kind]
    backend = getattr(importlib.import_module(f"{__package__}.{module}"), name)
    return PartStore(backend(replace(store, **files)))


def _beside(directory: Path, path: Optional[str]) -> str:
    return str(directory / path) if path else ""
