"""What the parties agree on before anyone trains: study.toml, its kinds, and the records it asks for."""

from epgfn.study.study import Study, load_study

__all__ = ["Study", "load_study"]
