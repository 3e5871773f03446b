"""What each part of the loop is worth: one condition of the ablation study.

  python -m launch.ablation --track=circle_packing --out=runs/ablation
  python -m launch.evolve --config=configs/ablation.py:circle_packing-islands

All conditions of a track have the same rounds, rungs and budgets, and the
symbolic proposer; the run's seed is config.seed. `random` draws uniformly from
the same space, `uniform` draws only parents so. `priors` (circle packing) also
reads the twelve items that the paper gave its loop; those name the target and
the method. docs/results/ablation.md
"""

from collections.abc import Callable

import ml_collections

from configs import circle_packing, quickstart


def _no_cognition(config: ml_collections.ConfigDict) -> None:
  config.researcher.knowledge = 0


def _no_analyzer(config: ml_collections.ConfigDict) -> None:
  config.researcher.analyses = False


def _neither(config: ml_collections.ConfigDict) -> None:
  _no_cognition(config)
  _no_analyzer(config)


def _random(config: ml_collections.ConfigDict) -> None:
  _neither(config)
  config.researcher.proposer = "random"


def _sampler(name: str) -> Callable[[ml_collections.ConfigDict], None]:
  def change(config: ml_collections.ConfigDict) -> None:
    config.sampler.name = name

  return change


def _priors(config: ml_collections.ConfigDict) -> None:
  config.cognition.exclude = ("earlier-run",)


# Condition -> what it changes of `full`, which has UCB1.
_EVERYWHERE = {
  "full": lambda config: None,
  "no_cognition": _no_cognition,
  "no_analyzer": _no_analyzer,
  "neither": _neither,
  "random": _random,
  "islands": _sampler("islands"),
  "greedy": _sampler("greedy"),
  "uniform": _sampler("random"),
}
# Track -> its conditions.
CONDITIONS = {
  "circle_packing": {**_EVERYWHERE, "priors": _priors},
  "architecture": _EVERYWHERE,
}


def get_config(variant: str = "") -> ml_collections.ConfigDict:
  """Returns the run of `variant`, "<track>-<condition>"."""
  track, _, condition = variant.partition("-")
  change = CONDITIONS.get(track, {}).get(condition)
  if change is None:
    known = [f"{t}-{c}" for t, found in CONDITIONS.items() for c in found]
    raise ValueError(
      f"no variant {variant!r} here: use ablation.py: with one of "
      f"{', '.join(known)}"
    )
  config = _BASES[track]()
  config.name = f"ablation-{track}-{condition}"
  config.durable = False
  config.verify.finalists = 0
  # Equal on every machine, and several runs beside each other.
  config.workers = {
    "count": 1,
    "memory_gb": 4.0,
    "pin": True,
    "sandbox": "auto",
  }
  config.researcher = {
    "proposer": "symbolic",
    "queue": 1,
    "knowledge": 4,
    "analyses": True,
  }
  # Fewer islands than in a long run, which meet more often.
  config.sampler = {
    "name": "ucb1",
    "islands": {"count": 3, "every": 4 if track == "circle_packing" else 2},
  }
  change(config)
  return config


def _circle_packing() -> ml_collections.ConfigDict:
  config = circle_packing.get_config()
  # Some 80 core-seconds a run: two core-hours for nine conditions of ten seeds.
  config.rounds = 48
  # What a person would draw: the fourth baseline, an optimiser, begins at 2.62.
  config.track_options.baselines = ("grid", "hexagonal", "rings")
  config.verify.references = ("grid",)
  quick, explore = config.ladder
  config.ladder = (quick, {**explore, "options": {"work": 350}})
  return config


def _architecture() -> ml_collections.ConfigDict:
  config = quickstart.get_config()
  config.rounds = 12
  config.track_options.baselines = ("linear", "deltanet")
  # The quick rung alone, a dozen core-seconds a Program: two core-hours for
  # eight conditions of five seeds.
  config.ladder = config.ladder[:1]
  return config


_BASES = {"circle_packing": _circle_packing, "architecture": _architecture}
