"""Views: what the records say, whatever the order they came in."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from records_kit import (
  analysis,
  milestone,
  number,
  program,
  program_id,
  proposal,
  result,
  task,
)

from asi_evolve_jax.records import View, schema
from asi_evolve_jax.records.schema import FAILED, LOST, REJECTED, TIMEOUT


def _view(*records, direction="minimize", **arguments) -> View:
  view = View("loss", direction, **arguments)
  view.update(records)
  return view


def _history(seed: int) -> list[schema.Record]:
  """Returns records of a small run: failures, pairs, promotions, retries."""
  rng = random.Random(seed)
  records: list[schema.Record] = [
    schema.Run(
      name="r",
      track="t",
      config={"ladder": [{"name": "quick"}, {"name": "explore"}]},
      commit="",
      machine={},
      versions={},
      manifest={},
    ),
    milestone("session/a", at=100.0),
  ]
  for n in range(12):
    author = "baseline" if n < 2 else "symbolic"
    parents = (
      tuple(program_id(rng.randrange(n)) for _ in range(2)) if n > 1 else ()
    )
    asked = task(n, priority=rng.choice([0, 10]), created_at=101.0 + n)
    records += [
      program(n),
      proposal(n, round=max(0, n - 1), author=author, parents=parents),
      asked,
    ]
    status = rng.choice(["ok", "ok", "ok", *schema.STATUSES, None])
    if status is None:
      continue
    scores = (rng.choice([1.0, 2.0, 0.1 + n]),) if status == "ok" else ()
    first = result(asked, *scores, status=status, artifact=f"a{n % 4}")
    records += [first, analysis(first)]
    if status == "ok":
      more = task(n, rung="explore", seeds=(0, 1))
      records += [more, result(more, rng.random(), rng.random())]
      pair = task(n, rung="explore", seeds=(2,), purpose=schema.PAIR)
      records += [pair, result(pair, rng.random(), created_at=150.0)]
      check = task(n, rung="verify", seeds=(7,), purpose=schema.VERIFY)
      records += [check, result(check, 0.0)]
    if status == LOST and n % 2:
      records.append(task(n, attempt=1))
  said = [
    ("veto", {"program": program_id(3), "descendants": seed % 2 == 0}),
    ("pause", {}),
    ("veto", {"program": program_id(5), "descendants": False}),
    ("resume", {}),
    ("withdraw", {"number": 3}),
  ]
  for place, (verb, arguments) in enumerate(said, 1):
    records.append(
      schema.Steer(
        number=place,
        verb=verb,
        by="ann",
        arguments=arguments,
        created_at=110.0 + 2 * place,
      )
    )
  rejected = task(20)
  records += [proposal(20), rejected, result(rejected, status=REJECTED)]
  mended = proposal(
    21, round=21, operator=schema.REPAIR, parents=(program_id(20),)
  )
  if seed % 3:
    records.append(mended)
  for version in (1, 2, 3):
    records.append(
      schema.Insight(slug="s", version=version, title=str(version), text="")
    )
  for n in range(4):
    records.append(
      schema.Artifact(
        hash=f"a{n}",
        program=program_id(n),
        track="t",
        platform="cpu",
        shape_key="k",
        blob="",
        report={},
      )
    )
  return records


def _says(view: View) -> dict:
  programs = sorted(view.programs)
  return {
    "run": view.run,
    "proposals": view.proposals,
    "proposal_of": view.proposal_of,
    "tasks": view.tasks,
    "results": view.results,
    "insights": view.insights,
    "milestones": view.milestones,
    "artifacts": view.artifacts,
    "artifact_users": view.artifact_users,
    "visits": dict(view.visits),
    "baselines": view.baselines,
    "pending": {t.id for t in view.pending()},
    "priorities": [t.priority for t in view.pending()],
    "rounds": view.rounds(),
    "proposed": view.proposed(),
    "elapsed": view.elapsed(),
    "vetoed": view.vetoed,
    "unrepaired": sorted(r.program for r in view.unrepaired()),
    "paused": view.steering.paused,
    "seed cost": view.spending.seed_cost("quick"),
    "ranked": [view.ranked(r) for r in ("quick", "explore", "verify", "?")],
    "scores": [view.score(p) for p in programs],
    "seeds": [view.measurements(p, "explore") for p in programs],
    "verify": [view.score(p, purpose="verify") for p in programs],
    "analyses": {
      p: sorted(a.id for a in found) for p, found in view.analyses_of.items()
    },
  }


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 7), st.randoms(use_true_random=False), st.data())
def test_order_and_doubles_do_not_matter(seed, rng, data):
  history = _history(seed)
  straight = _view(*history)
  doubles = data.draw(st.lists(st.sampled_from(history), max_size=10))
  mixed = history + doubles
  rng.shuffle(mixed)
  shuffled = View("loss", "minimize")
  while mixed:
    cut = rng.randint(1, len(mixed))
    shuffled.update(mixed[:cut])
    mixed = mixed[cut:]
  assert _says(shuffled) == _says(straight)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_ranking_agrees_with_sorting_the_scores(seed):
  for direction, sign in (("minimize", 1), ("maximize", -1)):
    view = _view(*_history(seed), direction=direction)
    for rung in ("quick", "explore"):
      scored = [
        (sign * view.score(p, rung), p)
        for p in view.programs
        if view.score(p, rung) is not None and p not in view.vetoed
      ]
      assert view.ranked(rung) == [p for _, p in sorted(scored)]
      assert view.ranked(rung, 2) == view.ranked(rung)[:2]
      assert view.best(rung) == next(iter(view.ranked(rung)), None)


@pytest.mark.parametrize("status", [REJECTED, FAILED, TIMEOUT, LOST])
def test_a_failure_is_never_a_score(status):
  """Not even one that carries metrics, and the best ones at that."""
  asked = task(1)
  view = _view(
    program(0),
    program(1),
    result(task(0), 5.0),
    result(asked, -1e9, status=status),
  )
  assert view.score(program_id(1)) is None
  assert view.ranked("quick") == [program_id(0)]
  assert view.best("quick") == program_id(0)
  assert view.measurements(program_id(1), "quick") == {}


def test_a_metric_that_is_missing_or_not_finite_is_no_score():
  view = _view(
    result(task(0), float("nan")),
    result(task(1), float("inf")),
    result(task(2), metrics=({"other": 1.0},)),
  )
  assert view.ranked("quick") == []
  assert view.best("quick") is None


def test_the_score_is_the_mean_over_seeds_not_over_results():
  several = task(1, seeds=(0, 1))
  again = task(1, seeds=(0,), purpose=schema.PAIR)
  view = _view(result(several, 1.0, 5.0), result(again, 3.0))
  assert view.measurements(program_id(1), "quick") == {0: 2.0, 1: 5.0}
  assert view.seed_scores(program_id(1), "quick") == [2.0, 5.0]
  assert view.score(program_id(1), "quick") == 3.5
  assert view.score(program_id(1), "quick", purpose=schema.SEARCH) == 3.0
  assert view.measurements(program_id(1), "quick", metric="other") == {}


def test_verify_is_kept_from_the_search():
  check = task(1, purpose=schema.VERIFY, seeds=(9,))
  view = _view(result(task(1), 2.0), result(check, 0.0))
  assert view.score(program_id(1), "quick") == 2.0
  assert view.ranked("quick") == [program_id(1)]
  assert view.score(program_id(1), "quick", schema.VERIFY) == 0.0


def test_a_repeat_is_a_check_and_no_score():
  again = task(1, purpose=schema.REPEAT)
  view = _view(result(task(1), 2.0), result(again, 0.0))
  assert view.score(program_id(1), "quick") == 2.0
  assert view.ranked("quick") == [program_id(1)]


def test_the_highest_rung_speaks_where_none_is_named():
  low, high = task(1, rung="quick"), task(1, rung="explore")
  results = [result(low, 9.0), result(high, 1.0)]
  assert _view(*results, rungs=["quick", "explore"]).score(program_id(1)) == 1.0
  assert _view(*results, rungs=["explore", "quick"]).score(program_id(1)) == 9.0
  failed = [results[0], result(high, status=FAILED)]
  assert _view(*failed, rungs=["quick", "explore"]).score(program_id(1)) == 9.0


def test_a_person_means_an_id_its_beginning_or_a_name():
  view = _view(proposal(1, author="baseline"), proposal(2), proposal(3))
  id, other = program_id(1), program_id(2)
  assert view.meant(id) == [id]
  assert view.meant(view.name_of(other)) == [other]
  assert view.meant(id[:8]) == [id]
  assert view.meant(id[:3]) == view.meant("nobody") == []
  assert view.baseline(view.name_of(id)) == id
  assert view.baseline(view.name_of(other)) is None


def test_pending_is_by_priority_then_age():
  asked = [task(n, priority=p) for n, p in enumerate([0, 5, 0, 9, 5])]
  view = _view(*asked)
  order = [number(t.program) for t in view.pending()]
  assert order == [3, 1, 4, 0, 2]
  view.update([result(asked[1], 1.0), result(asked[3], status=FAILED)])
  assert [number(t.program) for t in view.pending()] == [4, 0, 2]


def test_rounds_are_measured_proposals_that_are_no_baselines():
  view = _view(
    proposal(0, round=0, author="baseline"),
    result(task(0), 1.0),
    proposal(1),
    proposal(2),
    result(task(2), status=REJECTED),
  )
  assert (view.rounds(), view.proposed()) == (1, 2)
  view.update([result(task(1, purpose=schema.PAIR), 1.0)])
  assert view.rounds() == 1
  view.update([result(task(1), 1.0), result(task(1, rung="explore"), 1.0)])
  assert view.rounds() == 2


def test_a_lost_task_ends_no_round_while_it_is_asked_for_again():
  lost = result(task(1), status=LOST)
  again = task(1, attempt=1)
  view = _view(proposal(1), lost, again)
  assert view.rounds() == 0
  view.update([result(again, status=LOST)])  # nobody asks a third time
  assert view.rounds() == 1


def test_visits_are_proposals_that_cite_a_parent():
  view = _view(
    proposal(1, parents=(program_id(0),)),
    proposal(2, parents=(program_id(0), program_id(1))),
    proposal(
      3, parents=(program_id(0), program_id(0)), references=(program_id(1),)
    ),
  )
  assert view.visits == {program_id(0): 3, program_id(1): 1}


def test_elapsed_is_summed_over_sessions_and_ends_with_the_search():
  def at(n: int, when: float):
    return task(n, created_at=when)

  view = _view(milestone("session/a", 100.0), at(1, 90.0))
  assert view.elapsed() == 0.0
  view.update([at(2, 130.0), milestone("session/b", 1000.0), at(3, 1007.0)])
  assert view.elapsed() == 37.0
  view.update([milestone("search-ended", 1010.0), at(4, 1500.0)])
  assert view.elapsed() == 40.0
  view.update([milestone("session/c", 2000.0), at(5, 2100.0)])
  assert view.elapsed() == 40.0


def test_an_artifact_is_shared_by_programs_that_trace_to_it():
  artifact = schema.Artifact(
    hash="a",
    program=program_id(1),
    track="t",
    platform="cpu",
    shape_key="k",
    blob="b",
    report={},
  )
  view = _view(result(task(2), 1.0, artifact="a"), artifact)
  assert view.artifacts == {
    (program_id(1), "k"): artifact,
    (program_id(2), "k"): artifact,
  }
  assert view.artifact_users == {"a": {program_id(1), program_id(2)}}


def test_a_direction_must_be_one():
  with pytest.raises(ValueError, match="minimize or maximize"):
    View("loss", "down")


def test_pauses_are_no_time_of_search():
  words = [
    schema.Steer(number=n, verb=v, by="ann", created_at=at)
    for n, v, at in ((1, "pause", 110.0), (2, "resume", 150.0))
  ]
  session = milestone("session/a", at=100.0)
  late = task(1, created_at=160.0)
  assert _view(session, late).elapsed() == 60.0
  assert _view(session, *words, late).elapsed() == 20.0
  assert _view(session, words[0], late).elapsed() == 10.0
  view = _view(session, *words, late)
  assert view.elapsed(now=170.0) == 30.0
  view.update([milestone("search-ended", at=165.0)])
  assert view.elapsed(now=999.0) == 25.0
  assert view.elapsed(now=175.0, until="finished") == 35.0


def test_a_line_of_descent_is_found_in_any_order():
  chain = [
    proposal(n, parents=(program_id(n - 1),) if n else ()) for n in range(5)
  ]
  veto = schema.Steer(
    number=1,
    verb="veto",
    by="ann",
    arguments={"program": program_id(1), "descendants": True},
  )
  for records in ([veto, *chain], [*chain[::-1], veto], [*chain, veto]):
    assert _view(*records).vetoed == {program_id(n) for n in range(1, 5)}


def test_costs_are_means_of_what_was_measured():
  def spent(n, seconds, status="ok", **fields):
    of = task(n, seeds=(0, 1))
    cost = {"wall_seconds": seconds, "cpu_seconds": 1.0, "flops": 10.0}
    return result(of, *([1.0] * 2), status=status, cost=cost, **fields)

  view = _view(spent(1, 0.5, status=FAILED))
  assert view.spending.seed_cost("quick")["device_s"] == 0.5
  view.update([spent(2, 4.0), spent(3, 8.0), spent(4, 9.0, copied_from="x")])
  cost = view.spending.seed_cost("quick")
  assert cost == {"device_s": 3.0, "flops": 5.0, "wall_s": 3.0}
  assert view.spending.seed_cost("explore") is None
  assert view.spending.total["device_s"] == 1.0 + 4.0 + 8.0 + 9.0
  call = schema.Call(
    nonce="a",
    role="researcher",
    model="m",
    prompt="",
    reply="",
    status="ok",
    usage={"tokens": 30.0, "money": 0.5},
    seconds=1.0,
  )
  view.update([call, call])
  assert view.spending.total["tokens"] == 30.0
