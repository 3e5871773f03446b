"""What may be claimed: paired, complete, corrected over all that entered."""

import dataclasses
import random

import pytest
from toy_track import ToyTrack, settings

from asi_evolve_jax.records import Records, View
from asi_evolve_jax.records.schema import (
  CLAIMED,
  VERIFY,
  Milestone,
  Proposal,
  Result,
  Steer,
  Task,
  digest,
)
from asi_evolve_jax.roles.claims import claims
from asi_evolve_jax.roles.verifier import Verifier
from asi_evolve_jax.roles.waves import Wave

TRACK = ToyTrack()
SEEDS = (7, 8, 9)
GOOD = (0.90, 0.912, 0.888)
EVEN = (1.01, 0.98, 1.02)
REFERENCE = (1.00, 1.01, 0.99)


def _settings(references=("reference",), min_seeds=3):
  base = settings()
  verify = dataclasses.replace(
    base.verify, references=references, min_seeds=min_seeds
  )
  return dataclasses.replace(base, verify=verify)


def _proposal(name, baseline=False):
  return Proposal(
    program=digest(name),
    track="toy",
    name=name,
    author="baseline" if baseline else "symbolic",
    round=0 if baseline else 1,
    operator="mutate",
    motivation="",
  )


def _wave(scores, baselines, seeds, name="verify-asked", control=()):
  return Wave(
    name=name,
    by="test",
    finalists=tuple(digest(n) for n in scores if n not in baselines),
    baselines=tuple(digest(n) for n in scores if n in baselines),
    rung="verify",
    seeds=seeds,
    control_seeds=control,
    proposed=40,
    commit="c0ffee",
  )


def _result(task, values, **fields):
  known = {"status": "ok", "metrics": [], "cost": {"cpu_seconds": 2.0}}
  if values:
    metrics = [{"loss": v, "held_out": v, "speed": -v} for v in values]
    known["metrics"] = tuple(metrics)
  return Result(
    task=task.id,
    program=task.program,
    rung=task.rung,
    seeds=task.seeds,
    purpose=task.purpose,
    **(known | fields),
  )


def _records(scores, baselines=("reference",), seeds=SEEDS, **wave):
  """Records of one wave.

  Args:
    scores: name -> a value a seed, a dict of Result fields for one that
      failed, or None for one that is not measured yet.
  """
  asked = _wave(scores, baselines, seeds, **wave)
  records = [_proposal(n, n in baselines) for n in scores]
  records += [asked.milestone(), *asked.tasks]
  for task in asked.tasks:
    (name,) = [n for n in scores if digest(n) == task.program]
    outcome = scores[name]
    if isinstance(outcome, dict):
      records.append(_result(task, (), **outcome))
    elif outcome is not None:
      half = len(outcome) // 2
      if asked.control_seeds:
        second = task.seeds == asked.control_seeds
        outcome = outcome[half:] if second else outcome[:half]
      records.append(_result(task, outcome))
  return records


def _claims(*records, **changes):
  view = View("loss", "minimize")
  view.update([r for group in records for r in group])
  found = claims(view, _settings(**changes), TRACK)
  names = {p.program: p.name for p in view.proposals.values()}
  return {(names[c.program], names[c.baseline]): c for c in found}


def test_a_steady_gain_is_claimed_with_its_evidence():
  found = _claims(_records({"reference": REFERENCE, "good": GOOD}))
  claim = found["good", "reference"]
  assert claim.verdict == CLAIMED
  assert claim.effect == pytest.approx(0.1)
  assert 0 < claim.low < claim.effect < claim.high
  assert claim.p_corrected == claim.p < 0.05
  assert claim.p_signs == 0.25  # three seeds cannot say less
  assert (claim.family, claim.entered, claim.proposed) == (1, 2, 40)
  assert claim.budget == {"core_seconds": 2.0}
  assert claim.commit == "c0ffee"
  assert claim.id in claim.commands[-1]
  held = {row["metric"]: row["verdict"] for row in claim.held}
  # `speed` is better the larger it is, and here it is.
  assert held == {"loss": "held", "held_out": "held", "speed": "held"}


def test_noise_and_a_loss_are_not_claimed():
  found = _claims(
    _records(
      {
        "reference": REFERENCE,
        "even": EVEN,
        "worse": (1.10, 1.11, 1.09 + 1e-4),
      }
    )
  )
  assert "noise" in found["even", "reference"].why
  worse = found["worse", "reference"]
  assert worse.p_corrected < 0.05
  assert worse.verdict != CLAIMED
  assert worse.why.startswith("worse")
  assert {row["verdict"] for row in worse.held} == {"failed"}


def test_all_that_entered_verify_are_corrected_for_failures_too():
  alone = _claims(_records({"reference": REFERENCE, "good": GOOD}))
  crowd = _claims(
    _records(
      {
        "reference": REFERENCE,
        "good": GOOD,
        "even": EVEN,
        "late": {"status": "timeout", "error": "killed"},
        "cheat": {"status": "rejected", "gate": "causality", "error": "no"},
        "other baseline": EVEN,
      },
      baselines=("reference", "other baseline"),
    )
  )
  one, many = alone["good", "reference"], crowd["good", "reference"]
  assert many.family == 5
  assert many.p == one.p
  assert many.p_corrected == pytest.approx(5 * one.p)
  late = crowd["late", "reference"]
  assert late.effect is None
  assert late.p == 1.0
  assert late.why == "timeout at verify: killed"
  assert "gate causality" in crowd["cheat", "reference"].why


def test_every_reference_gets_its_claim_in_one_family():
  found = _claims(
    _records(
      {"reference": REFERENCE, "stronger": GOOD, "best": (0.80, 0.812, 0.79)},
      baselines=("reference", "stronger"),
    ),
    references=("reference", "stronger"),
  )
  assert set(found) == {
    ("best", "reference"),
    ("best", "stronger"),
    ("stronger", "reference"),
  }
  assert {c.family for c in found.values()} == {3}


@pytest.mark.parametrize(
  ("mine", "theirs", "why"),
  [
    (GOOD[:2], REFERENCE, "no measurement at seeds [9]"),
    (GOOD, REFERENCE[:2], "the baseline: no measurement at seeds [9]"),
    (GOOD, {"status": "failed", "error": "nan"}, "the baseline: failed"),
    (REFERENCE, REFERENCE, "measures the same as the baseline"),
    ((0.5, 0.51, 0.49), REFERENCE, "no spread to judge it by"),
  ],
)
def test_what_is_missing_unpaired_or_without_spread_claims_nothing(
  mine, theirs, why
):
  found = _claims(_records({"reference": theirs, "good": mine}))
  claim = found["good", "reference"]
  assert claim.verdict != CLAIMED
  assert claim.p == 1.0
  assert why in claim.why


def test_too_few_seeds_claim_nothing():
  scores = {"reference": REFERENCE[:2], "good": (0.5, 0.52)}
  few = _claims(_records(scores, seeds=(7, 8)))["good", "reference"]
  assert few.verdict != CLAIMED
  assert few.why == "2 paired seeds, and at least 3 must speak"
  # Nor do many of which the config wants more.
  scores = {"reference": REFERENCE, "good": GOOD}
  more = _claims(_records(scores), min_seeds=4)["good", "reference"]
  assert more.verdict != CLAIMED


def test_nothing_is_said_while_something_is_still_measured():
  scores = {"reference": REFERENCE, "good": GOOD, "slow": None}
  assert _claims(_records(scores)) == {}


def test_one_that_a_person_stopped_counts_until_it_is_taken_back():
  scores = {"reference": REFERENCE, "good": GOOD, "slow": None}
  records = _records(scores)
  veto = Steer(
    number=1,
    verb="veto",
    by="test",
    arguments={"program": digest("slow"), "descendants": False},
  )
  stopped = _claims(records, [veto])
  assert stopped["slow", "reference"].why == "stopped: a person has vetoed it"
  assert stopped["good", "reference"].family == 2
  back = Steer(number=2, verb="withdraw", by="test", arguments={"number": 1})
  assert _claims(records, [veto, back]) == {}
  task = next(
    r for r in records if isinstance(r, Task) and r.program == digest("slow")
  )
  done = _claims(records, [veto, back, _result(task, EVEN)])
  assert done["slow", "reference"].effect is not None
  # The same comparison and family, but it rests on more.
  view = View("loss", "minimize")
  before, after = stopped["good", "reference"], done["good", "reference"]
  view.update([after, before])
  assert view.standing_claims() == [after]


def test_one_lost_to_the_machine_speaks_with_its_next_attempt():
  records = _records({"reference": REFERENCE, "good": {"status": "lost"}})
  lost = next(r for r in records if isinstance(r, Result) and not r.metrics)
  task = Task(
    program=lost.program,
    rung="verify",
    seeds=SEEDS,
    purpose=VERIFY,
    attempt=1,
  )
  assert _claims(records, [task]) == {}
  found = _claims(records, [task, _result(task, GOOD, attempt=1)])
  claim = found["good", "reference"]
  assert claim.verdict == CLAIMED
  assert claim.results == (lost.task, task.id)


def test_a_second_wave_enlarges_the_family_of_the_first():
  first = _records({"reference": REFERENCE, "good": GOOD})
  second = _records(
    {"reference": REFERENCE, "even": EVEN, "more": EVEN},
    seeds=(17, 18, 19),
    name="verify-asked/2",
  )
  before = _claims(first)["good", "reference"]
  after = _claims(first, second)["good", "reference"]
  assert (before.family, after.family) == (1, 3)
  assert after.p_corrected == pytest.approx(3 * before.p)
  assert before.id != after.id
  view = View("loss", "minimize")
  view.update([after, before])
  assert view.standing_claims() == [after]


def test_a_control_compares_a_program_with_itself_beside_the_family():
  rng = random.Random(3)
  values = [rng.gauss(1.0, 0.01) for _ in range(6)]
  main = _records({"reference": REFERENCE, "good": GOOD})
  control = _records(
    {"same": values},
    seeds=(17, 18, 19),
    name="verify-asked/aa",
    control=(20, 21, 22),
  )
  found = _claims(main, control)
  assert found["good", "reference"].family == 1
  claim = found["same", "same"]
  assert claim.control
  assert claim.family == 1
  assert claim.verdict != CLAIMED
  assert claim.effect == pytest.approx(
    sum(values[3:]) / 3 - sum(values[:3]) / 3
  )
  assert set(claim.seeds).isdisjoint(claim.baseline_seeds)


def test_verifiers_write_claims_once_and_heal_each_other(tmp_path):
  records = Records.open(tmp_path / "records")
  written = _records({"reference": REFERENCE, "good": GOOD})
  results = [r for r in written if isinstance(r, Result)]
  # The first verifier dies between its Milestone and the Tasks.
  records.put(
    *(r for r in written if isinstance(r, (Proposal, Milestone))),
    Milestone(name="search-ended", by="test"),
  )

  def verifier():
    return Verifier(Records.open(tmp_path / "records"), _settings(), ToyTrack())

  def settle(*verifiers):
    while any([v.step() for v in verifiers]):
      pass

  settle(verifier(), verifier())
  view = View("loss", "minimize")
  view.update(records.follow()[0])
  assert {t.id for t in view.pending()} == {r.task for r in results}
  assert not view.claims
  assert "finished" not in view.milestones
  records.put(*results)
  settle(verifier(), verifier())
  settle(verifier())  # and one that comes late
  view = View("loss", "minimize")
  view.update(records.follow()[0])
  (claim,) = view.claims.values()
  assert claim.verdict == CLAIMED
  assert "finished" in view.milestones
  assert len(records.store.keys("claim/")) == 1
