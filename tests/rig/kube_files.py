"""The keys, certificates and configurations of a test's API server and its clients."""

from __future__ import annotations

import datetime
import ipaddress
import json
import os
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


def write(path: Path, text: str | bytes, mode: int = 0o600) -> Path:
    """Replaces a file in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.new")
    aside.write_bytes(text.encode() if isinstance(text, str) else text)
    aside.chmod(mode)
    os.replace(aside, path)
    return path


def new_key(path: Path) -> Path:
    """A P-256 key, as PKCS#8."""
    key = ec.generate_private_key(ec.SECP256R1())
    form = serialization.PrivateFormat.PKCS8
    return write(path, key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))


def load_key(path: Path) -> Any:
    """The key of a file."""
    return serialization.load_pem_private_key(path.read_bytes(), None)


def public_key(key: Path, path: Path) -> Path:
    """The public half of a key's file."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return write(path, load_key(key).public_key().public_bytes(serialization.Encoding.PEM, form), 0o644)


class Authority:
    """A root that signs the server's certificate and those of clients (`name` is the user, `groups` its groups)."""

    def __init__(self, folder: Path, name: str) -> None:
        self.certificate = folder / f"{name}.crt"
        self._key = load_key(new_key(folder / f"{name}.key"))
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = self._builder(self._name, self._key.public_key(), datetime.timedelta(days=10))
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        write(
            self.certificate, builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM), 0o644
        )

    def _builder(self, subject: x509.Name, public: Any, life: datetime.timedelta) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + life)
        )

    def server(self, certificate: Path, key: Path, life: datetime.timedelta = datetime.timedelta(days=5)) -> None:
        """A certificate for loopback, and its key when there is none yet."""
        if not key.exists():
            new_key(key)
        names: list[x509.GeneralName] = [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        names += [x509.DNSName(n) for n in ("localhost", "kubernetes.default.svc")]
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kube-apiserver")])
        builder = self._builder(subject, load_key(key).public_key(), life)
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        write(certificate, builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM), 0o644)

    def client(
        self,
        folder: Path,
        name: str,
        groups: tuple[str, ...] = (),
        life: datetime.timedelta = datetime.timedelta(days=5),
    ) -> tuple[Path, Path]:
        """A client's certificate and key."""
        key = new_key(folder / f"client-{name}.key")
        attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
        subject = x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = self._builder(subject, load_key(key).public_key(), life)
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        signed = builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        return write(folder / f"client-{name}.crt", signed), key


def kubeconfig(path: Path, url: str, ca: Path, user: dict[str, Any], ns: str = "default") -> Path:
    """A configuration with one context; `user` as in its format, for example {"token": ...}. JSON is YAML."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "rig", "cluster": {"server": url, "certificate-authority": str(ca)}}],
        "users": [{"name": "user", "user": user}],
        "contexts": [{"name": "rig", "context": {"cluster": "rig", "user": "user", "namespace": ns}}],
        "current-context": "rig",
    }
    return write(path, json.dumps(config, indent=1) + "\n")
