"""node.toml: what a container or an operator sets once instead of giving it as an option each time. Options win.

data = "/data/records.csv"      # the records; relative to this file
invite = "/secrets/invitation"  # for `run`
address = "new.example:443"     # instead of the invitation's address, for example where the coordinator has moved
enroll_address = "…"            # likewise for enrolling
accept_study = "<digest>"       # the study the operator has read and accepted
approve_automatically = false   # true: `run` sends without anyone looking first
accept_warnings = false         # true: `run` trains in spite of loud warnings about the records
accept_small_counts = false     # true: a model of categories may leave that tells counts below ten
accept_statistic = false        # true: in a study with shared parameters a statistic of the records may leave beside the model
approvals = 1                   # 2: two persons have to approve a model, each by name, before it leaves
seed = 7                        # of the training; default: the study's seed plus the node's place in the roster
connect_wait = 30               # seconds `run` waits for a coordinator that does not answer yet
privacy_budget_epsilon = 4.0    # differential privacy: the most that all releases about these people together may spend
privacy_budget_delta = 1e-5     # at this delta, for good from the first release on; default: that of the first study
privacy_ledger = "/data/ledger" # folder of the spending log; default: the account's, for whichever home
privacy_population = "ward-b"   # whose records these are, where they are of others than all before: epgfn-node privacy population new
[sum_keys]                      # at the end: fingerprints of the other nodes' signing keys, as they told you; a masked sum
bergen = "<SHA-256>"            # with any other key, or with a node that is not here, is refused
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, StrictBool, ValidationError

from epgfn.base.errors import UsageError
from epgfn.base.files import read_bytes, write_atomic
from epgfn.base.toml import MAX_BYTES, parse_toml
from epgfn_node.home import NodeHome

INHERITED: Final = (
    "data",
    "address",
    "enroll_address",
    "connect_wait",
    "privacy_budget_epsilon",
    "privacy_budget_delta",
    "privacy_ledger",
    "privacy_population",
    "approvals",
    "sum_keys",
)
"""What a round that a node has joined takes from the node's own settings, unless it says otherwise. Nobody agrees to a study, to sending or
to odd records for more than one round."""


class NodeSettings(BaseModel):
    """See the head of this file. An unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: Path | None = None
    invite: Path | None = None
    address: str | None = None
    enroll_address: str | None = None
    accept_study: str | None = None
    approve_automatically: StrictBool = False
    accept_warnings: StrictBool = False
    accept_small_counts: StrictBool = False
    accept_statistic: StrictBool = False
    approvals: Annotated[int, Field(ge=1, le=2)] = 1
    seed: Annotated[int, Field(ge=0, lt=1 << 31)] | None = None
    connect_wait: Annotated[float, Field(ge=0, le=86_400)] = 30.0
    privacy_budget_epsilon: Annotated[float, Field(gt=0, le=60)] | None = None
    privacy_budget_delta: Annotated[float, Field(gt=0, le=1e-2)] | None = None
    privacy_ledger: Path | None = None
    privacy_population: str = ""
    sum_keys: dict[str, Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$")]] = {}

    @classmethod
    def of(cls, home: NodeHome) -> NodeSettings:
        """Those of a node's home; a round that it has joined need not have any.

        Raises:
            UsageError: as `load`.
        """
        if not home.is_joined:
            return cls.load(home.settings)
        node = cls.load(NodeHome(home.base).settings)
        own = cls.load(home.settings) if home.settings.exists() else cls()
        unsaid = [name for name in INHERITED if getattr(own, name) == cls.model_fields[name].default]
        return own.model_copy(update={name: getattr(node, name) for name in unsaid})

    @classmethod
    def load(cls, path: Path) -> NodeSettings:
        """Read node.toml; relative paths in it start from its folder.

        Raises:
            UsageError: missing, not TOML, an unknown key or a value of the wrong type.
        """
        raw = read_bytes(path, "settings file", MAX_BYTES)
        try:
            settings = cls.model_validate(parse_toml(raw))
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise UsageError(
                f"{path}: {where}: {first['msg']}; the keys are {', '.join(cls.model_fields)}"
            ) from None
        except ValueError:
            raise UsageError(f"{path} is not valid TOML in UTF-8; correct it and run again") from None
        folder = path.parent
        return settings.model_copy(
            update={
                "data": folder / settings.data if settings.data else None,
                "invite": folder / settings.invite if settings.invite else None,
                "privacy_ledger": folder / settings.privacy_ledger if settings.privacy_ledger else None,
            }
        )


def write_settings(path: Path, data: Path | None) -> None:
    """A first node.toml, with the path of the records if it is known.

    Raises:
        EpgfnError: it cannot be written.
    """
    values = {} if data is None else {"data": str(data.resolve())}
    head = "# Settings of this node; docs/node.md lists the keys. Options on the command line win.\n"
    write_atomic(path, head.encode("utf-8") + tomli_w.dumps(values).encode("utf-8"))
