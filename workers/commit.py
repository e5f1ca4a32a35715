"""Writing to the broker all at once, if what the writing rests on still stands, and even if the broker is full."""

from collections.abc import Mapping
from typing import cast

from redis import Redis
from redis.client import Pipeline
from redis.typing import EncodableT

_COMMIT = """
for n, key in ipairs(KEYS) do
  if (redis.call('GET', key) or '') ~= ARGV[n + 1] then return 0 end
end
if ARGV[1] == '1' then redis.call('DEL', 'contrafact:no-such-key') end
local at = #KEYS + 2
while at <= #ARGV do
  local last = at + tonumber(ARGV[at])
  redis.call(unpack(ARGV, at + 1, last))
  at = last + 1
end
return 1
"""
"""Compares keys with what was read, then runs commands, each told as its length and its words. No broker refuses a
script for want of memory that has written already, as DEL does, which is never refused; versions before 7 know no other
way. A full broker refuses a script whose first command takes room before that has done anything."""


class Commit:
    """Runs the commands of a transaction in one round trip, all or nothing.

    It compares values, where WATCH would need a round trip of its own before the reading: whoever has read what a
    change rests on, or wrote it, needs no other.

    Args:
        client: A connection.
    """

    def __init__(self, client: Redis) -> None:
        self._script = client.register_script(_COMMIT)

    def __call__(self, basis: Mapping[str, bytes | str | None], pipe: Pipeline, *, even_if_full: bool = False) -> bool:
        """Execute what a pipeline holds; its answers are lost.

        Args:
            basis: Keys of strings and what they have to hold; None: nothing.
            pipe: Commands. Unless they are to be written `even_if_full`, the first is one that takes room.
            even_if_full: For what makes room, though the broker has no memory left.

        Returns:
            False, and nothing is written, if a key holds something else.
        """
        words: list[EncodableT] = []
        for command, _ in cast("list[tuple[tuple[EncodableT, ...], object]]", pipe.command_stack):
            words += [len(command), *command]
        stood = ["" if held is None else held for held in basis.values()]
        return bool(self._script(keys=list(basis), args=[int(even_if_full), *stood, *words]))
