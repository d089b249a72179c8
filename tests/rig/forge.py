"""Certificates that the product would not make: any names, any usage, any signer, any time."""

from __future__ import annotations

import dataclasses
import datetime
import ipaddress
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from .xds import Credentials

CLIENT, SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH


@dataclasses.dataclass
class Signer:
    """A certificate and its key; by what other certificates are signed, or what a client shows."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    chain: Sequence[x509.Certificate] = ()  # between this one and a root

    @classmethod
    def of(cls, state: Path) -> Signer:
        """The root in a state directory."""
        key = serialization.load_pem_private_key((state / "private.key").read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return cls(x509.load_pem_x509_certificate((state / "ca.crt").read_bytes()), key)

    def credentials(self, roots: bytes | None = None) -> Credentials:
        """What a client shows."""
        pem = serialization.Encoding.PEM
        chain = b"".join(c.public_bytes(pem) for c in (self.certificate, *self.chain))
        key = self.key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return Credentials(chain, key, roots)


def now(**offset: float) -> datetime.datetime:
    """Today, and so many days, hours or seconds later."""
    return datetime.datetime.now(datetime.UTC) + datetime.timedelta(**offset)


def name(*common_names: str) -> x509.Name:
    """A subject of these common names, of any length and content."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text, _validate=False) for text in common_names])


def certificate(
    signer: Signer | None,
    *common_names: str,
    dns: Sequence[str] = (),
    uri: Sequence[str] = (),
    address: Sequence[str] = (),
    usage: Sequence[x509.ObjectIdentifier] | None = (CLIENT,),
    ca: bool | None = False,
    begin: datetime.datetime | None = None,
    end: datetime.datetime | None = None,
    only_below: str | None = None,
    key_id: bool = False,
) -> Signer:
    """Signed by `signer` (None: by itself). `usage` None: no extension; `ca` None: none either. `only_below`: a name
    constraint; `key_id`: with the id of its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = name(*common_names)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(signer.certificate.subject if signer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin or now(hours=-1))
        .not_valid_after(end or now(days=1))
    )
    names: list[x509.GeneralName] = [x509.DNSName(each) for each in dns]
    names += [x509.UniformResourceIdentifier(each) for each in uri]
    names += [x509.IPAddress(ipaddress.ip_address(each)) for each in address]
    if names:
        made = made.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if usage is not None and usage:
        made = made.add_extension(x509.ExtendedKeyUsage(usage), critical=False)
    if only_below:
        constraint = x509.NameConstraints([x509.DNSName(only_below)], None)
        made = made.add_extension(constraint, critical=True)
    if key_id:
        made = made.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    if ca is not None:
        made = made.add_extension(x509.BasicConstraints(ca, None), critical=True)
    if ca:
        flags = dict.fromkeys(
            ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "digital_signature"), False
        )
        usages = x509.KeyUsage(key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False, **flags)
        made = made.add_extension(usages, critical=True)
    signed = made.sign(signer.key if signer else key, hashes.SHA256())
    above = (
        (signer.certificate, *signer.chain)
        if signer and signer.certificate.issuer != signer.certificate.subject
        else ()
    )
    return Signer(signed, key, above)


def proxy_name(uuid: str, account: str, ns: str, trust_domain: str = "cluster.local") -> str:
    """The common name of a proxy."""
    return f"{uuid}.sidecar.{account}.{ns}.{trust_domain}"


def marker(uuid: str, trust_domain: str = "cluster.local") -> str:
    """The URI that marks a proxy."""
    return f"spiffe://{trust_domain}/osm/proxy/{uuid}"
