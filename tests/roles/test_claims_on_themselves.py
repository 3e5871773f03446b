"""The pipeline tested on itself: what it claims when the truth is known."""

import dataclasses

import numpy as np
import pytest
from scipy import stats
from toy_track import ToyTrack, settings

from asi_evolve_jax.evaluation.judging import ALPHA
from asi_evolve_jax.evaluation.trials import Trial, run_trials
from asi_evolve_jax.records import View
from asi_evolve_jax.records.schema import (
  CLAIMED,
  SEARCH,
  Proposal,
  Result,
  Task,
  digest,
)
from asi_evolve_jax.roles.claims import claims
from asi_evolve_jax.roles.verifier import finalists
from asi_evolve_jax.roles.waves import ASKED, Wave

NONE_BETTER = Trial(gains=(0.0,) * 20, spread=0.01, finalists=4, seeds=3)


def _at_most(runs):
  """Most false runs that a true rate of ALPHA gives, 999 times in 1000."""
  return stats.binom.ppf(0.999, runs, ALPHA)


@pytest.mark.parametrize(
  "changes",
  [
    {},
    {"seeds": 6},
    {"noise": "heavy"},
    {"noise": "two outcomes"},
    {"shared": 0.7},
    # One is really better: the others must not be claimed beside it.
    {"gains": (0.2, *(0.0,) * 19)},
  ],
  ids=str,
)
def test_runs_with_a_false_claim_are_at_most_alpha(changes):
  """The best of 20 in one noisy look are verified, and none is better."""
  rates = run_trials(dataclasses.replace(NONE_BETTER, **changes), 1000)
  assert rates.false <= _at_most(rates.runs)
  # A test that never claims anything would pass as well.
  assert rates.false > 0


@pytest.mark.parametrize(
  ("effect", "spread", "seeds", "least"),
  [
    # Gated DeltaNet over DeltaNet: 0.08 to 0.13 bits a byte; the spread
    # between seeds lay between 0.001 and 0.018.
    (0.10, 0.005, 3, 0.8),
    (0.10, 0.018, 6, 0.95),
    # The smallest step between published mixers.
    (0.01, 0.001, 3, 0.5),
    (0.03, 0.018, 10, 0.5),
  ],
)
def test_effects_of_the_published_size_are_seen(effect, spread, seeds, least):
  trial = Trial(gains=(effect,) * 4, spread=spread, finalists=4, seeds=seeds)
  rates = run_trials(trial, 300)
  assert rates.better == 4 * 300
  assert rates.power > least


def _simulated_run(rng, candidates, spread):
  """A whole run in records: none of its candidates is any better.

  Returns:
    Number of claims and of comparisons.
  """
  wanted = dataclasses.replace(
    settings(),
    verify=dataclasses.replace(
      settings().verify, references=("p0",), finalists=3
    ),
  )
  view = View("loss", "minimize", ("quick", "explore"))

  def measure(task):
    values = 1.0 + spread * rng.normal(size=len(task.seeds))
    metrics = tuple({"loss": v, "held_out": v} for v in values)
    return Result(
      task=task.id,
      program=task.program,
      rung=task.rung,
      seeds=task.seeds,
      purpose=task.purpose,
      status="ok",
      metrics=metrics,
    )

  for number in range(candidates + 1):
    task = Task(
      program=digest(number), rung="explore", seeds=(0,), purpose=SEARCH
    )
    proposal = Proposal(
      program=task.program,
      track="toy",
      name=f"p{number}",
      author="symbolic" if number else "baseline",
      round=number,
      operator="sample",
      motivation="",
    )
    view.update([proposal, task, measure(task)])
  chosen = finalists(view, wanted, wanted.verify.finalists)
  wave = Wave(
    name=ASKED,
    by="test",
    finalists=tuple(chosen),
    baselines=(digest(0),),
    rung="verify",
    seeds=(7, 8, 9),
  )
  view.update([wave.milestone(), *wave.tasks])
  assert claims(view, wanted, ToyTrack()) == []
  view.update([measure(task) for task in wave.tasks])
  found = claims(view, wanted, ToyTrack())
  return sum(c.verdict == CLAIMED for c in found), len(found)


def test_the_whole_path_of_records_claims_falsely_at_most_alpha():
  rng = np.random.default_rng(0)
  runs = [_simulated_run(rng, 12, 0.01) for _ in range(400)]
  assert all(compared == 3 for _, compared in runs)
  assert sum(claimed > 0 for claimed, _ in runs) <= _at_most(len(runs))
