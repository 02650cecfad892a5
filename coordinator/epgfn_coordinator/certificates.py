"""The coordinator's certificates: the authority's, the server's, and one for its health check, which is a client like any other.

The last two are good for a year. `serve` issues them anew, for the same keys, when they end soon or when an address or name in
coordinator.toml is not in the server's: at its start, and once an hour. It renews its own authority, for the same key, more than a year
before that ends. Nodes trust the authority's key, so that they notice nothing; they get its new certificate when they renew their own.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509

from epgfn.base.addresses import ip_of, parse_listening, parse_name
from epgfn.base.errors import EpgfnError, UsageError
from epgfn.base.files import read_bytes, write_atomic
from epgfn.base.passphrase import key_passphrase
from epgfn.sealing.keys import SigningKey
from epgfn.sealing.pki import (
    CA_CERTIFICATE,
    CA_KEY,
    RENEW_WITHIN,
    CertificateAuthority,
    ends_at,
    make_csr,
    require_authority,
    same_authority,
)
from epgfn_coordinator import clock, keys
from epgfn_coordinator.clock import spelled
from epgfn_coordinator.home import Config, Home
from epgfn_coordinator.journal import LOG, Journal
from epgfn_coordinator.rounds import options
from epgfn_coordinator.store import Store

HEALTH_ID = "coordinator-health"  # the id in the certificate of our own health check; no node may have it
INSTITUTION_FACT: Final = "institution"
"""There where the authority is an institution's, which nobody but that institution renews."""
LOOK_EVERY: Final = 3600.0  # seconds
WARN_EVERY: Final = 86_400.0


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
    from epgfn.rpc.certificates import fits  # here: `status` needs no gRPC

    now = clock.now()
    raw = [
        read_bytes(home.key(name), "certificate") for name in (keys.TLS_CERTIFICATE, keys.HEALTH_CERTIFICATE)
    ]
    server, health = map(x509.load_pem_x509_certificate, raw)
    missing = [name for name in names_of(config) if not fits(name, server)]
    ends = min(server.not_valid_after_utc, health.not_valid_after_utc)
    begins = max(server.not_valid_before_utc, health.not_valid_before_utc)
    if (
        ends - now < RENEW_WITHIN and ends < authority.ends
    ):  # where it ends with the authority, another would end as soon
        why = f"the old one ends {ends:%Y-%m-%d}"
    elif now < begins:  # issued while the clock was ahead
        why = f"the old one begins {begins:%Y-%m-%d}"
    elif missing:
        why = f"the old one is not for {', '.join(missing)}"
    else:
        return ""
    reissue(home, authority, config)
    return why


def reissue(home: Home, authority: CertificateAuthority, config: Config) -> None:
    """Issue both anew, for the same keys.

    Raises:
        EpgfnError: a file cannot be read or written.
    """
    server_key = SigningKey.load(home.key(keys.TLS_KEY), key_passphrase(home.key(keys.TLS_KEY)))
    _certify(home, authority, config, server_key, SigningKey.load(home.key(keys.HEALTH_KEY)))


def renew_authority(home: Home, store: Store, authority: CertificateAuthority) -> bool:
    """Renew the authority's certificate where it is ours and is to be; whether it was.

    Raises:
        EpgfnError: the file cannot be written.
    """
    if not authority.ends_soon or store.fact(INSTITUTION_FACT) is not None:
        return False
    authority.renew()
    write_atomic(home.keys / CA_CERTIFICATE, authority.certificate_pem)
    return True


def renew_by_hand(home: Home, store: Store, tls_names: list[str], ca: Path | None = None) -> Config:
    """Issue both anew for what coordinator.toml says and `tls_names`, which are added to it; what it says then. A `serve` that runs
    shows them to the next connection. `ca`: another certificate of the institution's authority, of the same name and key.

    Raises:
        UsageError: a name is none, or `ca` is another authority's, or none.
        EpgfnError: a file cannot be read or written, or the authority's key does not open.
    """
    config = Config.load(home.config)
    config = config.with_names(tls_names)
    config.require_addresses()
    if ca is not None:
        _take_over(home, store, ca)
    authority = CertificateAuthority.load(home.keys, key_passphrase(home.keys / CA_KEY))
    config.save(home.config)
    renew_authority(home, store, authority)
    reissue(home, authority, config)
    return config


def _take_over(home: Home, store: Store, ca: Path) -> None:
    pem = require_authority(ca)
    if store.fact(INSTITUTION_FACT) is None:
        raise UsageError("this coordinator has an authority of its own, which serve renews; leave --ca out")
    if not same_authority(pem, read_bytes(home.ca, "certificate")):
        raise UsageError(
            f"the certificate in {ca} is not of the same name and key as the one that nodes trust; have it issued for that key"
        )
    write_atomic(home.ca, pem)


def ends(home: Home, *stores: Store) -> dict[str, datetime]:
    """When each certificate ends: that of the `authority`, the `server`, and of every node by its id that is enrolled in these rounds.

    Raises:
        EpgfnError: a file cannot be read.
    """
    found = {
        "authority": ends_at(read_bytes(home.ca, "certificate")),
        "server": ends_at(read_bytes(home.key(keys.TLS_CERTIFICATE), "certificate")),
    }
    for store in stores:
        for row in store.rows("SELECT node_id, certificate FROM nodes ORDER BY node_id"):
            whose, end = f"node {row['node_id']}", ends_at(bytes(row["certificate"]))
            found[whose] = max(found.get(whose, end), end)
    return found


def warnings(home: Home, *stores: Store) -> list[str]:
    """What to say of certificates that have ended or do so within a month, and what to do, a sentence each."""
    said, now = [], clock.now()
    for whose, end in ends(home, *stores).items():
        if end - now >= RENEW_WITHIN:
            continue
        when = f"the certificate of {whose} {'ended' if end <= now else 'ends'} at {spelled(end)}"
        institutions = whose == "authority" and stores[0].fact(INSTITUTION_FACT) is not None
        what = _INSTITUTION if institutions else _what_to_do(home, whose, ended=end <= now)
        said.append(f"{when}; {what}")
    return said


_INSTITUTION: Final = (
    "have your institution issue another for the same name and key, and give it to epgfn-coordinator renew --ca FILE; nodes get it when "
    "they renew theirs, which they have to do before this one ends"
)


def _what_to_do(home: Home, whose: str, *, ended: bool) -> str:
    if not whose.startswith("node "):
        return f"epgfn-coordinator renew --home {home.shared} issues another, and so does serve"
    node = whose.removeprefix("node ")
    if ended:
        return f"epgfn-coordinator token {node} --renew {options(home)} makes an invitation with which it gets another for the same keys"
    return "it gets another by itself with epgfn-node run, or by epgfn-node renew"


class Upkeep:
    """Renews what `serve` needs and warns of what it cannot renew."""

    def __init__(
        self,
        home: Home,
        authority: CertificateAuthority,
        journal: Journal,
        stores: Callable[[], list[Store]],
    ) -> None:
        """`stores`: of the rounds that are served now."""
        self._home, self._authority, self._journal, self._stores = home, authority, journal, stores
        self._looked = self._warned = float("-inf")

    def look(self) -> None:
        """Call often; once an hour it does something.

        Raises:
            EpgfnError: a file cannot be read or written.
        """
        if time.monotonic() - self._looked < LOOK_EVERY:
            return
        self._looked = time.monotonic()
        self._authority.reread(self._home.keys)
        if renew_authority(self._home, self._stores()[0], self._authority):
            self._journal.decision(
                "certificate", "the authority's certificate is issued anew, for the same key"
            )
        if why := renew(self._home, self._authority, Config.load(self._home.config)):
            self._journal.decision("certificate", f"the server's certificate is issued anew: {why}")
        if time.monotonic() - self._warned >= WARN_EVERY:
            self._warned = time.monotonic()
            for sentence in warnings(self._home, *self._stores()):
                self._journal.decision("certificate-ends", sentence, warn=True)

    def look_if_possible(self) -> None:
        """The same while it serves: what does not work now is said, and tried again in an hour."""
        try:
            self.look()
        except EpgfnError as error:
            LOG.error("certificates: %s", error)


def _certify(
    home: Home, authority: CertificateAuthority, config: Config, server: SigningKey, health: SigningKey
) -> None:
    names = names_of(config)
    dns, ips = [name for name in names if ip_of(name) is None], [name for name in names if ip_of(name)]
    request = make_csr(health, HEALTH_ID)
    write_atomic(home.key(keys.HEALTH_CERTIFICATE), authority.issue_node(request, HEALTH_ID))
    write_atomic(home.key(keys.TLS_CERTIFICATE), authority.issue_server(server, dns, ips))
