"""A certificate authority of one installation, and the one certificate that it signs."""

import ipaddress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final, Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFE: Final = timedelta(days=10 * 365)
AUTHORITY_LIFE: Final = timedelta(days=40 * 365)
"""Running servers take a new certificate, but keep the authority that they started with."""

RENEWED_WITHIN: Final = timedelta(days=5 * 365)
"""A certificate with less time left than this is renewed."""

SKEW: Final = timedelta(days=1)
"""Certificates are valid from this long before they are drawn, because a clock may have been fast
and set back."""

LOOPBACK: Final = ipaddress.ip_address("127.0.0.1")

_UNFIT: Final = (
    *(ValueError, TypeError, UnsupportedAlgorithm, InvalidSignature, x509.ExtensionNotFound),
)


@dataclass(frozen=True)
class Certificates:
    """The certificates that both ends of each inner connection show and ask for, as PEM texts.

    `pair` is the certificate and its key in one text, because a file is replaced as a whole.
    Everybody who holds the pair is trusted; nobody else passes a handshake.
    """

    authority: str = ""
    authority_key: str = field(default="", repr=False)
    pair: str = field(default="", repr=False)

    @classmethod
    def draw(cls, now: datetime) -> Self:
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name("stillreel store authority")
        authority = (
            _builder(name, name, key, now - SKEW, now + AUTHORITY_LIFE)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(key, hashes.SHA256())
        )
        return cls(_pem(authority), _key_pem(key), _pair(authority, key, now))

    def renewed(self, now: datetime | None = None, *, keep_authority: bool = False) -> Self:
        """Return these certificates while they are complete and valid; else return new ones.

        Args:
            keep_authority: for running servers: only the pair is renewed, and nothing if the
                authority is damaged or expired.
        """
        now = now or datetime.now(UTC)
        if not self._is_authority_fit(now):
            return self if keep_authority else self.draw(now)
        if self._is_pair_fit(now):
            return self
        authority = x509.load_pem_x509_certificate(self.authority.encode())
        return replace(self, pair=_pair(authority, _load_key(self.authority_key), now))

    def _is_authority_fit(self, now: datetime) -> bool:
        try:
            authority = x509.load_pem_x509_certificate(self.authority.encode())
            authority.verify_directly_issued_by(authority)
            return _lasts(authority, now) and _belongs(authority, _load_key(self.authority_key))
        except _UNFIT:
            return False

    def _is_pair_fit(self, now: datetime) -> bool:
        try:
            authority = x509.load_pem_x509_certificate(self.authority.encode())
            certificate = x509.load_pem_x509_certificate(self.pair.encode())
            certificate.verify_directly_issued_by(authority)
            names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
            is_ours = LOOPBACK in names.value.get_values_for_type(x509.IPAddress)
            is_whole = _belongs(certificate, _load_key(self.pair))
            return is_ours and is_whole and _lasts(certificate, now)
        except _UNFIT:
            return False


def _pair(
    authority: x509.Certificate, authority_key: ec.EllipticCurvePrivateKey, now: datetime
) -> str:
    """Return a new certificate for loopback, for servers and clients alike, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    end = min(now + LIFE, authority.not_valid_after_utc)
    names = x509.SubjectAlternativeName([x509.IPAddress(LOOPBACK), x509.DNSName("localhost")])
    uses = x509.ExtendedKeyUsage(
        [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    )
    certificate = (
        _builder(_name("stillreel store"), authority.subject, key, now - SKEW, end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(names, critical=False)
        .add_extension(uses, critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    return _pem(certificate) + _key_pem(key)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    begin: datetime,
    end: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
    )


def _lasts(certificate: x509.Certificate, now: datetime) -> bool:
    begun = certificate.not_valid_before_utc <= now
    return begun and now + RENEWED_WITHIN < certificate.not_valid_after_utc


def _belongs(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> bool:
    return certificate.public_key() == key.public_key()


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


def _load_key(text: str) -> ec.EllipticCurvePrivateKey:
    """Return the key in a text that may hold a certificate too.

    Raises:
        ValueError: there is no key, or one of another kind.
    """
    begin = text.find("-----BEGIN PRIVATE KEY-----")
    key = serialization.load_pem_private_key(text[max(begin, 0) :].encode(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("it is a key of another kind")
    return key
