# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the modules network, sandbox, endpoint and service have in common."""

from __future__ import annotations


class ModuleDocFragment:
    """Options, attributes and notes."""

    DOCUMENTATION = r"""
options:
  project:
    description: Whose object it is. Without it C(cnm_project) of the host, V(default) if that is not set.
    type: str
  lock_timeout:
    description: Seconds to wait for another run on this host to end.
    type: int
    default: 60
attributes:
  check_mode:
    description:
      - Can run in check mode and predict the operations without doing them.
      - What has to be there before (a network, a sandbox) and is not is then a warning, as a task before this one may
        be what makes it.
    support: full
  diff_mode:
    description: Returns what differs, object by object.
    support: full
  idempotent:
    description: A second run does nothing, whichever way the same values are spelled.
    support: full
notes:
  - The host is planned anew on the controller, from what the inventory declared when C(cnm.fabric.site) was last run
    and what these modules made since; changes of the variables that no run has put in place yet stay pending. So
    whatever else on the host is not as planned is put right too.
  - The host keeps what these modules made, and the playbook C(cnm.fabric.site) keeps it in place. What the inventory
    declares under the same name takes it over as it is. The playbook C(cnm.fabric.teardown) removes it.
  - Addresses come from the lease store of the inventory, C(cnm_leases), and from what the host remembers.
  - An option that is left out has its default, not the value it had before.
  - The controller's Python needs what C(meta/ee-requirements.txt) of the collection lists; the host needs nftables,
    dnsmasq and the system user C(cnm-resolver), which the role P(cnm.fabric.host#role) installs and makes. Needs root
    on the host.
"""
