# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The lease store in ZooKeeper, 3.5 or newer, by kazoo.

With a name and a password, the nodes that are made can be read and written by that digest alone, or by that user of
SASL; the key with which leases are signed is one of them.  Without, everybody who reaches ZooKeeper can read it.
ZooKeeper takes 1 MiB a node and an answer: what is below a prefix is listed in one.
"""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import logging
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Optional

from ..declaration.topology import LeaseStore
from .backend import batches
from .base import LeaseError
from .http_api import away

try:
    from kazoo import client as kazoo
    from kazoo import exceptions as failures
    from kazoo.handlers.threading import KazooTimeoutError, SequentialThreadingHandler
    from kazoo.protocol.states import KeeperState
    from kazoo.security import make_acl, make_digest_acl
except ImportError:
    kazoo = None

_AT_ONCE = 128
_LARGEST = 1024 * 1024 - 4096
_PAUSE_S = 0.1
_SASL = "puresasl"
_ACCOUNT = "`username` and `password` in cnm_leases_options"
_RETRY = {"max_tries": -1, "delay": 0.1, "max_delay": 0.5}
# kazoo's own would have the password.
_SILENT = logging.Logger("cnm.leases", logging.CRITICAL + 1)


class ZooKeeperBackend:
    """Values in ZooKeeper (see `backend.Backend`)."""

    def __init__(self, store: LeaseStore) -> None:
        """Raises LeaseError if the library is missing, or too old."""
        if kazoo is None:
            raise LeaseError(
                "zookeeper as lease store needs the Python package kazoo where Ansible runs: install it with "
                "`pip install kazoo` or `apt install python3-kazoo`"
            )
        if store.tls and "check_hostname" not in inspect.signature(kazoo.KazooClient.__init__).parameters:
            raise LeaseError(
                "the Python package kazoo is too old for TLS: it does not compare names with certificates. "
                "Install 2.11 or newer with `pip install 'kazoo>=2.11'`"
            )
        if store.sasl and importlib.util.find_spec(_SASL) is None:
            raise LeaseError(
                "`sasl` in cnm_leases_options needs the Python package pure-sasl beside kazoo where Ansible runs: "
                "install it with `pip install pure-sasl` or `apt install python3-pure-sasl`"
            )
        self._store = store
        self._client: Any = None
        self._ends: list[Exception] = []
        """With what the client has given up, as it does if name and password are refused; requests are not told so."""
        self._folders: set[str] = set()

    def get(self, key: str) -> Optional[tuple[int, bytes]]:
        # A server's own answer may be old, but not after it has caught up.
        _synced, found = self._results(
            lambda client: [client.sync_async(self._path(key)), client.get_async(self._path(key))]
        )
        return None if isinstance(found, Exception) else (int(found[1].version), bytes(found[0]))

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        found = self._at_once(keys, lambda client, key: client.get_async(self._path(key)))
        return {key: bytes(each[0]) for key, each in found.items() if not isinstance(each, Exception)}

    def put_many(self, values: Mapping[str, bytes]) -> None:
        for _attempt in range(2):
            for key, value in values.items():
                self._check_size(key, value)
                self._make_folder(key)
            done = self._at_once(list(values), lambda client, key: client.create_async(self._path(key), values[key]))
            if not any(isinstance(each, failures.NoNodeError) for each in done.values()):
                return
            self._folders.clear()
        raise LeaseError(f"somebody removes what is written below /{self._store.where} in {self._store.url}")

    def swap(self, key: str, version: Optional[int], value: bytes) -> bool:
        self._check_size(key, value)
        if version is None:
            self._make_folder(key)
            (done,) = self._results(lambda client: [client.create_async(self._path(key), value)])
        else:
            (done,) = self._results(lambda client: [client.set_async(self._path(key), value, version)])
        return not isinstance(done, Exception)

    def delete_many(self, keys: Sequence[str]) -> None:
        self._at_once(keys, lambda client, key: client.delete_async(self._path(key)))

    def keys(self, prefix: str) -> list[str]:
        (found,) = self._results(lambda client: [client.get_children_async(self._path(prefix.rstrip("/")))])
        return [] if isinstance(found, Exception) else [f"{prefix}{name}" for name in found]

    def close(self) -> None:
        if self._client is not None:
            with contextlib.suppress(Exception):  # it is given up either way
                self._client.stop()
                self._client.close()
            self._client = None

    def _path(self, key: str) -> str:
        return f"/{self._store.where}/{key}"

    def _check_size(self, key: str, value: bytes) -> None:
        # ZooKeeper would close the connection without a word.
        if len(value) > _LARGEST:
            raise LeaseError(
                f"the lease store {self._store.url} would refuse this: `{key}` is too large, {len(value)} octets of at "
                f"most {_LARGEST}. Divide the hosts into several projects (cnm_project)"
            )

    def _make_folder(self, key: str) -> None:
        folder = self._path(key).rpartition("/")[0]
        if folder in self._folders:
            return
        names = folder.strip("/").split("/")
        paths = ["/" + "/".join(names[: number + 1]) for number in range(len(names))]
        (there,) = self._results(lambda client: [client.exists_async(folder)])
        if not there:
            self._results(lambda client: [client.create_async(path, b"") for path in paths])
        self._folders.update(paths)

    def _at_once(self, keys: Sequence[str], begin: Callable[[Any, str], Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for batch in batches(((key, 0) for key in keys), _AT_ONCE, _LARGEST):
            found.update(zip(batch, self._results(partial(_begun, begin, batch))))
        return found

    def _results(self, begin: Callable[[Any], Iterable[Any]]) -> list[Any]:
        """What requests led to, an exception where a node is there, is not there or is of another version.

        They are sent again, all of them, if the connection is lost.
        """
        end = time.monotonic() + self._store.timeout
        while time.monotonic() < end:
            try:
                client = self._connected(end)
                return [self._result(pending, end) for pending in list(begin(client))]
            except (failures.ConnectionLoss, failures.SessionExpiredError, failures.ConnectionClosedError):
                if self._ends:
                    break
                time.sleep(_PAUSE_S)
            except (failures.OperationTimeoutError, KazooTimeoutError):
                break
            except failures.ZookeeperError as error:
                raise self._refusal(error) from None
        ends = list(self._ends)
        self.close()  # what it has not sent must not be sent later
        if ends:
            raise self._refusal(ends[0])
        raise away(self._store, {f"{host}:{port}": _state(host, port) for host, port in self._store.addresses})

    def _refusal(self, error: Exception) -> LeaseError:
        store, name, why = self._store, type(error).__name__, ""
        if isinstance(error, (failures.NoAuthError, failures.InvalidACLError)):
            whose = "user" if store.sasl else "digest"
            why = f". The nodes below /{store.where} belong to another {whose}: correct {_ACCOUNT}, or the ACLs there"
        elif store.sasl:
            why = f". It does not know this name with this password: correct {_ACCOUNT}"
        elif name == "SessionClosedRequireSaslError":
            why = f". It takes users of SASL only: write `sasl: true` beside {_ACCOUNT}"
        return LeaseError(f"the lease store {store.url} refuses this: {name}{why}")

    @staticmethod
    def _result(pending: Any, end: float) -> Any:
        try:
            return pending.get(timeout=max(end - time.monotonic(), _PAUSE_S))
        except (failures.NoNodeError, failures.NodeExistsError, failures.BadVersionError) as found:
            return found

    def _connected(self, end: float) -> Any:
        if self._client is None:
            store = self._store
            ends: list[Exception] = []
            self._ends = ends
            handler = SequentialThreadingHandler()
            spawn = handler.spawn
            handler.spawn = lambda work: spawn(_run, work, ends)
            client = kazoo.KazooClient(
                hosts=",".join(f"{host}:{port}" for host, port in store.addresses),
                timeout=max(1.0, store.timeout * 0.4),
                handler=handler,
                connection_retry=_RETRY,
                logger=_SILENT,
                **_account(store),
                **_tls(store),
            )
            self._client = client
            client.add_listener(partial(_note, client, ends))
            client.start(timeout=max(end - time.monotonic(), _PAUSE_S))
        return self._client


def _account(store: LeaseStore) -> dict[str, Any]:
    """What kazoo is told of name and password, and whose the nodes are that it makes."""
    if not store.username:
        return {}
    if store.sasl:
        account = {"mechanism": "DIGEST-MD5", "username": store.username, "password": store.password}
        return {"sasl_options": account, "default_acl": [make_acl("sasl", store.username, all=True)]}
    return {
        "auth_data": [("digest", f"{store.username}:{store.password}")],
        "default_acl": [make_digest_acl(store.username, store.password, all=True)],
    }


def _tls(store: LeaseStore) -> dict[str, Any]:
    """What kazoo is told of TLS; nothing if there is none, as old ones do not know all of it."""
    if not store.tls:
        return {}
    files = {"ca": store.ca_cert, "certfile": store.client_cert, "keyfile": store.client_key}
    return {"use_ssl": True, "check_hostname": True, **{name: path or None for name, path in files.items()}}


def _run(work: Callable[[], None], ends: list[Exception]) -> None:
    """What a thread of kazoo's does; it would end in a traceback, as with most ways in which SASL fails."""
    try:
        work()
    except Exception as error:  # kazoo 2.8 has not all of them as its own
        ends.append(error)


def _note(client: Any, ends: list[Exception], _state: Any) -> None:
    if client.client_state == KeeperState.AUTH_FAILED:
        ends.append(failures.AuthFailedError())


def _begun(begin: Callable[[Any, str], Any], keys: Sequence[str], client: Any) -> list[Any]:
    return [begin(client, key) for key in keys]


def _state(host: str, port: int) -> str:
    """What is to be seen of a server that gives no answer."""
    try:
        with socket.create_connection((host.strip("[]"), port), timeout=1):
            return (
                "it is reached, but gives no session: has it a quorum, and does it speak TLS as cnm_leases_options say?"
            )
    except OSError as error:
        return error.strerror or "no answer in time"
