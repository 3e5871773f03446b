"""The track's contract, its baselines, and its configs."""

import importlib
import subprocess
import sys

import pytest

from asi_evolve_jax import settings
from asi_evolve_jax.evaluation import limits, workers
from asi_evolve_jax.evaluation.stages import StageRequest
from asi_evolve_jax.tracks.circle_packing import run, score
from asi_evolve_jax.tracks.circle_packing.track import CirclePackingTrack
from configs import circle_packing

TRACK = CirclePackingTrack({})


def rung(**options):
  return settings.RungSettings(name="quick", options=options)


def test_baselines_are_valid_modest_and_in_the_space():
  options = TRACK.stage_options(rung(work=40))
  sums = {}
  for baseline in TRACK.baselines():
    assert baseline.source == TRACK.space.render(baseline.genome)
    assert TRACK.space.repair(baseline.genome) == baseline.genome
    ran = run.run(
      StageRequest(baseline.source, b"", (0,), options, "", "", 60.0)
    )
    judged = score.run(
      StageRequest("", ran.payload, (0,), options, "", "", 60.0)
    )
    assert judged.status == "ok", judged.error
    sums[baseline.name] = judged.metrics[0][TRACK.metric.name]
  assert all(2.0 < value < 2.62 for value in sums.values()), sums
  assert len(set(sums.values())) == len(sums) == 4


def test_stages_can_be_loaded_and_do_not_import_jax():
  for stage in TRACK.stages:
    module, _, name = stage.entry.partition(":")
    assert callable(getattr(importlib.import_module(module), name))
  assert [s.trusted for s in TRACK.stages] == [False, True]
  names = {m for s in TRACK.stages for m in s.preload}
  code = f"import sys\nfor m in {sorted(names)}: __import__(m)\n"
  code += "import asi_evolve_jax.tracks.circle_packing.track\n"
  code += "sys.exit('jax' in sys.modules)"
  assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_brief_names_the_contract():
  assert "Pack 7 circles" in CirclePackingTrack({"circles": 7}).brief
  assert "{" not in TRACK.brief
  for module in run.ALLOWED_IMPORTS:
    assert module in TRACK.brief


def test_stage_options():
  assert TRACK.stage_options(rung(work=100)) == {
    "circles": 26,
    "work": 100,
    "cpu_seconds": 10.0,
  }
  assert TRACK.stage_options(rung(work=1, cpu_seconds=2))["cpu_seconds"] == 2.0
  assert TRACK.shape_key(rung(work=1)) == ""
  assert TRACK.manifest() == {}
  assert TRACK.metric.better(2.6, 2.5)


@pytest.mark.parametrize(
  "options",
  [{}, {"work": 0}, {"work": 1.5}, {"work": 5, "cpu_seconds": 0}, {"wrk": 5}],
)
def test_bad_rung_options_are_refused(options):
  with pytest.raises(settings.SettingsError, match="quick"):
    TRACK.stage_options(rung(**options))


def test_baselines_can_be_left_out():
  track = CirclePackingTrack({"baselines": ("rings", "grid")})
  assert [b.name for b in track.baselines()] == ["grid", "rings"]
  with pytest.raises(settings.SettingsError, match="some of grid, hexagonal"):
    CirclePackingTrack({"baselines": ("gird",)})


@pytest.mark.parametrize("options", [{"circle": 26}, {"circles": 2}])
def test_bad_track_options_are_refused(options):
  with pytest.raises(settings.SettingsError, match="circles"):
    CirclePackingTrack(options)


@pytest.mark.parametrize("variant", ["", "smoke"])
def test_configs_are_complete(variant):
  config = circle_packing.get_config(variant)
  made = settings.from_config(settings.RunSettings, config)
  track = CirclePackingTrack(made.track_options)
  rungs = [*made.ladder, made.verify.rung]
  work = [track.stage_options(r)["work"] for r in rungs]
  assert work == sorted(work)
  names = {b.name for b in track.baselines()}
  assert set(made.verify.references) <= names
  # Fresh seeds: none that the search has seen.
  searched = {s for r in made.ladder for s in r.seeds}
  assert not searched & set(made.verify.rung.seeds)


def test_an_unknown_variant_is_refused():
  with pytest.raises(ValueError, match="smoke"):
    circle_packing.get_config("huge")


def test_both_stages_run_in_real_workers(tmp_path):
  """In 2 GiB of address space, from the preloaded modules, no jax."""
  preload = [m for stage in TRACK.stages for m in stage.preload]
  pool = workers.WorkerPool(preload, limits.Limits(memory_bytes=2 << 30))
  try:
    options = TRACK.stage_options(rung(work=5))
    genome = TRACK.space.repair({"optimiser": "slp", "finish": "slsqp"})
    source, payload = TRACK.space.render(genome), b""
    for stage in TRACK.stages:
      job = pool.start(
        stage,
        StageRequest(
          source,
          payload,
          (0, 1),
          options,
          str(tmp_path),
          "",
          60.0,
          author="symbolic",
        ),
      )
      while (outcome := job.poll()) is None:
        pool.wait(0.2)
      assert outcome.status == "ok", outcome.error
      source, payload = "", outcome.reply.payload
  finally:
    pool.close()
  assert len(outcome.reply.metrics) == 2
  assert outcome.reply.curves["packing"].shape == (2, 26, 3)
