"""Children that write to an SQLite file until they are killed; run as a script by tests/chaos/test_sqlite_kill.py.

Each line of the input forks a child (so that Python starts only once); its pid is printed, and `dead` when it has
ended. A child prints the id of each key, and each amount of the budget, once it was told that they are written.
"""

from __future__ import annotations

import asyncio
import os
import sys
from itertools import count

from routeiq.ports import SystemClock
from routeiq.state.ledgers import SqlDirectory, SqlDocuments
from routeiq.state.link import Link
from routeiq.state.sqlite import SqliteDatabase
from routeiq.stores import Change, Entity


def say(text: str) -> None:
    """One write to a pipe, so that lines are whole."""
    os.write(1, f"{text}\n".encode())


async def write(path: str, number: int) -> None:
    clock = SystemClock()
    database = SqliteDatabase(path, link=Link("database", clock), clock=clock)
    directory, documents = SqlDirectory(database), SqlDocuments(database)
    for step in count():
        id = f"key_{number:04}_{step:04}"
        key = Entity(
            id=id, kind="key", alias=id, secret_hash=id, body={"metadata": {"a": "b" * 500}}
        )
        await directory.create(key, Change(actor="test", action="keys.create", target=id))
        say(id)
        change = Change(actor="test", action="budget", target="budget")
        document = await documents.write("budget", {"by": id}, change)
        say(f"budget {document.version}")


def main(path: str) -> None:
    for number, _ in enumerate(sys.stdin):
        pid = os.fork()
        if pid == 0:
            asyncio.run(write(path, number))
        say(f"pid {pid}")
        os.waitpid(pid, 0)
        say("dead")


if __name__ == "__main__":
    main(sys.argv[1])
