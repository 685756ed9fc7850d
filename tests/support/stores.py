# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Servers of lease stores, as Debian packages them: one or three nodes, with and without TLS and accounts.

All of them are in a network of their own, which has nothing but loopback: node N is 127.0.0.N.  They end with the
process that started them.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

import requests
from apart import FOLLOW
from lab import CLONE_NEWNET, _setns
from sampling import WHOLE
from systems import ENVIRONMENT, cached
from waiting import until

from ansible_collections.cnm.fabric.plugins.plugin_utils.declaration.errors import VarPath
from ansible_collections.cnm.fabric.plugins.plugin_utils.declaration.lease_store import read_lease_store
from ansible_collections.cnm.fabric.plugins.plugin_utils.declaration.topology import LeaseStore

SCRIPT = Path(__file__).with_name("stores.sh")
SERVERS = ("etcd-3.4", "etcd-3.5", "zookeeper", "consul")
STORES = ("sqlite", *SERVERS)
SAMPLE = SERVERS if WHOLE else ("etcd-3.4", "zookeeper", "consul")
"""For what the two releases of etcd hardly differ in."""
PORTS = {"etcd": 2379, "zookeeper": 2181, "consul": 8500}
USER, PASSWORD = "cnm", "a password, 9 words: & so/on?"
ROOT_PASSWORD = "root's own"
START_S = 60.0
_NOT_YET = (OSError, ValueError, KeyError, StopIteration, requests.RequestException)
_JARS = (
    "zookeeper*",
    "slf4j-api",
    "slf4j-nop",
    "netty-*",
    "snappy-java",
    "metrics-core",
    "jackson-*",
    "commons-*",
    "jctools-core",
)


def programs() -> Path:
    """The folder with the unpacked servers; made if it is not there."""
    return cached("stores", SCRIPT.read_bytes(), SCRIPT)


class Network:
    """A network with nothing but loopback; a context manager."""

    def __enter__(self) -> Network:
        script = "ip link set lo up; echo ready; exec sleep infinity"
        self.holder = subprocess.Popen([*FOLLOW, "unshare", "--net", "sh", "-ec", script], stdout=subprocess.PIPE)
        assert self.holder.stdout is not None
        assert self.holder.stdout.readline() == b"ready\n"
        return self

    def __exit__(self, *_exception: object) -> None:
        self.holder.kill()
        self.holder.wait()

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """This process in it; what it starts meanwhile stays there."""
        own = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _setns(f"/proc/{self.holder.pid}/ns/net", CLONE_NEWNET)
            try:
                yield
            finally:
                _setns(f"/proc/self/fd/{own}", CLONE_NEWNET)
        finally:
            os.close(own)

    def run(self, *argv: str) -> None:
        """Run a program in it."""
        subprocess.run(["nsenter", f"--net=/proc/{self.holder.pid}/ns/net", *argv], check=True, timeout=30)


class Certificates:
    """A certificate authority, a certificate of the servers and one of a client, as files."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.ca, self.ca_key = folder / "ca.pem", folder / "ca-key.pem"
        self._sign_itself(self.ca, self.ca_key)
        self.server, self.server_key = self._signed(folder, "server")
        self.client, self.client_key = self._signed(folder, "client")
        self.other_ca = folder / "other-ca.pem"
        self._sign_itself(self.other_ca, folder / "other-ca-key.pem")

    @staticmethod
    def _sign_itself(certificate: Path, key: Path) -> None:
        new = [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
        ]
        more = ["-days", "2", "-addext", "keyUsage=critical,keyCertSign,digitalSignature"]
        _run(*new, "-subj", f"/CN={certificate.stem}", "-keyout", str(key), "-out", str(certificate), *more)

    def _signed(self, folder: Path, name: str) -> tuple[Path, Path]:
        certificate, key, request = (folder / f"{name}{end}" for end in (".pem", "-key.pem", ".csr"))
        extensions = folder / "extensions"
        addresses = ",".join(f"IP:127.0.0.{number}" for number in range(1, 4))
        extensions.write_text(f"subjectAltName=DNS:localhost,DNS:server.dc1.consul,{addresses}\n", encoding="ascii")
        new = ["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        _run(*new, "-subj", f"/O={name}", "-keyout", str(key), "-out", str(request))
        sign = ["openssl", "x509", "-req", "-days", "2", "-CA", str(self.ca), "-CAkey", str(self.ca_key)]
        _run(*sign, "-CAcreateserial", "-in", str(request), "-out", str(certificate), "-extfile", str(extensions))
        return certificate, key


def _run(*argv: str) -> None:
    subprocess.run(argv, check=True, capture_output=True, timeout=30, env=ENVIRONMENT)


class Cluster:
    """Servers of one store in a network, with files in ``folder``; a context manager, to be used inside the network."""

    def __init__(
        self, server: str, folder: Path, nodes: int = 1, tls: Optional[Certificates] = None, accounts: bool = False
    ) -> None:
        self.server, self.kind = server, server.partition("-")[0]
        self.sasl = accounts and server == "zookeeper-sasl"
        self.folder, self.nodes, self.tls, self.accounts = folder, nodes, tls, accounts
        self.token = ""
        self.master = str(uuid.uuid4())
        self.token_seconds = 300
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Cluster:
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            for node in range(1, self.nodes + 1):
                self.start(node)
            self.await_leader()
            self.await_all()
            if self.accounts:
                getattr(self, f"_make_accounts_of_{self.kind}", lambda: None)()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        for node in list(self._processes):
            self.kill(node)

    @property
    def url(self) -> str:
        """What `cnm_leases` says."""
        addresses = ",".join(f"127.0.0.{node}:{PORTS[self.kind]}" for node in range(1, self.nodes + 1))
        return f"{self.kind}://{addresses}/cnm/test"

    @property
    def options(self) -> dict[str, Any]:
        """What `cnm_leases_options` says."""
        found: dict[str, Any] = {}
        if self.tls:
            found.update(
                ca_cert=str(self.tls.ca), client_cert=str(self.tls.client), client_key=str(self.tls.client_key)
            )
        if self.accounts:
            found.update({"token": self.token} if self.kind == "consul" else {"username": USER, "password": PASSWORD})
        if self.sasl:
            found["sasl"] = True
        return found

    def settings(self, **options: Any) -> LeaseStore:
        """Both, as they are read from variables; options of None are left out."""
        return settings_of(self.url, {**self.options, **options})

    def start(self, node: int) -> None:
        """Start a node, or start it again on what it has written."""
        argv, environment = getattr(self, f"_{self.kind}")(node)
        with open(self.folder / f"log{node}", "ab") as log:
            self._processes[node] = subprocess.Popen(
                [*FOLLOW, "--regid", str(self.group(node)), "--clear-groups", *argv],
                stdout=log,
                stderr=log,
                env={**ENVIRONMENT, **environment},
                cwd=self.folder,
            )

    @staticmethod
    def group(node: int) -> int:
        """The group that a node runs as, by which a firewall tells what it sends."""
        return 60000 + node

    def kill(self, node: int) -> None:
        """End a node as a power cut does."""
        process = self._processes.pop(node)
        process.kill()
        process.wait()

    def freeze(self, node: int) -> None:
        """Let a node do nothing, and answer nobody, though its system takes connections."""
        self._processes[node].send_signal(signal.SIGSTOP)

    def thaw(self, node: int) -> None:
        """Let it go on."""
        self._processes[node].send_signal(signal.SIGCONT)

    def wipe(self) -> None:
        """Remove what the nodes have written; none may run."""
        assert not self._processes
        for folder in self.folder.glob("data*"):
            shutil.rmtree(folder)

    def await_leader(self) -> int:
        """The node that leads, once there is one and it answers."""
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            for node, process in self._processes.items():
                assert process.poll() is None, (self.folder / f"log{node}").read_text("utf-8", "replace")[-3000:]
                with contextlib.suppress(*_NOT_YET):
                    found = int(getattr(self, f"_leader_of_{self.kind}")(node))
                    if found in self._processes:
                        return found
            time.sleep(0.1)
        logs = "\n".join((self.folder / f"log{node}").read_text("utf-8", "replace")[-2000:] for node in self._processes)
        raise AssertionError(f"{self.server} has no leader: {logs}")

    def await_all(self) -> None:
        """Wait until every node that runs follows a leader, or is it."""
        for node in self._processes:
            until(lambda node=node: self._follows(node), START_S)

    def _follows(self, node: int) -> bool:
        with contextlib.suppress(*_NOT_YET):
            return bool(getattr(self, f"_{'mode' if self.kind == 'zookeeper' else 'leader'}_of_{self.kind}")(node))
        return False

    # --- etcd ---------------------------------------------------------------------------------------------------------

    def _etcd(self, node: int) -> tuple[list[str], dict[str, str]]:
        scheme = "https" if self.tls else "http"
        peers = ",".join(f"n{number}=http://127.0.0.{number}:2380" for number in range(1, self.nodes + 1))
        client = f"{scheme}://127.0.0.{node}:2379"
        argv = [
            str(programs() / self.server / "usr/bin/etcd"),
            *("--name", f"n{node}", "--data-dir", str(self.folder / f"data{node}")),
            *("--listen-client-urls", client, "--advertise-client-urls", client),
            *("--listen-peer-urls", f"http://127.0.0.{node}:2380"),
            *("--initial-advertise-peer-urls", f"http://127.0.0.{node}:2380", "--initial-cluster", peers),
            *("--heartbeat-interval", "50", "--election-timeout", "500"),
        ]
        if self.tls:
            argv += ["--cert-file", str(self.tls.server), "--key-file", str(self.tls.server_key)]
            argv += ["--trusted-ca-file", str(self.tls.ca), "--client-cert-auth"]
        if self.server != "etcd-3.4":
            argv += ["--auth-token-ttl", str(self.token_seconds)]
        return argv, {}

    def _leader_of_etcd(self, node: int) -> int:
        status = self._post(node, "/v3/maintenance/status", {})
        members = self._post(node, "/v3/cluster/member/list", {})["members"]
        leader = next(item["name"] for item in members if item["ID"] == status["leader"])
        if not self.accounts:  # which the servers begin without
            self._post(node, "/v3/kv/range", {"key": "YQ=="})
        return int(leader[1:])

    def _make_accounts_of_etcd(self) -> None:
        start = base64.b64encode(b"cnm/").decode()
        end = base64.b64encode(b"cnm0").decode()
        for path, body in (
            ("/v3/auth/user/add", {"name": "root", "password": ROOT_PASSWORD}),
            ("/v3/auth/role/add", {"name": "root"}),
            ("/v3/auth/user/grant", {"user": "root", "role": "root"}),
            ("/v3/auth/user/add", {"name": USER, "password": PASSWORD}),
            ("/v3/auth/role/add", {"name": "fabric"}),
            (
                "/v3/auth/role/grant",
                {"name": "fabric", "perm": {"permType": "READWRITE", "key": start, "range_end": end}},
            ),
            ("/v3/auth/user/grant", {"user": USER, "role": "fabric"}),
            ("/v3/auth/enable", {}),
        ):
            self._post(1, path, body)

    # --- ZooKeeper ----------------------------------------------------------------------------------------------------

    def _zookeeper(self, node: int) -> tuple[list[str], dict[str, str]]:
        data = self.folder / f"data{node}"
        data.mkdir(exist_ok=True)
        (data / "myid").write_text(f"{node}\n", encoding="ascii")
        lines = {
            "tickTime": "500",
            "initLimit": "20",
            "syncLimit": "4",
            "dataDir": str(data),
            "admin.enableServer": "false",
            "4lw.commands.whitelist": "*",
            "clientPortAddress": f"127.0.0.{node}",
        }
        if self.tls:
            bundle = self.folder / "server.pem"
            texts = [file.read_text("ascii") for file in (self.tls.server_key, self.tls.server)]
            bundle.write_text("".join(texts), encoding="ascii")
            lines.update(
                {
                    "secureClientPort": "2181",
                    "secureClientPortAddress": f"127.0.0.{node}",
                    "serverCnxnFactory": "org.apache.zookeeper.server.NettyServerCnxnFactory",
                    "ssl.keyStore.location": str(bundle),
                    "ssl.keyStore.type": "PEM",
                    "ssl.trustStore.location": str(self.tls.ca),
                    "ssl.trustStore.type": "PEM",
                    "clientPort": "2182",
                }
            )
        else:
            lines["clientPort"] = "2181"
        login = self.folder / "login.conf"
        if self.sasl:
            text = (
                f'Server {{ org.apache.zookeeper.server.auth.DigestLoginModule required user_{USER}="{PASSWORD}"; }};'
            )
            login.write_text(text, encoding="ascii")
            lines["authProvider.1"] = "org.apache.zookeeper.server.auth.SASLAuthenticationProvider"
            lines["sessionRequireClientSASLAuth"] = "true"
        if self.nodes > 1:
            lines.update({f"server.{number}": f"127.0.0.{number}:2888:3888" for number in range(1, self.nodes + 1)})
        config = self.folder / f"zoo{node}.cfg"
        config.write_text("".join(f"{key}={value}\n" for key, value in lines.items()), encoding="ascii")
        jars = programs() / "zookeeper/usr/share/java"
        classes = ":".join(sorted(str(file) for name in _JARS for file in jars.glob(f"{name}.jar")))
        java = ["java", "-Xmx192m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dzookeeper.forceSync=no"]
        # Else an election in which one word was lost may take a minute.
        java.append("-Dzookeeper.fastleader.maxNotificationInterval=800")
        if self.sasl:
            java.append(f"-Djava.security.auth.login.config={login}")
        return [*java, "-cp", classes, "org.apache.zookeeper.server.quorum.QuorumPeerMain", str(config)], {}

    def _leader_of_zookeeper(self, node: int) -> int:
        return node if self._mode_of_zookeeper(node) in ("leader", "standalone") else 0

    def _mode_of_zookeeper(self, node: int) -> str:
        with socket.create_connection((f"127.0.0.{node}", 2182 if self.tls else 2181), timeout=2) as connection:
            connection.sendall(b"srvr")
            said = b"".join(iter(lambda: connection.recv(4096), b"")).decode()
        return (said.partition("Mode: ")[2].split() or [""])[0]

    # --- Consul -------------------------------------------------------------------------------------------------------

    def _consul(self, node: int) -> tuple[list[str], dict[str, str]]:
        ports = {"dns": -1, "grpc": -1, **({"http": -1, "https": 8500} if self.tls else {"http": 8500})}
        config: dict[str, Any] = {
            "server": True,
            "bootstrap_expect": self.nodes,
            "node_name": f"n{node}",
            "data_dir": str(self.folder / f"data{node}"),
            "bind_addr": f"127.0.0.{node}",
            "client_addr": f"127.0.0.{node}",
            "retry_join": [f"127.0.0.{number}" for number in range(1, self.nodes + 1)],
            "retry_interval": "1s",
            "performance": {"raft_multiplier": 1},
            "disable_update_check": True,
            "ports": ports,
        }
        if self.tls:
            config.update(
                ca_file=str(self.tls.ca),
                cert_file=str(self.tls.server),
                key_file=str(self.tls.server_key),
                verify_incoming_https=True,
            )
        if self.accounts:
            config["acl"] = {"enabled": True, "default_policy": "deny", "tokens": {"master": self.master}}
        file = self.folder / f"consul{node}.json"
        file.write_text(json.dumps(config), encoding="utf-8")
        return [str(programs() / "consul/usr/bin/consul"), "agent", "-config-file", str(file)], {}

    def _leader_of_consul(self, node: int) -> int:
        headers = {"X-Consul-Token": self.master} if self.accounts else {}
        leader = self._request("GET", node, "/v1/status/leader", None, headers).json()
        self._request("GET", node, "/v1/catalog/nodes?consistent", None, headers)
        return int(str(leader).partition(":")[0].rpartition(".")[2])

    def _make_accounts_of_consul(self) -> None:
        headers = {"X-Consul-Token": self.master}
        rules = 'key_prefix "cnm/" { policy = "write" }'
        self._until_taken("/v1/acl/policy", {"Name": "fabric", "Rules": rules}, headers)
        made = self._until_taken("/v1/acl/token", {"Policies": [{"Name": "fabric"}]}, headers)
        self.token = made["SecretID"]

    def _until_taken(self, path: str, body: Any, headers: dict[str, str]) -> Any:
        """Consul's ACLs begin a moment after it has a leader."""
        for _attempt in range(100):
            with contextlib.suppress(requests.RequestException):
                return self._request("PUT", 1, path, body, headers).json()
            time.sleep(0.2)
        return self._request("PUT", 1, path, body, headers).json()

    def _post(self, node: int, path: str, body: Any) -> Any:
        return self._request("POST", node, path, body).json()

    def _request(
        self, method: str, node: int, path: str, body: Any, headers: Optional[dict[str, str]] = None
    ) -> requests.Response:
        scheme = "https" if self.tls else "http"
        more: dict[str, Any] = {}
        if self.tls:
            more = {"verify": str(self.tls.ca), "cert": (str(self.tls.client), str(self.tls.client_key))}
        url = f"{scheme}://127.0.0.{node}:{PORTS[self.kind]}{path}"
        found = requests.request(method, url, json=body, headers=headers, timeout=5, **more)
        found.raise_for_status()
        return found


class Single:
    """One node of each store, started when it is first asked for; only one of a port runs at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._clusters: dict[str, Cluster] = {}

    def settings(self, server: str) -> LeaseStore:
        if server == "sqlite":
            return LeaseStore(where=str(self._folder / "leases.sqlite3"))
        return self.cluster(server).settings()

    def cluster(self, server: str) -> Cluster:
        kind = server.partition("-")[0]
        other = next((item for item in self._clusters if item != server and item.startswith(kind)), None)
        if other is not None:  # of the same ports
            self._clusters.pop(other).__exit__()
        if server not in self._clusters:
            self._clusters[server] = Cluster(server, self._folder / server).__enter__()
        return self._clusters[server]

    def end(self) -> None:
        for cluster in self._clusters.values():
            cluster.__exit__()
        self._clusters.clear()


def settings_of(url: str, options: dict[str, Any]) -> LeaseStore:
    """The settings as they are read from variables, which must be right."""
    errors: list[Any] = []
    given = {key: value for key, value in options.items() if value is not None}
    found = read_lease_store(url, given, VarPath("cnm_leases", errors), VarPath("cnm_leases_options", errors))
    assert not errors, errors
    return found
