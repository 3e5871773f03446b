"""The Analyzer on real records."""

import itertools
import random

import pytest
from lessons_run import SETTINGS, SPACE, TRACK, Run, all_of, drain, genomes

from asi_evolve_jax.evaluation.statistics import feature_effects
from asi_evolve_jax.records import Records, schema
from asi_evolve_jax.roles.analyzer import Analyzer
from asi_evolve_jax.roles.effects import EffectTable, SeedNoise


@pytest.fixture(name="records")
def _records(tmp_path):
  return Records.open(tmp_path / "records")


@pytest.fixture(name="run")
def _run(records):
  return Run(records)


def analyzer(records):
  return Analyzer(records, SETTINGS, TRACK)


def set_decay(old, new):
  return ({"gene": "decay", "old": old, "new": new, "why": "test"},)


def test_one_seed_gives_the_difference_and_no_interval(records, run):
  parent = run.propose("deltanet", author="baseline")
  run.measure(parent, {0: 2.30})
  child = run.propose(
    "gdn", parents=(parent,), changes=set_decay("none", "scalar")
  )
  task = run.measure(child, {0: 2.20})
  assert drain(analyzer(records)) == 1
  (analysis,) = all_of(records, "analysis")
  assert analysis.program == child
  assert analysis.results == (task,)
  (comparison,) = analysis.comparisons
  assert comparison["parent"] == parent
  # Less is better here: a lower score is a positive effect.
  assert comparison["effect"] == pytest.approx(0.1)
  assert comparison["low"] is None
  assert comparison["better"] is None
  assert "better than parent deltanet by 0.1" in analysis.text
  assert "one seed: no interval" in analysis.text
  assert "decay=scalar" in analysis.text


def test_paired_seeds_give_a_t_interval(records, run):
  parent = run.propose("p", author="baseline")
  run.measure(parent, {0: 2.30, 1: 2.34, 2: 2.29})
  child = run.propose("c", parents=(parent,))
  run.measure(child, {0: 2.25, 1: 2.30, 2: 2.23})
  drain(analyzer(records))
  (comparison,) = all_of(records, "analysis")[0].comparisons
  # Gains 0.05, 0.04, 0.06: mean 0.05, s 0.01, t(0.975, 2) 4.30265.
  half = 4.302652729911275 * 0.01 / 3**0.5
  assert comparison["effect"] == pytest.approx(0.05)
  assert comparison["low"] == pytest.approx(0.05 - half)
  assert comparison["high"] == pytest.approx(0.05 + half)
  assert comparison["better"] is True
  assert comparison["seeds"] == [0, 1, 2]


def test_one_seed_uses_the_noise_of_programs_with_several(records, run):
  parent = run.propose("p", author="baseline")
  run.measure(parent, {0: 2.30, 1: 2.31, 2: 2.32})
  for name, score in (("near", 2.29), ("far", 2.00)):
    child = run.propose(name, parents=(parent,))
    run.measure(child, {0: score})
  drain(analyzer(records))
  near, far = all_of(records, "analysis")
  assert near.comparisons[0]["better"] is None
  assert "inside the noise floor" in near.text
  assert far.comparisons[0]["better"] is True
  assert far.comparisons[0]["basis"] == "seed noise"


def test_seed_noise_is_pooled_and_replaced():
  noise = SeedNoise()
  noise.observe("a", {0: 1.0})
  assert noise.margin() is None
  noise.observe("a", {0: 1.0, 1: 3.0})
  noise.observe("b", {0: 5.0, 1: 5.0})
  # Squares 2 over 2 degrees: s = 1; t(0.975, 2) * sqrt(2).
  assert noise.margin() == pytest.approx(4.302652729911275 * 2**0.5)
  noise.observe("a", {0: 2.0, 1: 2.0})
  assert noise.margin() == pytest.approx(0.0, abs=1e-12)
  assert noise.programs == 2


def test_asks_once_for_a_missing_parent_seed_at_the_same_rung(records, run):
  parent = run.propose("p", author="baseline")
  run.measure(parent, {0: 2.3})
  child = run.propose("c", parents=(parent,))
  run.measure(child, {0: 2.2, 1: 2.2})
  drain(analyzer(records))
  drain(analyzer(records))  # another one, from the start
  (pair,) = [t for t in all_of(records, "task") if t.purpose == schema.PAIR]
  assert (pair.program, pair.rung, pair.seeds) == (parent, "quick", (1,))
  # The missing seed arrives: the child is analysed again, with an interval.
  run.measure(parent, {1: 2.31}, purpose=schema.PAIR)
  drain(analyzer(records))
  first, second = all_of(records, "analysis")
  assert first.comparisons[0]["low"] is None
  assert second.comparisons[0]["low"] is not None
  assert pair.id in second.results


def test_does_not_take_a_parent_to_a_rung_it_never_reached(records, run):
  parent = run.propose("p", author="baseline")
  run.measure(parent, {0: 2.3})
  child = run.propose("c", parents=(parent,))
  run.measure(child, {0: 2.2})
  run.measure(child, {0: 2.0}, rung="explore")
  drain(analyzer(records))
  assert not [t for t in all_of(records, "task") if t.purpose == schema.PAIR]
  (analysis,) = all_of(records, "analysis")
  assert [c["rung"] for c in analysis.comparisons] == ["quick"]


def test_nothing_is_asked_for_after_the_search_ended(records, run):
  parent = run.propose("p", author="baseline")
  run.measure(parent, {0: 2.3})
  child = run.propose("c", parents=(parent,))
  run.measure(child, {0: 2.2, 1: 2.2})
  records.put(schema.Milestone(name="search-ended", by="test"))
  drain(analyzer(records))
  assert not [t for t in all_of(records, "task") if t.purpose == schema.PAIR]


@pytest.mark.parametrize(
  ("fields", "says"),
  [
    (
      {"status": schema.REJECTED, "gate": "causality", "error": "y[3] moved"},
      "rejected by gate causality: y[3] moved",
    ),
    ({"status": schema.FAILED, "error": "NameError: x"}, "NameError: x"),
    ({"status": schema.TIMEOUT}, "timeout"),
  ],
)
def test_a_failure_is_a_lesson_and_not_a_score(records, run, fields, says):
  parent = run.propose("p", author="baseline")
  run.measure(parent, {0: 2.3})
  child = run.propose("c", parents=(parent,))
  run.end(child, **fields)
  drain(analyzer(records))
  (analysis,) = all_of(records, "analysis")
  assert says in analysis.text
  assert any(says in lesson for lesson in analysis.lessons)
  assert analysis.comparisons == ()


def test_lost_and_verified_results_are_left_alone(records, run):
  child = run.propose("c", parents=("0" * 32,))
  run.end(child, status=schema.LOST)
  run.measure(child, {7: 1.0}, rung="quick", purpose=schema.VERIFY)
  assert drain(analyzer(records)) == 0


def measure_space(run, noise, count=None, seed=0):
  """Measures genomes with known effects: scalar 0.2, delta 0.1, conv 0.05."""
  rng = random.Random(seed)
  gains = {"decay=scalar": 0.2, "update=delta": 0.1, "conv=4": 0.05}
  parent = run.propose("root", SPACE.repair({}), author="baseline")
  run.measure(parent, {0: 2.5})
  chosen = genomes()[1:]
  rng.shuffle(chosen)
  for number, genome in enumerate(chosen[:count]):
    child = run.propose(
      f"g{number}",
      genome,
      parents=(parent,),
      changes=set_decay("none", genome["decay"]),
    )
    score = 2.5 - sum(gains.get(f, 0.0) for f in SPACE.features(genome))
    run.measure(child, {0: score + rng.gauss(0, noise)})


def test_effects_over_the_history_find_what_helps(records, run):
  measure_space(run, noise=0.005)
  drain(analyzer(records))
  analyses = all_of(records, "analysis")
  effects = {e["feature"]: e for e in analyses[-1].effects}
  assert effects["decay=scalar"]["low"] > 0
  assert effects["update=delta"]["low"] > 0
  assert effects["update=additive"]["high"] < 0
  assert effects["norm=rms"]["low"] < 0 < effects["norm=rms"]["high"]
  assert effects["decay=scalar"]["rung"] == "quick"
  # What the child changed is always there.
  for analysis in analyses[-3:]:
    changed = analysis.text.split("Changed ")[1].split(".")[0]
    assert changed in {e["feature"] for e in analysis.effects}


def test_a_new_table_is_written_whole_and_once(records, run, monkeypatch):
  monkeypatch.setattr("asi_evolve_jax.roles.analyzer._LISTED", 2)
  measure_space(run, noise=0.01)
  role = analyzer(records)
  drain(role)
  first, *others = all_of(records, "analysis")
  assert len(first.effects) == sum(len(g.values) for g in SPACE.genes)
  assert all(len(a.effects) <= 3 for a in others)
  for n in range(4):
    child = run.propose(f"late{n}", genomes()[n], (schema.digest("root"),))
    run.measure(child, {0: 2.4})
    drain(role)
  late = all_of(records, "analysis")[-4:]
  assert [len(a.effects) > 3 for a in late] == [False, False, False, True]


def test_regressions_are_rare(records, run, monkeypatch):
  fits = []
  real = feature_effects
  monkeypatch.setattr(
    "asi_evolve_jax.roles.effects.feature_effects",
    lambda *args, **more: fits.append(len(args[0])) or real(*args, **more),
  )
  role = analyzer(records)
  measure_space(run, noise=0.01)
  drain(role)
  # One by one as a run would bring them.
  for n in range(40):
    genome = genomes()[n % 20]
    child = run.propose(f"late{n}", genome, parents=(schema.digest("root"),))
    run.measure(child, {0: 2.4})
    drain(role)
  assert fits[0] >= 6
  assert all(b - a >= 4 for a, b in itertools.pairwise(fits))


def test_regressions_look_at_a_bounded_history(records, run, monkeypatch):
  monkeypatch.setattr("asi_evolve_jax.roles.effects._MOST_ROWS", 10)
  table = EffectTable(SPACE, -1.0, ("quick",))
  measure_space(run, noise=0.0)
  proposals = all_of(records, "proposal")[1:]
  for early in proposals[:10]:
    table.observe(early, "quick", {0: 9.0})
  assert {e.n for e in table.effects("quick").values()} <= set(range(11))
  for late in proposals[10:20]:
    table.observe(late, "quick", {0: 2.0})
  # All rows are late ones now, and these are all alike.
  effects = table.effects("quick").values()
  assert effects
  assert all(abs(e.effect) < 1e-9 for e in effects)


def test_a_second_analyzer_and_a_restart_double_nothing(records, run):
  measure_space(run, noise=0.01, count=10)
  first, second = analyzer(records), analyzer(records)
  first.step()
  second.step()
  drain(first)
  drain(second)
  drain(analyzer(records))
  analyses = all_of(records, "analysis")
  assert len(analyses) == len({a.id for a in analyses}) == 10
  assert len({a.program for a in analyses}) == 10


def test_odd_records_stop_nothing(records, run, caplog):
  parent = run.propose("p", author="baseline")
  run.measure(parent, {0: 2.3})
  odd = [
    run.propose("unknown-gene", {"wings": 2}, parents=(parent,)),
    run.propose("odd-change", None, (parent,), changes=({"what": 1},)),
    run.propose("self", None, parents=(schema.digest("self"),)),
    run.propose("orphan", None, parents=("f" * 32,)),
  ]
  for program in odd:
    run.measure(program, {0: 2.2})
  no_metric = run.propose("no-metric", None, parents=(parent,))
  run.end(no_metric, status=schema.OK, metrics=({"other": 1.0},))
  short = run.propose("short", None, parents=(parent,))
  run.end(short, (0, 1), status=schema.OK, metrics=({"bits_per_byte": 2.0},))
  # A Result whose Proposal comes later, or never.
  early = schema.digest("early")
  run.measure(early, {0: 2.1})
  drain(analyzer(records))
  programs = {a.program for a in all_of(records, "analysis")}
  assert programs == {*odd, no_metric, short}
  assert not caplog.records


def test_one_commit_a_step(records, run, tmp_path):
  measure_space(run, noise=0.01, count=12)
  role = analyzer(records)
  entries = list((tmp_path / "records" / "log").glob("*/*"))
  assert role.step()
  assert not role.step()
  after = list((tmp_path / "records" / "log").glob("*/*"))
  assert len(after) == len(entries) + 1
  assert len(all_of(records, "analysis")) == 12
