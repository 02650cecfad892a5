"""epgfn: one Bayesian posterior over discrete structures from private data sets that never leave their institutions.

    study = epgfn.load_study("study.toml")
    local = epgfn.train_local(study, epgfn.load_records("north.csv", study), seed=1)
    run = epgfn.load_run("runs/mine")
    run.table, run.model, run.samples, run.audit.ok, run.report()

The names in `__all__` are what a release keeps. Everything else, whatever module it is in, may change with any version.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from epgfn.base.systems import require_supported_system

require_supported_system()  # before anything is imported that exists nowhere else

if TYPE_CHECKING:
    from epgfn import privacy as privacy
    from epgfn import targets as targets
    from epgfn.base import errors as errors
    from epgfn.gflownet import losses as losses
    from epgfn.gflownet import spaces as spaces
    from epgfn.gflownet.training.on_reward import train_reward
    from epgfn.learn.aggregate import train_global
    from epgfn.learn.local import train_local
    from epgfn.learn.model import Model
    from epgfn.learn.samples import Samples
    from epgfn.run.audit.audit import audit_run
    from epgfn.run.model import load_model
    from epgfn.run.report import write_report
    from epgfn.run.result import RunResult, load_run
    from epgfn.study import Study, load_study
    from epgfn.study.records.tables import load_records

    __version__: str

_MODULES = {
    "errors": "epgfn.base.errors",
    "losses": "epgfn.gflownet.losses",
    "privacy": "epgfn.privacy",
    "spaces": "epgfn.gflownet.spaces",
    "targets": "epgfn.targets",
}
_HOMES = {
    "Model": "epgfn.learn.model",
    "RunResult": "epgfn.run.result",
    "Samples": "epgfn.learn.samples",
    "Study": "epgfn.study",
    "audit_run": "epgfn.run.audit.audit",
    "load_model": "epgfn.run.model",
    "load_records": "epgfn.study.records.tables",
    "load_run": "epgfn.run.result",
    "load_study": "epgfn.study",
    "train_global": "epgfn.learn.aggregate",
    "train_local": "epgfn.learn.local",
    "train_reward": "epgfn.gflownet.training.on_reward",
    "write_report": "epgfn.run.report",
}
__all__ = [
    "Model",
    "RunResult",
    "Samples",
    "Study",
    "__version__",
    "audit_run",
    "errors",
    "load_model",
    "load_records",
    "load_run",
    "load_study",
    "losses",
    "privacy",
    "spaces",
    "targets",
    "train_global",
    "train_local",
    "train_reward",
    "write_report",
]


def __getattr__(name: str) -> Any:
    # Loaded on first use: torch takes seconds, and most commands do not need it.
    if name == "__version__":
        from importlib.metadata import version

        return version("epgfn")
    if name in _MODULES:
        return import_module(_MODULES[name])
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'epgfn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
