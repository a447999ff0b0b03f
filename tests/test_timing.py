"""What an extraction says of its time."""

import time

import pytest

from embedsearch.cli.told import time_spent
from embedsearch.engine.building import build_with_report
from embedsearch.pipeline import timing
from embedsearch.pipeline.timing import NETWORK, READING, STORING, Clock


def test_shares_are_of_the_work_and_the_limit_is_what_was_busy_most(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])
    clock = Clock({READING: 4, NETWORK: 1})
    assert clock.timing() is None
    clock.add(READING, 12.0)  # in four threads: 3 of 10 seconds
    clock.add(NETWORK, 7.0)
    with clock.stage(STORING):
        now[0] += 1.0
    now[0] += 9.0
    found = clock.timing()
    assert found is not None
    assert found.seconds == 10.0
    assert found.shares == pytest.approx({READING: 0.6, NETWORK: 0.35, STORING: 0.05})
    assert found.busy == pytest.approx({READING: 0.3, NETWORK: 0.7, STORING: 0.1})
    assert found.limit == NETWORK
    clock.restart()
    assert clock.timing() is None


def test_a_stage_counts_also_when_it_fails():
    clock = Clock({})
    with pytest.raises(ValueError, match="bad"), clock.stage(READING):
        time.sleep(0.01)
        raise ValueError("bad")
    found = clock.timing()
    assert found is not None
    assert found.shares[READING] == 1.0


def test_a_build_ends_with_what_took_how_long(tmp_path, emoji, capsys):

    folder = tmp_path / "photos"
    folder.mkdir()
    for path in emoji["google"][:10]:
        (folder / path.name).symlink_to(path)
    report = build_with_report(folder, tmp_path / "a", weights="packaged", size=64)
    assert report.timing is not None
    assert report.timing.limit == NETWORK
    assert sum(report.timing.shares.values()) == pytest.approx(1)
    assert all(share > 0 for share in report.timing.shares.values())
    again = build_with_report(folder, tmp_path / "a", weights="packaged", size=64)
    assert again.timing is None
    told = time_spent(report.timing, report.n_new)
    assert "of the work; network was the limit" in told
    assert told.endswith(f"{10 / report.timing.seconds:,.1f} inputs/s over {report.timing.seconds:,.1f} s")
