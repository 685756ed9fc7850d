# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What ufw and firewalld have been told, from the files that they keep it in."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.cnm.fabric.plugins.module_utils.probe.front_ends import let_by

RULES = """*filter
:ufw-user-input - [0:0]
### RULES ###

### tuple ### allow tcp 22 0.0.0.0/0 any 0.0.0.0/0 in
-A ufw-user-input -p tcp --dport 22 -j ACCEPT

### tuple ### route:allow any any 0.0.0.0/0 any 0.0.0.0/0 in_br0
-A ufw-user-forward -i br0 -j ACCEPT

### tuple ### route:deny any any 0.0.0.0/0 any 0.0.0.0/0 out_br0
-A ufw-user-forward -o br0 -j DROP

### tuple ### allow udp 4789 0.0.0.0/0 any 192.0.2.2 in
-A ufw-user-input -p udp --dport 4789 -s 192.0.2.2 -j ACCEPT

### tuple ### allow esp any 0.0.0.0/0 any 192.0.2.2 in
-A ufw-user-input -p esp -s 192.0.2.2 -j ACCEPT
"""
TRUSTED = '<zone target="ACCEPT">\n  <interface name="br0"/>\n</zone>\n'
PUBLIC = """<zone>
  <interface name="eth0"/>
  <rule family="ipv4">
    <source address="192.0.2.2"/>
    <port port="4789" protocol="udp"/>
    <accept/>
  </rule>
  <rule family="ipv4">
    <source address="192.0.2.3"/>
    <port port="4789" protocol="udp"/>
    <drop/>
  </rule>
  <rule family="ipv4">
    <source address="192.0.2.2"/>
    <protocol value="esp"/>
    <accept/>
  </rule>
</zone>
"""


def test_ufw_s_rules_are_read_by_the_lines_that_it_reads_them_by(tmp_path: Path) -> None:
    rules = tmp_path / "user.rules"
    rules.write_text(RULES, encoding="utf-8")
    assert let_by(["ufw"], (str(rules), str(tmp_path / "none"))) == [
        "esp 192.0.2.2 0",
        "in br0",
        "udp 192.0.2.2 4789",
    ]


def test_of_firewalld_the_trusted_zone_s_links_and_accepting_rules_count(tmp_path: Path) -> None:
    (tmp_path / "trusted.xml").write_text(TRUSTED, encoding="utf-8")
    (tmp_path / "public.xml").write_text(PUBLIC, encoding="utf-8")
    assert let_by(["firewalld"], (), tmp_path) == ["esp 192.0.2.2 0", "in br0", "out br0", "udp 192.0.2.2 4789"]


@pytest.mark.parametrize("text", ["", "\0", "### tuple ### route:allow", '<interface name="', "<" * 100000])
def test_files_of_another_form_say_nothing(tmp_path: Path, text: str) -> None:
    for name in ("user.rules", "trusted.xml"):
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert let_by(["ufw", "firewalld"], (str(tmp_path / "user.rules"),), tmp_path) == []
    assert let_by(["firewalld"], (), tmp_path / "none") == []
