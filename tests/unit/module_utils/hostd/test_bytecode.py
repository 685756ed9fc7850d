# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What a sent module has compiled is the bytecode of the host half that it keeps."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

from ansible_collections.cnm.fabric.plugins.module_utils.hostd import bytecode

SENT = f"""
import sys
sys.path.insert(0, {str(Path(bytecode.__file__).parent)!r})
import bytecode
sys.path.insert(0, "sent.zip")
import package.early
bytecode.remember()
import package.inner.late
bytecode.write(__import__("pathlib").Path("kept"), sys.argv[1:])
"""
KEPT = """
import sys
sys.path.insert(0, "kept")
import package.inner.late as late
print(late.__cached__, late.function.__code__.co_filename)
"""
FILES = {
    "package/__init__.py": "",
    "package/early.py": "",
    "package/inner/__init__.py": "",
    "package/inner/late.py": "def function(): pass\n",
    "package/other.py": "",
}


def run(folder: Path, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", "-B", "-v", "-c", program, *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)


def test_what_is_imported_once_it_remembers_is_written_as_python_looks_for_it(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "sent.zip", "w") as archive:
        for name, text in FILES.items():
            archive.writestr(name, text)
            (tmp_path / "kept" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "kept" / name).write_text(text)
    run(tmp_path, SENT, *FILES)
    written = sorted(path.name.partition(".")[0] for path in tmp_path.rglob("kept/**/*.pyc"))
    assert written == ["__init__", "late"]
    told = run(tmp_path, KEPT)
    cached, filename = told.stdout.split()
    assert f"# {cached} matches " in told.stderr
    assert Path(tmp_path, filename) == tmp_path / "kept/package/inner/late.py"


def test_what_is_not_asked_for_is_not_written(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "sent.zip", "w") as archive:
        for name, text in FILES.items():
            archive.writestr(name, text)
    (tmp_path / "kept").mkdir()
    run(tmp_path, SENT)
    assert list((tmp_path / "kept").iterdir()) == []
