"""The main job: minutes on two cores, models of 0.1-0.2M parameters.

Six published mixers and a dozen candidates are trained on a slice of real
text; finalists and baselines get three further fresh seeds and held-out text.

  make evolve
  python -m launch.evolve --config=configs/quickstart.py:smoke

`:smoke` is the whole loop, tiny, on text that every machine with JAX has.
"""

import ml_collections


def get_config(variant: str = "") -> ml_collections.ConfigDict:
  """Returns the run; `variant` is "" or "smoke"."""
  if variant not in ("", "smoke"):
    raise ValueError(f"no variant {variant!r} here: use quickstart.py:smoke")
  config = ml_collections.ConfigDict()
  config.name = "quickstart"
  config.track = "architecture"
  config.run_dir = ""  # runs/<name>
  config.seed = 0
  config.rounds = 14
  config.target_score = ml_collections.config_dict.placeholder(float)
  config.patience = 0
  # Of the whole run; 0: as much as it takes.
  config.budget = {
    "wall_s": 0.0,
    "device_s": 0.0,
    "flops": 0.0,
    "tokens": 0.0,
    "money": 2.0,  # what a language model may cost, if there is a key
  }
  config.approve_above = {"device_s": 0.0, "flops": 0.0}  # 0: never asks
  # An archive or a URL, how many of its best; files of your own.
  config.seed_from = {"records": "", "best": 4, "programs": ()}
  config.durable = True
  # Whom proposers "auto", "mixed" and "llm" ask: gemini, vertex, openai:<URL>;
  # replay:<URL of records> proposes what was proposed there.
  config.llm = "gemini"
  config.models = {
    "names": ("gemini-3.8-flash",),
    "choice": "weights",
    "base_url": "",
    "parallel": 2,
  }
  config.track_options = {
    # Speeches and an encyclopaedia: quick to fetch, and prose alone is easier
    # for so small a model than the whole mixture.
    "corpus": {
      "name": "mix-v1",
      "sources": ("sotu", "wiki", "kjv"),
      "slice_mb": 8.0,
    },
    "model": {"dim": 64, "layers": 2, "heads": 2, "mlp_ratio": 4.0},
    # Of the published mixers those that a few minutes have room for.
    "baselines": (
      "softmax",
      "linear",
      "retnet",
      "scalar_gated",
      "deltanet",
      "gated_deltanet",
    ),
  }
  # Many small steps: at these sizes they teach more than few large ones. 80
  # show what is alive, half of verify's rank (docs/results/ladder.md).
  shapes = {"batch": 4, "time": 128, "lr": 1e-2, "checkpoint_s": 0.0}
  config.ladder = (
    {
      "name": "quick",
      "seeds": (0,),
      "deadline_s": 300.0,
      "promote": 0.34,
      "options": {**shapes, "steps": 80, "warmup": 20, "eval_windows": 64},
    },
    {
      "name": "explore",
      "seeds": (0,),
      "deadline_s": 600.0,
      "options": {**shapes, "steps": 200, "warmup": 40, "eval_windows": 128},
    },
  )
  config.verify = {
    "finalists": 2,
    "references": ("deltanet",),
    "rung": {
      "name": "verify",
      "seeds": (101, 102, 103),
      "deadline_s": 1200.0,
      "options": {
        **shapes,
        "steps": 400,
        "warmup": 40,
        "eval_windows": 256,
        "development": {"recall": 200},
      },
    },
  }
  config.researcher = {"proposer": "auto", "queue": 1, "knowledge": 4}
  # With a key a model reads what was measured, too; "symbolic": never.
  config.analyzer = {"kind": "llm"}
  config.cognition = {
    "exclude": ("paper-prior", "earlier-run"),
    "embeddings": "",  # or "minilm", or a model of config.llm
  }
  config.sampler = {"name": "ucb1"}
  config.workers = {"count": 0, "memory_gb": 6.0, "sandbox": "auto"}
  if variant == "smoke":
    _smoke(config)
  return config


def _smoke(config: ml_collections.ConfigDict) -> None:
  config.name = "quickstart-smoke"
  config.researcher.proposer = "symbolic"  # with a key as without
  config.analyzer.kind = "symbolic"
  config.rounds = 2
  config.durable = False
  config.track_options = {
    "corpus": {"name": "floor-v1", "slice_mb": 0.5},
    "baselines": ("linear", "deltanet"),
    "model": {"dim": 32, "layers": 1, "heads": 1, "mlp_ratio": 2.0},
  }
  tiny = {"batch": 4, "time": 64, "warmup": 2, "checkpoint_s": 0.0}
  config.ladder = (
    {
      "name": "explore",
      "seeds": (0,),
      "deadline_s": 300.0,
      "options": {**tiny, "steps": 10, "eval_windows": 8},
    },
  )
  config.verify.finalists = 1
  config.verify.rung.seeds = (101, 102)
  config.verify.rung.options = {**tiny, "steps": 10, "eval_windows": 8}
