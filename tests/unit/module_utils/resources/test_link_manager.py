# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The files that tell link managers to leave our links alone."""

from __future__ import annotations

import pytest

from ansible_collections.cnm.fabric.plugins.module_utils.plan.constants import LINK_MANAGERS
from ansible_collections.cnm.fabric.plugins.module_utils.plan.forms import FormError
from ansible_collections.cnm.fabric.plugins.module_utils.plan.links import LinkManager
from ansible_collections.cnm.fabric.plugins.module_utils.resources.base import Difference
from ansible_collections.cnm.fabric.plugins.module_utils.resources.link_manager import _MANAGERS, LinkManagerKind

LINKS = ("cnm0", "eth0.10")


def test_each_has_its_file_in_its_own_language() -> None:
    texts = {
        path: text
        for name, manager in _MANAGERS.items()
        for path, text in manager.files(LinkManager(name, LINKS, True), "blue").items()
    }
    assert texts == {
        "/etc/systemd/network/05-cnm-blue.link": (
            "# cnm:blue:link_manager\n[Match]\nOriginalName=cnm-* cnm0 eth0.10\n\n"
            "[Link]\nNamePolicy=keep\nMACAddressPolicy=none\n"
        ),
        "/etc/systemd/network/05-cnm-blue.network": (
            "# cnm:blue:link_manager\n[Match]\nName=cnm-* cnm0 eth0.10\n\n[Link]\nUnmanaged=yes\n"
        ),
        "/etc/systemd/networkd.conf.d/05-cnm-blue.conf": (
            "# cnm:blue:link_manager\n[Network]\nManageForeignRoutingPolicyRules=no\n"
        ),
        "/etc/NetworkManager/conf.d/05-cnm-blue.conf": (
            "# cnm:blue:link_manager\n[device-cnm-blue]\n"
            "match-device=interface-name:cnm-*,interface-name:cnm0,interface-name:eth0.10\nmanaged=0\n"
        ),
    }
    assert sorted(_MANAGERS) == sorted(LINK_MANAGERS)


@pytest.mark.parametrize("name", LINK_MANAGERS)
@pytest.mark.parametrize("links", [(), ("cnm0",), LINKS])
def test_the_links_are_read_from_it_again(name: str, links: tuple[str, ...]) -> None:
    manager = _MANAGERS[name]
    path, _rules = manager.paths("blue")
    text = manager.files(LinkManager(name, links), "blue")[path]
    assert manager.links(text, "blue") == links
    assert manager.links(text, "red") == manager.links(text[:-1], "blue") == manager.links("", "blue") == ()


@pytest.mark.parametrize("link", ["*", "eth?", "a b", "!lo", "a\nUnmanaged=no", "a,mac:*", "a;b", "", "[!c]nm", "%i"])
@pytest.mark.parametrize("name", LINK_MANAGERS)
def test_a_name_that_is_more_than_a_name_is_never_written(name: str, link: str) -> None:
    with pytest.raises(FormError):
        _MANAGERS[name].files(LinkManager(name, (link,)), "default")


def test_what_somebody_changed_is_a_difference_but_for_an_undo() -> None:
    kind, plain, edited = LinkManagerKind(), LinkManager("udev"), LinkManager("udev", edited=True)
    assert kind.differences(plain, edited) == [Difference("edited", False, True)]
    # What it was before can only be put back as we write it.
    assert kind.differences(edited, plain) == kind.differences(edited, edited) == kind.differences(plain, plain) == []
    assert kind.differences(LinkManager("udev", LINKS), plain) == [Difference("links", LINKS, ())]
