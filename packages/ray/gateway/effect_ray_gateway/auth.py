"""Proofs with which both sides show that they know a key without sending it."""

import hashlib
import hmac
import os
import secrets

KEY_BYTES = 32
NONCE_BYTES = 16


def nonce() -> str:
    """Returns 16 random bytes in hex."""
    return secrets.token_hex(NONCE_BYTES)


def token() -> str:
    """Returns a new key: 32 random bytes in hex."""
    return secrets.token_hex(KEY_BYTES)


def proof(key: str, label: str, client_nonce: str, gateway_nonce: str) -> str:
    """Returns the proof of one side. `label` is `gateway` or `client`."""
    message = f"{label}|{client_nonce}|{gateway_nonce}".encode()
    return hmac.new(bytes.fromhex(key), message, hashlib.sha256).hexdigest()


def matches(expected: str, given: object) -> bool:
    """Compares in constant time. A value that is not a string does not match."""
    return isinstance(given, str) and hmac.compare_digest(expected.encode(), given.encode("utf-8", "replace"))


def take_secret(path: str) -> str:
    """Reads the secret and deletes its file, so that it does not stay on the node. Raises `ValueError` if it is not valid."""
    os.chmod(path, 0o600)
    with open(path, encoding="ascii") as file:
        secret = file.read().strip()
    if len(bytes.fromhex(secret)) != KEY_BYTES:
        raise ValueError("the secret is not 32 bytes, hex")
    os.unlink(path)
    return secret
