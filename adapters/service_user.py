"""Which user a service runs as when we are root and it refuses to be, and how it reaches its folders."""

import os
import pwd
import stat
from collections.abc import Iterable
from pathlib import Path

from adapters.child_process import RunAs
from domain.errors import DataFolderUnusable, ServiceFailed

# Tried in this order for a new data folder; the last exists on every Linux.
CANDIDATES = ("guildhall", "postgres", "nobody")

# linux/capability.h
_CAP_CHOWN = 0
_CAP_DAC_OVERRIDE = 1
_CAP_DAC_READ_SEARCH = 2
_CAP_KILL = 5
_CAP_SETGID = 6
_CAP_SETUID = 7

# To give folders away, to clean up in them, to signal the server, and to switch user. Docker grants them all.
_REQUIRED = {
    "CHOWN": _CAP_CHOWN,
    "DAC_OVERRIDE": _CAP_DAC_OVERRIDE,
    "KILL": _CAP_KILL,
    "SETGID": _CAP_SETGID,
    "SETUID": _CAP_SETUID,
}


def choose_user(existing: Path) -> tuple[int, int]:
    """Return (uid, gid) of who owns `existing`, or of the first candidate if it does not exist.

    No account is created: a demo should leave nothing behind on the machine but its data folder.
    """
    if existing.exists():
        owner = existing.stat()
        if owner.st_uid == 0:
            raise DataFolderUnusable(
                f"{existing} belongs to root, and PostgreSQL does not run as root; "
                "give it to another user with chown -R or choose another --data-dir."
            )
        return owner.st_uid, owner.st_gid
    for name in CANDIDATES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return entry.pw_uid, entry.pw_gid
    raise DataFolderUnusable(
        "PostgreSQL does not run as root and this machine has no user to run it as; "
        "create one (useradd --system guildhall) or start Guildhall as an ordinary user."
    )


def grant_reach(uid: int, gid: int, *, own: Iterable[Path], needed: Iterable[Path]) -> RunAs:
    """Make sure the user can enter every folder of `own` and `needed`.

    Folders of our `own` are opened to the group for passing through (0710). Folders above them are never
    changed: /root stays closed. Where one is in the way, the service keeps one capability that lets it pass.
    """
    held = _effective_capabilities()
    if missing := [name for name, number in _REQUIRED.items() if not held >> number & 1]:
        raise ServiceFailed(
            f"Guildhall runs as root but without the capabilities ({', '.join(missing)}) "
            "that running PostgreSQL as another user takes; start it as an ordinary user instead."
        )
    own = list(own)
    for folder in own:
        if not _may_enter(folder, uid, gid):
            os.chown(folder, -1, gid)
            folder.chmod(0o710)
    if first_closed([*own, *needed], uid, gid) is None:
        return RunAs(uid=uid, gid=gid)
    # The first only reads and enters, the second writes too; many containers have only the second.
    reads_only = held >> _CAP_DAC_READ_SEARCH & 1
    return RunAs(uid=uid, gid=gid, capability=_CAP_DAC_READ_SEARCH if reads_only else _CAP_DAC_OVERRIDE)


def first_closed(paths: Iterable[Path], uid: int, gid: int) -> Path | None:
    """Return the outermost folder on the way to any of `paths` that the user may not enter."""
    for path in paths:
        for folder in reversed([path, *path.parents]):
            if not _may_enter(folder, uid, gid):
                return folder
    return None


def _may_enter(folder: Path, uid: int, gid: int) -> bool:
    found = folder.stat()
    if found.st_uid == uid:
        return bool(found.st_mode & stat.S_IXUSR)
    if found.st_gid == gid:
        return bool(found.st_mode & stat.S_IXGRP)
    return bool(found.st_mode & stat.S_IXOTH)


def _effective_capabilities() -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0
