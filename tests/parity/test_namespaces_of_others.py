# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""A real Docker Engine's containers and podman's, without networks of their own, as sandboxes and tasks of ours."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
from docker_engine import IMAGE, PLACE, PREFIX, DockerEngine, missing, remove_groups
from fleet import Fleet, snapshot
from overlaying import lab_of, overlay, sandboxes
from traffic import answers, serving

GROUP = f"/{PREFIX}{os.getpid()}"
POD = "/run/pod"
_PODMAN = f"""
mkdir -p /etc/containers {POD}
printf '[storage]\\ndriver="overlay"\\ngraphroot="{POD}/storage"\\nrunroot="{POD}/run"\\n' >/etc/containers/storage.conf
printf '[engine]\\nruntime="runc"\\ncgroup_manager="cgroupfs"\\n' >/etc/containers/containers.conf
podman import {PLACE}/{IMAGE}.tar {IMAGE}
echo 'nameserver 192.0.2.53' >{POD}/resolv.conf
podman run -d --name box --network none --cgroup-parent {GROUP} -v {POD}/resolv.conf:/etc/resolv.conf \
    {IMAGE} /bin/sleep 3600
"""

NETWORKS: dict[str, Any] = {
    "cnm_networks": {
        "front": {"subnet": "10.0.0.0/24"},
        "over": overlay("10.10.0.0/24"),
        "lan": {"driver": "macvlan", "subnet": "10.30.0.0/24", "driver_opts": {"parent": "eth0"}},
    }
}
WEB = {"networks": ["front", "over", "lan"], "ports": ["8080:80"], "namespace": {"docker": "web"}}
BOX = {"networks": ["front", "over", "lan"], "ports": ["8081:80"], "namespace": {"podman": "box"}}
SERVICE = {
    "networks": ["over"],
    "namespace": {"docker": "redis-{task}"},
    "deploy": {"replicas": 2, "placement": {"hosts": ["node1"]}},
}


@dataclass
class Others:
    """node1 with the containers, node2 with a sandbox of ours."""

    fleet: Fleet
    engine: DockerEngine

    def declare(self, **boxes: Any) -> None:
        everyone: dict[str, Any] = {**NETWORKS, "cnm_services": {"redis": SERVICE} if "web" in boxes else {}}
        self.fleet.declare(
            everyone, node1=sandboxes(own=["front"], **boxes), node2=sandboxes(far=["over"], near=["lan"])
        )

    def inside(self, who: str, *words: str) -> tuple[int, str]:
        """Run something in a container as its own processes are run, or in a sandbox of ours: exit code, output."""
        if who == "web":
            done = self.engine.client.containers.get(who).exec_run(words)
            return done.exit_code, done.output.decode()
        node = "node2" if who in ("far", "near") else "node1"
        entry = ["podman", "exec", who] if who == "box" else ["ip", "netns", "exec", who]
        run = self.fleet.lab.run(node, [*entry, *words], check=False)
        return run.returncode, run.stdout

    def unheard(self, *calls: tuple[str, str]) -> list[tuple[str, str]]:
        """Of (who, name) those for whom no answer comes from whom the name means there."""
        with ThreadPoolExecutor(4) as pool:
            return [call for call, heard in zip(calls, pool.map(self._heard, calls)) if not heard]

    def _heard(self, call: tuple[str, str]) -> bool:
        who, name = call
        return self.inside(who, "ping", "-c", "1", "-W", "2", name)[0] == 0

    def untouched(self) -> dict[str, str]:
        """What the containers themselves have."""
        look = "ip -o link; ip -o address; ip route; nft list ruleset; sysctl net.ipv4.ip_forward"
        script = ""
        for name in ("web", "redis-1", "redis-2"):
            box = self.engine.client.containers.get(name).attrs
            script += f"nsenter --net=/proc/{box['State']['Pid']}/ns/net sh -c '{look}'\n"
            for path in (box["ResolvConfPath"], box["HostsPath"]):
                script += f"stat -c %i {path}; cat {path}\n"
        script += f"""
        nsenter --net=/proc/$(podman inspect -f '{{{{.State.Pid}}}}' box)/ns/net sh -c '{look}'
        cat {POD}/resolv.conf $(podman inspect -f '{{{{.HostsPath}}}}' box)
        """
        return {"node1": self.fleet.sh("node1", script)}


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Others]:
    lacking = missing() or ("" if shutil.which("podman") else "podman")
    if lacking:
        pytest.fail(f"there is no {lacking}: install the package, as ./run test parity does", pytrace=False)
    with lab_of(2, "others") as lab:
        fleet = Fleet(lab, tmp_path_factory.mktemp("others"))
        engine = DockerEngine(lab, "node1", ip6tables=False)
        engine.start()
        for name in ("web", "redis-1", "redis-2"):
            engine.run(name, network="none", extra_hosts={"db": "192.0.2.7"})
        lab.run("node1", ["sh", "-ec", _PODMAN])
        yield Others(fleet, engine)
    remove_groups()


_EVERYBODY = (
    *(
        ("web", name)
        for name in ("own", "box", "far", "web.over", "near", "box.lan", "redis", "tasks.redis", "redis.2")
    ),
    *(("box", name) for name in ("own", "web", "far", "near.lan", "redis")),
    *(("own", name) for name in ("web", "box.front")),
    *(("far", name) for name in ("web", "box", "redis.1", "redis")),
    *(("near", name) for name in ("web", "box")),
)


def test_containers_of_docker_and_podman(others: Others, subtests: pytest.Subtests) -> None:
    fleet, engine = others.fleet, others.engine
    web = engine.client.containers.get("web")
    before, untouched = snapshot(fleet, "node1"), others.untouched()
    others.declare(web=WEB, box=BOX)
    foretold = fleet.site("--check")
    assert snapshot(fleet, "node1") == before
    assert fleet.site().operations("node1") == foretold.operations("node1")
    with subtests.test("they ping by name and are pinged"):
        assert others.unheard(*_EVERYBODY) == []
        assert "192.0.2.7" in others.inside("web", "getent", "hosts", "db")[1]
    with subtests.test("they publish ports"):
        here, there = fleet.lab.address("node1"), fleet.lab.address("node2")
        for name, port in (("web", 8080), ("box", 8081)):
            with serving(fleet, "node1", name, "tcp/80"):
                assert answers(fleet, "node2", "", [("tcp", here, port)]) == [there]
    with subtests.test("verify proves it"):
        verified = fleet.play("verify")
        assert verified.code == 0, verified.output
    with subtests.test("what runs in a container's namespace restarts without losing the network"):
        app = engine.run("app", network="container:web")
        app.restart(timeout=0)
        assert app.exec_run("ping -c 1 -W 2 own").exit_code == 0
        app.remove(force=True)
    with subtests.test("podman in a sandbox of ours"):
        run = f"podman run --rm --network ns:/run/netns/own --dns 127.0.0.11 --cgroup-parent {GROUP} {IMAGE}"
        fleet.sh("node1", f"{run} /bin/ping -c 1 -W 2 web")
    with subtests.test("what a container does to its files is mended"):
        others.inside("web", "sh", "-c", "echo nameserver 192.0.2.99 > /etc/resolv.conf")
        assert fleet.site().operations("node1") == ["change namespace web"]
        assert others.unheard(("web", "own")) == []
    with subtests.test("a container that restarted is connected again by the next run"):
        links = fleet.sh("node1", "ip -o link | wc -l")
        web.restart(timeout=0)
        fleet.sh("node1", "podman restart -t 0 box")
        assert others.unheard(("web", "own"), ("box", "own")) == [("web", "own"), ("box", "own")]
        assert "change namespace web" in fleet.site("--check").operations("node1")
        fleet.site()
        assert others.unheard(*_EVERYBODY) == []
        assert fleet.site().changed == []
        assert fleet.sh("node1", "ip -o link | wc -l") == links
    with subtests.test("one that does not run fails alone, and the run says so"):
        web.stop(timeout=0)
        now = snapshot(fleet, "node1")
        stopped = fleet.play("site")
        assert stopped.code != 0
        assert "web: the container web of Docker is not running (exited): start it" in stopped.output
        assert snapshot(fleet, "node1") == now
        assert fleet.play("inspect").code == 0
    with subtests.test("out of the inventory, while one of them is stopped"):
        others.declare()
        fleet.site()
        web.start()
        assert others.untouched() == untouched
    with subtests.test("teardown leaves the host as it was"):
        others.declare(web=WEB, box=BOX)
        fleet.site()
        fleet.teardown()
        assert snapshot(fleet, "node1") == before
        assert others.untouched() == untouched


def test_what_cannot_be_connected_is_named(others: Others) -> None:
    engine, fleet = others.engine, others.fleet
    engine.run("docked")
    boxes = {
        name: {"networks": ["front"], "namespace": {owner: reference}}
        for name, owner, reference in (
            ("one", "docker", "nowhere"),
            ("two", "docker", "docked"),
            ("three", "podman", "nowhere"),
        )
    }
    fleet.teardown()
    others.declare(**boxes)
    run = fleet.play("site")
    assert run.code != 0
    said = run.refusals("node1")
    for part in (
        "cnm_sandboxes.one.namespace.docker: this host's Docker Engine has no container nowhere",
        "cnm_sandboxes.two.namespace.docker: the container docked of Docker already has a network (--network default)",
        "cnm_sandboxes.three.namespace.podman: root's podman on this host has no container nowhere",
    ):
        assert [each for each in said if part in each], part
    assert fleet.sh("node1", "ls /run/netns 2>/dev/null || :").split() == []
