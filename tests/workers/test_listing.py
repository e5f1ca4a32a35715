"""An owner sees every job of theirs once, newest first, page by page, whatever comes and goes meanwhile."""

from datetime import timedelta

import pytest
from redis import Redis

from tests.workers.examples import NOON, a_job
from workers.errors import CursorUnreadable
from workers.jobs import JobRecord
from workers.jobstore import JobStore


def accept(
    store: JobStore, id_: str, *, minute: int = 0, owner: str | None = "clinic", classifier: str = "toy"
) -> None:
    job = a_job(id_)
    request = job.request.model_copy(update={"classifier_id": classifier})
    when = NOON + timedelta(minutes=minute)
    store.create(job.model_copy(update={"created_at": when, "owner": owner, "request": request}), b"")


def ids(jobs: tuple[JobRecord, ...]) -> list[str]:
    return [job.id for job in jobs]


def test_an_owner_s_own_jobs_come_newest_first(store: JobStore) -> None:
    for minute, id_ in enumerate(("first", "second", "third")):
        accept(store, id_, minute=minute)
    accept(store, "another's", owner="other clinic")
    accept(store, "nobody's", owner=None)
    assert ids(store.jobs_of("clinic").jobs) == ["third", "second", "first"]
    assert ids(store.jobs_of(None).jobs) == ["nobody's"]
    assert store.jobs_of("stranger").jobs == ()


@pytest.mark.parametrize("same_time", [True, False])
def test_pages_join_without_a_gap_or_a_double(store: JobStore, same_time: bool) -> None:
    for number in range(25):
        accept(store, f"job {number:02}", minute=0 if same_time else number)
    seen: list[str] = []
    cursor = None
    while True:
        page = store.jobs_of("clinic", limit=7, cursor=cursor)
        seen += ids(page.jobs)
        if (cursor := page.cursor) is None:
            break
        accept(store, f"newer {len(seen)}", minute=100 + len(seen))
    assert seen == [f"job {number:02}" for number in reversed(range(25))]


def test_many_jobs_of_one_millisecond_are_all_seen(store: JobStore) -> None:
    for number in range(230):
        accept(store, f"{number:03}", owner=None)
    seen: list[str] = []
    cursor = None
    while True:
        page = store.jobs_of(None, limit=30, cursor=cursor)
        seen += ids(page.jobs)
        if (cursor := page.cursor) is None:
            break
    assert seen == [f"{number:03}" for number in reversed(range(230))]


def test_jobs_are_chosen_by_status_and_classifier(store: JobStore) -> None:
    accept(store, "waits")
    accept(store, "runs", minute=1)
    accept(store, "other", minute=2, classifier="other")
    store.start("runs")
    assert ids(store.jobs_of("clinic", status="running").jobs) == ["runs"]
    assert ids(store.jobs_of("clinic", classifier_id="other").jobs) == ["other"]
    assert store.jobs_of("clinic", status="running", classifier_id="other").jobs == ()


def test_a_deleted_job_is_listed_no_more(store: JobStore, client: Redis) -> None:
    accept(store, "gone")
    store.delete("gone")
    assert store.jobs_of("clinic").jobs == ()
    assert client.keys("contrafact:owner:*") == []


@pytest.mark.parametrize("cursor", ["", "x", "!!!", "MTIz", "LTUgam9i", "MTIzIA", "4pyTIGpvYg"])
def test_a_cursor_that_is_none_of_ours_is_refused(store: JobStore, cursor: str) -> None:
    if cursor == "":
        assert store.jobs_of("clinic", cursor=cursor).jobs == ()
        return
    with pytest.raises(CursorUnreadable):
        store.jobs_of("clinic", cursor=cursor)
