import pathlib
import subprocess
import sys

import pytest

from asi_evolve_jax.programs.source import program_id
from asi_evolve_jax.records.schema import VERIFY
from asi_evolve_jax.settings import RungSettings, SettingsError
from asi_evolve_jax.tracks import registry
from asi_evolve_jax.tracks.architecture.forms import check_target
from asi_evolve_jax.tracks.architecture.options import read_stage


def rung(**options):
  return RungSettings(name="quick", options=options)


def track(**options):
  return registry.load("architecture", options)


def test_is_made_without_jax():
  code = """
import sys
from asi_evolve_jax.settings import RungSettings
from asi_evolve_jax.tracks import registry
track = registry.load("architecture", {})
track.stage_options(RungSettings(name="q"))
track.shape_key(RungSettings(name="q"))
track.baselines(), track.brief, track.columns()
assert not {"jax", "flax", "optax"} & set(sys.modules)
"""
  subprocess.run([sys.executable, "-c", code], check=True)


def test_stages_get_what_the_config_says():
  made = track(model={"dim": 32, "heads": 4})
  options = read_stage(
    made.stage_options(rung(steps=7, time=64, model={"layers": 5}))
  )
  assert (options.model.dim, options.model.heads) == (32, 4)
  assert options.model.layers == 5
  assert (options.run.steps, options.run.time) == (7, 64)
  names = {b.name: b.source for b in made.baselines()}
  assert options.reference_source == names["deltanet"]
  assert options.yardsticks == (program_id(names["softmax"]),)
  # The Engineer adds these two.
  again = made.stage_options(rung()) | {"rung": "quick", "purpose": "verify"}
  assert read_stage(again).purpose == "verify"


def test_held_out_text_is_declared_by_the_stage_that_verifies(tmp_path):
  made = track(corpus={"data_dir": str(tmp_path)})
  stages = {stage.name: stage for stage in made.stages}
  readers = [s for s in made.stages if "held_out" in s.reads]
  assert readers == [stages["score"]]
  assert stages["score"].purposes == ("verify",)
  assert made.stages[-1] is stages["score"]
  folders = made.folders()
  assert set(folders) == {"search", "held_out"}
  assert len({str(pathlib.Path(f).parent) for f in folders.values()}) == 1


def test_shape_key_names_what_an_artifact_depends_on():
  key = track().shape_key
  base = key(rung(batch=8))
  # Longer training, other seeds and other text share Artifacts.
  assert key(rung(batch=8, steps=999, lr=0.1)) == base
  assert track(corpus={"name": "mix-v1"}).shape_key(rung(batch=8)) == base
  assert key(rung(batch=4)) != base
  assert key(rung(batch=8, time=128, more_times=(512,))) != base
  assert key(rung(batch=8, generalisation={"length": 4})) != base
  assert key(rung(batch=8), "verify") != base
  assert key(rung(time=256)) != base
  assert key(rung(model={"layers": 3})) != base
  assert track(platform="tpu").shape_key(rung(batch=8)) != base
  assert track(reference="linear").shape_key(rung(batch=8)) != base


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"modle": {}}, "did you mean track_options.model"),
    ({"model": {"dim": 30, "heads": 4}}, "heads do not divide"),
    ({"model": {"dim": "64"}}, "model.dim must be int"),
    ({"model": {"mlp_ratio": 0.0}}, "mlp_ratio must be positive"),
    ({"model": {"layers": 0}}, "layers must be at least 1"),
    ({"model": {"chunk_size": 12}}, "chunk_size is 12: make it a power of two"),
    ({"platform": "gpu"}, "cpu, tpu, cuda"),
    ({"reference": "gdn"}, "'gdn'; there are softmax"),
    ({"yardsticks": ("lstm",)}, "'lstm'"),
    ({"fitness": {"step_time_weight": -1.0}}, "make it 0 or more"),
    ({"fitness": {"modelled_cycles_weight": 0.1}}, "no TPU to model: name one"),
    ({"fitness": {"step_time_reference": "gdn"}}, "'gdn'; there are"),
  ],
)
def test_refuses_options(options, message):
  with pytest.raises(SettingsError, match=f"(?i){message}"):
    track(**options)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"step": 3}, "steps"),
    ({"time": 100}, "multiple of the model's chunk_size, 16"),
    ({"batch": 0}, "batch must be at least 1"),
    ({"lrs": (1e-3, 0.0)}, "make them positive"),
    ({"generalisation": {"length": 1}}, "use 2 or more"),
    ({"lrs": (1e-3, 1e-3)}, "each given once"),
    ({"development": {"sorting": 5}}, "'sorting'; there are recall"),
    ({"development": {"recall": 0}}, "development.recall is a number of"),
    (
      {"generalisation": {"tasks": {"dyck": 3}}, "time": 4}
      | {"model": {"chunk_size": 4}},
      "time is 4, too short for the task dyck: use 8",
    ),
    ({"model": {"head": 1}}, "rung 'quick'.model.head .*model.heads"),
  ],
)
def test_refuses_rungs(options, message):
  with pytest.raises(SettingsError, match=message):
    track().stage_options(rung(**options))


@pytest.mark.parametrize(
  ("platform", "time", "chunk"),
  [("cpu", 256, 16), ("tpu", 256, 128), ("cuda", 256, 64), ("tpu", 32, 32)],
)
def test_chunks_suit_the_platform_unless_the_config_says(platform, time, chunk):
  def chosen(**model):
    made = track(platform=platform, model=model)
    return read_stage(made.stage_options(rung(time=time))).model.chunk_size

  assert chosen() == chunk
  assert chosen(chunk_size=8) == 8


def test_the_chunk_for_tpus_is_what_the_kernels_default_to():
  from pallas_kernels.shared import pallas_tpu

  made = track(platform="tpu").stage_options(rung(time=1024))
  model = read_stage(made).model
  assert model.chunk_size == pallas_tpu.default_chunk([64, 128])


def test_the_work_of_a_rung_counts_rates_tasks_and_sizes():
  track = registry.load("architecture", {})
  few = RungSettings(name="few", options={"steps": 100, "lrs": (1e-3, 1e-2)})
  # Three times the steps, and as many again on tasks, one for verify alone.
  more = {
    **few.options,
    "steps": 300,
    "development": {"recall": 200},
    "generalisation": {"tasks": {"multi_hop_recall": 100}},
  }
  many = RungSettings(name="many", options=more)
  assert track.work(many, VERIFY) == 6 * track.work(few)
  assert track.work(many) == 5 * track.work(few)
  wide = {**few.options, "model": {"dim": 128, "layers": 4}}
  assert track.work(RungSettings(name="w", options=wide)) > 4 * track.work(few)


def test_a_fitness_with_step_time_ranks_and_searches_schedules():
  plain, timed = track(), track(fitness={"step_time_weight": 0.05})
  assert (plain.metric.name, timed.metric.name) == ("bits_per_byte", "fitness")
  # Claims are about quality alone.
  assert plain.final_metric == timed.final_metric
  assert "bits_per_byte" in timed.columns()
  assert not plain.space.schedule
  assert timed.space.schedule
  made = read_stage(timed.stage_options(rung()))
  names = {b.name: b.source for b in timed.baselines()}
  assert made.step_time_source == names["deltanet"]
  # Both share Artifacts: it is no matter of what is traced.
  assert plain.shape_key(rung()) == timed.shape_key(rung())


def test_a_fitness_with_modelled_cycles_compiles_before_it_trains():
  cycles = {"modelled_cycles_weight": 0.05}
  plain, made = (
    track(fitness=fitness, preflight=("v5e:2x2",)) for fitness in ({}, cycles)
  )
  assert (plain.metric.name, made.metric.name) == ("bits_per_byte", "fitness")
  assert not made.metric.timed  # a compiler says the same again
  assert made.space.schedule
  assert "modelled_cycles" in plain.columns()
  asked = [read_stage(t.stage_options(rung())) for t in (plain, made)]
  assert [check_target(options) for options in asked] == [False, True]
  # What was judged without them is judged again.
  assert plain.shape_key(rung()) != made.shape_key(rung())


def test_brief_says_what_the_gates_refuse():
  brief = track().brief
  for word in (
    "class TokenMixer(nnx.Module)",
    "ctx.depth",
    "nnx.Param",
    "config.chunk_size",
    "taps[0] weighs the current token",
  ):
    assert word in brief
