"""Do the rungs order the published mixers as the literature does?

Ten baselines and no candidate, four seeds, three learning rates each: text at
two lengths of training, and the tasks that tell memories apart, with models of
0.15M parameters (d 64, 2 layers). Some 170,000 steps of 1,024 tokens: 1.9
core-hours (docs/results/calibration.md). Stop it at any time and start it
again: runs that are finished are not trained again.

  python -m launch.evolve --config=configs/calibrate.py
  python -m launch.report calibrate --records=runs/calibrate/records

`:long` gives rebinding recall four times the steps, and five mixers: at 300 a
gate is learned too late, and the task measures speed of optimisation. 0.9
core-hours. `:smoke` is the whole of it, tiny.
"""

import ml_collections

VARIANTS = ("", "long", "smoke")
BASELINES = (
  "linear",
  "retnet",
  "scalar_gated",
  "deltanet",
  "gated_deltanet",
  "kda",
  "deltanet_negative",
  "gated_deltanet_negative",
  "deltanet_no_conv",
  "gated_deltanet_no_conv",
)


def get_config(variant: str = "") -> ml_collections.ConfigDict:
  """Returns the run; `variant` is one of VARIANTS."""
  if variant not in VARIANTS:
    raise ValueError(f"no variant {variant!r} here: use one of {VARIANTS}")
  config = ml_collections.ConfigDict()
  config.name = "calibrate"
  config.track = "architecture"
  config.run_dir = ""  # runs/<name>
  config.seed = 0
  config.rounds = 0  # baselines alone
  config.target_score = ml_collections.config_dict.placeholder(float)
  config.patience = 0
  config.durable = True
  config.track_options = {
    "corpus": {"name": "mix-v1", "slice_mb": 0.0},
    "baselines": BASELINES,
    "model": {"dim": 64, "layers": 2, "heads": 2, "mlp_ratio": 4.0},
  }
  rung = {"seeds": (0, 1, 2, 3), "deadline_s": 14400.0, "promote": 1.0}
  grid = {"lrs": (1e-3, 3e-3, 1e-2)}
  config.ladder = (
    {
      "name": "tasks",
      **rung,
      "options": {
        **grid,
        "batch": 16,
        "time": 64,
        "steps": 100,
        "warmup": 20,
        "eval_windows": 128,
        # Long enough for the delta rule to learn the first and for negative
        # eigenvalues to learn the last; nobody gets longer.
        "development": {
          "rebinding_recall": 300,
          "recall": 300,
          "parity": 320,
        },
      },
    },
    {
      "name": "explore",
      **rung,
      "options": {
        **grid,
        "batch": 8,
        "time": 128,
        "steps": 400,
        "warmup": 40,
        "eval_windows": 128,
      },
    },
  )
  config.verify = {"finalists": 0}
  config.researcher = {"proposer": "random", "knowledge": 0}
  config.sampler = {"name": "random"}
  config.workers = {"count": 0, "memory_gb": 6.0, "sandbox": "auto"}
  if variant == "long":
    _long(config)
  if variant == "smoke":
    _smoke(config)
  return config


def _long(config: ml_collections.ConfigDict) -> None:
  config.name = "calibrate-long"
  config.track_options.baselines = (
    "linear",
    "scalar_gated",
    "deltanet",
    "gated_deltanet",
    "kda",
  )
  tasks, _ = config.ladder
  # The text is not asked here: a few steps, so that there is a score.
  tasks["options"].update(
    lrs=(3e-3, 1e-2, 3e-2),
    steps=4,
    warmup=2,
    eval_windows=8,
    development={"rebinding_recall": 1200},
  )
  config.ladder = (tasks,)


def _smoke(config: ml_collections.ConfigDict) -> None:
  config.name = "calibrate-smoke"
  config.durable = False
  config.track_options = {
    "corpus": {"name": "floor-v1", "slice_mb": 0.5},
    "baselines": ("linear", "deltanet"),
    "model": {"dim": 32, "layers": 1, "heads": 1, "mlp_ratio": 2.0},
  }
  config.ladder = (
    {
      "name": "tasks",
      "seeds": (0, 1),
      "deadline_s": 300.0,
      "options": {
        "lrs": (3e-3, 1e-2),
        "batch": 4,
        "time": 64,
        "steps": 4,
        "warmup": 1,
        "eval_windows": 8,
        "checkpoint_s": 0.0,
        "development": {"rebinding_recall": 4},
      },
    },
  )
