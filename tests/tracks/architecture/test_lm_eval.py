"""Tasks of lm-evaluation-harness on an Artifact: local files, no network."""

import json
from importlib import metadata

import jax
import numpy as np
import pytest

from asi_evolve_jax.evaluation.stages import StageRequest
from asi_evolve_jax.models.language_model import LanguageModel
from asi_evolve_jax.programs import artifact
from asi_evolve_jax.programs.traceable import Traceable
from asi_evolve_jax.settings import RungSettings, SettingsError
from asi_evolve_jax.tracks.architecture import contract, harness, score
from asi_evolve_jax.tracks.architecture.options import (
  LM_EVAL,
  LmEvalOptions,
  ModelOptions,
  RungOptions,
  StageOptions,
)
from asi_evolve_jax.tracks.architecture.track import ArchitectureTrack
from asi_evolve_jax.tracks.base import MAXIMIZE, MINIMIZE
from asi_evolve_jax.training import lm_eval_tasks

try:
  metadata.version("lm-eval")
  INSTALLED = True
except metadata.PackageNotFoundError:
  INSTALLED = False
needs_harness = pytest.mark.skipif(
  not INSTALLED, reason=f"needs lm-eval: {lm_eval_tasks.EXTRA}"
)
TIME = 32
SOURCE = """
import jax
import jax.numpy as jnp
from flax import nnx


class TokenMixer(nnx.Module):

  def __init__(self, config, *, rngs):
    shape = (config.dim, config.dim)
    self.w = nnx.Param(0.5 * jax.random.normal(rngs.params(), shape))

  def __call__(self, x, ctx):
    count = jnp.arange(1, x.shape[1] + 1, dtype=x.dtype)[:, None]
    return jnp.cumsum(x, axis=1) / count @ self.w[...]
"""
QUESTIONS = (  # of one length each, for the reference compiles for every other
  {"question": "Is it so", "choices": ["yes", "not"], "answer": 0},
  {"question": "Is it \u00e9", "choices": ["yes", "not"], "answer": 1},
  {"question": "x = " + 40 * "7", "choices": ["yes", "not"], "answer": 1},
)
PROSE = ("Windows of thirty-two bytes hold less than this sentence does. " * 2,)
CHOICE = """
task: local_choice
dataset_path: json
dataset_kwargs:
  data_files:
    test: choice.jsonl
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: "{{choices}}"
doc_to_target: answer
metric_list:
  - metric: acc
  - metric: acc_norm
"""
ROLLING = """
task: local_prose
dataset_path: json
dataset_kwargs:
  data_files:
    test: FOLDER/prose.jsonl
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{text}}"
metric_list:
  - metric: bits_per_byte
"""
TASKS = {"local_choice": "acc", "local_prose": "bits_per_byte"}


def write_tasks(folder, change=("", "")):
  folder.mkdir(exist_ok=True)
  rows = {"choice": QUESTIONS, "prose": [{"text": text} for text in PROSE]}
  for name, documents in rows.items():
    lines = "\n".join(map(json.dumps, documents))
    (folder / f"{name}.jsonl").write_text(lines)
  for name, text in (("choice", CHOICE), ("prose", ROLLING)):
    text = text.replace("FOLDER", str(folder)).replace(*change)
    (folder / f"{name}.yaml").write_text(text)
  return str(folder)


def stage_options(**changes):
  return StageOptions(
    model=ModelOptions(dim=16, layers=1, heads=1, chunk_size=8),
    run=RungOptions(batch=4, time=TIME),
    reference_source=SOURCE,
    purpose="verify",
    **changes,
  )


@pytest.fixture(scope="module")
def model():
  """A compiled Artifact, parameters, and what they give at any length."""
  options = stage_options()
  mixer = contract.execute(SOURCE).TokenMixer
  small = contract.mixer_config(options.model)
  payload = artifact.trace(mixer, small, batch=4, time=TIME)
  trainer, config = harness.make_trainer(payload, options)
  params = trainer.init(0)["params"]
  python = LanguageModel(config, Traceable(mixer, small))
  return trainer, params, jax.jit(python.apply)


def reference(model, tokens, new):
  """Returns the likelihood of the last `new` tokens, and if all are best."""
  _, params, apply = model
  assert len(tokens) <= TIME + 1
  tokens = np.frombuffer(bytes(tokens), np.uint8).astype(np.int32)
  logits = np.asarray(apply(params, tokens[None, :-1])[0], np.float64)
  top = logits.max(-1, keepdims=True)
  logp = logits - top - np.log(np.exp(logits - top).sum(-1, keepdims=True))
  rows = np.arange(tokens.size - 1)[-new:]
  nats = logp[rows, tokens[1:][-new:]].sum()
  return nats, bool((logits.argmax(-1)[-new:] == tokens[1:][-new:]).all())


@needs_harness
def test_local_tasks_get_the_likelihoods_of_the_model(
  model, tmp_path, monkeypatch
):
  for name in ("HF_HOME", "HF_DATASETS_OFFLINE", "HF_HUB_OFFLINE"):
    monkeypatch.setenv(name, "")  # and as it was afterwards
  include, home = write_tasks(tmp_path), tmp_path / "home"
  facts = lm_eval_tasks.prepare(TASKS, include, str(home))
  found = {name: fact["documents"] for name, fact in facts["tasks"].items()}
  assert found == {"local_choice": 3, "local_prose": 1}
  assert facts["tasks"]["local_choice"] != facts["tasks"]["local_prose"]
  # What a stage may not write to, if the kernel enforces it or not.
  before = sorted(home.rglob("*"))
  scratch = tmp_path / "scratch"
  request = StageRequest(
    *("", b"", (0,), {}, str(scratch), "", 60.0),
    folders={"lm_eval": str(home), "lm_eval_tasks": include},
  )
  options = stage_options(
    lm_eval=LmEvalOptions(tasks=TASKS, include_path=include)
  )
  trainer, params, _ = model
  scores = score.lm_eval(trainer, params, options, request)
  assert sorted(home.rglob("*")) == before
  right = []
  for document in QUESTIONS:
    nats = []
    for choice in document["choices"]:
      asked = b"\0" + f"{document['question']} {choice}".encode()
      nats.append(reference(model, asked[-TIME - 1 :], len(choice) + 1)[0])
    right.append(np.argmax(nats) == document["answer"])
  from lm_eval.utils import get_rolling_token_windows

  text = PROSE[0].encode()
  parts = [
    reference(model, [window[0], *window[1:], new[-1]], len(new))[0]
    for window, new in get_rolling_token_windows(list(text), 0, TIME, 1)
  ]
  bits = -np.sum(parts) / np.log(2) / len(text)
  assert scores == {
    f"{LM_EVAL}local_choice": np.mean(right),
    f"{LM_EVAL}local_prose": pytest.approx(bits, rel=1e-5),
  }
  with pytest.raises(lm_eval_tasks.LmEvalError, match="'acc_norm,none'"):
    lm_eval_tasks.measure(
      trainer, params, {"local_choice": "f1"}, include_path=include, limit=1
    )


@needs_harness
def test_log_likelihoods_are_those_of_text_that_is_not_filled_up(model):
  from lm_eval.api.instance import Instance

  from asi_evolve_jax.training import byte_lm

  trainer, params, _ = model
  pairs = [("", "so it is"), ("is it", " so"), ("7" * 40, " so"), ("a", "")]
  lm = byte_lm.ByteLM(trainer, params)
  asked = [Instance("loglikelihood", {}, pair, 0) for pair in pairs]
  found = lm.loglikelihood(asked)
  for (context, text), (nats, greedy) in zip(pairs[:3], found, strict=False):
    tokens = b"\0" + (context + text).encode()
    want, best = reference(model, tokens[-TIME - 1 :], len(text))
    assert nats == pytest.approx(want, rel=1e-5)
    assert greedy == best
  assert found[3] == (0.0, True)
  for letter in map(chr, range(97, 123)):
    tokens = np.array([[0, ord(letter)]])
    best = int(model[2](params, tokens)[0, -1].argmax())
    if best < 128:  # a character by itself
      pair = (letter, chr(best))
      ((_, greedy),) = lm.loglikelihood(
        [Instance("loglikelihood", {}, pair, 0)]
      )
      assert greedy
      break
  with pytest.raises(lm_eval_tasks.LmEvalError, match="multiple_choice"):
    lm.generate_until(asked)


@needs_harness
@pytest.mark.parametrize("start", [1, 5, 40])
@pytest.mark.parametrize("size", [6, 33, 34, 100])
def test_windows_predict_every_token_once_and_fill_up(start, size):
  from asi_evolve_jax.training.byte_lm import windows

  tokens = np.arange(size, dtype=np.uint8)
  seen = []
  for window, new in windows(tokens, start, TIME):
    assert new < window.size <= TIME + 1
    assert window.size == min(TIME + 1, int(window[-1]) + 1)
    seen += window[-new:].tolist()
  assert seen == list(range(start, size))


@needs_harness
def test_what_cannot_be_scored_is_refused_before_anything_trains(tmp_path):
  def refused(match, tasks, *change):
    include = write_tasks(tmp_path / match.split()[0], *change)
    with pytest.raises(lm_eval_tasks.LmEvalError, match=match):
      lm_eval_tasks.fetch(tasks, include)

  refused("nosuchtask", {"nosuchtask": "acc"})
  writes = ("multiple_choice", "generate_until")
  refused("write text", {"local_choice": "exact_match"}, writes)
  lower = ("acc_norm", "acc_norm\n    higher_is_better: false")
  refused("better when lower", {"local_choice": "acc_norm"}, lower)


def test_without_the_harness_the_remedy_is_named(monkeypatch, tmp_path):
  def missing(name):
    raise metadata.PackageNotFoundError(name)

  monkeypatch.setattr(metadata, "version", missing)
  with pytest.raises(lm_eval_tasks.LmEvalError, match=r"jax\[lm-eval\]'"):
    lm_eval_tasks.prepare(TASKS, "", str(tmp_path))


def test_the_track_knows_its_tasks():
  plain = ArchitectureTrack({})
  assert "lm_eval" not in plain.folders()
  lm_eval = {"tasks": TASKS, "include_path": "here", "data_dir": "/data"}
  track = ArchitectureTrack({"lm_eval": lm_eval})
  directions = {metric.name: metric.direction for metric in track.metrics()}
  assert directions[f"{LM_EVAL}local_choice"] == MAXIMIZE
  assert directions[f"{LM_EVAL}local_prose"] == MINIMIZE
  assert track.folders()["lm_eval"] == "/data"
  # The stage that scores is the only one that may read them.
  reads = {stage.name for stage in track.stages if "lm_eval" in stage.reads}
  assert reads == {"score"}
  rung = RungSettings(
    name="verify", options={"generalisation": {"lm_eval": True}}
  )
  assert track.stage_options(rung)["lm_eval"]["tasks"] == TASKS
  with pytest.raises(SettingsError, match=r"track_options\.lm_eval\.tasks"):
    plain.stage_options(rung)
