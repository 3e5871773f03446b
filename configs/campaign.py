"""A campaign whose finalists face DeltaNet and Gated DeltaNet at equal budget.

Models of 0.15M parameters, three learning rates for everybody, early stopping,
and a verify rung three times as long as the search's (docs/results/ladder.md
says what that costs in rank), on six fresh seeds and with tasks and texts that
the search has never seen. Under an hour on two cores and slice. `:slice2`, and
so on, begins from the best that the archive of a slice before it holds; they
are measured again, on other seeds at every rung, never believed.

  python -m launch.evolve --config=configs/campaign.py
  python -m launch.records export slice1.zip --records=runs/campaign-1/records
  python -m launch.evolve --config=configs/campaign.py:slice2 \\
    --config.seed_from.records=slice1.zip
"""

import ml_collections

VARIANTS = ("", "slice2", "slice3", "slice4", "smoke")


def get_config(variant: str = "") -> ml_collections.ConfigDict:
  """Returns the run; `variant` is one of VARIANTS."""
  if variant not in VARIANTS:
    raise ValueError(f"no variant {variant!r} here: use one of {VARIANTS}")
  slices = VARIANTS[1:-1]
  number = slices.index(variant) + 2 if variant in slices else 1
  config = ml_collections.ConfigDict()
  config.name = f"campaign-{number}"
  config.track = "architecture"
  config.run_dir = ""  # runs/<name>
  config.seed = number - 1
  config.rounds = 24
  config.budget = {"wall_s": 5400.0}
  config.seed_from = {"records": "", "best": 4, "programs": ()}
  config.target_score = ml_collections.config_dict.placeholder(float)
  config.patience = 0
  config.durable = True
  config.track_options = {
    "corpus": {
      "name": "mix-v1",
      "sources": ("sotu", "wiki", "kjv"),
      "slice_mb": 8.0,
    },
    "model": {"dim": 64, "layers": 2, "heads": 2, "mlp_ratio": 4.0},
    "baselines": ("linear", "deltanet", "gated_deltanet", "kda"),
  }
  shapes = {"batch": 4, "time": 128, "checkpoint_s": 0.0}
  # The same grid for everybody: a baseline that was not tuned is a strawman.
  grid = {"lrs": (5e-3, 1e-2, 2e-2)}
  config.ladder = (
    {
      "name": "quick",
      "seeds": (number - 1,),
      "deadline_s": 300.0,
      "promote": 0.5,
      "options": {
        **shapes,
        "lr": 1e-2,
        "steps": 100,
        "warmup": 20,
        "eval_windows": 64,
      },
    },
    {
      "name": "explore",
      "seeds": (number - 1,),
      "deadline_s": 900.0,
      "stop": {"reference": "deltanet", "margin": 0.1, "after": 0.3},
      "options": {
        **shapes,
        **grid,
        "steps": 200,
        "warmup": 40,
        "eval_windows": 128,
        "eval_every": 50,
        # Three times what DeltaNet takes.
        "flops": 1e12,
      },
    },
  )
  config.verify = {
    "finalists": 2,
    "references": ("deltanet", "gated_deltanet"),
    "baselines": "references",
    "rung": {
      "name": "verify",
      "seeds": tuple(range(100 * number + 1, 100 * number + 7)),
      "deadline_s": 3600.0,
      "options": {
        **shapes,
        **grid,
        "steps": 600,
        "warmup": 40,
        "eval_windows": 256,
        # Who learns it fast: at 150, as in slice 1, DeltaNet alone.
        "development": {"recall": 300},
        "generalisation": {
          "tasks": {"parity": 320, "permutations_s3": 320, "dyck": 200},
          "code": True,
          "length": 4,
        },
      },
    },
  }
  config.researcher = {"proposer": "symbolic", "queue": 1, "knowledge": 4}
  config.sampler = {"name": "ucb1"}
  config.workers = {"count": 0, "memory_gb": 6.0, "sandbox": "auto"}
  if variant == "smoke":
    config.name = "campaign-smoke"
    config.rounds = 1
    config.durable = False
    for rung in (*config.ladder, config.verify.rung):
      rung["options"].update({"steps": 4, "warmup": 2, "eval_windows": 8})
    few = config.verify.rung.options
    few.development = {"recall": 2}
    few.generalisation.tasks = {"parity": 2, "dyck": 2}
  return config
