"""Where workers sleep: counting semaphores of the system, and the addresses of its two calls on them.

Compiled code calls them itself, `wait(gate, -1, 0)` and `post(gate, 1, 0)`, so that a worker needs neither Python nor
the GIL between two runs. Each system takes of the three words what it knows:

    POSIX       sem_wait(gate)                          sem_post(gate)
    macOS       dispatch_semaphore_wait(gate, forever)  dispatch_semaphore_signal(gate)       (it has no unnamed sem_t)
    Windows     WaitForSingleObject(gate, forever)      ReleaseSemaphore(gate, 1, NULL)

A wait may end without a post (a signal): who waits looks again.
"""

from __future__ import annotations

import ctypes
import sys
from functools import cache

# A sem_t has 32 bytes in glibc, 16 in musl; a cache line each keeps them apart.
_GATE_BYTES = 64


@cache
def _library() -> ctypes.CDLL:
    return ctypes.WinDLL("kernel32") if sys.platform == "win32" else ctypes.CDLL(None)


def _address(name: str) -> int:
    return ctypes.cast(getattr(_library(), name), ctypes.c_void_p).value or 0


@cache
def yield_address() -> int:
    """The system call that gives the CPU to another thread."""
    return _address("SwitchToThread" if sys.platform == "win32" else "sched_yield")


@cache
def wait_address() -> int:
    """The call that takes one post from a gate, and sleeps until there is one."""
    if sys.platform == "win32":
        return _address("WaitForSingleObject")
    return _address("dispatch_semaphore_wait" if sys.platform == "darwin" else "sem_wait")


@cache
def post_address() -> int:
    """The call that gives a gate one post."""
    if sys.platform == "win32":
        return _address("ReleaseSemaphore")
    return _address("dispatch_semaphore_signal" if sys.platform == "darwin" else "sem_post")


def new_gate() -> int:
    """A gate without a post. It is never freed: at exit a worker may still be asleep in it."""
    library = _library()
    if sys.platform in ("win32", "darwin"):
        make = library.CreateSemaphoreW if sys.platform == "win32" else library.dispatch_semaphore_create
        make.restype = ctypes.c_void_p
        gate = make(None, 0, 2**31 - 1, None) if sys.platform == "win32" else make(ctypes.c_long(0))
        if not gate:
            raise OSError("the system gave no semaphore")
        return gate
    memory = ctypes.create_string_buffer(2 * _GATE_BYTES)
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(memory))
    gate = -(-ctypes.addressof(memory) // _GATE_BYTES) * _GATE_BYTES
    if library.sem_init(ctypes.c_void_p(gate), 0, 0) != 0:
        raise OSError("the system gave no semaphore")
    return gate
