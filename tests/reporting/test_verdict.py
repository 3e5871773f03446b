"""The verdict says what the Claims say; real records, real Claims."""

import dataclasses
from pathlib import Path

import pytest

from asi_evolve_jax.records import Records, View, archive
from asi_evolve_jax.records.schema import (
  CLAIMED,
  NOT_CLAIMED,
  Claim,
  Milestone,
  Proposal,
  Result,
  Task,
  digest,
)
from asi_evolve_jax.reporting import cards, leaderboard, verdict
from asi_evolve_jax.roles.claims import claims
from asi_evolve_jax.settings import (
  RungSettings,
  RunSettings,
  VerifySettings,
  of_run,
)
from asi_evolve_jax.tracks import registry
from asi_evolve_jax.tracks.base import MINIMIZE, Metric

QUICKSTART = Path(__file__).parents[2] / "docs/results/quickstart.zip"
LOSS = Metric("loss", MINIMIZE)
SETTINGS = RunSettings(
  name="t",
  track="t",
  ladder=(RungSettings(name="explore"),),
  verify=VerifySettings(rung=RungSettings(name="verify", seeds=(7, 8, 9))),
)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
  """A run of `make evolve` as it was recorded, its Claims written."""
  records = Records.open(tmp_path_factory.mktemp("run"))
  archive.import_archive(records, QUICKSTART)
  view = View("bits_per_byte", MINIMIZE)
  view.update(records.follow()[0])
  settings = of_run(view.run.config)
  track = registry.load(settings.track, settings.track_options)
  view.update(claims(view, settings, track))
  return view, settings, track, records


def test_recorded_finalists_are_claimed_and_a_weak_lead_is_not(measured):
  view, settings, track, _ = measured
  names = {p.program: p.name for p in view.proposals.values()}
  ours = {p.name for p in view.proposals.values() if p.author == "symbolic"}
  found = {names[c.program]: c for c in view.standing_claims()}
  # Five published mixers and two finalists against one baseline.
  assert {c.family for c in found.values()} == {7}
  claimed = {n for n, c in found.items() if c.verdict == CLAIMED}
  assert claimed == ours & set(found)
  assert len(claimed) == 2
  # Better and p 0.027 alone, which seven comparisons do not let pass.
  assert found["gated_deltanet"].low > 0
  assert found["gated_deltanet"].p < 0.05
  assert found["gated_deltanet"].verdict == NOT_CLAIMED
  said = "\n".join(verdict.sentences(view, settings, track))
  assert "2 of 2 verified candidates beat deltanet on fresh seeds" in said
  assert "14 were proposed in all" in said
  table = leaderboard.rows(view, "verify", track.final_metric, (), "verify")
  held, others = leaderboard.apart(view, table)
  assert {row.name for row in held} == claimed
  assert {row.beats for row in held} == {("deltanet",)}
  assert {"deltanet", "gated_deltanet"} <= {row.name for row in others}


def test_a_card_tells_what_why_how_and_where_it_failed(measured, tmp_path):
  view, settings, track, records = measured
  stale = tmp_path / "fallen.md"
  stale.write_text("# A claim that was withdrawn")
  written = cards.write(view, settings, track, records, tmp_path)
  assert len(written) == 2
  assert not stale.exists()
  claim = next(c for c in view.standing_claims() if c.id[:8] in written[0].name)
  text = written[0].read_text()
  born = view.proposal_of[claim.program].round
  for part in (
    "## What it is",
    "| update | delta |",
    "## How it was found",
    f"round {born}, ",
    "## The evidence",
    f"[{claim.low:+.4f}, {claim.high:+.4f}]",
    f"| 101 | {verdict.program_scores(view, claim)[0]:.5f} |",
    "**held_out_bits_per_byte**",
    "## Where it failed",
    "## Limits",
    "3 seeds",
    "scored on the same held-out data",
    "core seconds, all seeds",
    # Whoever has the archive alone gets to the records first.
    "launch.records import ARCHIVE.zip --records=runs/",
    f"--replay={claim.id}",
    "## What a person should inspect",
    f"program/{claim.program}",
  ):
    assert part in text, part
  failed = [r["metric"] for r in claim.held if r["verdict"] != "held"]
  assert all(f"- {name}: " in text for name in failed)


def test_a_genome_that_the_space_has_outgrown_spoils_no_card(measured):
  view, settings, track, records = measured
  claim = next(c for c in view.standing_claims() if c.verdict == CLAIMED)
  proposal = view.proposal_of[claim.program]
  older = View("bits_per_byte", MINIMIZE)
  older.update([view.run, *view.results.values(), *view.programs.values()])
  for known in view.proposals.values():
    genome = known.genome
    if known is proposal:
      genome = {**genome, "update": "as it was once called"}
    older.update([dataclasses.replace(known, genome=genome)])
  older.update([claim])
  text = cards.card(older, settings, track, records, claim)
  assert "In the symbolic space" not in text
  assert proposal.motivation.splitlines()[0] in text


def _searched(scores, verdicts):
  """A View with scores at explore and Claims of the given gains."""
  view = View("loss", MINIMIZE, rungs=["explore"])
  for name, score in scores.items():
    baseline = name == "deltanet"
    task = Task(program=digest(name), rung="explore", seeds=(0,))
    view.update(
      [
        Proposal(
          program=digest(name),
          track="t",
          name=name,
          author="baseline" if baseline else "symbolic",
          round=0 if baseline else 1,
          operator="sample",
          motivation="",
        ),
        task,
        Result(
          task=task.id,
          program=digest(name),
          rung="explore",
          seeds=(0,),
          purpose="search",
          status="ok",
          metrics=({"loss": score},),
        ),
      ]
    )
  for name, (said, effect) in verdicts.items():
    view.update(
      [
        Claim(
          program=digest(name),
          baseline=digest("deltanet"),
          verdict=said,
          why="",
          asked_by="verify-asked",
          rung="verify",
          metric="loss",
          direction=MINIMIZE,
          seeds=(7, 8, 9),
          baseline_seeds=(7, 8, 9),
          effect=effect,
        )
      ]
    )
  return view


def test_what_looked_better_and_was_not_is_counted():
  view = _searched(
    {"deltanet": 2.3, "a": 2.1, "b": 2.2, "c": 2.25, "d": 2.29, "e": 2.4},
    {
      "a": (CLAIMED, 0.1),
      "b": (NOT_CLAIMED, 0.01),
      "c": (NOT_CLAIMED, -0.01),
      "e": (NOT_CLAIMED, -0.2),  # did not look better
    },
  )
  (seen,) = verdict.looked_better(view, SETTINGS, LOSS)
  assert (seen.measured, seen.ahead, seen.judged) == (5, 4, 3)
  assert (seen.claimed, seen.worse) == (1, 1)
  assert "1 held, 1 ahead but not beyond chance, 1 not ahead" in seen.sentence()


def test_a_run_whose_verify_is_cut_off_claims_nothing():
  view = _searched({"deltanet": 2.3, "a": 2.1}, {})
  assert verdict.sentences(view, SETTINGS, None) == []
  detail = {"finalists": [digest("a")], "baselines": [], "tasks": []}
  view.update([Milestone(name="verify-asked", by="t", detail=detail)])
  (said,) = verdict.sentences(view, SETTINGS, None)
  assert "nothing is claimed" in said
