"""Islands with MAP-Elites, against each fault of the released sampler."""

import collections
import dataclasses
import os
import random
import subprocess
import sys
import types

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asi_evolve_jax.records import schema
from asi_evolve_jax.records.views import View
from asi_evolve_jax.search.islands import cell_of, grid_of, settle
from asi_evolve_jax.search.registry import check, make_sampler
from asi_evolve_jax.search.simulation import RUNG, node
from asi_evolve_jax.settings import (
  IslandSettings,
  SamplerSettings,
  SettingsError,
)
from asi_evolve_jax.tracks.base import Axis

KIND = Axis("kind")
AXES = (KIND, Axis("size", (1.0, 2.0)))


def node_at(number, score, kind="a", island=0, **more):
  return node(
    f"p{number:03d}",
    score,
    round_number=number,
    island=island,
    genome={"kind": kind},
    **more,
  )


def view_of(*nodes, direction="maximize"):
  view = View("score", direction)
  for records in nodes:
    view.update(records)
  return view


def sampler(seed=0, axes=AXES, **changes):
  islands = IslandSettings(**{"count": 2, "every": 5, **changes})
  found = SamplerSettings(name="islands", islands=islands)
  return make_sampler(found, random.Random(seed), axes)


def parents(view, count=300, round_number=1, **changes):
  drawing = sampler(**changes)
  return collections.Counter(
    drawing.sample(view, RUNG, round_number=round_number).parent
    for _ in range(count)
  )


def test_the_grid_is_read_and_a_cell_keeps_its_best():
  # The released one fills a feature map that sampling never looks at.
  nodes = [
    node_at(1, 1.0, "a"),
    node_at(2, 3.0, "a"),
    node_at(3, 2.0, "a"),
    node_at(4, 0.5, "b"),
  ]
  # Island 0, whichever of them came last.
  for order in (nodes, nodes[::-1]):
    assert set(parents(view_of(*order))) == {"p002", "p004"}
  # Its best is replaced at once: released, island_best is set for good.
  better = view_of(*nodes, node_at(5, 9.0, "b"))
  drawn = parents(better, exploit=1.0, explore=0.0)
  assert set(drawn) == {"p005"}
  assert set(parents(better)) == {"p002", "p005"}
  # References are read off the same grid.
  sample = sampler().sample(better, RUNG)
  assert {sample.parent, *sample.references} == {"p002", "p005"}


def test_draws_follow_their_shares():
  view = view_of(*(node_at(i, float(i), str(i)) for i in range(1, 5)))
  count = 2000

  def share(**changes):
    drawn = parents(view, count, **changes)
    return [drawn[f"p00{i}"] / count for i in range(4, 0, -1)]

  even = share(exploit=0.0, explore=1.0)
  ranked = share(exploit=0.0, explore=0.0)
  mixed = share(exploit=0.5, explore=0.5)
  error = 5 * 0.5 / count**0.5  # five standard deviations at most
  assert even == pytest.approx([0.25] * 4, abs=error)
  assert ranked == pytest.approx([0.4, 0.3, 0.2, 0.1], abs=error)
  assert mixed == pytest.approx([0.625, 0.125, 0.125, 0.125], abs=error)


@pytest.mark.parametrize("shift", [0.0, -1000.0])
def test_scores_of_any_sign_are_told_apart(shift):
  # The released one takes max(score, 0.001) for a weight.
  view = view_of(*(node_at(i, i / 100 + shift, str(i)) for i in range(1, 21)))
  drawn = parents(view, 600)
  assert drawn["p020"] > 0.25 * 600
  upper = sum(drawn[f"p{i:03d}"] for i in range(11, 21))
  assert upper > 0.6 * 600
  down = view_of(
    *(node_at(i, -i / 100 - shift, str(i)) for i in range(1, 21)),
    direction="minimize",
  )
  assert parents(down, 600) == drawn


def test_the_archive_evicts_and_takes_no_failure():
  # Released: `if len(archive) > size: pass`, failures included.
  nodes = [node_at(i, float(i), str(i)) for i in range(1, 31)]
  failed = schema.Result(
    task="broken",
    program="p031",
    rung=RUNG,
    seeds=(0,),
    purpose=schema.SEARCH,
    status=schema.FAILED,
  )
  view = view_of(*nodes, [node_at(31, 99.0)[0], failed])
  assert set(parents(view, archive=5, explore=1.0, exploit=0.0)) == {
    f"p{i:03d}" for i in range(26, 31)
  }


def test_a_child_lives_where_its_parent_was_drawn():
  # Released, the current island moves on between the draw and the child.
  drawing = sampler(count=3, every=1000)
  view = view_of(*(node_at(0, 1.0, k)[:2] for k in ("root",)))
  lives = {"p000": {0, 1, 2}}
  for number in range(1, 61):
    sample = drawing.sample(view, RUNG, round_number=number)
    assert sample.island == (number - 1) % 3
    assert sample.island in lives[sample.parent]
    for other in sample.references:
      assert sample.island in lives[other]
    records = node_at(
      number,
      float(number % 7),
      str(number % 5),
      sample.island,
      parent=sample.parent,
    )
    view.update(records)
    lives[f"p{number:03d}"] = {sample.island}
  assert view.visits["p000"] < 20


def test_the_best_settle_next_door_when_it_is_time():
  founders = [node_at(0, 0.0)]
  # Islands 0 to 3, one round each; then the second round of island 0.
  born = [node_at(i, float(i), str(i), i - 1) for i in range(1, 5)]
  late = [node_at(5, 9.0, "late", 0)]
  view = view_of(*founders, *born, *late)
  islands = IslandSettings(count=4, every=1)
  archive = view.ranked(RUNG)

  def homes(round_number, **changes):
    changed = dataclasses.replace(islands, **changes)
    found = settle(view, archive, changed, round_number)
    return ["".join(p[-1] for p in who) for who in found]

  # Nobody moves before the four rounds are over; 0 lives everywhere.
  assert homes(4) == ["510", "20", "30", "40"]
  # Then 1 goes to islands 1 and 3, 2 to 0 and 2, and so on around the ring;
  # 5, born later, stays where it is.
  assert homes(5) == ["54210", "3210", "4320", "4310"]
  # A round of all islands later the best of each, guests too, move on.
  assert homes(9) == ["543210", "543210", "4320", "54310"]
  assert homes(9, migrants=0) == ["510", "20", "30", "40"]
  assert homes(9, count=1) == ["543210"]


histories = st.lists(
  st.tuples(
    st.integers(0, 12),  # round; several Programs may share one
    st.integers(-3, 3),  # score, with ties
    st.sampled_from("abc"),
    st.integers(0, 3),
    st.sampled_from((0.0, 1.5, None)),
  ),
  min_size=1,
  max_size=14,
)


def _records(history):
  records = []
  for i, (number, score, kind, island, size) in enumerate(history):
    records += node(
      f"p{i:03d}",
      float(score),
      round_number=number,
      island=island,
      genome={"kind": kind},
      numbers={} if size is None else {"size": size},
    )
  return records


def _naive(view, archive, count, every, migrants, round_number):
  """Plays the rounds one after another, with nothing clever."""
  homes = [set() for _ in range(count)]
  for now in range(round_number):
    if now and now % (every * count) == 0 and now < round_number:
      best = [[p for p in archive if p in who][:migrants] for who in homes]
      for island in range(count):
        for step in (-1, 1):
          homes[(island + step) % count] |= set(best[island])
    # Rounds now * 1 + 1 are proposed after the migration.
    for program in archive:
      proposal = view.proposal_of[program]
      if proposal.round == 0:
        for who in homes:
          who.add(program)
      elif proposal.round == now + 1:
        homes[proposal.island % count].add(program)
  for program in archive:  # rounds that other Researchers are ahead by
    proposal = view.proposal_of[program]
    if proposal.round > round_number:
      homes[proposal.island % count].add(program)
  return [[p for p in archive if p in who] for who in homes]


@settings(max_examples=60, deadline=None)
@given(
  history=histories,
  count=st.integers(1, 4),
  every=st.integers(1, 3),
  migrants=st.integers(0, 2),
  round_number=st.integers(1, 14),
  seed=st.integers(0, 99),
)
def test_islands_follow_from_the_records_in_any_order(
  history, count, every, migrants, round_number, seed
):
  # Released: migrants are back home after a resume, and a rebuilt cell keeps
  # the latest Program, not the best.
  records = _records(history)
  view = view_of(records)
  random.Random(seed).shuffle(records)
  again = view_of(records)
  islands = IslandSettings(count=count, every=every, migrants=migrants)
  archive = view.ranked(RUNG)
  homes = settle(view, archive, islands, round_number)
  assert homes == settle(again, again.ranked(RUNG), islands, round_number)
  assert homes == _naive(view, archive, count, every, migrants, round_number)
  rank = {program: i for i, program in enumerate(archive)}
  for who in homes:
    cells = {p: cell_of(view, p, RUNG, AXES) for p in who}
    assert cells == {p: cell_of(again, p, RUNG, AXES) for p in who}
    grid = grid_of(who, cells)
    assert set(grid) == set(cells.values())
    for program, cell in cells.items():
      assert rank[grid[cell]] <= rank[program]
  one, other = (
    make_sampler(
      SamplerSettings(name="islands", islands=islands),
      random.Random(seed),
      AXES,
    ).sample(v, RUNG, round_number=round_number)
    for v in (view, again)
  )
  assert one == other


def test_cells_name_genes_numbers_and_sizes_of_sources():
  view = view_of(
    node_at(1, 1.0, "a", numbers={"size": 2.0}),
    node_at(2, 1.0, "b"),
    node("written", 1.0, round_number=3, numbers={"size": 0.5}),
  )
  # Nine lines, blank ones aside.
  source = "\n\n".join(f"x{i} = {i}" for i in range(9))
  view.update([schema.Program(hash="written", track="t", source=source)])
  assert cell_of(view, "p001", RUNG, AXES) == ("a", "2")
  assert cell_of(view, "p002", RUNG, AXES) == ("b", "")
  assert cell_of(view, "written", RUNG, AXES) == ("4 bits of lines", "0")


def test_a_reported_number_is_a_bin_too():
  proposal, result = node_at(1, 1.0)
  report = {"size": 1.2}
  view = view_of([proposal, dataclasses.replace(result, report=report)])
  assert cell_of(view, "p001", RUNG, AXES) == ("a", "1")


def test_no_draw_hangs_on_the_hash_seed():
  # Released: a cache keyed by the salted hash of text, and no seed anywhere.
  code = """
import random
from asi_evolve_jax.records.views import View
from asi_evolve_jax.search.registry import make_sampler
from asi_evolve_jax.search.simulation import RUNG, node
from asi_evolve_jax.settings import SamplerSettings
from asi_evolve_jax.tracks.base import Axis

view = View("score", "maximize")
for i in range(1, 20):
  genome = {"kind": "abc"[i % 3]}
  view.update(node(f"p{i}", i % 5, round_number=i, genome=genome))
settings = SamplerSettings(name="islands")
drawing = make_sampler(settings, random.Random(7), (Axis("kind"),))
found = [drawing.sample(view, RUNG, round_number=r) for r in range(1, 30)]
"""
  here: dict = {}
  exec(code, here)
  there = subprocess.run(
    [sys.executable, "-c", code + "print(found)"],
    env={**os.environ, "PYTHONHASHSEED": "1"},
    capture_output=True,
    text=True,
    check=True,
    timeout=60,
  )
  assert there.stdout.strip() == str(here["found"])


def test_settings_that_cannot_work_are_refused():
  with pytest.raises(SettingsError, match="count, every and archive"):
    IslandSettings(count=0)
  with pytest.raises(SettingsError, match="together 1 at most"):
    IslandSettings(explore=0.6, exploit=0.6)
  flat = types.SimpleNamespace(name="flat", axes=lambda: ())
  check(SamplerSettings(), flat)
  with pytest.raises(SettingsError, match="track flat has no axes"):
    check(SamplerSettings(name="islands"), flat)
