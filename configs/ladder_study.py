"""How well each rung of the architecture ladder predicts the next.

Uniformly drawn Programs and the baselines are all measured at every rung, on
two seeds each, so that a rung's rank correlation with `verify` stands beside
its test-retest ceiling (seed against seed). Hours on two cores; stop it at any
time and start it again, and read it with `python -m launch.report ladder`.

  python -m launch.evolve --config=configs/ladder_study.py
"""

import ml_collections


def get_config(variant: str = "") -> ml_collections.ConfigDict:
  """Returns the run; there are no variants."""
  if variant:
    raise ValueError(f"no variant {variant!r} here: use ladder_study.py")
  config = ml_collections.ConfigDict()
  config.name = "ladder-study"
  config.track = "architecture"
  config.run_dir = ""  # runs/<name>
  config.seed = 7
  config.rounds = 26
  config.target_score = ml_collections.config_dict.placeholder(float)
  config.patience = 0
  config.durable = True
  config.track_options = {
    "corpus": {"name": "mix-v1", "slice_mb": 0.0},
    "model": {"dim": 128, "layers": 2, "heads": 4, "mlp_ratio": 4.0},
  }
  shapes = {"batch": 8, "time": 128, "lr": 3e-3}
  # Nobody is left behind: a study of who would have been promoted must know
  # what became of those who would not.
  everybody = {"seeds": (0, 1), "deadline_s": 1800.0, "promote": 1.0}
  config.ladder = (
    {
      "name": "quick",
      **everybody,
      "options": {**shapes, "steps": 60, "warmup": 20, "eval_windows": 64},
    },
    {
      "name": "narrow",
      **everybody,
      "options": {
        **shapes,
        "steps": 400,
        "warmup": 40,
        "eval_windows": 128,
        "model": {"dim": 64, "heads": 2},
      },
    },
    {
      "name": "explore",
      **everybody,
      "options": {
        **shapes,
        "steps": 400,
        "warmup": 40,
        "eval_windows": 128,
        "eval_every": 50,
        "development": {"recall": 150},
      },
    },
    {
      "name": "long",
      "seeds": (11, 12),
      "deadline_s": 3600.0,
      "options": {
        **shapes,
        "steps": 1000,
        "warmup": 40,
        "eval_windows": 256,
        "eval_every": 100,
      },
    },
  )
  config.verify = {"finalists": 0}
  # Repairs would not be drawn uniformly.
  config.researcher = {
    "proposer": "random",
    "queue": 1,
    "batch": 4,
    "repair": False,
  }
  config.sampler = {"name": "random"}
  config.workers = {"count": 0, "memory_gb": 6.0, "sandbox": "auto"}
  return config
