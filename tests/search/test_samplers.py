"""Samplers against a real View, and against the released system's faults."""

import collections
import random

import pytest

from asi_evolve_jax.records import schema
from asi_evolve_jax.records.views import View
from asi_evolve_jax.search.registry import make_sampler
from asi_evolve_jax.search.samplers import NothingToSample
from asi_evolve_jax.settings import SamplerSettings, SettingsError

RUNG = "quick"
POLICIES = ("ucb1", "greedy", "random")
EVERY = (*POLICIES, "islands")


class History:
  """A View under construction, one record at a time."""

  def __init__(self, direction="maximize"):
    self.view = View("score", direction)
    self.round = 0

  def program(self, name, score=None, status=schema.OK, baseline=False):
    self.propose(name, (), baseline=baseline)
    if score is not None or status != schema.OK:
      metrics = ({"score": score},) if status == schema.OK else ()
      self.view.update(
        [
          schema.Result(
            task=f"task-{name}",
            program=name,
            rung=RUNG,
            seeds=(0,),
            purpose=schema.SEARCH,
            status=status,
            metrics=metrics,
          )
        ]
      )

  def propose(self, name, parents, baseline=False):
    self.round += not baseline
    self.view.update(
      [
        schema.Proposal(
          program=name,
          track="t",
          name=name,
          author="baseline" if baseline else "symbolic",
          round=0 if baseline else self.round,
          operator="sample",
          motivation="",
          parents=tuple(parents),
        )
      ]
    )


def scored(scores, direction="maximize"):
  history = History(direction)
  for name, score in scores.items():
    history.program(name, score)
  return history


def twenty(direction="maximize"):
  return scored({f"p{i:02d}": float(i) for i in range(20)}, direction)


def run(sampler, history, draws):
  """Draws and lets every draw become a Proposal without a Result."""
  parents = []
  for i in range(draws):
    sample = sampler.sample(history.view, RUNG)
    history.propose(f"child-{i:05d}", [sample.parent])
    parents.append(sample.parent)
  return parents


def settings(name="ucb1", **changes):
  return SamplerSettings(name=name, **changes)


def test_visits_rise_and_ucb1_leaves_the_uniform_phase():
  # The released UCB1 keeps every count at zero and draws uniformly for ever.
  history = twenty()
  sampler = make_sampler(settings(), random.Random(0))
  parents = run(sampler, history, 600)
  assert sum(history.view.visits.values()) == 600
  counts = collections.Counter(parents)
  # Each of the ten best once first, then the better the more often.
  assert parents[:10] == [f"p{i:02d}" for i in range(19, 9, -1)]
  assert set(counts) == {f"p{i:02d}" for i in range(10, 20)}
  ordered = [counts[f"p{i:02d}"] for i in range(19, 9, -1)]
  assert ordered == sorted(ordered, reverse=True)
  assert counts["p19"] > 2 * counts["p10"]


def test_ucb1_takes_the_largest_bound():
  history = scored({"good": 1.0, "middling": 0.6, "bad": 0.0})
  for i, (name, visits) in enumerate(
    (("good", 30), ("middling", 6), ("bad", 9))
  ):
    for j in range(visits):
      history.propose(f"c{i}{j}", [name])
  sampler = make_sampler(settings(exploration=1.0), random.Random(0))
  # 1 + 0.356, 0.6 + 0.797, 0 + 0.651 with ln 45 = 3.807.
  assert sampler.sample(history.view, RUNG).parent == "middling"
  exploit = make_sampler(settings(exploration=0.1), random.Random(0))
  assert exploit.sample(history.view, RUNG).parent == "good"


@pytest.mark.parametrize("shift", [0.0, -1000.0])
def test_scores_of_any_sign_are_told_apart(shift):
  # The released sampler draws -1 and -5 equally often.
  plain, moved = twenty(), scored({f"p{i:02d}": i + shift for i in range(20)})
  assert run(make_sampler(settings(), random.Random(1)), plain, 300) == run(
    make_sampler(settings(), random.Random(1)), moved, 300
  )


def test_direction_minimise_is_the_mirror_image():
  up = twenty()
  down = scored({f"p{i:02d}": float(-i) for i in range(20)}, "minimize")
  for name in POLICIES:
    assert run(make_sampler(settings(name), random.Random(2)), up, 50) == run(
      make_sampler(settings(name), random.Random(2)), down, 50
    )


@pytest.mark.parametrize("name", EVERY)
def test_a_failed_program_is_never_sampled(name):
  history = History("minimize")
  for i in range(6):
    history.program(f"ok{i}", float(i))
  # Not a score: nothing in a failed Result may be read as one.
  for status in (schema.FAILED, schema.REJECTED, schema.TIMEOUT, schema.LOST):
    history.program(status, status=status)
  history.program("unmeasured")
  sampler = make_sampler(settings(name), random.Random(3))
  for i in range(100):
    sample = sampler.sample(history.view, RUNG)
    assert {sample.parent, *sample.references} <= {f"ok{j}" for j in range(6)}
    history.propose(f"c{i}", [sample.parent])


@pytest.mark.parametrize("name", POLICIES)
def test_what_cannot_be_edited_is_no_parent_while_anything_else_can(name):
  history = scored({"yardstick": 9.0, "a": 2.0, "b": 1.0})
  sampler = make_sampler(settings(name), random.Random(0))
  parents = set()
  for i in range(40):
    sample = sampler.sample(
      history.view, RUNG, can_edit=lambda p: p != "yardstick"
    )
    assert "yardstick" in sample.references
    history.propose(f"c{i}", [sample.parent])
    parents.add(sample.parent)
  assert parents == ({"a"} if name == "greedy" else {"a", "b"})
  nothing = sampler.sample(history.view, RUNG, can_edit=lambda p: False)
  assert nothing.parent in {"yardstick", "a", "b"}


@pytest.mark.parametrize("name", POLICIES)
def test_same_seed_same_draws(name):
  def draws(seed):
    history = twenty()
    sampler = make_sampler(settings(name), random.Random(seed))
    samples = []
    for i in range(30):
      samples.append(sampler.sample(history.view, RUNG))
      history.propose(f"c{i}", [samples[-1].parent])
    return samples

  assert draws(5) == draws(5)
  assert draws(5) != draws(6)


def test_greedy_takes_the_best_and_random_any_of_the_ranks():
  greedy = make_sampler(settings("greedy"), random.Random(0))
  assert set(run(greedy, twenty(), 50)) == {"p19"}
  uniform = make_sampler(settings("random"), random.Random(0))
  counts = collections.Counter(run(uniform, twenty(), 5000))
  assert set(counts) == {f"p{i:02d}" for i in range(10, 20)}
  # Each is binomial(5000, 0.1): mean 500, standard deviation 21.
  assert all(abs(c - 500) < 5 * 21.3 for c in counts.values())


def test_references_come_from_their_ranks_and_leave_the_parent_out():
  history = scored({f"p{i:03d}": float(i) for i in range(100)})
  sampler = make_sampler(settings(), random.Random(0))
  seen = set()
  for _ in range(200):
    sample = sampler.sample(history.view, RUNG)
    assert len(set(sample.references)) == 4
    assert sample.parent not in sample.references
    seen.update(sample.references)
  assert seen == {f"p{i:03d}" for i in range(50, 90)}  # ranks 11 to 50


@pytest.mark.parametrize("name", POLICIES)
def test_degenerate_pools(name):
  sampler = make_sampler(settings(name), random.Random(0))
  alone = scored({"only": 1.0})
  for _ in range(3):
    sample = sampler.sample(alone.view, RUNG)
    assert (sample.parent, sample.references) == ("only", ())
    alone.propose(f"c{alone.round}", ["only"])
  few = scored({"a": 1.0, "b": 2.0, "c": 3.0})
  sample = sampler.sample(few.view, RUNG)
  assert {sample.parent, *sample.references} == {"a", "b", "c"}
  # Parent ranks beyond what there is: the last one there is.
  late = make_sampler(settings(name, parent_ranks=(5, 9)), random.Random(0))
  assert late.sample(few.view, RUNG).parent == "a"


def test_equal_scores_are_shared_out_evenly():
  history = scored({f"p{i}": 1.0 for i in range(5)})
  parents = run(make_sampler(settings(), random.Random(0)), history, 100)
  assert set(collections.Counter(parents).values()) == {20}


@pytest.mark.parametrize("name", EVERY)
def test_baselines_stand_in_until_something_is_scored(name):
  history = History()
  for baseline in ("a", "b", "broken"):
    history.program(baseline, baseline=True)
  history.program("broken", status=schema.FAILED, baseline=True)
  history.program("candidate")
  sampler = make_sampler(settings(name), random.Random(0))
  samples = [sampler.sample(history.view, RUNG) for _ in range(50)]
  assert {s.parent for s in samples} == {"a", "b"}
  with pytest.raises(NothingToSample, match="no baseline is left"):
    sampler.sample(History().view, RUNG)


def test_settings_that_cannot_work_are_refused():
  with pytest.raises(SettingsError, match=r"sampler\.name .*'ucb'"):
    make_sampler(settings("ucb"), random.Random(0))
  with pytest.raises(SettingsError, match="parent_ranks"):
    make_sampler(settings(parent_ranks=(0, 3)), random.Random(0))
  with pytest.raises(SettingsError, match=r"sampler\.pool"):
    make_sampler(settings(pool=0), random.Random(0))
