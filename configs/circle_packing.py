"""Circle packing, 26 circles in the unit square: the loop without a model.

The goal is a sum of radii of 2.63598 (the best known is 2.63598308 at margin
0). One evaluation at the rung `explore` takes some 4 CPU seconds, so the whole
run takes a few minutes on two cores.

  python -m launch.evolve --config=configs/circle_packing.py
  python -m launch.evolve --config=configs/circle_packing.py:smoke
  python -m launch.evolve --config=configs/circle_packing.py:items
  python -m launch.evolve --config=configs/circle_packing.py:priors

`items` reads the Cognition Base; `priors` also the twelve items that the paper
gave its loop. Those name the target and the method: another claim.
"""

import ml_collections


def get_config(variant: str = "") -> ml_collections.ConfigDict:
  """Returns the run; variants are "smoke" (seconds), "items", "priors"."""
  if variant not in ("", "smoke", "items", "priors"):
    raise ValueError(
      f"no variant {variant!r} here: use circle_packing.py:smoke, :items or "
      ":priors"
    )
  config = ml_collections.ConfigDict()
  config.name = "circle_packing"
  config.track = "circle_packing"
  config.run_dir = ""  # runs/<name>
  config.seed = 0
  config.rounds = 60
  config.target_score = 2.63598
  config.patience = 0
  # Of the whole run; 0: as much as it takes.
  config.budget = {
    "wall_s": 0.0,
    "device_s": 0.0,
    "flops": 0.0,
    "tokens": 0.0,
    "money": 0.0,
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
  config.track_options = {"circles": 26}
  # A packing that one seed finds is found: one seed a rung, so that the score
  # is that packing's. How often a Program finds it, `verify` says.
  config.ladder = (
    {
      "name": "quick",
      "seeds": (0, 1),
      "deadline_s": 60.0,
      "options": {"work": 60},
      "promote": 0.5,
    },
    {
      "name": "explore",
      "seeds": (0,),
      "deadline_s": 120.0,
      "options": {"work": 700},
    },
  )
  config.verify = {
    "finalists": 2,
    "references": ("random-slsqp",),
    "rung": {
      "name": "verify",
      "seeds": (101, 102, 103),
      "deadline_s": 300.0,
      "options": {"work": 700},
    },
  }
  config.researcher = {"proposer": "symbolic", "knowledge": 0}
  config.cognition = {
    "exclude": ("paper-prior", "earlier-run"),
    "embeddings": "",  # or "minilm", or a model of config.llm
  }
  config.sampler = {
    "name": "ucb1",
    "pool": 50,
    "parent_ranks": (1, 10),
    "reference_ranks": (11, 50),
  }
  config.workers = {"count": 0, "memory_gb": 2.0, "sandbox": "auto"}
  if variant == "smoke":
    _smoke(config)
  if variant in ("items", "priors"):
    config.name = f"circle_packing-{variant}"
    config.researcher.knowledge = 4
  if variant == "priors":
    config.cognition.exclude = ("earlier-run",)
  return config


def _smoke(config: ml_collections.ConfigDict) -> None:
  config.name = "circle_packing-smoke"
  config.rounds = 6
  config.target_score = None
  config.durable = False
  config.ladder = (
    {"name": "quick", "seeds": (0,), "options": {"work": 5}, "promote": 0.5},
    {"name": "explore", "seeds": (0,), "options": {"work": 20}},
  )
  config.verify.finalists = 1
  config.verify.rung.seeds = (101, 102)
  config.verify.rung.options = {"work": 20}
