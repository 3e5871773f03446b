"""The Claims on themselves, with real training: what must hold and what not.

Two published mixers at the size of the quickstart, without a search. Gated
DeltaNet against DeltaNet has to become a Claim; DeltaNet against itself, on
two disjoint sets of seeds, must not. Some minutes on two cores.

  python -m launch.evolve --config=configs/controls.py
  RECORDS=runs/controls/records
  python -m launch.verify --records=$RECORDS --program=gated_deltanet
  python -m launch.verify --records=$RECORDS --control=deltanet
"""

import ml_collections


def get_config(variant: str = "") -> ml_collections.ConfigDict:
  """Returns the run; `variant` is "" or "smoke" (it claims nothing)."""
  if variant not in ("", "smoke"):
    raise ValueError(f"no variant {variant!r} here: use controls.py:smoke")
  smoke = variant == "smoke"
  config = ml_collections.ConfigDict()
  config.name = "controls-smoke" if smoke else "controls"
  config.track = "architecture"
  config.run_dir = ""  # runs/<name>
  config.seed = 0
  config.rounds = 0
  config.durable = not smoke
  corpus = {
    "name": "mix-v1",
    "sources": ("sotu", "wiki", "kjv"),
    "slice_mb": 8.0,
  }
  model = {"dim": 64, "layers": 2, "heads": 2, "mlp_ratio": 4.0}
  options = {
    "batch": 4,
    "time": 128,
    "lr": 1e-2,
    "steps": 300,
    "warmup": 40,
    "eval_windows": 128,
    "checkpoint_s": 0.0,
  }
  if smoke:
    corpus = {"name": "floor-v1", "slice_mb": 0.5}
    model = {"dim": 32, "layers": 1, "heads": 1, "mlp_ratio": 2.0}
    options |= {"time": 64, "steps": 6, "warmup": 2, "eval_windows": 8}
  config.track_options = {
    "corpus": corpus,
    "baselines": ("deltanet", "gated_deltanet"),
    "model": model,
  }
  # Nobody is selected here: a rung of a few steps, so that there is one.
  config.ladder = (
    {
      "name": "quick",
      "seeds": (0,),
      "deadline_s": 600.0,
      "options": {**options, "steps": 2, "warmup": 1, "eval_windows": 8},
    },
  )
  config.verify = {
    "finalists": 0,  # launch.verify says who
    "references": ("deltanet",),
    "rung": {
      "name": "verify",
      "seeds": (101, 102, 103) if smoke else tuple(range(101, 107)),
      "deadline_s": 1800.0,
      "options": options,
    },
  }
  config.workers = {"count": 0, "memory_gb": 6.0, "sandbox": "auto"}
  return config
