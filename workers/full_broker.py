"""What must be written even while the broker has no memory left: the end of a job, for that makes room again."""

from typing import cast

from redis.client import Pipeline
from redis.typing import EncodableT

_WRITE = """
redis.call('DEL', 'contrafact:no-such-key')
local at = 1
while at <= #ARGV do
  local last = at + tonumber(ARGV[at])
  redis.call(unpack(ARGV, at + 1, last))
  at = last + 1
end
"""
"""Runs commands, each told as its length and its words. No broker refuses a script for want of memory that has written
already, as DEL does, which is never refused; versions before 7 know no other way."""


def execute_even_if_full(pipe: Pipeline) -> None:
    """Execute what a transaction holds, all or nothing, also if the broker is full; its answers are lost."""
    words: list[EncodableT] = []
    for command, _ in cast("list[tuple[tuple[EncodableT, ...], object]]", pipe.command_stack):
        words += [len(command), *command]
    pipe.command_stack.clear()
    pipe.eval(_WRITE, 0, *words)
    pipe.execute()
