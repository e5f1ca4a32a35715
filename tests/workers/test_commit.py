"""What is written together is written whole or not at all, and only if what it rests on still stands."""

import pytest
from redis import Redis
from redis.exceptions import OutOfMemoryError

from workers import private_broker
from workers.commit import Commit


def test_all_commands_are_run_while_their_basis_stands(client: Redis) -> None:
    client.set("basis", "as read")
    pipe = client.pipeline()
    pipe.set("basis", "as written")
    pipe.hset("hash", mapping={"binary": b"\x00\xff", "number": 7})
    assert Commit(client)({"basis": "as read", "nothing": None}, pipe)
    assert client.get("basis") == b"as written"
    assert client.hgetall("hash") == {b"binary": b"\x00\xff", b"number": b"7"}


@pytest.mark.parametrize("basis", [{"basis": "as it was"}, {"basis": None}, {"nothing": "something"}])
def test_none_is_run_where_the_basis_has_changed(client: Redis, basis: dict[str, str | None]) -> None:
    client.set("basis", "as read")
    pipe = client.pipeline()
    pipe.set("basis", "as written")
    assert not Commit(client)(basis, pipe)
    assert client.get("basis") == b"as read"


def test_a_full_broker_runs_none_unless_it_has_to(client: Redis) -> None:
    pipe = client.pipeline()
    pipe.set("first", "x")
    pipe.delete("second")
    client.set("second", "x")
    client.config_set("maxmemory", "1")
    try:
        with pytest.raises(OutOfMemoryError):
            Commit(client)({}, pipe)
        assert (client.exists("first"), client.exists("second")) == (0, 1)
        assert Commit(client)({}, pipe, even_if_full=True)
        assert (client.exists("first"), client.exists("second")) == (1, 0)
    finally:
        client.config_set("maxmemory", private_broker.MAX_MEMORY)


def test_a_broker_that_was_started_anew_learns_the_script_again(client: Redis) -> None:
    commit = Commit(client)
    pipe = client.pipeline()
    pipe.set("key", "x")
    assert commit({}, pipe)
    client.script_flush()
    assert commit({"key": "x"}, pipe)
