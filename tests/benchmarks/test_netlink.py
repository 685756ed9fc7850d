# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The host half's netlink codec beside pyroute2: the same links and addresses made, read and removed, in one run.

docs/development/netlink.md says why there is one.  Reported, not asserted: what is asserted is that both do the same.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import pytest
from pyroute2 import IPRoute

from ansible_collections.cnm.fabric.plugins.module_utils.kernel import namespaces, netlink

PAIRS = 200
ROUNDS = 5
GROUP = 7
COLLECTIONS = Path(netlink.__file__).parents[7]
IMPORTS = {
    "the codec": "from ansible_collections.cnm.fabric.plugins.module_utils.kernel import netlink",
    "pyroute2": "from pyroute2 import IPRoute",
    "nothing": "",
}


def made_by_codec() -> None:
    with netlink.Netlink() as kernel:
        kernel.send([netlink.new_link("br", "bridge")])
        bridge = {link["name"]: link["index"] for link in kernel.links()}["br"]
        pairs = range(PAIRS)
        kernel.send(
            [netlink.new_link(f"a{n}", "veth", master=bridge, group=GROUP, peer={"name": f"b{n}"}) for n in pairs]
        )
        index = {link["name"]: link["index"] for link in kernel.links()}
        kernel.send([netlink.new_address(index[f"b{n}"], f"10.0.{n}.1/24") for n in pairs])
        kernel.send([netlink.set_link(index[f"{end}{n}"], up=True) for end in "ab" for n in pairs])


def made_by_pyroute2() -> None:
    with IPRoute() as kernel:
        kernel.link("add", ifname="br", kind="bridge")
        (bridge,) = kernel.link_lookup(ifname="br")
        for n in range(PAIRS):
            kernel.link("add", ifname=f"a{n}", kind="veth", peer=f"b{n}", master=bridge, group=GROUP)
        index = {link.get_attr("IFLA_IFNAME"): link["index"] for link in kernel.get_links()}
        for n in range(PAIRS):
            kernel.addr("add", index=index[f"b{n}"], address=f"10.0.{n}.1", prefixlen=24)
            for end in "ab":
                kernel.link("set", index=index[f"{end}{n}"], state="up")


def read_by_codec() -> set[tuple[str, str]]:
    with netlink.Netlink() as kernel:
        names = {link["index"]: link["name"] for link in kernel.links()}
        return {(names[item["index"]], item["address"]) for item in kernel.addresses() if ":" not in item["address"]}


def read_by_pyroute2() -> set[tuple[str, str]]:
    with IPRoute() as kernel:
        names = {link["index"]: link.get_attr("IFLA_IFNAME") for link in kernel.get_links()}
        found = kernel.get_addr(family=2)
        return {(names[item["index"]], f"{item.get_attr('IFA_ADDRESS')}/{item['prefixlen']}") for item in found}


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def a_round(make: Callable[[], None]) -> tuple[float, float, float]:
    """Seconds to make all, and to read all by the codec and by pyroute2, in a namespace that ends with the call."""
    making = seconds(make)
    assert read_by_codec() == read_by_pyroute2()
    assert len(read_by_codec()) == PAIRS
    return making, seconds(read_by_codec), seconds(read_by_pyroute2)


def importing(text: str) -> float:
    command = [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(COLLECTIONS)!r}); {text}"]
    return min(seconds(lambda: subprocess.run(command, check=True)) for _round in range(ROUNDS))


def test_the_same_work_by_the_codec_and_by_pyroute2(capsys: pytest.CaptureFixture[str]) -> None:
    makers = {"the codec": made_by_codec, "pyroute2": made_by_pyroute2}
    rounds: dict[str, list[tuple[float, float, float]]] = {name: [] for name in makers}
    for _round in range(ROUNDS):
        for name, make in makers.items():
            rounds[name].append(namespaces.run_in_new(a_round, make))
    made = {name: median(item[0] for item in found) for name, found in rounds.items()}
    every = [item for found in rounds.values() for item in found]
    read = {"the codec": median(item[1] for item in every), "pyroute2": median(item[2] for item in every)}
    started = {name: importing(text) for name, text in IMPORTS.items()}
    imported = {name: started[name] - started["nothing"] for name in makers}
    with capsys.disabled():
        print(f"\n{PAIRS} veth pairs in a bridge with addresses, medians of {ROUNDS}")
        for what, found in (("made", made), ("read", read), ("imported", imported)):
            codec, other = found["the codec"], found["pyroute2"]
            print(f"  {what}: {codec * 1e3:.1f} ms, by pyroute2 {other * 1e3:.1f} ms, x {other / codec:.1f}")
