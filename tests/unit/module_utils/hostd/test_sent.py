# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""A host half that runs from what the controller has sent, and what it keeps of itself."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import MAGIC_NUMBER
from pathlib import Path

import pytest

from ansible_collections.cnm.fabric.plugins.module_utils.hostd import half
from ansible_collections.cnm.fabric.plugins.module_utils.plan import sending
from ansible_collections.cnm.fabric.plugins.module_utils.plan.kept_half import DIRECTORY, PACKAGE

PROGRAM = """
import sys
from pathlib import Path
from .hostd import half
from .plan import forms

def main(folder):
    half.LIB, half.HALVES = Path(folder), Path(folder, ".half")
    half._compile = lambda *_folders: None
    print(half.is_whole(), half.keep(half.running()), half.keep(half.running()), forms.__file__)
    print(sys.stdin.read())
"""
KEPT = f"""
import sys
sys.path.insert(0, sys.argv[1])
from {PACKAGE.replace("/", ".")}.plan import forms
print(forms.__cached__, forms.Form.fits.__code__.co_filename)
"""


def python(*arguments: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-I", "-S", "-B", *arguments], input=data, check=True, capture_output=True)


@pytest.mark.parametrize("with_bytecode", [False, True])
def test_it_keeps_its_files_and_what_python_has_compiled_of_them(tmp_path: Path, with_bytecode: bool) -> None:
    files = {**half.running(), "program.py": PROGRAM.encode()}
    codes = {path: compile(text, f"{sending.FOLDER}/{PACKAGE}/{path}", "exec") for path, text in files.items()}
    bundle = sending.bundle(files, codes if with_bytecode else None)
    told = python("-c", sending.START, "program", str(tmp_path), data=bundle + b"what follows")
    whole, *kept, path, what, follows = told.stdout.decode().split()
    assert (whole, kept, path) == ("True", ["True", "False"], f"{DIRECTORY}/sent/{PACKAGE}/plan/forms.py")
    assert (what, follows) == ("what", "follows")
    folder = tmp_path / ".half" / half.digest(files)
    assert {path.name.partition(".")[0] for path in folder.rglob("*.pyc")} > {"program", "half", "forms"}
    assert bool(list(folder.rglob("cli.*.pyc"))) == with_bytecode
    ran = python("-v", "-c", KEPT, str(folder))
    cached, source = ran.stdout.decode().split()
    assert f"# {cached} matches " in ran.stderr.decode()
    assert Path(source) == folder / PACKAGE / "plan/forms.py"


@pytest.mark.parametrize(("magic", "says"), [(MAGIC_NUMBER, "bytecode"), (b"\0" * 4, "source")])
def test_what_the_same_python_has_compiled_is_not_compiled_again(magic: bytes, says: str) -> None:
    files = {**half.running(), "program.py": b"def main():\n    print('source')\n"}
    code = compile("def main():\n    print('bytecode')\n", "program.py", "exec")
    bundle = sending.bundle(files, {"program.py": code}).replace(MAGIC_NUMBER, magic)
    assert python("-c", sending.START, "program", data=bundle).stdout.decode() == f"{says}\n"


def test_an_error_shows_its_own_lines_and_no_file_of_whoever_made_the_folder(tmp_path: Path) -> None:
    files = {**half.running(), "program.py": b"def main():\n    raise ValueError('broken')  # here\n"}
    for place in (tmp_path / PACKAGE, tmp_path / "sent" / PACKAGE):
        place.mkdir(parents=True)
        (place / "program.py").write_text("secret\nsecret\n", encoding="utf-8")
    command = [
        sys.executable,
        "-I",
        "-S",
        "-c",
        f"import traceback\ntry:\n exec({sending.START!r})\nexcept ValueError:\n traceback.print_exc()",
        "program",
    ]
    ended = subprocess.run(command, input=sending.bundle(files), capture_output=True, check=False, cwd=tmp_path)
    assert b"raise ValueError('broken')  # here" in ended.stderr
    assert b"secret" not in ended.stderr


def test_modules_of_others_are_not_its_own(tmp_path: Path) -> None:
    files = {**half.running(), "program.py": b"import ansible_collections.cnm.other\n"}
    bundle = sending.bundle(files)
    command = [sys.executable, "-I", "-S", "-c", sending.START, "program"]
    ended = subprocess.run(command, input=bundle, capture_output=True, check=False, cwd=tmp_path)
    assert b"No module named 'ansible_collections.cnm.other'" in ended.stderr
