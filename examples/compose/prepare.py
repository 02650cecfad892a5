"""Fill deploy/ for the docker-compose.yml beside this: a study for three nodes, parts of the example data, and fresh passphrases.

Run through `make compose-prepare`. The folder is readable by its owner only. What lies inside must be readable by the containers'
user, who is not root, so the protection is that of the folder.
"""

from __future__ import annotations

import secrets
from pathlib import Path

from epgfn.base.files import write_atomic
from epgfn.demo.demo import example_dir, node_names
from epgfn.study import Study
from epgfn.study.records.tables import split_table

NODES = 3
SEED = 1
UP = "docker compose -f examples/compose/docker-compose.yml --project-directory ."


def main() -> None:
    deploy = Path("deploy")
    if deploy.exists():
        raise SystemExit(
            f"deploy/ exists already; remove it first to start anew (and run: {UP} down --volumes)"
        )
    deploy.mkdir(mode=0o700)
    source, names = example_dir(), node_names(NODES)
    study = Study.load(source / "study.toml").with_changes(
        {"roster": names, "aggregation": {"quorum": NODES}}
    )
    write_atomic(deploy / "study.toml", study.raw)
    for name, part in zip(names, split_table(source / "sachs.csv", NODES, SEED), strict=True):
        write_atomic(deploy / "data" / f"{name}.csv", part.to_csv(index=False).encode(), mode=0o444)
        shared_folder(deploy / "invitations" / name)
    for party in ["coordinator", *names]:
        write_atomic(deploy / "secrets" / party, secrets.token_urlsafe(32).encode(), mode=0o444)
    shared_folder(deploy / "out")
    # Accepting the study is the operator's act; here one person is all operators at once.
    write_atomic(Path(".env"), f"EPGFN_ACCEPT_STUDY={study.digest}\n".encode())
    print(f"deploy/ is ready; the accepted study is {study.digest}\nnext: {UP} up --build")


def shared_folder(path: Path) -> None:
    """A folder that the containers' user may write to."""
    path.mkdir(parents=True)
    path.chmod(0o777)


if __name__ == "__main__":
    main()
