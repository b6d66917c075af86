"""Which user a service runs as when we are root and it refuses to be, and how it reaches its folders."""

import os
import pwd
import stat
from collections.abc import Iterable
from pathlib import Path

from adapters.child_process import RunAs
from domain.errors import DataFolderUnusable

# Tried in this order for a new data folder; the last exists on every Linux.
CANDIDATES = ("guildhall", "postgres", "nobody")

# linux/capability.h. The first reads and enters; containers often have only the second, which writes as well.
_CAP_DAC_READ_SEARCH = 2
_CAP_DAC_OVERRIDE = 1


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
    own = list(own)
    for folder in own:
        if not _may_enter(folder, uid, gid):
            os.chown(folder, -1, gid)
            folder.chmod(0o710)
    closed = first_closed([*own, *needed], uid, gid)
    if closed is None:
        return RunAs(uid=uid, gid=gid)
    held = _effective_capabilities()
    for capability in (_CAP_DAC_READ_SEARCH, _CAP_DAC_OVERRIDE):
        if held >> capability & 1:
            return RunAs(uid=uid, gid=gid, capability=capability)
    raise DataFolderUnusable(
        f"PostgreSQL runs as user {uid} and may not enter {closed}; "
        "choose a --data-dir that user can reach, such as /var/lib/guildhall, "
        "or start Guildhall as an ordinary user."
    )


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
