# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The host half's netlink codec beside pyroute2: the same links and addresses made, read and removed.

docs/development/netlink.md says why there is one.  Both do the same.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from measuring import in_turns, rounds, timed
from pyroute2 import IPRoute
from rows import Table

from ansible_collections.cnm.fabric.plugins.module_utils.kernel import namespaces, netlink

PAIRS = 200
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


def a_round(make: Callable[[], None]) -> tuple[float, float, float]:
    """Seconds to make all, and to read all by the codec and by pyroute2, in a namespace that ends with the call."""
    making = timed(make)
    assert read_by_codec() == read_by_pyroute2()
    assert len(read_by_codec()) == PAIRS
    reading = in_turns({"ours": lambda: timed(read_by_codec), "peer": lambda: timed(read_by_pyroute2)})
    return making * 1000, reading["ours"] * 1000, reading["peer"] * 1000


def importing(text: str) -> float:
    """Milliseconds of a Python that only imports."""
    command = [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(COLLECTIONS)!r}); {text}"]
    return timed(lambda: subprocess.run(command, check=True)) * 1000


def test_the_same_work_by_the_codec_and_by_pyroute2(table: Table) -> None:
    makers = {"ours": made_by_codec, "peer": made_by_pyroute2}
    ways = {name: lambda make=make: namespaces.run_in_new(a_round, make) for name, make in makers.items()}  # type: ignore[misc]
    found = [in_turns(ways) for _round in rounds(3, 5, 15)]
    table.add("netlink.made", [each["ours"][0] for each in found], [each["peer"][0] for each in found])
    every = [item for each in found for item in each.values()]
    table.add("netlink.read", [item[1] for item in every], [item[2] for item in every])
    starts = {name: lambda text=text: importing(text) for name, text in IMPORTS.items()}  # type: ignore[misc]
    imported = [in_turns(starts) for _round in rounds(5, 9, 5)]
    own, other = ([each[name] - each["nothing"] for each in imported] for name in ("the codec", "pyroute2"))
    table.add("netlink.import", own, other)
