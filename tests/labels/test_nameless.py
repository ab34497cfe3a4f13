"""Several people who all leave the notebook's "me" as it is would write one file: whoever opens it after another is told."""

import getpass
import json
import platform
from pathlib import Path

import pytest

from labkit.labels.session import LabelSession
from labkit.labels.store import labels_path, read_log
from tests.labels.helpers import draft, tasks


@pytest.fixture
def rank(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    """Open the board as a user of a machine, rank so many cards; returns what was said on stderr."""

    def at(user: str, host: str, cards: int = 1, labeler: str = "me", **more: object) -> str:
        monkeypatch.setattr(getpass, "getuser", lambda: user)
        monkeypatch.setattr(platform, "node", lambda: host)
        desk = LabelSession(tasks(9), labeler, labels_path(tmp_path, labeler), **more)
        for _ in range(cards):
            desk.submit(draft("c1", "c0 c2"))
        desk.close()
        return capsys.readouterr().err

    return at


def test_whoever_opens_the_labels_of_another_is_told_and_may_go_on(rank, tmp_path: Path) -> None:
    assert rank("ann", "node1") == rank("ann", "node1") == ""
    said = rank("bob", "node1")
    assert said.count("\n") == 1 and "ann on node1" in said and "bob on node1" in said
    assert str(labels_path(tmp_path, "me")) in said and "labeler" in said
    again = rank("ann", "node2")
    assert "bob on node1" in again and "ann on node1" in again, "another machine may be another person too"
    assert "bob on node1" in rank("ann", "node1", cards=0) and "by ann on node1" not in rank("ann", "node1", cards=0)
    assert len(read_log(labels_path(tmp_path, "me")).rankings) == 4, "nobody was refused"


def test_nothing_is_said_of_those_who_only_looked_or_gave_a_name_or_where_nobody_labels(rank) -> None:
    assert rank("ann", "node1", cards=0) == rank("bob", "node2") == ""
    assert rank("ann", "node1", labeler="ada") == rank("bob", "node2", labeler="ada") == ""
    assert rank("cleo", "node3", cards=0, watch=True) == ""


def test_a_log_from_before_tells_machines_only(rank, tmp_path: Path) -> None:
    rank("ann", "node1")
    path = labels_path(tmp_path, "me")
    rows = [{k: v for k, v in json.loads(line).items() if k != "user"} for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert rank("bob", "node1", cards=0) == "", "it may have been bob"
    assert "on node1" in rank("bob", "node2", cards=0)


def test_a_user_without_a_name_labels_all_the_same(rank, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As in a container whose user is a number alone."""

    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found: 1234")

    monkeypatch.setattr(getpass, "getuser", nameless)
    desk = LabelSession(tasks(3), "me", labels_path(tmp_path, "me"))
    assert desk.submit(draft("c1", "c0 c2")).ranking
    desk.close()
    assert f"on {platform.node()}" in rank("ann", "node2")
