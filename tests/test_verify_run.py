"""A Claim of real training, and its replay, as a person runs them."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from asi_evolve_jax.programs.source import program_id
from asi_evolve_jax.records import View
from asi_evolve_jax.records.schema import Milestone, Program, Proposal
from asi_evolve_jax.supervisor.run import open_or_create, settings_from
from configs.controls import get_config

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.slow


def _verify(run_dir, *flags):
  done = subprocess.run(
    [
      sys.executable,
      "-m",
      "launch.verify",
      f"--records={run_dir / 'records'}",
      *flags,
    ],
    cwd=ROOT,
    env=dict(os.environ),
    capture_output=True,
    text=True,
    timeout=600,
    check=False,
  )
  return done.returncode, done.stdout, done.stderr


def test_a_claim_of_real_training_repeats_bit_for_bit(tmp_path):
  config = get_config("smoke")
  config.run_dir = str(tmp_path)
  run = open_or_create(settings_from(config))
  for baseline in run.track.baselines():
    program = program_id(baseline.source)
    run.records.put(
      Program(hash=program, track="architecture", source=baseline.source),
      Proposal(
        program=program,
        track="architecture",
        name=baseline.name,
        author="baseline",
        round=0,
        operator="baseline",
        motivation=baseline.motivation,
        genome=baseline.genome,
      ),
    )
  run.records.put(
    Milestone(name="search-ended", by="test", detail={"reason": "none"}),
    Milestone(name="finished", by="test"),
  )

  program = "--program=gated_deltanet"
  code, out, err = _verify(tmp_path, program, "--seeds=102,203,204")
  assert code == 2, out
  assert "[102] were used before" in err
  code, out, err = _verify(tmp_path, program)
  assert code == 0, err
  view = View("bits_per_byte", "minimize")
  view.update(run.records.follow()[0])
  (claim,) = view.standing_claims()
  assert claim.seeds == (104, 105, 106)
  assert claim.effect is not None
  assert claim.budget["tokens"] == 3 * 6 * 4 * 64
  assert claim.budget["flops"] > 0
  assert {row["metric"] for row in claim.held} >= {
    "bits_per_byte",
    "held_out_bits_per_byte",
  }
  (machine,) = claim.machines
  assert "jax " in machine
  assert claim.id[:8] in (tmp_path / "report/leaderboard.md").read_text()

  # Compiled anew from the source: no bit may hang on what was kept.
  shutil.rmtree(tmp_path / "cache")
  (tmp_path / "cache").mkdir()
  code, out, err = _verify(tmp_path, f"--replay={claim.id[:10]}")
  assert code == 0, (out, err)
  figures = re.search(r"Identical bit for bit: (\d+) figures", out)
  assert figures, out
  # Two Programs, three seeds: three metrics and at least six losses each.
  assert int(figures[1]) >= 2 * 3 * (3 + 6)
