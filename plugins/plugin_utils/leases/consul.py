# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The lease store in Consul, by its HTTP API.

Tokens that can read the prefix can read the key with which leases are signed: no other one should have a policy for it.
Consul takes 512 KiB a value and a request, and 64 operations in a transaction, whose values are in base64.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any, Optional
from urllib.parse import quote

from ..declaration.topology import LeaseStore
from .backend import batches
from .base import LeaseError
from .http_api import Answer, Body, Http, refused

_OPERATIONS = 64
_OCTETS = 320 * 1024
_OVERHEAD = 128
"""Octets of an operation beside its key and value."""
_REMEDY = 'It needs a token whose policy has `key_prefix` with the prefix of cnm_leases and `policy = "write"`'


class ConsulBackend:
    """Values in Consul (see `backend.Backend`)."""

    def __init__(self, store: LeaseStore) -> None:
        self._store = store
        self._http = Http(store)

    def get(self, key: str) -> Optional[tuple[int, bytes]]:
        answer = self._call("GET", f"{self._path(key)}?consistent", missing=True)
        if answer.status == 404:
            return None
        found = _read(self._store, answer)[0]
        return int(found["ModifyIndex"]), _decoded(found["Value"])

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for batch in batches(((key, 0) for key in keys), _OPERATIONS, _OCTETS):
            left = list(batch)
            while left:
                answer = self._txn([{"Verb": "get", "Key": self._key(key)} for key in left], missing=True)
                if answer.status == 200:
                    values = [item["KV"] for item in _read(self._store, answer)["Results"] or ()]
                    found.update((self._bare(item["Key"]), _decoded(item["Value"])) for item in values)
                    break
                lost = {int(error["OpIndex"]) for error in _read(self._store, answer)["Errors"]}
                left = [key for number, key in enumerate(left) if number not in lost]
        return found

    def put_many(self, values: Mapping[str, bytes]) -> None:
        sizes = ((key, len(key) + len(value) + _OVERHEAD) for key, value in values.items())
        for batch in batches(sizes, _OPERATIONS, _OCTETS):
            if len(batch) == 1:  # as it is: base64 would make a large one larger
                self._call("PUT", self._path(batch[0]), values[batch[0]])
            else:
                self._txn([{"Verb": "set", "Key": self._key(key), "Value": _encoded(values[key])} for key in batch])

    def swap(self, key: str, version: Optional[int], value: bytes) -> bool:
        answer = self._call("PUT", f"{self._path(key)}?cas={version or 0}", value)
        return _read(self._store, answer) is True

    def delete_many(self, keys: Sequence[str]) -> None:
        for batch in batches(((key, 0) for key in keys), _OPERATIONS, _OCTETS):
            self._txn([{"Verb": "delete", "Key": self._key(key)} for key in batch])

    def keys(self, prefix: str) -> list[str]:
        answer = self._call("GET", f"{self._path(prefix)}?keys&consistent", missing=True)
        return [] if answer.status == 404 else [self._bare(str(key)) for key in _read(self._store, answer)]

    def close(self) -> None:
        self._http.close()

    def _key(self, key: str) -> str:
        return f"{self._store.where}/{key}"

    def _bare(self, key: str) -> str:
        return key[len(self._store.where) + 1 :]

    def _path(self, key: str) -> str:
        return f"/v1/kv/{quote(self._key(key))}"

    def _txn(self, operations: Sequence[Mapping[str, Any]], missing: bool = False) -> Answer:
        return self._call("PUT", "/v1/txn?consistent", [{"KV": operation} for operation in operations], missing)

    def _call(self, method: str, path: str, body: Body = None, missing: bool = False) -> Answer:
        """The answer to a request; with ``missing`` also the one that a key is not there."""
        headers = {"X-Consul-Token": self._store.token} if self._store.token else None
        answer = self._http.call(method, path, body, headers)
        not_there = answer.status == 404 or (answer.status == 409 and b"doesn't exist" in answer.body)
        if answer.status != 200 and not (missing and not_there):
            raise refused(self._store, answer, _REMEDY)
        return answer


def _read(store: LeaseStore, answer: Answer) -> Any:
    try:
        return json.loads(answer.body)
    except ValueError:
        raise LeaseError(f"{store.url} is not Consul: its answer is not JSON. Correct cnm_leases") from None


def _encoded(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _decoded(value: Optional[str]) -> bytes:
    return base64.b64decode(value or "")
