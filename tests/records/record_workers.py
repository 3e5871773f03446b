"""Processes of tests/records/test_processes.py.

Run as `python record_workers.py <what> <url> [<arguments>]`; prints one line
of JSON at the end, and a line before whatever the test has to wait for.
"""

from __future__ import annotations

import json
import random
import sys
import time

from records_kit import result

from asi_evolve_jax.records import Records, View


def work(url: str, number: str, ttl: str, count: str) -> None:
  """Takes Tasks until `count` have Results; prints those it measured."""
  records = Records.open(url, writer=f"worker{number}")
  view = View("loss", "minimize")
  rng = random.Random(int(number))
  news, cursor = records.follow(kinds=["task", "result"])
  done: list[str] = []
  won = 0
  while True:
    view.update(news)
    pending = view.pending()
    if not pending and len(view.results) >= int(count):
      break
    # From a place of its own, so that eight do not race for the same one.
    place = rng.randrange(len(pending)) if pending else 0
    results = []
    for todo in (pending[place:] + pending[:place])[:8]:
      if records.acquire(todo.id, float(ttl)):
        done.append(todo.id)
        results.append(result(todo, 1.0, worker=records.writer))
    won += sum(records.put(*results))
    if not results:
      time.sleep(0.02)
    news, cursor = records.follow(cursor)
  print(json.dumps({"done": done, "won": won}))


def hold(url: str, task: str, ttl: str) -> None:
  """Acquires `task`, says so, then renews until it is lost; tries to finish."""
  records = Records.open(url, writer="holder")
  lease = records.acquire(task, float(ttl))
  assert lease is not None
  print("held", flush=True)
  while lease.renew():
    time.sleep(0.05)
  todo = records.get("task", task)
  print(json.dumps({"put": records.put(result(todo, 9.0))}))


def fill(url: str, first: str, count: str) -> None:
  """Puts `count` Tasks, says after each commit how many there are."""
  from records_kit import program, task

  records = Records.open(url, writer="filler")
  for n in range(int(first), int(first) + int(count)):
    records.put(program(n), task(n))
    print(n + 1 - int(first), flush=True)


if __name__ == "__main__":
  {"work": work, "hold": hold, "fill": fill}[sys.argv[1]](*sys.argv[2:])
