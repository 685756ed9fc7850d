# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Servers that take TLS and known names only: who gets in, what others are told, and that no secret is in it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from stores import PASSWORD, SAMPLE, Certificates, Cluster, Network, settings_of

from ansible_collections.cnm.fabric.plugins.plugin_utils.leases import etcd, zookeeper
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.base import LeaseError, empty
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.stores import open_store

OTHER = "another-secret-0123456789"


@pytest.fixture(scope="module", params=(*SAMPLE, "zookeeper-sasl"))
def guarded(
    request: pytest.FixtureRequest, certificates: Certificates, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Network, Cluster]]:
    """A server with TLS and accounts, in a network of its own."""
    folder = tmp_path_factory.mktemp("guarded")
    cluster = Cluster(request.param, folder / "store", tls=certificates, accounts=True)
    cluster.token_seconds = 1
    with Network() as network:
        with network.entered():
            cluster.__enter__()
        try:
            yield network, cluster
        finally:
            cluster.__exit__()


@pytest.fixture
def cluster(guarded: tuple[Network, Cluster]) -> Iterator[Cluster]:
    network, cluster = guarded
    with network.entered():
        yield cluster


def commit(store: Any, project: str) -> int:
    before = store.read(project)
    return int(store.write(project, before, empty(), before.revision + 1))


def refusal(cluster: Cluster, **options: Any) -> str:
    """What the store's users are told with other options."""
    with contextlib.closing(open_store(cluster.settings(timeout=1, **options), "/")) as store:
        with pytest.raises(LeaseError) as error:
            commit(store, "refused")
        with pytest.raises(LeaseError):
            store.key()
    text = str(error.value)
    assert error.value.__cause__ is None
    for secret in (PASSWORD, OTHER, cluster.token, cluster.master):
        assert not secret or secret not in f"{text}{error.value!r}{store.__dict__}{vars(store._backend)}"
    assert text.isprintable()
    return text


def test_who_is_known_gets_in(cluster: Cluster) -> None:
    with contextlib.closing(open_store(cluster.settings(), "/")) as store:
        assert [commit(store, "known") for _turn in range(3)] == [1, 2, 3]


def test_relative_files_are_beside_the_inventory(cluster: Cluster, certificates: Certificates) -> None:
    files = {name: Path(cluster.options[name]).name for name in ("ca_cert", "client_cert", "client_key")}
    with contextlib.closing(open_store(cluster.settings(**files), str(certificates.ca.parent))) as store:
        commit(store, "relative")


def test_another_password_or_token_is_refused(cluster: Cluster) -> None:
    commit_first(cluster)
    name = "token" if cluster.kind == "consul" else "password"
    text = refusal(cluster, **{name: OTHER})
    assert "refuses this" in text
    assert "does not know this name" in text or not cluster.sasl


def test_who_gives_none_is_refused(cluster: Cluster) -> None:
    commit_first(cluster)
    text = refusal(cluster, token=None, username=None, password=None, sasl=None)
    assert "refuses this" in text
    assert "write `sasl: true`" in text or not cluster.sasl


def commit_first(cluster: Cluster) -> None:
    """Let there be something to be kept from others."""
    with contextlib.closing(open_store(cluster.settings(), "/")) as store:
        commit(store, "known")


def test_a_certificate_of_another_authority_is_not_trusted(cluster: Cluster, certificates: Certificates) -> None:
    text = refusal(cluster, ca_cert=str(certificates.other_ca))
    assert "certificate" in text or cluster.kind == "zookeeper"
    assert "127.0.0.1" in text


def test_who_has_no_certificate_gets_no_answer(cluster: Cluster) -> None:
    assert "does not answer" in refusal(cluster, client_cert=None, client_key=None)


def test_who_does_not_speak_tls_gets_no_answer(cluster: Cluster) -> None:
    refusal(cluster, ca_cert=None, client_cert=None, client_key=None)


def test_files_that_are_not_there_are_named(cluster: Cluster) -> None:
    for options, words in (
        ({"ca_cert": "/missing/ca.pem"}, "`ca_cert` in cnm_leases_options, /missing/ca.pem, cannot be read: No such"),
        ({"ca_cert": __file__}, "it is not in PEM"),
        ({"client_key": "keys/none.pem"}, "/beside/keys/none.pem, cannot be read: No such file"),
    ):
        with pytest.raises(LeaseError) as error:
            open_store(cluster.settings(**options), "/beside")
        assert words in str(error.value)


@pytest.mark.parametrize("guarded", ["etcd-3.4", "etcd-3.5"], indirect=True)
def test_an_expired_token_is_renewed(cluster: Cluster) -> None:
    with contextlib.closing(open_store(cluster.settings(), "/")) as store:
        commit(store, "expiring")
        assert isinstance(store._backend, etcd.EtcdBackend)
        if cluster.server == "etcd-3.4":  # which has no setting for it: five minutes
            store._backend._token = "unknown.7"
        time.sleep(3)
        assert commit(store, "expiring") == 2


@pytest.mark.parametrize("guarded", ["zookeeper", "zookeeper-sasl"], indirect=True)
def test_zookeepers_nodes_belong_to_their_digest_or_user(cluster: Cluster) -> None:
    commit_first(cluster)
    with contextlib.closing(open_store(cluster.settings(), "/")) as store:
        store.key()
        assert isinstance(store._backend, zookeeper.ZooKeeperBackend)
        for path in ("/cnm/test/key", "/cnm/test/known/root", "/cnm/test/known"):
            acls, _stat = store._backend._client.get_acls(path)
            assert [(acl.id.scheme, acl.id.id.partition(":")[0]) for acl in acls] == [
                ("sasl" if cluster.sasl else "digest", "cnm")
            ]


@pytest.mark.parametrize(("kind", "port"), [("etcd", 2379), ("consul", 8500), ("zookeeper", 2181)])
def test_an_address_where_nobody_listens_is_named(kind: str, port: int) -> None:
    url = f"{kind}://127.0.0.9:{port},127.0.0.8:{port}/cnm"
    begun = time.monotonic()
    store = open_store(settings_of(url, {"timeout": 1}), "/")
    with contextlib.closing(store), pytest.raises(LeaseError) as error:
        store.read("p")
    assert time.monotonic() - begun < 3
    for words in (f"127.0.0.8:{port}: Connection refused", f"127.0.0.9:{port}: Connection refused", "within 1 s"):
        assert words in str(error.value)
