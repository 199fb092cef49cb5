"""Signatures of certificates, and what is said where they cannot be made or do not hold."""

import stat
import sys

import pytest

from rumjax.errors import InvalidInputError
from rumjax.lab.forgetting import signing
from rumjax.lab.forgetting.certificate import problems
from tests.lab.forgetting.made_up_certificates import made

DOCUMENT = made()
serialization = pytest.importorskip("cryptography.hazmat.primitives.serialization")
ed25519 = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ed25519")


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    path = tmp_path_factory.mktemp("keys") / "key.pem"
    return path, signing.generate_key(path)


@pytest.fixture(scope="module")
def signed(key):
    return signing.sign(DOCUMENT, key[0])


def test_a_signed_certificate_holds(signed, key):
    assert problems(signed) == []
    assert problems(signed, key[1].upper()) == []
    assert signing.sign(signed, key[0]) == signed
    assert signed | {"signature": None} == DOCUMENT


def test_the_signature_is_that_of_the_library(signed, key):
    content = signing.canonical.written({k: v for k, v in signed.items() if k != "signature"})
    private = serialization.load_pem_private_key(key[0].read_bytes(), None)
    assert private.sign(content.encode()).hex() == signed["signature"]["value"]


def test_a_key_is_secret_and_never_written_over(key):
    assert stat.S_IMODE(key[0].stat().st_mode) == 0o600
    with pytest.raises(InvalidInputError, match="never written over"):
        signing.generate_key(key[0])


def test_every_change_is_found(signed, key, tmp_path):
    other = signing.generate_key(tmp_path / "other.pem")
    for changes, public_key, problem in (
        ({"signature": None}, key[1], "not signed"),
        ({}, other, "signed with another key"),
        ({"batch": 2}, None, "not of these contents"),
        ({"signature": signed["signature"] | {"public_key": other}}, None, "not of these contents"),
        ({"signature": signed["signature"] | {"value": "00" * 64}}, None, "not of these contents"),
        ({"signature": signed["signature"] | {"value": "zz"}}, None, "not of these contents"),
        ({"signature": signed["signature"] | {"algorithm": "RSA"}}, None, "another algorithm"),
        ({"signature": signed["signature"] | {"more": 1}}, None, "signature.more is unknown"),
    ):
        assert any(problem in one for one in problems(signed | changes, public_key)), problem
    assert signing.verify({"signature": []}) == [
        "its signature has other fields than algorithm, public_key and value"
    ]


def test_what_is_no_key_is_refused(tmp_path):
    path = tmp_path / "key.pem"
    locked = ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    with pytest.raises(InvalidInputError, match="cannot be read"):
        signing.sign(DOCUMENT, path)
    for content in (b"", b"no key", locked):
        path.write_bytes(content)
        with pytest.raises(InvalidInputError, match="cannot be read"):
            signing.sign(DOCUMENT, path)


def test_without_the_package_it_is_said_how_to_install_it(signed, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives", None)
    with pytest.raises(InvalidInputError, match=r"pip install 'rumjax\[sign\]'"):
        signing.generate_key(tmp_path / "key.pem")
    assert "cannot be checked" in problems(signed)[0]
    assert problems(DOCUMENT) == []
