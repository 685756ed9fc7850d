# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The site of the documentation, for Sphinx.

``./run test docs`` copies this folder, adds the reference that antsibull-docs makes of the plugins and roles
(``collection/``), and builds the copy: see ``site`` in tests/run/parts.sh.

The pages are plain Markdown and stay readable where they lie.  So nothing of Sphinx's stands in them: the table of
contents is made of the links in index.md, and links that leave the folder lead to the repository.
"""

from __future__ import annotations

import os
import re
from pathlib import PurePosixPath
from typing import Any

from docutils import nodes

REPOSITORY = "https://github.com/cnm-fabric/cnm.fabric"

project = "cnm.fabric"
author = "cnm.fabric contributors"
copyright = author
version = release = os.environ.get("CNM_VERSION", "")
extensions = ["myst_parser", "sphinx_antsibull_ext"]
root_doc = "index"
exclude_patterns = ["conf.py"]
html_theme = "furo"
html_title = f"{project} {version}".strip()
html_copy_source = False
highlight_language = "none"
pygments_style = "ansible"
myst_heading_anchors = 4

_LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)\s]+)(?=\))")
_HEADING = re.compile(r"^## (.+)\n((?:(?!^## ).*\n)*)", re.MULTILINE)
_ENTRY = re.compile(r"^- \[[^\]]+\]\((?!\.\.)([^)#:]+)\)", re.MULTILINE)
REFERENCE = "collection/index"
ANSIBLE = "https://docs.ansible.com/projects/ansible/latest"
LABELS = {
    "action_plugins": f"{ANSIBLE}/plugins/action.html",
    "ansible_configuration_settings": f"{ANSIBLE}/reference_appendices/config.html",
    "common_return_values": f"{ANSIBLE}/reference_appendices/common_return_values.html",
}
"""Where the labels of Ansible's own documentation lead, which the site is built without."""


def _to_the_repository(page: str, target: str) -> str:
    """A link as it stands on a page, or the repository's address if it leads out of this folder."""
    path, _mark, fragment = target.partition("#")
    parts: list[str] = ["docs"]
    for part in (PurePosixPath(page).parent / path).parts:
        if part == "..":
            parts.pop()
        else:
            parts.append(part)
    if parts[:1] == ["docs"]:
        return target
    return f"{REPOSITORY}/blob/main/{'/'.join(parts)}" + (f"#{fragment}" if fragment else "")


def _contents(text: str) -> str:
    """A hidden table of contents for each heading of the index, of the pages that its list names."""
    tables = []
    for caption, below in _HEADING.findall(text):
        pages = _ENTRY.findall(below)
        if caption == "Reference":
            pages.append(REFERENCE)
        if pages:
            lines = "\n".join(page.removesuffix(".md") for page in pages)
            tables.append(f"```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{lines}\n```\n")
    return "\n".join([text, *tables])


def _read(_app: Any, page: str, source: list[str]) -> None:
    if page.startswith("collection/"):
        return
    source[0] = _LINK.sub(lambda found: _to_the_repository(page, found[1]), source[0])
    if page == root_doc:
        source[0] = _contents(source[0])


def _ansible(_app: Any, _environment: Any, node: Any, words: nodes.Node) -> nodes.Node | None:
    address = LABELS.get(node.get("reftarget", ""))
    return None if address is None else nodes.reference("", "", words, internal=False, refuri=address)


def setup(app: Any) -> None:
    """Sphinx's hook."""
    app.connect("source-read", _read)
    app.connect("missing-reference", _ansible)
