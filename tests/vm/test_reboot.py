# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""One of two whole Debians reboots, with what only this kernel has: encrypted overlays, VLANs and IPVS."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from systems import BOOT_S, RELEASES, Controller, System, Systems
from watching import address, calls, pings, reboot, serve, task_on

pytestmark = [pytest.mark.vm, pytest.mark.whole]

VARIABLES: dict[str, Any] = {
    "cnm_overlay_secret": "not-so-secret-as-it-should-be",
    "cnm_networks": {
        "front": {"subnet": "10.0.0.0/24"},
        "back": {"subnet": "10.0.1.0/24", "internal": True},
        "vault": {"driver": "overlay", "subnet": "10.10.9.0/24", "encrypted": True},
        "office": {
            "driver": "macvlan",
            "ipam": {"config": [{"subnet": "192.168.78.0/24", "ip_range": "192.168.78.128/26"}]},
            "driver_opts": {"parent": "lan0.20"},
        },
    },
    "cnm_services": {
        "shop": {
            "networks": ["vault"],
            "deploy": {"replicas": 2, "placement": {"hosts": ["n1", "n2"]}},
            "ports": [{"target": 80, "published": 3000, "mode": "ingress"}],
        }
    },
    "n1": {
        "cnm_sandboxes": {
            "c1": {"networks": {"front": {"ipv4_address": "10.0.0.10"}}},
            "app": {"networks": ["vault"], "ports": ["8081:80"]},
            "b1": {"networks": {"back": {"ipv4_address": "10.0.1.10"}}},
            "m1": {"networks": {"office": {"ipv4_address": "192.168.78.140"}}},
            "old": {"networks": ["vault"], "namespace": {"path": "/run/netns/other"}},
        }
    },
    "n2": {"cnm_sandboxes": {"far": {"networks": ["vault"]}}},
}

OTHER = """
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=ip netns add other
ExecStart=ip -n other link set lo up
[Install]
WantedBy=multi-user.target
"""

# VXLAN of the encrypted network is at this port within ESP, and nowhere else.
COUNTERS = """nft -f - <<'END'
table bridge wire {
    chain packets {
        type filter hook prerouting priority 0;
        ip protocol esp counter comment "encrypted"
        udp dport 14789 counter comment "clear"
    }
}
END"""

SEEN = "/var/tmp/seen-at-network-online"

LOOKER = f"""
[Unit]
Wants=network-online.target
After=network-online.target
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'ip netns list >{SEEN}; nft list tables >>{SEEN}; ip xfrm policy >>{SEEN}'
[Install]
WantedBy=multi-user.target
"""

PAUSE_S = 0.05


@pytest.fixture(scope="module", params=RELEASES)
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[System, System, Systems, Controller]]:
    """Two systems with their networks, the LAN that they are on, and their controller."""
    folder = tmp_path_factory.mktemp("systems")
    with Systems(folder) as lan:
        lan.switch(COUNTERS)
        one, other = (lan.new(name, request.param) for name in ("n1", "n2"))
        one.write("/etc/systemd/system/other.service", OTHER)
        one.write("/etc/systemd/system/looker.service", LOOKER)
        one.sh("systemctl daemon-reload; systemctl enable -q looker; systemctl enable -q --now other")
        controller = Controller(folder, one, other)
        controller.run("site", VARIABLES)
        for system, name in ((one, "app"), (one, task_on(one)), (other, task_on(other))):
            serve(system, name)
        other.sh(
            "for net in 0 1; do ip route add 10.0.$net.0/24 via 192.168.77.1; done; "
            "ip link add link lan0 name lan0.20 up type vlan id 20; ip address add 192.168.78.2/24 dev lan0.20"
        )
        yield one, other, lan, controller


def on_the_wire(lan: Systems) -> dict[str, int]:
    """Packets of each kind on the LAN so far."""
    rules = json.loads(lan.switch("nft -j list table bridge wire"))["nftables"]
    found = (item["rule"] for item in rules if "rule" in item)
    return {
        rule["comment"]: next(step["counter"]["packets"] for step in rule["expr"] if "counter" in step)
        for rule in found
    }


def test_keys_are_kept_for_root_alone(pair: tuple[System, System, Systems, Controller]) -> None:
    one = pair[0]
    modes = one.sh("cd /var/lib/cnm; stat -c '%a %n' .half default/keys default/keys/* default/plan.json")
    assert [line.split()[0] for line in modes.splitlines()] == ["700", "700", "600", "600"]
    assert one.status(f"grep -rq {VARIABLES['cnm_overlay_secret']} /var/lib/cnm /run/cnm") == 1


def test_each_thing_is_back_after_a_reboot_and_nothing_goes_unencrypted(
    pair: tuple[System, System, Systems, Controller], record_property: Any
) -> None:
    one, other, lan, controller = pair

    def ping(target: str, within: str = "") -> Any:
        return pings(other, target, within, PAUSE_S)

    allowed = {
        "the host": ping("192.168.77.1"),
        "macvlan on a VLAN": ping("192.168.78.140"),
        "encrypted overlay": ping(address(one, "app", "10.10.9."), "far"),
        "encrypted overlay in another's namespace": ping(address(one, "old", "10.10.9."), "far"),
        "published port": calls(other, "192.168.77.1", 8081, pause_s=PAUSE_S),
        "mesh port by IPVS": calls(other, "192.168.77.1", 3000, pause_s=PAUSE_S),
    }
    closed = {"front": "10.0.0.10", "internal": "10.0.1.10"}
    forbidden = {name: ping(target) for name, target in closed.items()}
    before = on_the_wire(lan)
    back = reboot(one, allowed, BOOT_S)
    for name, seconds in back.items():
        record_property(f"{name} is back after", f"{seconds} s")
    assert {name: len(watch.times()) for name, watch in forbidden.items()} == dict.fromkeys(closed, 0)
    after = on_the_wire(lan)
    assert after["encrypted"] > before["encrypted"] > 0
    assert after["clear"] == 0
    assert "sport 50 dport 14789" in one.sh(f"cat {SEEN}")
    assert one.sh("systemctl --failed --no-legend") == ""
    again = controller.run("site", VARIABLES, "--diff")
    assert (again.changed("n1"), again.changed("n2")) == (0, 0), again.output


RENEWER = "pgrep -f '[r]enewal.*default'"


def test_the_renewal_of_keys_is_systemd_s_and_back_when_it_is_killed(
    pair: tuple[System, System, Systems, Controller], record_property: Any
) -> None:
    one, _other, _lan, controller = pair
    pid = one.sh(RENEWER).strip()
    assert one.sh(f"basename $(cut -d: -f3- /proc/{pid}/cgroup)").strip() == f"cnm-renewal-{pid}.scope"
    one.sh(f"kill -9 {pid}")
    took = one.until(f"{RENEWER} | grep -qvx {pid}", 60)
    record_property("seconds until the renewal of keys was back", took)
    one.until("! systemctl is-active -q cnm-restore.service", 60)
    assert controller.run("site", VARIABLES).changed("n1") == 0


def test_a_teardown_leaves_neither_keys_nor_states(pair: tuple[System, System, Systems, Controller]) -> None:
    one, _other, _lan, controller = pair
    controller.run("teardown", {**VARIABLES, "cnm_force": True})  # servers still run in its sandboxes
    assert one.status(RENEWER) == 1
    assert one.sh("ip xfrm state; ip xfrm policy; ip -br link | grep -e cnm -e lan0.20 || :") == ""
    assert one.status("ls -d /var/lib/cnm /run/cnm") == 2
