# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Requests to a store with an HTTP API: the next address if one fails, TLS, a time limit, and errors for people."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Optional, Union

from ..declaration.topology import LeaseStore
from ..forms import printable
from .base import LeaseError

try:
    import requests
except ImportError:
    requests = None

_PAUSE_S = 0.2
_SHORTEST_S = 0.5
_SHOWN = 200
_TOO_LARGE = 413
Body = Union[bytes, Mapping[str, Any], list[Any], None]


class Answer(NamedTuple):
    """A status below 500 and what came with it."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Http:
    """The addresses of a store.  Whoever uses it says which answers mean that another address may know better."""

    def __init__(self, store: LeaseStore) -> None:
        """Raises LeaseError if the library is missing."""
        if requests is None:
            raise LeaseError(
                f"{store.kind} as lease store needs the Python package requests where Ansible runs: install it with "
                "`pip install requests` or `apt install python3-requests`"
            )
        self._store = store
        scheme = "https" if store.tls else "http"
        self._urls = [f"{scheme}://{host}:{port}" for host, port in store.addresses]
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy, no .netrc: what the variables say counts
        self._session.verify = store.ca_cert or True
        if store.client_cert:
            self._session.cert = (store.client_cert, store.client_key)

    def call(self, method: str, path: str, body: Body = None, headers: Optional[Mapping[str, str]] = None) -> Answer:
        """The first answer of an address with a status below 500.

        An address that does not answer has its share of the time that is left; all are tried again until it has run
        out.  Raises LeaseError, with what each of them said.
        """
        said: dict[str, str] = {}
        for url, seconds in self._turns():
            try:
                found = self._session.request(
                    method,
                    url + path,
                    data=body if isinstance(body, bytes) else None,
                    json=None if isinstance(body, bytes) else body,
                    headers=dict(headers or {}),
                    timeout=seconds,
                    allow_redirects=False,
                )
            except requests.RequestException as error:
                said[url] = _reason(error)
                continue
            if found.status_code < 500:
                self._urls.remove(url)
                self._urls.insert(0, url)
                return Answer(found.status_code, found.headers, found.content)
            said[url] = _said(found.content) or f"status {found.status_code}"
        raise away(self._store, said)

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def _turns(self) -> Iterator[tuple[str, float]]:
        """Addresses to try, each with its seconds, until the time has run out."""
        end = time.monotonic() + self._store.timeout
        while True:
            urls = list(self._urls)
            for number, url in enumerate(urls):
                left = end - time.monotonic()
                if left <= 0:
                    return
                yield url, max(_SHORTEST_S, left / (len(urls) - number))
            if time.monotonic() + _PAUSE_S > end:
                return
            time.sleep(_PAUSE_S)


def away(store: LeaseStore, said: Mapping[str, str]) -> LeaseError:
    """The error for a store none of whose addresses answers."""
    each = "; ".join(f"{url}: {text}" for url, text in sorted(said.items()))
    return LeaseError(
        f"the lease store {store.url} does not answer within {store.timeout} s ({each}). Nothing more was changed. "
        "Was it in the middle of a change, the next run finds out whether that was made. Start the store, correct "
        "cnm_leases, or raise `timeout` in cnm_leases_options"
    )


def refused(store: LeaseStore, answer: Answer, remedy: str) -> LeaseError:
    """The error for a request that the store refuses."""
    text = _said(answer.body) or f"status {answer.status}"
    if answer.status == _TOO_LARGE or "too large" in text or "larger than" in text:
        remedy = "Divide the hosts into several projects (cnm_project), or raise the store's limit"
    return LeaseError(f"the lease store {store.url} refuses this: {text}. {remedy}")


def _said(body: bytes) -> str:
    """A store's words, in one line."""
    text = body.decode(errors="replace").strip()
    with contextlib.suppress(ValueError, RecursionError):
        found = json.loads(text)
        if isinstance(found, dict) and isinstance(found.get("message"), str):  # of gRPC's gateway
            text = found["message"]
    return printable(" ".join(text.split()), _SHOWN)


def _reason(error: Exception) -> str:
    """Why a request failed, without what was sent: the innermost error that the system or TLS gave."""
    found: Optional[BaseException] = error
    seen: list[BaseException] = []
    while found is not None and found not in seen:
        seen.append(found)
        arguments = [item for item in found.args if isinstance(item, BaseException)]
        found = getattr(found, "reason", None) if isinstance(getattr(found, "reason", None), BaseException) else None
        found = found or (arguments[0] if arguments else None) or seen[-1].__cause__ or seen[-1].__context__
    for item in reversed(seen):
        if isinstance(item, OSError) and item.strerror and not isinstance(item, requests.RequestException):
            return printable(item.strerror, _SHOWN)
        if "imeout" in type(item).__name__ or "timed out" in str(item):
            return "no answer in time"
        message = getattr(item, "verify_message", "")
        if message:
            return f"its certificate cannot be verified: {printable(str(message), _SHOWN)}"
    return f"the connection failed ({type(seen[-1]).__name__})"
