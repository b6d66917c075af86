"""The keys that seal what is kept of people's logins."""

from __future__ import annotations

import os
from pathlib import Path

from adapters.sealing import Sealer, new_key
from domain.errors import ConfigurationInvalid
from guildhall.settings import Settings, secret_of, split_keys


def secret_keys(settings: Settings, data_dir: Path) -> tuple[str, ...]:
    """Return the keys that are set, or a key of our own, which stays in the data folder.

    Raises:
        ConfigurationInvalid: the one in the data folder is none.

    """
    if settings.secret_keys is not None:
        return split_keys(secret_of(settings.secret_keys))
    file = data_dir / "secret-key"
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        keys = split_keys(file.read_text(encoding="utf-8"))
        try:
            Sealer(keys)
        except ConfigurationInvalid as error:
            raise ConfigurationInvalid(
                f"{file}: {error} Without the file there will be a new one, and everybody logs in again."
            ) from error
        return keys
    with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
        opened.write((key := new_key()) + "\n")
    return (key,)
