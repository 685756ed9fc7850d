# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The lease store in etcd, 3.4 or newer, by its JSON gateway.

Users that can read the prefix can read the key with which leases are signed: give a user of its own no less, and others
no more.  etcd takes 1.5 MiB and 128 operations in a request.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any, Optional

from ..declaration.topology import LeaseStore
from .backend import batches
from .base import LeaseError
from .http_api import Answer, Http, refused

_OPERATIONS = 120
_OCTETS = 1024 * 1024
_PAGE = 1000
_EXPIRED = ("invalid auth token", "revision of auth store is old", "user name is empty")
_REMEDY = "See `etcdctl user get` and `etcdctl role get`: it needs readwrite on the prefix of cnm_leases"


class EtcdBackend:
    """Values in etcd (see `backend.Backend`)."""

    def __init__(self, store: LeaseStore) -> None:
        self._store = store
        self._http = Http(store)
        self._token = ""

    def get(self, key: str) -> Optional[tuple[int, bytes]]:
        found = self._call("/v3/kv/range", {"key": self._key(key)}).get("kvs", ())
        return (int(found[0]["mod_revision"]), _decoded(found[0].get("value", ""))) if found else None

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for batch in batches(((key, 0) for key in keys), _OPERATIONS, _OCTETS):
            wanted = [{"request_range": {"key": self._key(key)}} for key in batch]
            answers = self._call("/v3/kv/txn", {"success": wanted})["responses"]
            for key, answer in zip(batch, answers):
                for value in answer["response_range"].get("kvs", ()):
                    found[key] = _decoded(value.get("value", ""))
        return found

    def put_many(self, values: Mapping[str, bytes]) -> None:
        sizes = ((key, len(key) + len(value)) for key, value in values.items())
        for batch in batches(sizes, _OPERATIONS, _OCTETS):
            self._call("/v3/kv/txn", {"success": [self._put(key, values[key]) for key in batch]})

    def swap(self, key: str, version: Optional[int], value: bytes) -> bool:
        found = {"target": "MOD", "result": "EQUAL", "key": self._key(key), "mod_revision": str(version or 0)}
        answer = self._call("/v3/kv/txn", {"compare": [found], "success": [self._put(key, value)]})
        return answer.get("succeeded") is True

    def delete_many(self, keys: Sequence[str]) -> None:
        for batch in batches(((key, 0) for key in keys), _OPERATIONS, _OCTETS):
            self._call("/v3/kv/txn", {"success": [{"request_delete_range": {"key": self._key(key)}} for key in batch]})

    def keys(self, prefix: str) -> list[str]:
        start, end = f"{self._store.where}/{prefix}", f"{self._store.where}/{prefix}"[:-1] + "0"  # "0" follows "/"
        found: list[str] = []
        first = _encoded(start.encode())
        while True:
            wanted = {"key": first, "range_end": _encoded(end.encode()), "keys_only": True, "limit": str(_PAGE)}
            answer = self._call("/v3/kv/range", wanted)
            names = [_decoded(item["key"]) for item in answer.get("kvs", ())]
            found += [name.decode(errors="replace")[len(self._store.where) + 1 :] for name in names]
            if not answer.get("more") or not names:
                return found
            first = _encoded(names[-1] + b"\0")

    def close(self) -> None:
        self._http.close()

    def _key(self, key: str) -> str:
        return _encoded(f"{self._store.where}/{key}".encode())

    def _put(self, key: str, value: bytes) -> dict[str, Any]:
        return {"request_put": {"key": self._key(key), "value": _encoded(value)}}

    def _call(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to a request, with a new token if the one there is has expired."""
        renewed = False
        if self._store.username and not self._token:
            self._authenticate()
            renewed = True
        answer = self._sent(path, body)
        if answer.status >= 400 and self._store.username and not renewed and _says(answer, _EXPIRED):
            self._authenticate()
            answer = self._sent(path, body)
        if answer.status != 200:
            raise refused(self._store, answer, _remedy(answer, _REMEDY))
        return _read(self._store, answer)

    def _sent(self, path: str, body: Mapping[str, Any]) -> Answer:
        return self._http.call("POST", path, body, {"Authorization": self._token} if self._token else None)

    def _authenticate(self) -> None:
        account = {"name": self._store.username, "password": self._store.password}
        self._token = ""
        answer = self._http.call("POST", "/v3/auth/authenticate", account)
        if answer.status != 200 and _says(answer, ("authentication is not enabled",)):
            raise LeaseError(
                f"the lease store {self._store.url} has no users: switch its authentication on, or take `username` and "
                "`password` out of cnm_leases_options"
            )
        if answer.status != 200:
            raise refused(
                self._store, answer, _remedy(answer, "Correct `username` and `password` in cnm_leases_options")
            )
        self._token = str(_read(self._store, answer).get("token", ""))


def _remedy(answer: Answer, otherwise: str) -> str:
    if _says(answer, ("CommonName of client",)):
        return "Its gateway takes no client certificate with a common name: give cnm one whose subject has only `O=`"
    return otherwise


def _says(answer: Answer, words: Sequence[str]) -> bool:
    return any(word.encode() in answer.body for word in words)


def _read(store: LeaseStore, answer: Answer) -> dict[str, Any]:
    try:
        found = json.loads(answer.body)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise LeaseError(f"{store.url} is not etcd's JSON gateway: its answer is not JSON. Correct cnm_leases")
    return found


def _encoded(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _decoded(value: str) -> bytes:
    return base64.b64decode(value)
