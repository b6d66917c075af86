"""Sealing what must not be read where it is kept: Fernet (AES-128-CBC, HMAC-SHA256) with keys to rotate."""

from __future__ import annotations

from collections.abc import Sequence

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from domain.errors import ConfigurationInvalid, SealBroken


class Sealer:
    """Seals with the first key, and opens what any of the keys sealed."""

    def __init__(self, keys: Sequence[str]) -> None:
        """Take the keys; raise ``ConfigurationInvalid`` when one is none. The sentence shows none of them."""
        if not keys:
            raise ConfigurationInvalid("There is no secret key: at least one is needed.")
        fernets = []
        for number, key in enumerate(keys, 1):
            try:
                fernets.append(Fernet(key))
            except ValueError as error:
                raise ConfigurationInvalid(
                    f"Secret key {number} of {len(keys)} is none: a key is 32 random bytes in urlsafe "
                    "base64. `openssl rand -base64 32 | tr '+/' '-_'` makes one."
                ) from error
        self._fernet = MultiFernet(fernets)

    def seal(self, plain: bytes) -> str:
        """Return what only a holder of the key can read, and nobody can change unseen."""
        return self._fernet.encrypt(plain).decode("ascii")

    def open(self, sealed: str) -> bytes:
        """Return what was sealed; raise ``SealBroken`` when no key fits or it was changed."""
        try:
            return self._fernet.decrypt(sealed.encode())
        except InvalidToken as error:
            raise SealBroken from error


def new_key() -> str:
    """Return a key that nobody has."""
    return Fernet.generate_key().decode("ascii")
