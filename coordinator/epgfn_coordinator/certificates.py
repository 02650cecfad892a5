"""The coordinator's own certificates: the server's, and one for its health check, which is a client like any other.

Both are good for a year. `serve` issues them anew, for the same keys, when they end soon or when an address or name in coordinator.toml is
not in the server's. Nodes trust the authority, so that they notice nothing.
"""

from __future__ import annotations

import socket
from datetime import timedelta

from cryptography import x509

from epgfn.base.addresses import ip_of, parse_listening, parse_name
from epgfn.base.errors import UsageError
from epgfn.base.files import read_bytes, write_atomic
from epgfn.base.passphrase import key_passphrase
from epgfn.rpc.certificates import fits
from epgfn.sealing.keys import SigningKey
from epgfn.sealing.pki import CertificateAuthority, make_csr
from epgfn_coordinator import clock, keys
from epgfn_coordinator.home import Config, Home

HEALTH_ID = "coordinator-health"  # the id in the certificate of our own health check; no node may have it
_SOON = timedelta(days=30)


def issue(home: Home, authority: CertificateAuthority, config: Config) -> None:
    """Make both keys and their certificates.

    Raises:
        EpgfnError: a file cannot be written.
    """
    server, health = SigningKey.generate(), SigningKey.generate()
    server.save(home.key(keys.TLS_KEY), key_passphrase())
    # No passphrase: the health check must run without one, and this certificate opens nothing but the health service.
    health.save(home.key(keys.HEALTH_KEY))
    _certify(home, authority, config, server, health)


def names_of(config: Config) -> list[str]:
    """The names and IP addresses under which nodes may reach this coordinator."""
    names = ["localhost", "127.0.0.1"]
    for address in map(parse_listening, (config.address, config.enroll_address)):
        if not address.is_wildcard:
            names.append(address.host)
    for text in (socket.gethostname(), *config.tls_names):
        try:
            names.append(parse_name(text))
        except UsageError:
            continue  # the machine's own name is nobody's choice
    return list(dict.fromkeys(names))


def renew(home: Home, authority: CertificateAuthority, config: Config) -> str:
    """Issue both anew if they end within a month, have not begun, or lack a name of `config`; why, or nothing.

    Raises:
        EpgfnError: a file cannot be read or written.
    """
    now = clock.now()
    raw = [
        read_bytes(home.key(name), "certificate") for name in (keys.TLS_CERTIFICATE, keys.HEALTH_CERTIFICATE)
    ]
    server, health = map(x509.load_pem_x509_certificate, raw)
    missing = [name for name in names_of(config) if not fits(name, server)]
    ends = min(server.not_valid_after_utc, health.not_valid_after_utc)
    begins = max(server.not_valid_before_utc, health.not_valid_before_utc)
    if ends - now < _SOON:
        why = f"the old one ends {ends:%Y-%m-%d}"
    elif now < begins:  # issued while the clock was ahead
        why = f"the old one begins {begins:%Y-%m-%d}"
    elif missing:
        why = f"the old one is not for {', '.join(missing)}"
    else:
        return ""
    server_key = SigningKey.load(home.key(keys.TLS_KEY), key_passphrase())
    _certify(home, authority, config, server_key, SigningKey.load(home.key(keys.HEALTH_KEY)))
    return why


def _certify(
    home: Home, authority: CertificateAuthority, config: Config, server: SigningKey, health: SigningKey
) -> None:
    names = names_of(config)
    dns, ips = [name for name in names if ip_of(name) is None], [name for name in names if ip_of(name)]
    request = make_csr(health, HEALTH_ID)
    write_atomic(home.key(keys.HEALTH_CERTIFICATE), authority.issue_node(request, HEALTH_ID))
    write_atomic(home.key(keys.TLS_CERTIFICATE), authority.issue_server(server, dns, ips))
