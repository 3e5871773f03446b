"""A run seeded from another: its best come in and are measured again."""

import dataclasses
import pathlib
import sys

import pytest

from asi_evolve_jax.records.archive import export_archive
from asi_evolve_jax.records.schema import IMPORT
from asi_evolve_jax.roles.seeding import imports
from asi_evolve_jax.settings import SeedSettings, SettingsError

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from loop_kit import Loop


@pytest.fixture(scope="module")
def other(tmp_path_factory):
  loop = Loop(tmp_path_factory.mktemp("other"))
  loop.steps(10)
  archive = loop.folder / "other.zip"
  seal = export_archive(loop.records, archive).seal
  return loop, str(archive), seal


def _seeded(folder, where, best=2):
  return Loop(folder, seed_from=SeedSettings(records=where, best=best))


@pytest.mark.parametrize("zipped", [True, False])
def test_the_best_come_in_once_with_their_origin(other, tmp_path, zipped):
  there, archive, seal = other
  where = archive if zipped else str(there.folder / "records")
  loop = _seeded(tmp_path, where)
  loop.steps(7)
  loop.restart()
  loop.steps(2)
  view = loop.view
  found = [p for p in view.proposals.values() if p.operator == IMPORT]
  ranked = [
    p for p in there.view.ranked("explore") if p not in there.view.baselines
  ]
  assert {p.program for p in found} == set(ranked[:2])
  for proposal in found:
    assert proposal.round == 0
    assert proposal.origin["seal"] == (seal if zipped else "")
    assert proposal.origin["rung"] == "explore"
    score = there.view.score(proposal.program, "explore")
    assert proposal.origin["score"] == score
    # Measured here, not taken over.
    (result, *_) = view.results_of[proposal.program]
    assert result.rung == "quick"
    assert result.cost
    assert result.copied_from == ""
  assert view.proposed() == len([p for p in view.proposals.values() if p.round])


def test_what_cannot_seed_is_refused_with_the_reason(other, tmp_path):
  loop = _seeded(tmp_path, str(tmp_path / "nowhere.zip"))
  loop.researcher.step()
  with pytest.raises(SettingsError, match="no readable archive"):
    loop.researcher.step()
  empty = _seeded(tmp_path / "b", str(tmp_path / "nowhere"))
  with pytest.raises(SettingsError, match="holds no run"):
    imports(empty.settings, empty.track)
  _, archive, _ = other
  wrong = dataclasses.replace(
    _seeded(tmp_path / "c", archive).settings, track="circle_packing"
  )
  with pytest.raises(SettingsError, match="a run of toy, this one is of"):
    imports(wrong, loop.track)


def _bring(folder, *sources):
  """A run into which a person brings the `sources`."""
  folder.mkdir(exist_ok=True)
  files = []
  for number, source in enumerate(sources):
    file = folder / f"my_idea_{number}.py"
    file.write_text(source)
    files.append(str(file))
  return Loop(folder, seed_from=SeedSettings(programs=tuple(files)))


def test_files_of_a_person_come_in_once_and_are_measured(tmp_path):
  source = '{"score": 0.25}\n'
  loop = _bring(tmp_path, source, source)
  loop.steps(8)
  loop.restart()
  loop.steps(2)
  (mine,) = [p for p in loop.view.proposals.values() if p.operator == IMPORT]
  assert (mine.author, mine.name, mine.round) == ("person", "my-idea-0", 0)
  file = tmp_path / "my_idea_0.py"
  assert mine.motivation == f"From the file {file}."
  assert mine.origin == {"file": str(file)}
  (result, *_) = loop.view.results_of[mine.program]
  assert (result.status, result.rung) == ("ok", "quick")
  # What a file says of itself is its motivation.
  file.write_text('"""Half of two."""\n')
  ((_, proposal), *_) = imports(loop.settings, loop.track)
  assert proposal.motivation == "Half of two."


def test_a_file_that_cannot_come_in_is_named(tmp_path):
  broken = _bring(tmp_path / "a", "def f(:\n")
  with pytest.raises(SettingsError, match=r"my_idea_0\.py, which is no Python"):
    imports(broken.settings, broken.track)
  gone = dataclasses.replace(
    broken.settings, seed_from=SeedSettings(programs=("nowhere.py",))
  )
  with pytest.raises(SettingsError, match=r"cannot be read: .*No such file"):
    imports(gone, broken.track)
  baseline = broken.track.baselines()[0]
  known = _bring(tmp_path / "b", baseline.source)
  with pytest.raises(SettingsError, match=f"the baseline {baseline.name}"):
    imports(known.settings, known.track)
