# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""nftables transactions by libnftables in the process or, on a host without it, by the program ``nft``.

Both act on the network namespace of the calling thread.  A transaction is nft's own language; the kernel applies all
of it or nothing.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Optional, Protocol

from .namespaces import own_number
from .programs import find_program

RunCommand = Callable[..., tuple[int, str, str]]
"""AnsibleModule.run_command: arguments, ``data=`` for its input → (return code, output, errors)."""

# Output flags of libnftables.h: no counters; protocols and priorities by number, as a minimal host has no names.
_STATELESS, _NUMERIC_PROTOCOL, _NUMERIC_PRIORITY = 1 << 2, 1 << 7, 1 << 8

_TOGETHER = 100
"""The largest number of contexts open at once; each has a socket."""


class NftError(Exception):
    """nft refused a command; the message is its first error."""


class Nft(Protocol):
    """An interface to nftables."""

    def run(self, commands: str) -> str:
        """Run a transaction in the thread's namespace and return its output; NftError if it is refused."""

    def together(self) -> AbstractContextManager[Callable[[str], str]]:
        """Yields a `run` for transactions in many namespaces, which waits only once for the kernel to free memory."""

    def close(self) -> None:
        """Release what is kept between transactions."""


def _first_complaint(text: str, commands: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    complaint = next((line.split("Error:", 1)[1].strip() for line in lines if "Error:" in line), "refused")
    quoted = next((line.strip() for line in lines if "Error:" not in line and "^" not in line), commands[:200])
    return f"{complaint} (in: {quoted})"


class Library:
    """libnftables by ctypes.

    A context belongs to the namespace it was created in.  Freeing one waits until the kernel has freed everything that
    transactions removed, so the host's context is kept, and those of namespaces are freed together (`together`).  They
    are not kept longer, as a context keeps its namespace alive.
    """

    def __init__(self) -> None:
        """Raise OSError if the library is missing."""
        library: Any = ctypes.CDLL("libnftables.so.1")
        library.nft_ctx_new.restype = ctypes.c_void_p
        library.nft_ctx_new.argtypes = [ctypes.c_uint32]
        for name in ("nft_ctx_free", "nft_ctx_buffer_output", "nft_ctx_buffer_error"):
            getattr(library, name).argtypes = [ctypes.c_void_p]
        for name in ("nft_ctx_get_output_buffer", "nft_ctx_get_error_buffer"):
            getattr(library, name).argtypes = [ctypes.c_void_p]
            getattr(library, name).restype = ctypes.c_char_p
        library.nft_ctx_output_set_flags.argtypes = [ctypes.c_void_p, ctypes.c_uint]
        library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
        self._library = library
        self._home = own_number()
        self._kept: Optional[int] = None
        self._used: list[int] = []
        self._at_most = 0

    def run(self, commands: str) -> str:
        if own_number() != self._home:
            self._used.append(self._context())
            try:
                return self._run(self._used[-1], commands)
            finally:
                if len(self._used) > self._at_most:
                    self._free()
        if self._kept is None:
            self._kept = self._context()
        return self._run(self._kept, commands)

    @contextmanager
    def together(self) -> Iterator[Callable[[str], str]]:
        self._at_most = _TOGETHER
        try:
            yield self.run
        finally:
            self._at_most = 0
            self._free()

    def _free(self) -> None:
        while self._used:
            self._library.nft_ctx_free(self._used.pop())

    def _context(self) -> int:
        context: int = self._library.nft_ctx_new(0)
        self._library.nft_ctx_output_set_flags(context, _STATELESS | _NUMERIC_PROTOCOL | _NUMERIC_PRIORITY)
        self._library.nft_ctx_buffer_output(context)
        self._library.nft_ctx_buffer_error(context)
        return context

    def _run(self, context: int, commands: str) -> str:
        failed = self._library.nft_run_cmd_from_buffer(context, commands.encode())
        # Read both buffers, or the next transaction's output would begin with this one's.
        output = self._library.nft_ctx_get_output_buffer(context).decode(errors="replace")
        error = self._library.nft_ctx_get_error_buffer(context).decode(errors="replace")
        if failed:
            raise NftError(_first_complaint(error, commands))
        return str(output)

    def close(self) -> None:
        if self._kept is not None:
            self._library.nft_ctx_free(self._kept)
            self._kept = None


class Program:
    """The program ``nft``, which reads commands from standard input."""

    def __init__(self, run_command: RunCommand) -> None:
        """Raise FileNotFoundError if there is no such program."""
        path = find_program("nft")
        if path is None:
            raise FileNotFoundError("nft")
        self._path = path
        self._run_command = run_command

    def run(self, commands: str) -> str:
        code, output, errors = self._run_command([self._path, "-s", "-p", "-y", "-f", "-"], data=commands)
        if code:
            raise NftError(_first_complaint(errors, commands))
        return output

    @contextmanager
    def together(self) -> Iterator[Callable[[str], str]]:
        yield self.run

    def close(self) -> None:
        """Nothing to release."""


def find(run_command: RunCommand) -> Optional[Nft]:
    """The best interface to nftables that this host has, or None."""
    try:
        return Library()
    except OSError:
        pass
    try:
        return Program(run_command)
    except FileNotFoundError:
        return None
