"""How far a job is is told soon, but not every step of it."""

import threading

from workers.jobs import Progress
from workers.news import News

ENCODE, PREDICT, RENDER = (Progress(stage=stage, percent=10) for stage in ("encode", "predict", "render"))


def test_what_is_overtaken_at_once_is_never_told() -> None:
    told, has_told = list[Progress](), threading.Event()

    def tell(progress: Progress) -> None:
        told.append(progress)
        has_told.set()

    with News(tell, soon_s=0.2) as news:
        for progress in (ENCODE, PREDICT):
            news.put(progress)
        assert has_told.wait(5)
        has_told.clear()
        news.put(RENDER)
        assert has_told.wait(5)
    assert told == [PREDICT, RENDER]


def test_nothing_is_told_after_the_end() -> None:
    told = list[Progress]()
    with News(told.append, soon_s=60) as news:
        news.put(ENCODE)
    assert told == []


def test_nothing_is_told_where_there_is_no_news() -> None:
    told = list[Progress]()
    with News(told.append, soon_s=0):
        threading.Event().wait(0.1)
    assert told == []


def test_what_is_being_told_is_told_before_the_end() -> None:
    is_telling, may_go_on, told = threading.Event(), threading.Event(), list[Progress]()

    def tell(progress: Progress) -> None:
        is_telling.set()
        may_go_on.wait(5)
        told.append(progress)

    with News(tell, soon_s=0) as news:
        news.put(ENCODE)
        assert is_telling.wait(5)
        threading.Timer(0.1, may_go_on.set).start()
    assert told == [ENCODE]
