"""A few jobs through a little chaos; `make chaos` sends a thousand through a greater one."""

from tests.chaos.chaos import VICTIMS, is_held, run
from workers.admission import Rules


def test_jobs_survive_the_death_of_child_worker_and_broker() -> None:
    figures = run(jobs=8, mean_s=3600, victims=VICTIMS)
    assert is_held(figures), figures
    assert figures["kills"] == dict.fromkeys(VICTIMS, 1)
    assert figures["ended"] == {"succeeded": 8}
    assert figures["answers_tallied"] == 8
    again = figures["begun_again_after_child_s"]
    assert again["n"] == 0 or again["max"] < Rules().lease_s, "it waited for its lease to die"
