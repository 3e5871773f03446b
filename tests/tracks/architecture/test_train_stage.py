"""The train stage: scores per seed, held-out text for verification alone."""

import dataclasses
import time

import numpy as np
import pytest

from asi_evolve_jax.evaluation import gates
from asi_evolve_jax.evaluation.stages import StageRequest
from asi_evolve_jax.programs import artifact
from asi_evolve_jax.settings import plain
from asi_evolve_jax.tracks.architecture import (
  contract,
  harness,
  score,
  step_time,
  train,
  trained,
  tuning,
)
from asi_evolve_jax.tracks.architecture.options import (
  Generalisation,
  ModelOptions,
  RungOptions,
  StageOptions,
  StopOptions,
)
from asi_evolve_jax.tracks.architecture.probe import Probe
from asi_evolve_jax.training import corpus
from asi_evolve_jax.training.trainer import Trainer

SOURCE = """
import jax
import jax.numpy as jnp
from flax import nnx


class TokenMixer(nnx.Module):

  def __init__(self, config, *, rngs):
    shape = (config.dim, config.dim)
    self.w = nnx.Param(0.2 * jax.random.normal(rngs.params(), shape))

  def __call__(self, x, ctx):
    return jnp.cumsum(x, axis=1) / x.shape[1] @ self.w[...].astype(x.dtype)
"""

# PATH is shut until training has moved `gate` further than the judge does.
OPENING = """
import jax.numpy as jnp
from flax import nnx


class TokenMixer(nnx.Module):

  def __init__(self, config, *, rngs):
    self.gate = nnx.Param(jnp.zeros((config.dim,)))

  def __call__(self, x, ctx):
    gate = self.gate[...]
    opened = jnp.maximum(jnp.abs(gate) - 0.5, 0.0).sum()
    return x * (1 + gate) + opened * PATH
"""
LONG_LEAK = """\
    return y if x.shape[1] == 32 else y + jnp.roll(x, -1, 1)
"""


@pytest.fixture(scope="module")
def options():
  return StageOptions(
    model=ModelOptions(dim=16, layers=1, heads=1, chunk_size=8),
    run=RungOptions(
      batch=4, time=32, steps=6, warmup=2, eval_windows=8, checkpoint_s=0.0
    ),
    reference_source=SOURCE,
  )


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
  """The two folders of a small corpus."""
  folder = tmp_path_factory.mktemp("text")
  (folder / "other").mkdir()
  rng = np.random.default_rng(0)
  words = ["".join(map(chr, rng.integers(97, 123, 5))) for _ in range(50)]
  for i in range(60):
    text = " ".join(rng.choice(words, 500))
    (folder / f"{i}.txt").write_text(text)
  (folder / "other" / "o.txt").write_text(" ".join(words) * 20)
  built = corpus.build(
    f"dir:{folder}", data_dir=str(tmp_path_factory.mktemp("built"))
  )
  return {name: str(built.directory / name) for name in ("search", "held_out")}


@pytest.fixture(scope="module")
def payload(options):
  return _artifact(SOURCE, options)


def _artifact(source, options):
  mixer = contract.execute(source).TokenMixer
  config = contract.mixer_config(options.model)
  return artifact.trace(
    mixer, config, batch=options.run.batch, time=options.run.time
  )


def _request(payload, options, folders, scratch, seeds=(0, 1)):
  return StageRequest(
    source="",
    payload=payload,
    seeds=seeds,
    options=plain(options),
    scratch=str(scratch),
    cache="",
    deadline_s=60.0,
    folders=folders,
  )


def test_search_scores_every_seed_and_never_opens_held_out_text(
  options, folders, payload, tmp_path, monkeypatch
):
  opened = set()
  load = corpus.Corpus.load
  monkeypatch.setattr(
    corpus.Corpus,
    "load",
    lambda self, split: opened.add(split) or load(self, split),
  )
  reply = train.run(_request(payload, options, folders, tmp_path))
  assert reply.status == "ok"
  assert opened == {"train", "dev"}
  assert [set(m) for m in reply.metrics] == [{"bits_per_byte"}] * 2
  assert reply.metrics[0] != reply.metrics[1]
  assert all(0 < m["bits_per_byte"] < 9 for m in reply.metrics)
  assert reply.curves["loss"].shape == (2, 6)
  assert 1 < reply.report["yardsticks"]["byte trigram"] < 8
  # The candidate is its own reference: the same count to the unit.
  count = 2 * 16 * 16 + 256 * 16  # at least its tables
  assert reply.report["parameters"] > count
  assert reply.report["train_memory_bytes"] > 4 * 3 * count


def _watched(options, *, score, margin, after):
  """Returns options with a reference at `score` all along, in bits a byte."""
  return dataclasses.replace(
    options,
    run=dataclasses.replace(options.run, eval_every=2),
    stop=StopOptions(
      reference="deltanet",
      steps=(2, 4, 6),
      scores=(score,) * 3,
      margin=margin,
      after=after,
    ),
  )


@pytest.mark.slow
def test_who_falls_behind_the_reference_stops_without_a_score(
  options, folders, payload, tmp_path
):
  watched = _watched(options, score=0.1, margin=1.0, after=4)
  reply = train.run(_request(payload, watched, folders, tmp_path))
  assert reply.status == "stopped"
  assert reply.metrics == ()
  assert "stopped after 4 of 6 steps" in reply.error
  assert "behind deltanet" in reply.error
  # What was trained is paid for: the first seed's steps until then.
  assert reply.cost == {"tokens": 4 * 4 * 32}


@pytest.mark.slow
def test_who_keeps_up_with_the_reference_goes_on(
  options, folders, payload, tmp_path
):
  watched = _watched(options, score=20.0, margin=0.5, after=0)
  reply = train.run(_request(payload, watched, folders, tmp_path))
  assert reply.status == "ok"


@pytest.mark.slow
def test_a_score_with_speed_keeps_the_raw_quality(
  options, folders, payload, tmp_path
):
  timed = dataclasses.replace(
    options,
    step_time_weight=0.5,
    step_time_source=SOURCE,
    modelled_cycles_weight=0.25,
  )
  tokens = options.run.batch * options.run.time
  request = _request(payload, timed, folders, tmp_path)
  # As the judge told: 8 cycles a token, three doublings.
  facts = {"modelled_cycles": 8.0 * tokens}
  reply = train.run(dataclasses.replace(request, facts=facts))
  ratio = reply.report["step_time_ratio"]
  for metrics in reply.metrics:
    assert metrics["fitness"] == pytest.approx(
      metrics["bits_per_byte"] + 0.5 * np.log2(ratio) + 0.25 * 3
    )
  # The reference is itself: the only bound that holds on any machine.
  assert 0.05 < ratio < 20


@pytest.mark.slow
def test_step_times_are_those_of_each_model(options, payload):
  trainer, _ = harness.make_trainer(payload, options)

  class Slow(Trainer):
    def __init__(self):
      vars(self).update(vars(trainer))

    def step(self, *args):
      time.sleep(0.2)
      return super().step(*args)

  quick, slow = step_time.least_step_times([trainer, Slow()])
  assert 0 < quick < slow
  assert slow > 0.2


@pytest.mark.slow
def test_verification_scores_held_out_text_in_a_stage_of_its_own(
  options, folders, payload, tmp_path, monkeypatch
):
  run = dataclasses.replace(
    options.run,
    development={"recall": 2},
    generalisation=Generalisation(tasks={"parity": 2}, code=True),
  )
  verify = dataclasses.replace(options, purpose="verify", run=run)
  opened = []
  load = corpus.Corpus.load
  monkeypatch.setattr(
    corpus.Corpus,
    "load",
    lambda self, split: opened.append(split) or load(self, split),
  )
  request = _request(payload, verify, folders, tmp_path, seeds=(7,))
  learned = train.run(request)
  assert set(opened) == {"train", "dev"}
  assert set(learned.metrics[0]) == {
    "bits_per_byte",
    "dev/recall",
    "gen/parity",
  }
  request = dataclasses.replace(request, payload=learned.payload)
  reply = score.run(request)
  (metrics,) = reply.metrics
  assert set(metrics) == {
    "bits_per_byte",
    "held_out_bits_per_byte",
    "other_bits_per_byte",
    "gen/code_bits_per_byte",
    "dev/recall",
    "gen/parity",
  }
  assert metrics["bits_per_byte"] == learned.metrics[0]["bits_per_byte"]
  assert 0 <= metrics["dev/recall"] <= 1
  assert learned.report["chance"] == {"dev/recall": 1 / 8, "gen/parity": 1 / 2}
  assert metrics["held_out_bits_per_byte"] != metrics["other_bits_per_byte"]
  windows = reply.curves["held_out_bits_per_byte"]
  assert windows.shape == (1, run.eval_windows)
  assert windows.mean() == pytest.approx(metrics["held_out_bits_per_byte"])
  trigrams = [r.report["yardsticks"]["byte trigram"] for r in (learned, reply)]
  assert trigrams[0] != trigrams[1]


@pytest.mark.slow
def test_saved_parameters_come_back_as_they_were(options, payload, tmp_path):
  trainer, _ = harness.make_trainer(payload, options)
  params = trainer.init(3)["params"]
  path = tmp_path / "params-3.npz"
  harness.save_params(path, params)
  again = harness.load_params(path, trainer.init(0)["params"])
  windows = np.arange(4 * 33, dtype=np.uint8).reshape(4, 33)
  assert trainer.evaluate(again, windows) == trainer.evaluate(params, windows)
  with pytest.raises(ValueError, match="another model"):
    harness.load_params(path, params["ends"])


@pytest.mark.slow
def test_a_task_begun_again_does_not_train_a_finished_seed(
  options, folders, payload, tmp_path, monkeypatch
):
  run = dataclasses.replace(
    options.run,
    development={"recall": 2},
    generalisation=Generalisation(tasks={"parity": 2}),
  )
  options = dataclasses.replace(options, run=run)
  first = train.run(_request(payload, options, folders, tmp_path, seeds=(0,)))
  # The search is not told what only verify measures.
  assert set(first.metrics[0]) == {"bits_per_byte", "dev/recall"}
  inits = []
  init = Trainer.init
  monkeypatch.setattr(
    Trainer, "init", lambda self, seed: inits.append(seed) or init(self, seed)
  )
  both = train.run(_request(payload, options, folders, tmp_path, seeds=(0, 1)))
  assert inits == [1, 1]
  assert both.metrics[0] == first.metrics[0]
  elsewhere = tmp_path / "elsewhere"
  elsewhere.mkdir()
  fresh = train.run(_request(payload, options, folders, elsewhere, seeds=(1,)))
  assert fresh.metrics[0] == both.metrics[1]


@pytest.mark.slow
def test_divergence_is_a_failure_with_the_reason(options, folders, tmp_path):
  source = SOURCE.replace("x.shape[1] @", "0.0 @")
  reply = train.run(
    _request(_artifact(source, options), options, folders, tmp_path)
  )
  assert reply.status == "failed"
  assert "diverged at step 0 of 6" in reply.error
  assert reply.metrics == ()
  assert reply.cost == {"tokens": 1 * 4 * 32}


@pytest.mark.slow
def test_who_needs_more_flops_than_the_rung_has_is_rejected_untrained(
  options, folders, payload, tmp_path
):
  facts = {"flops_per_token": 1e3}
  reply = train.run(_request(payload, options, folders, tmp_path, seeds=(0,)))
  spent = 3 * facts["flops_per_token"] * reply.cost["tokens"]
  for share, status in ((1.0, "ok"), (0.999, "rejected")):
    limited = dataclasses.replace(
      options, run=dataclasses.replace(options.run, flops=share * spent)
    )
    request = _request(payload, limited, folders, tmp_path, seeds=(0,))
    reply = train.run(dataclasses.replace(request, facts=facts))
    assert reply.status == status
  assert reply.gate == train.FLOPS_GATE
  assert "FLOPs" in reply.error
  assert reply.cost == {}


@pytest.mark.slow
def test_a_leak_that_training_opens_is_refused(options, folders, tmp_path):
  run = dataclasses.replace(options.run, lr=0.3)  # six steps have to do
  hot = dataclasses.replace(options, run=run)
  bad = _artifact(OPENING.replace("PATH", "jnp.flip(x, 1)"), hot)
  probe = Probe(artifact.load(bad))
  cuts = range(1, hot.run.time)
  layer = probe.at(np.float32(0.5))
  gates.check_causality(layer.run, probe.x, probe.other, cuts)
  reply = train.run(_request(bad, hot, folders, tmp_path))
  assert (reply.status, reply.gate) == ("rejected", trained.GATE)
  assert "replacing the tokens from position" in reply.error
  assert reply.metrics == ()
  assert reply.cost == {"tokens": 6 * 4 * 32}
  near = _artifact(OPENING.replace("PATH", "jnp.cumsum(x, 1)"), hot)
  reply = train.run(_request(near, hot, folders, tmp_path, seeds=(3,)))
  assert reply.status == "ok", reply.error


@pytest.mark.slow
def test_the_grid_chooses_one_rate_for_all_seeds_on_development_text(
  options, folders, payload, tmp_path
):
  rates = (1e-4, 1e-2)
  run = dataclasses.replace(
    options.run, lrs=rates, development={"parity": 2}, steps=4
  )
  tuned = dataclasses.replace(options, run=run, purpose="verify")
  request = _request(payload, tuned, folders, tmp_path, seeds=(0, 1))
  reply = train.run(request)
  alone = {}
  for rate in rates:
    run = dataclasses.replace(run, lr=rate, lrs=(), development={})
    one = dataclasses.replace(options, run=run)
    folder = tmp_path / f"{rate}"
    folder.mkdir()
    alone[rate] = train.run(_request(payload, one, folders, folder))
  means = {
    rate: np.mean([m["bits_per_byte"] for m in found.metrics])
    for rate, found in alone.items()
  }
  best = min(means, key=means.get)
  assert reply.report["lr"] == best
  assert reply.report["by_lr"] == pytest.approx(
    {"0.0001": means[1e-4], "0.01": means[1e-2]}
  )
  for mine, other in zip(reply.metrics, alone[best].metrics, strict=True):
    assert mine["bits_per_byte"] == other["bits_per_byte"]
  np.testing.assert_array_equal(
    reply.curves["loss"], alone[best].curves["loss"]
  )
  tried = [rate for rate, _ in reply.report["suites"][1]["dev/parity"]["by_lr"]]
  assert tried == list(rates)
  # Everything that was trained is counted: text and task, 2 rates, 2 seeds.
  assert reply.cost["tokens"] == 4 * 32 * (4 + 2) * 2 * 2
  # Held-out text is read with the parameters of the chosen rate.
  request = dataclasses.replace(request, payload=reply.payload)
  scored = score.run(request)
  trainer, _ = harness.make_trainer(payload, tuned)
  path = tuning.params_path(tmp_path, 1, best)
  params = harness.load_params(path, trainer.init(0)["params"])
  text = harness.open_text(request)
  bits = trainer.evaluate(params, harness.windows(text, "held_out", tuned))[0]
  assert scored.metrics[1]["held_out_bits_per_byte"] == bits


def test_a_rate_that_diverges_is_not_chosen(
  options, folders, payload, tmp_path
):
  run = dataclasses.replace(options.run, lrs=(1e38, 1e-3))
  wild = dataclasses.replace(options, run=run)
  reply = train.run(_request(payload, wild, folders, tmp_path, seeds=(0,)))
  assert reply.status == "ok"
  assert reply.report["lr"] == 1e-3
  assert reply.report["by_lr"]["1e+38"] is None
  assert 6 * 4 * 32 < reply.cost["tokens"] < 2 * 6 * 4 * 32


@pytest.mark.slow
def test_text_longer_than_any_trained_on_is_scored_beyond_that_length(
  options, folders, tmp_path
):
  run = dataclasses.replace(
    options.run, generalisation=Generalisation(length=4)
  )
  verify = dataclasses.replace(options, purpose="verify", run=run)
  assert verify.kept_lengths() == (32, 128)
  payload = artifact.trace(
    contract.execute(SOURCE).TokenMixer,
    contract.mixer_config(options.model),
    batch=4,
    time=32,
    more_times=(128,),
  )
  request = _request(payload, verify, folders, tmp_path, seeds=(3,))
  learned = train.run(request)
  assert "gen/length_bits_per_byte" not in learned.metrics[0]
  request = dataclasses.replace(request, payload=learned.payload)
  reply = score.run(request)
  text = harness.open_text(request)
  examples = harness.long_examples(text, verify)
  assert examples.tokens.shape == (2, 128)  # as many bytes as 8 windows of 32
  assert examples.weights[:, :32].sum() == 0
  assert examples.weights[:, 32:].all()
  trainer, _ = harness.make_trainer(payload, verify)
  path = tuning.params_path(tmp_path, 3, options.run.lr)
  params = harness.load_params(path, trainer.init(0)["params"])
  # The mean over the past is divided by the length: the model notices.
  bits = trainer.evaluate(params, examples)[0]
  assert reply.metrics[0]["gen/length_bits_per_byte"] == bits
  whole = examples._replace(weights=np.ones_like(examples.weights))
  assert trainer.evaluate(params, whole)[0] != bits
  assert reply.cost["trained_causality_s"] > 0
  # Who reads ahead at that length alone has passed every gate so far.
  source = SOURCE.replace("return ", "y = ") + LONG_LEAK
  leaking = artifact.trace(
    contract.execute(source).TokenMixer,
    contract.mixer_config(options.model),
    batch=4,
    time=32,
    more_times=(128,),
  )
  packed = harness.pack(options.run.lr, [{}], leaking)
  reply = score.run(dataclasses.replace(request, payload=packed))
  assert (reply.status, reply.gate) == ("rejected", trained.GATE)
  assert reply.metrics == ()
