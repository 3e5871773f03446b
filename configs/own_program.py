"""A Program of your own against the published mixers, without a search.

It goes through the same gates and rungs as a candidate of the search, and to
verify on fresh seeds, against DeltaNet and Gated DeltaNet. Before verify it is
compiled for a TPU pod, if libtpu is there (the extra `tpu-aot`; "not checked"
without). `:smoke` is the whole of it, tiny.
The example brings a Pallas kernel of its own. Some minutes on two cores.

  python -m launch.evolve --config=configs/own_program.py
  python -m launch.evolve --config=configs/own_program.py \\
    --config.seed_from.programs="('my_mixer.py',)"
"""

import ml_collections

EXAMPLE = "asi_evolve_jax/tracks/architecture/examples/own_kernel.py"


def get_config(variant: str = "") -> ml_collections.ConfigDict:
  """Returns the run; `variant` is "" or "smoke"."""
  if variant not in ("", "smoke"):
    raise ValueError(f"no variant {variant!r} here: use own_program.py:smoke")
  config = ml_collections.ConfigDict()
  config.name = "own-program"
  config.track = "architecture"
  config.run_dir = ""  # runs/<name>
  config.seed = 0
  config.rounds = 0  # nobody searches
  config.seed_from = {"records": "", "best": 4, "programs": (EXAMPLE,)}
  config.durable = True
  config.track_options = {
    "corpus": {
      "name": "mix-v1",
      "sources": ("sotu", "wiki", "kjv"),
      "slice_mb": 8.0,
    },
    "baselines": ("deltanet", "gated_deltanet"),
    "model": {"dim": 64, "layers": 2, "heads": 2, "mlp_ratio": 4.0},
    # The kernel, interpreted, against the form that trains here.
    "check_kernels": True,
    "preflight": ("v5e:4x4",),
  }
  shapes = {"batch": 4, "time": 128, "checkpoint_s": 0.0}
  # The same grid for everybody: a baseline that was not tuned is a strawman.
  grid = {"lrs": (5e-3, 1e-2, 2e-2)}
  config.ladder = (
    {
      "name": "explore",
      "seeds": (0,),
      "deadline_s": 900.0,
      "options": {
        **shapes,
        **grid,
        "steps": 100,
        "warmup": 20,
        "eval_windows": 64,
      },
    },
  )
  config.verify = {
    "finalists": 1,
    "references": ("deltanet", "gated_deltanet"),
    "baselines": "references",
    "rung": {
      "name": "verify",
      "seeds": (101, 102, 103),
      "deadline_s": 3600.0,
      "options": {
        **shapes,
        **grid,
        "steps": 400,
        "warmup": 40,
        "eval_windows": 256,
      },
    },
  }
  config.researcher = {"proposer": "symbolic", "knowledge": 0}
  config.sampler = {"name": "ucb1"}
  config.workers = {"count": 0, "memory_gb": 6.0, "sandbox": "auto"}
  if variant == "smoke":
    config.name = "own-program-smoke"
    config.durable = False
    config.track_options.corpus = {"name": "floor-v1", "slice_mb": 0.5}
    for rung in (*config.ladder, config.verify.rung):
      rung["options"].update({"steps": 4, "warmup": 2, "eval_windows": 8})
    config.verify.rung.seeds = (101, 102)
  return config
