"""Linear-attention architectures on real text, at CPU scale.

`:cpu` is an hour on two cores: models of 1.1M parameters on 0.8M bytes at the
rung `explore`, the size at which published mixers differ by several times the
seed spread. Search ends in time for the best candidate and DeltaNet to get
three fresh seeds within the hour. `:random` is the same hour with the symbolic
proposer replaced by uniform sampling of the same space. `:scale` is for TPUs:
100M parameters at the rung `verify`, judged on tasks of lm-evaluation-harness
too (the extra `lm-eval`). It wants more text than comes with the project:
`--config.track_options.corpus.name=dir:/path`.

  python -m launch.evolve --config=configs/architecture.py:cpu
  python -m launch.evolve --config=configs/architecture.py:random
  python -m launch.evolve --config=configs/architecture.py:scale
"""

import ml_collections

VARIANTS = ("cpu", "random", "scale")


def get_config(variant: str = "cpu") -> ml_collections.ConfigDict:
  """Returns the run; `variant` is one of VARIANTS."""
  if variant not in VARIANTS:
    raise ValueError(f"no variant {variant!r} here: use one of {VARIANTS}")
  config = ml_collections.ConfigDict()
  config.name = f"architecture-{variant}"
  config.track = "architecture"
  config.run_dir = ""  # runs/<name>
  config.seed = 0
  config.rounds = 1000
  config.target_score = ml_collections.config_dict.placeholder(float)
  config.patience = 0
  # Of the whole run; 0: as much as it takes.
  config.budget = {
    "wall_s": 3600.0,
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
  config.track_options = {
    "corpus": {"name": "mix-v1", "slice_mb": 0.0},
    "model": {"dim": 128, "layers": 4, "heads": 4, "mlp_ratio": 4.0},
  }
  # By docs/results/ladder.md: 60 steps show what is alive, half of verify's
  # steps rank.
  shapes = {"batch": 8, "time": 256, "lr": 3e-3}
  config.ladder = (
    {
      "name": "quick",
      "seeds": (0,),
      "deadline_s": 300.0,
      "promote": 0.34,
      "options": {**shapes, "steps": 60, "warmup": 20, "eval_windows": 64},
    },
    {
      "name": "explore",
      "seeds": (0,),
      "deadline_s": 1800.0,
      "options": {**shapes, "steps": 200, "warmup": 40, "eval_windows": 128},
    },
  )
  config.verify = {
    "finalists": 1,
    "references": ("deltanet",),
    "baselines": "references",
    "rung": {
      "name": "verify",
      "seeds": (101, 102, 103),
      "deadline_s": 3600.0,
      "options": {**shapes, "steps": 400, "warmup": 40, "eval_windows": 256},
    },
  }
  config.researcher = {
    "proposer": "random" if variant == "random" else "symbolic",
    "queue": 1,
    "batch": 4,
    "knowledge": 4,
  }
  config.cognition = {
    "exclude": ("paper-prior", "earlier-run"),
    "embeddings": "",  # or "minilm", or a model of config.llm
  }
  config.sampler = {"name": "ucb1"}
  config.workers = {"count": 0, "memory_gb": 6.0, "sandbox": "auto"}
  if variant == "scale":
    _scale(config)
  return config


def _scale(config: ml_collections.ConfigDict) -> None:
  """Makes `config` a run on accelerators."""
  config.budget.wall_s = 0.0
  config.track_options = {
    "corpus": {"name": "mix-v1", "slice_mb": 0.0},
    "platform": "tpu",
    # Finalists must compile for it before they are verified.
    "preflight": ("v5e:4x4",),
    "model": {
      "dim": 384,
      "layers": 8,
      "heads": 3,
      "mlp_ratio": 4.0,
      "compute_dtype": "bfloat16",
      "remat": "block",
    },
    # Those that the published gallery is judged by, and the metric of each.
    "lm_eval": {
      "tasks": {
        "wikitext": "bits_per_byte",
        "lambada_openai": "acc",
        "piqa": "acc",
        "hellaswag": "acc_norm",
        "winogrande": "acc",
        "arc_easy": "acc",
        "arc_challenge": "acc_norm",
        "social_iqa": "acc",
        "boolq": "acc",
      },
      "include_path": "",
      "data_dir": "",
      "limit": 0,
    },
  }
  shapes = {"batch": 64, "time": 2048, "lr": 1e-3, "warmup": 200}
  verify = config.verify.rung
  rungs = (*config.ladder, verify)
  for rung, steps in zip(rungs, (500, 4000, 20_000), strict=True):
    rung["options"].update(shapes, steps=steps)
    rung["deadline_s"] = 10.0 * steps
  verify["options"].update(
    model={"dim": 768, "layers": 12, "heads": 6},
    generalisation={"code": True, "length": 4, "lm_eval": True},
  )
