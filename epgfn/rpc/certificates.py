"""What a server's certificate says: who issued it, for which names, in which time. Read for people; nothing is trusted by it."""

from __future__ import annotations

from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import NameOID

from epgfn.base.addresses import ip_of


def is_issued(certificate: x509.Certificate, ca_pem: bytes) -> bool:
    """Whether the authority `ca_pem` has signed it."""
    try:
        certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(ca_pem))
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def issuer_of(certificate: x509.Certificate) -> str:
    """Who issued it, by its own word."""
    for kind in (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME):
        for attribute in certificate.issuer.get_attributes_for_oid(kind):
            return repr(str(attribute.value)[:80])
    return "somebody without a name"


def _alternatives(certificate: x509.Certificate) -> x509.SubjectAlternativeName | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return None


def names_of(certificate: x509.Certificate) -> list[str]:
    """The host names and IP addresses that it is for, in words where there are none."""
    found = _alternatives(certificate)
    if found is None:
        return ["no name at all"]
    ips = [str(ip) for ip in found.get_values_for_type(x509.IPAddress)]
    return [*found.get_values_for_type(x509.DNSName), *ips] or ["no host at all"]


def fits(host: str, certificate: x509.Certificate) -> bool:
    """Whether the certificate is for `host`: the same name or IP address, or a name with one label more than a *. of it."""
    found = _alternatives(certificate)
    if found is None:
        return False
    ip = ip_of(host)
    if ip is not None:
        return ip in found.get_values_for_type(x509.IPAddress)
    name = host.lower()
    names = [each.lower() for each in found.get_values_for_type(x509.DNSName)]
    return name in names or ("*." + name.partition(".")[2]) in names


def in_words(moment: datetime) -> str:
    """A time to the second, as it is said in sentences."""
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")
