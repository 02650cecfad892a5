"""Another key in the place of the coordinator's signing key signs nothing: nodes would refuse all of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from coordinator_client import make_home, tiny_study
from epgfn.base.errors import EpgfnError
from epgfn.base.files import write_atomic
from epgfn.sealing.keys import SigningKey
from epgfn_coordinator.initialise import add
from epgfn_coordinator.keys import Keys
from epgfn_coordinator.signing import SIGNING_KEY, SIGNING_PUBLIC
from parties import on_coordinator


def test_a_home_with_another_signing_key_neither_serves_nor_opens_a_round(tmp_path: Path) -> None:
    study = tiny_study()
    home = make_home(tmp_path / "coordinator", study)
    second = home.further(add(home, study, "second")[0])
    kept = tmp_path / "kept"
    shutil.copytree(home.keys, kept)
    other = SigningKey.generate()
    other.save(home.key(SIGNING_KEY))
    write_atomic(home.key(SIGNING_PUBLIC), other.public.pem)
    for each in (home, second):
        with pytest.raises(EpgfnError, match="nodes trust no other; restore it from a backup, or"):
            Keys.load(each)
    with pytest.raises(EpgfnError, match="nodes trust no other"):
        add(home, study, "third")
    assert not home.further("third").root.exists()
    done = on_coordinator("serve", "--home", str(home.root))
    assert done.returncode == 1 and "nodes trust no other" in done.stderr, done.stderr
    shutil.copytree(kept, home.keys, dirs_exist_ok=True)
    assert add(home, study, "third") == ("third", True)
