"""Archives: equal on the other side, sealed, never half done."""

from __future__ import annotations

import json
import zipfile

import numpy as np
import pytest
from records_kit import analysis, fast, program, proposal, result, task

from asi_evolve_jax.records import View
from asi_evolve_jax.records import archive as archives
from asi_evolve_jax.records.archive import (
  ArchiveError,
  compact,
  export_archive,
  import_archive,
  read_archive,
)


@pytest.fixture
def run(tmp_path):
  """Records of a few rounds, with a blob, an array and a lease."""
  records = fast(tmp_path / "run")
  for n in range(30):
    asked = task(n)
    records.put(program(n), proposal(n), asked)
    records.acquire(asked.id, 20.0)
    records.put(result(asked, float(n)))
    records.put(analysis(result(asked, float(n))))
  records.put(task(99))
  records.put_bytes(b"\x00artifact")
  records.put_array("curves/loss", np.arange(6.0).reshape(2, 3))
  return records


def _all(records) -> dict:
  return {r.key: r for r in records.follow()[0]}


def test_an_archive_is_read_back_equal_elsewhere(run, tmp_path):
  made = export_archive(run, tmp_path / "a.zip")
  assert made.kinds["result"] == 30
  other = fast(tmp_path / "other")
  told = import_archive(other, tmp_path / "a.zip", made.seal)
  assert told.new == made.new == len(_all(run))
  assert _all(other) == _all(run)
  assert other.get_bytes(run.put_bytes(b"\x00artifact")) == b"\x00artifact"
  np.testing.assert_array_equal(
    other.get_array("curves/loss"), run.get_array("curves/loss")
  )
  assert other.leases() == []
  # Equal stores, equal seals, whatever their logs look like.
  again = export_archive(other, tmp_path / "b.zip")
  assert again.seal == made.seal
  first, second = (tmp_path / n for n in ("a.zip", "b.zip"))
  assert first.read_bytes() == second.read_bytes()


def test_import_adds_to_what_is_there_and_is_seen_by_followers(run, tmp_path):
  export_archive(run, tmp_path / "a.zip")
  other = fast(tmp_path / "other")
  kept = run.get("program", program(3).id)
  other.put(kept, program(500))
  _, cursor = other.follow()
  told = import_archive(other, tmp_path / "a.zip")
  assert told.new == len(_all(run)) - 1
  news, _ = other.follow(cursor)
  assert len(news) == told.new
  assert import_archive(other, tmp_path / "a.zip").new == 0


def test_conflicting_content_is_refused_by_key_and_nothing_is_written(
  run, tmp_path
):
  export_archive(run, tmp_path / "a.zip")
  other = fast(tmp_path / "other")
  other.put(program(3, source="y = 2"))
  before = other.store.keys("")
  with pytest.raises(ArchiveError, match=program(3).key):
    import_archive(other, tmp_path / "a.zip")
  assert other.store.keys("") == before


def test_export_overwrites_nothing(run, tmp_path):
  (tmp_path / "a.zip").write_text("mine")
  with pytest.raises(ArchiveError, match="exists"):
    export_archive(run, tmp_path / "a.zip")
  with pytest.raises(ArchiveError, match="no records"):
    export_archive(fast(tmp_path / "empty"), tmp_path / "b.zip")
  assert not (tmp_path / "b.zip").exists()
  with pytest.raises(ArchiveError, match="could not be written"):
    export_archive(run, tmp_path / "nowhere" / "c.zip")


def test_a_damaged_record_is_left_out_and_named(run, tmp_path):
  key = program(2).key
  for name in [key, *run.store.keys("log/")]:
    value, _ = run.store.get(name)
    hurt = value.replace(b'"hash":"%s"' % program(2).id.encode(), b'"hash":2')
    run.store.delete(name)
    run.store.create(name, hurt)
  made = export_archive(fast(tmp_path / "run"), tmp_path / "a.zip")
  assert made.set_aside == (key,)
  assert made.kinds["program"] == 29
  other = fast(tmp_path / "other")
  import_archive(other, tmp_path / "a.zip")
  assert other.get("program", program(2).id) is None


def _rewrite(path, change) -> None:
  """Writes the zip again with `change` made to its members."""
  with zipfile.ZipFile(path) as old:
    members = {n: old.read(n) for n in old.namelist()}
  change(members)
  with zipfile.ZipFile(path, "w") as new:
    for name, data in members.items():
      new.writestr(name, data)


def _tamper_records(members):
  members["records.jsonl"] = members["records.jsonl"].replace(
    b'"loss":29.0', b'"loss":-1.0'
  )


def _tamper_blob(members):
  name = next(n for n in members if n.startswith("blob/"))
  members[name] += b"!"


def _drop_blob(members):
  del members[next(n for n in members if n.startswith("blob/"))]


def _add_member(members):
  members["blob/extra"] = b"x"


def _drop_manifest(members):
  del members["manifest.json"]


def _newer(members):
  manifest = json.loads(members["manifest.json"])
  members["manifest.json"] = json.dumps({**manifest, "format": 9}).encode()


@pytest.mark.parametrize(
  ("change", "said"),
  [
    (_tamper_records, "records.jsonl was changed"),
    (_tamper_blob, "blob/.* was changed"),
    (_drop_blob, "blob/.* is missing from the archive"),
    (_add_member, "blob/extra is missing from manifest.json"),
    (_drop_manifest, "has no manifest.json"),
    (_newer, "newer"),
  ],
)
def test_a_changed_archive_is_refused(run, tmp_path, change, said):
  path = tmp_path / "a.zip"
  export_archive(run, path)
  _rewrite(path, change)
  other = fast(tmp_path / "other")
  with pytest.raises(ArchiveError, match=said):
    import_archive(other, path)
  assert other.store.keys("") == []


def test_the_seal_tells_a_forged_manifest(run, tmp_path):
  """Someone who changes a score and every hash is caught by the seal."""
  path = tmp_path / "a.zip"
  seal = export_archive(run, path).seal

  def forge(members):
    _tamper_records(members)
    manifest = json.loads(members["manifest.json"])
    manifest["sha256"]["records.jsonl"] = archives._sha256(
      members["records.jsonl"]
    )
    members["manifest.json"] = json.dumps(
      manifest, indent=1, sort_keys=True
    ).encode()

  _rewrite(path, forge)
  read_archive(path)  # without the seal nobody can know
  with pytest.raises(ArchiveError, match="seal"):
    read_archive(path, seal)


def test_members_outside_the_store_are_refused(run, tmp_path):
  path = tmp_path / "a.zip"
  export_archive(run, path)

  def smuggle(members):
    members["blob/../../evil"] = b"x"
    manifest = json.loads(members["manifest.json"])
    manifest["sha256"]["blob/../../evil"] = archives._sha256(b"x")
    members["manifest.json"] = json.dumps(manifest).encode()

  _rewrite(path, smuggle)
  with pytest.raises(ArchiveError, match="no place"):
    read_archive(path)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04nonsense", b"x" * 1000])
def test_what_is_no_archive_is_refused(tmp_path, data):
  path = tmp_path / "a.zip"
  path.write_bytes(data)
  with pytest.raises(ArchiveError, match="no readable archive"):
    read_archive(path)
  with pytest.raises(ArchiveError, match="no readable archive"):
    read_archive(tmp_path / "missing.zip")


def test_compact_keeps_every_record_and_open_leases(run, tmp_path):
  follower = fast(tmp_path / "run")
  _, cursor = follower.follow()
  run.acquire(task(99).id, 20.0)
  before = _all(run)
  told = compact(fast(tmp_path / "run"), wait_s=0.0)
  assert told.leases == 30
  assert told.entries_after < told.entries_before / 10
  assert _all(fast(tmp_path / "run")) == before
  assert [h.task for h in run.leases()] == [task(99).id]
  # Open handles go on: nothing twice, and what is new is seen.
  assert follower.reconcile(cursor)[0] == []
  run.put(program(700))
  fast(tmp_path / "run").put(program(701))
  news, cursor = follower.reconcile(cursor)
  assert {r.key for r in news} == {program(700).key, program(701).key}
  assert compact(fast(tmp_path / "run"), wait_s=0.0).leases == 0


def test_compact_killed_in_the_middle_loses_nothing(run, tmp_path):
  before = _all(run)
  broken = fast(tmp_path / "run")
  deleted = []

  def delete(key, generation=None):
    if len(deleted) == 40:
      raise KeyboardInterrupt
    deleted.append(key)
    return type(broken.store).delete(broken.store, key, generation)

  broken.store.delete = delete
  with pytest.raises(KeyboardInterrupt):
    compact(broken, wait_s=0.0)
  assert _all(fast(tmp_path / "run")) == before
  compact(fast(tmp_path / "run"), wait_s=0.0)
  assert _all(fast(tmp_path / "run")) == before


@pytest.mark.parametrize("what", ["put", "renew", "acquire"])
def test_compact_refuses_while_somebody_writes(run, tmp_path, what):
  lease = run.acquire(task(99).id, 20.0)
  act = {
    "put": lambda: run.put(program(800)),
    "renew": lease.renew,
    "acquire": lambda: run.acquire("another", 20.0),
  }[what]
  before = _all(run)
  with pytest.raises(ArchiveError, match="being written"):
    compact(fast(tmp_path / "run"), wait_s=0.0, sleep=lambda _: act())
  assert before.items() <= _all(run).items()


def test_a_view_of_the_imported_run_says_the_same(run, tmp_path):
  export_archive(run, tmp_path / "a.zip")
  other = fast(tmp_path / "other")
  import_archive(other, tmp_path / "a.zip")
  views = []
  for records in (run, other):
    view = View("loss", "minimize")
    view.update(records.follow()[0])
    views.append((view.ranked("quick"), view.rounds(), view.elapsed()))
  assert views[0] == views[1]
