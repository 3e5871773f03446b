"""Checkpoints: kept while a Task may go on, and as long as the setting says."""

import dataclasses

from asi_evolve_jax.records import View
from asi_evolve_jax.records.schema import REPEAT, Milestone, Result, Task
from asi_evolve_jax.roles.scratch import Scratch

TASK = Task(program="p", rung="quick", seeds=(0,))


def _result(task, status="ok", at=100.0):
  return Result(
    task=task.id,
    program=task.program,
    rung=task.rung,
    seeds=task.seeds,
    purpose=task.purpose,
    attempt=task.attempt,
    status=status,
    created_at=at,
  )


def _filled(tmp_path, keep_s, task=TASK):
  scratch = Scratch(tmp_path, keep_s)
  folder = scratch.of(task)
  (folder / "checkpoints-0").mkdir(parents=True)
  (folder / "checkpoints-0" / "data").write_text("x")
  (folder / "train.log").write_text("x")
  return scratch, folder


def _left(folder):
  return {p.name for p in folder.iterdir()} if folder.exists() else set()


def _view(*records):
  view = View("loss", "minimize", ("quick",))
  view.update(records)
  return view


def test_by_default_they_go_with_the_result(tmp_path):
  scratch, folder = _filled(tmp_path, 0.0)
  scratch.finished(TASK, _result(TASK))
  assert not folder.exists()
  scratch, folder = _filled(tmp_path, 0.0)
  scratch.finished(TASK, _result(TASK, "failed"))
  assert _left(folder) == {"train.log"}


def test_they_are_kept_for_as_long_as_the_setting_says(tmp_path):
  scratch, folder = _filled(tmp_path, 60.0)
  scratch.finished(TASK, _result(TASK))
  view = _view(TASK, _result(TASK))
  scratch.sweep(view, (), now=159.0)
  assert _left(folder) == {"checkpoints-0", "train.log"}
  scratch.sweep(view, (folder,), now=161.0)
  assert _left(folder), "somebody works there"
  scratch.sweep(view, (), now=161.0)
  assert not folder.exists()


def test_a_lost_attempt_keeps_them_for_the_next(tmp_path):
  scratch, folder = _filled(tmp_path, 0.0)
  again = dataclasses.replace(TASK, attempt=1)
  assert scratch.of(again) == folder
  view = _view(TASK, _result(TASK, "lost"), again)
  scratch.sweep(view, (), now=1e9)
  assert _left(folder) == {"checkpoints-0", "train.log"}
  view.update([_result(again, "timeout")])
  scratch.sweep(view, (), now=1e9)
  assert _left(folder) == {"train.log"}


def test_what_a_crash_or_the_end_of_the_search_left_is_swept(tmp_path):
  scratch, folder = _filled(tmp_path, 10.0)
  verify = dataclasses.replace(TASK, purpose="verify")
  _, kept = _filled(tmp_path, 10.0, verify)
  (tmp_path / "somebody-else").mkdir()
  view = _view(TASK, verify)
  scratch.sweep(view, (), now=1e9)
  assert _left(folder)
  ended = Milestone(name="search-ended", by="t", created_at=1e9 - 11)
  view.update([ended])
  scratch.sweep(view, (), now=1e9)
  assert _left(folder) == {"train.log"}
  assert _left(kept) == {"checkpoints-0", "train.log"}
  assert (tmp_path / "somebody-else").exists()


def test_a_repeat_reads_nothing_that_one_before_has_left(tmp_path):
  repeat = dataclasses.replace(TASK, purpose=REPEAT)
  scratch, folder = _filled(tmp_path, 60.0, repeat)
  again = dataclasses.replace(repeat, attempt=1)
  assert scratch.of(again) != folder
