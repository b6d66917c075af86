"""The first step of a child process: bind its life to its parent's, drop root, become the program.

Run as a script of its own (`python -I -S child_launcher.py ORDERS PROGRAM ARGUMENT…`) and not as a
`preexec_fn`, because code between fork and exec in a process full of threads (Ray, gRPC) can deadlock.
Standard library only.
"""

import ctypes
import json
import os
import sys

# linux/prctl.h and linux/capability.h
_PR_SET_PDEATHSIG = 1
_PR_SET_KEEPCAPS = 8
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_CAPABILITY_VERSION_3 = 0x20080522


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def _must(outcome: int, what: str) -> None:
    if outcome != 0:
        sys.exit(f"{what}: {os.strerror(ctypes.get_errno())}")


def _become(libc: ctypes.CDLL, uid: int, gid: int, capability: int | None) -> None:
    """Switch user for good, keeping at most one capability."""
    if capability is not None:
        _must(libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0), "could not keep capabilities over the change of user")
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    if capability is None:
        return
    data = (_Data * 2)()
    data[0].effective = data[0].permitted = data[0].inheritable = 1 << capability
    _must(libc.capset(ctypes.byref(_Header(_CAPABILITY_VERSION_3, 0)), data), "could not reduce capabilities")
    # Ambient: it survives exec of an ordinary file, which an inheritable capability alone does not.
    _must(
        libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, capability, 0, 0),
        "this system does not let a service reach folders closed to its user; "
        f"put the program and the data folder where user {uid} may enter",
    )


def main(orders: str, argv: list[str]) -> None:
    """Follow the orders (JSON: parent, death_signal, uid, gid, capability) and exec `argv`."""
    wanted = json.loads(orders)
    libc = ctypes.CDLL(None, use_errno=True)
    if wanted["uid"] is not None:
        _become(libc, wanted["uid"], wanted["gid"], wanted["capability"])
    # After the change of user: the kernel forgets the signal whenever credentials change.
    _must(libc.prctl(_PR_SET_PDEATHSIG, wanted["death_signal"], 0, 0, 0), "could not follow the parent")
    if os.getppid() != wanted["parent"]:
        sys.exit("the parent was gone before the service started")
    # Here and not where we are started: uvloop's subprocesses take no umask.
    os.umask(0o077)
    try:
        os.execv(argv[0], argv)  # noqa: S606 -- no shell is the point
    except OSError as error:
        sys.exit(f"could not run {argv[0]}: {error.strerror}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
