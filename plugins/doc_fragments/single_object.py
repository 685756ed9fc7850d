# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Documentation shared by the modules for single objects."""

from __future__ import annotations


class ModuleDocFragment:
    """Options, attributes and notes."""

    DOCUMENTATION = r"""
options:
  state:
    description:
      - V(present) creates the object, or changes an existing one to the options.
      - V(absent) removes it and its dependents. Objects that are not this project's are never removed.
    type: str
    choices: [present, absent]
    default: present
  project:
    description:
      - The project that the object belongs to, as in C(cnm_project). Its name is part of the object's mark.
      - Lower-case letters, digits, C(_) and C(-), at most 32 characters, beginning with a letter.
    type: str
    default: default
  lock_timeout:
    description: Seconds to wait for another run on this host to end.
    type: int
    default: 60
attributes:
  check_mode:
    description:
      - Can run in check mode and predict the operations without doing them.
      - If an object that it needs (a namespace, a bridge) does not exist, check mode only warns, as an earlier task of
        the play may create it.
    support: full
  diff_mode:
    description: Returns what differs, object by object.
    support: full
  idempotent:
    description: A second run does nothing, even if the same values are spelled differently.
    support: full
notes:
  - The object carries a mark that says that a module made it. The playbook C(cnm.fabric.site) never removes such an
    object, the playbook C(cnm.fabric.teardown) does. An object declared later under the same name takes it over.
  - It is an error if an object of that name exists that this project did not create, or that C(cnm.fabric.site) or
    another module created. The error names the object.
  - The option for a namespace can name one that another program created; nothing in it is changed but this object.
  - The objects do not survive a reboot.
  - Needs root on the host.
"""
