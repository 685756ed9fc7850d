# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The lease stores there are: one file beside this one each, imported when it is used."""

from __future__ import annotations

import importlib
import ssl
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..declaration.lease_store import CONSUL, ETCD, SQLITE, ZOOKEEPER
from ..declaration.topology import LeaseStore
from .base import LeaseError
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

    Nothing is connected to yet.  Raises LeaseError if the library is missing, or a file, that the store needs.
    """
    beside = Path(inventory_directory)
    if store.kind == SQLITE:
        return PartStore(SqliteBackend(beside / (store.where or DEFAULT_FILE)))
    files: dict[str, Any] = {name: str(beside / path) if (path := getattr(store, name)) else "" for name in _FILES}
    _check_files(files)
    module, name = _BACKENDS[store.kind]
    backend = getattr(importlib.import_module(f"{__package__}.{module}"), name)
    return PartStore(backend(replace(store, **files)))


def _check_files(files: Mapping[str, str]) -> None:
    """Raise LeaseError for a file of ``cnm_leases_options`` that is none of certificates, or of a key."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    name = "ca_cert"
    try:
        if files["ca_cert"]:
            context.load_verify_locations(files["ca_cert"])
        name = "client_cert"
        if files["client_cert"]:
            # An empty passphrase, so that nobody is asked for one.
            context.load_cert_chain(files["client_cert"], files["client_key"], password="")
    except OSError as error:  # TLS's own are among them
        where = " and ".join(filter(None, (files[name], files["client_key"] if name == "client_cert" else "")))
        why = "it is not in PEM, or has a passphrase" if isinstance(error, ssl.SSLError) else error.strerror
        raise LeaseError(f"`{name}` in cnm_leases_options, {where}, cannot be read: {why}") from None
