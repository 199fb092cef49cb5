"""Signatures of documents by Ed25519, of the package `cryptography` (`pip install 'rumjax[sign]'`).

A signature says that whoever holds a key has signed these contents; whose key that is, and whether
the contents are true, it does not say.
"""

import os
import pathlib
from collections.abc import Mapping
from typing import Any

from rumjax.archives import reason
from rumjax.errors import InvalidInputError
from rumjax.lab.forgetting import canonical

ALGORITHM = "Ed25519"
SIGNATURE = "signature"
"""The field of a document that its signature is in, and is not of."""
INSTALL = "the package cryptography is not installed: pip install 'rumjax[sign]'"


def generate_key(path: str | os.PathLike[str]) -> str:
    """Makes a key and writes it to a new file, which nobody else may read.

    Args:
      path: of the private key, PEM without a password.

    Returns:
      The public key, 64 hexadecimal digits, to be given to those who verify.

    Raises:
      InvalidInputError: there is a file already, it cannot be written, or `cryptography` is absent.

    Examples:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     public_key = generate_key(f"{folder}/key.pem")
      ...     signed = sign({"kind": "note"}, f"{folder}/key.pem")
      >>> verify(signed, public_key), len(verify(signed | {"kind": "other"}))
      ([], 1)
    """
    ed25519, serialization = _cryptography()
    key = ed25519.Ed25519PrivateKey.generate()
    content = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    file = pathlib.Path(path).expanduser()
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "wb") as opened:
            opened.write(content)
    except OSError as error:
        raise InvalidInputError(
            f"key {file} cannot be written ({reason(error)}); a key is never written over"
        ) from error
    return key.public_key().public_bytes_raw().hex()


def sign(document: Mapping[str, Any], key_path: str | os.PathLike[str]) -> dict[str, Any]:
    """Returns a document with a signature of all else in it, in place of any that it had.

    Args:
      document: JSON-like.
      key_path: of a private key as `generate_key` writes it.

    Raises:
      InvalidInputError: no such key, or `cryptography` is absent.
    """
    ed25519, serialization = _cryptography()
    file = pathlib.Path(key_path).expanduser()
    try:
        key = serialization.load_pem_private_key(file.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:  # the last: it needs a password
        raise InvalidInputError(f"key {file} cannot be read ({reason(error)})") from error
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise InvalidInputError(f"key {file} is not of {ALGORITHM}; make one with generate_key")
    content = _content(document)
    signature = {
        "algorithm": ALGORITHM,
        "public_key": key.public_key().public_bytes_raw().hex(),
        "value": key.sign(canonical.written(content).encode()).hex(),
    }
    return content | {SIGNATURE: signature}


def verify(document: Mapping[str, Any], public_key: str | None = None) -> list[str]:
    """Lists what is wrong with the signature of a document; never raises.

    Args:
      document: perhaps signed.
      public_key: of whom it must be signed by, 64 hexadecimal digits; without it any key will do,
        and a document without a signature too.

    Returns:
      Sentences; none if the signature holds.
    """
    signature = document.get(SIGNATURE)
    if signature is None:
        return [] if public_key is None else ["it is not signed, though a public key was given"]
    fields = {"algorithm", "public_key", "value"}
    if not isinstance(signature, Mapping) or set(signature) != fields:
        return ["its signature has other fields than algorithm, public_key and value"]
    if signature["algorithm"] != ALGORITHM:
        return [f"its signature is of another algorithm than {ALGORITHM}"]
    if public_key is not None and signature["public_key"] != public_key.strip().lower():
        return [f"it is signed with another key, {str(signature['public_key'])[:64]}"]
    try:
        ed25519, _ = _cryptography()
        key = ed25519.Ed25519PublicKey.from_public_bytes(bytes.fromhex(signature["public_key"]))
        key.verify(
            bytes.fromhex(signature["value"]), canonical.written(_content(document)).encode()
        )
    except InvalidInputError as error:
        return [f"its signature cannot be checked: {error}"]
    except Exception:  # of another form, or not of these contents
        return ["its signature is not of these contents"]
    return []


def signer(document: Mapping[str, Any]) -> str | None:
    """Returns the public key that a document says it is signed by; None if it is not signed."""
    signature = document.get(SIGNATURE)
    return None if signature is None else str(signature["public_key"])


def _content(document: Mapping[str, Any]) -> dict[str, Any]:
    """Returns all of a document but its signature."""
    return {name: value for name, value in document.items() if name != SIGNATURE}


def _cryptography() -> tuple[Any, Any]:
    """Returns the two modules of the package that are needed.

    Raises:
      InvalidInputError: it is not installed.
    """
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise InvalidInputError(INSTALL) from error
    return ed25519, serialization
