"""The symbolic search space of circle packing.

A genome is a small optimiser: where circles start, how a packing is improved,
how the search goes on from a local optimum, how the result is refined. The
ingredients are textbook ones (multi-start, basin hopping, sequential linear
and quadratic programming, penalties); no coordinate or sum of a known packing
is among them.
"""

from __future__ import annotations

import string
import textwrap
from collections.abc import Callable, Mapping
from typing import Any

from asi_evolve_jax.programs.genome import Gene, Genome, Space
from asi_evolve_jax.tracks.circle_packing import templates

Condition = Callable[[Mapping[str, Any]], bool]


def _among(gene: str, *values: Any) -> Condition:
  return lambda genome: genome[gene] in values


def _hops(*moves: str) -> Condition:
  return lambda g: (
    g["search"] == "hopping" and (not moves or g["move"] in moves)
  )


GENES = (
  Gene(
    "pattern",
    tuple(templates.PATTERNS),
    "random",
    doc="how the centres are laid out at first",
  ),
  Gene(
    "noise",
    (0.0, 0.01, 0.03, 0.1),
    0.0,
    ordered=True,
    active=lambda g: g["pattern"] != "random",
    doc="how much the pattern is shaken, as a share of the square",
  ),
  Gene(
    "optimiser",
    tuple(templates.DESCENTS),
    "fixed",
    doc="what turns centres into a locally best packing",
  ),
  Gene(
    "sizes",
    tuple(templates.SIZES),
    "even",
    active=_among("optimiser", "slsqp", "penalty"),
    doc="radii that the optimiser starts with",
  ),
  Gene(
    "reach",
    (0.05, 0.2, 2.0),
    2.0,
    ordered=True,
    active=_among("optimiser", "slp", "slsqp", "alternate"),
    doc="gap up to which a pair of circles is a constraint",
  ),
  Gene(
    "step",
    (0.02, 0.05, 0.1, 0.2),
    0.1,
    ordered=True,
    active=_among("optimiser", "slp", "alternate"),
    doc="first trust region or step of the centres",
  ),
  Gene(
    "decay",
    (0.3, 0.5, 0.8),
    0.5,
    ordered=True,
    active=_among("optimiser", "slp", "alternate"),
    doc="factor by which the step shrinks",
  ),
  Gene(
    "stiffness",
    (1.0, 10.0, 100.0),
    10.0,
    ordered=True,
    active=_among("optimiser", "penalty"),
    doc="first weight of an overlap",
  ),
  Gene(
    "growth",
    (3.0, 10.0),
    10.0,
    ordered=True,
    active=_among("optimiser", "penalty"),
    doc="factor by which the weight of an overlap grows",
  ),
  Gene(
    "effort",
    (5, 10, 20, 50),
    20,
    ordered=True,
    active=lambda g: g["optimiser"] != "fixed",
    doc="most units of work a descent may take: depth against breadth",
  ),
  Gene(
    "tolerance",
    (1e-3, 1e-5, 1e-8),
    1e-5,
    ordered=True,
    active=lambda g: g["optimiser"] != "fixed",
    doc="gain or step below which a descent ends",
  ),
  Gene(
    "search",
    tuple(templates.PACKS),
    "once",
    doc="what follows a descent",
  ),
  Gene(
    "screen",
    (1, 4, 12),
    1,
    ordered=True,
    doc="tries ranked by one linear program for each descent",
  ),
  Gene(
    "move",
    (*templates.MOVES, "mixed"),
    "jitter",
    active=_hops(),
    doc="how a local optimum is disturbed",
  ),
  Gene(
    "size",
    (0.02, 0.05, 0.1, 0.2),
    0.05,
    ordered=True,
    active=_hops("jitter", "local", "mixed"),
    doc="length of a shake",
  ),
  Gene(
    "radius",
    (0.2, 0.35, 0.5),
    0.35,
    ordered=True,
    active=_hops("local", "turn"),
    doc="size of the place that is disturbed",
  ),
  Gene(
    "moved",
    (1, 2, 4),
    1,
    ordered=True,
    active=_hops("relocate", "exchange", "mixed"),
    doc="circles moved at once",
  ),
  Gene(
    "victims",
    tuple(templates.VICTIMS),
    "random",
    active=_hops("relocate", "exchange", "mixed"),
    doc="which circles are moved",
  ),
  Gene(
    "temperature",
    (0.0, 0.001, 0.004),
    0.0,
    ordered=True,
    active=_hops(),
    doc="how much worse a packing may be and still be hopped from",
  ),
  Gene(
    "patience",
    (10, 30, 100, 0),
    0,
    ordered=True,
    active=_hops(),
    doc="failed hops before a fresh start; 0: never",
  ),
  Gene(
    "finish",
    tuple(templates.FINISHES),
    "none",
    doc="how the best packing is refined at the end",
  ),
)


class CirclePackingSpace(Space):
  """Optimisers for circle packing, rendered to NumPy and SciPy source."""

  genes = GENES

  def title(self, genome: Genome) -> str:
    """Returns e.g. "slp hopping/jitter from hexagonal"."""
    search = genome["search"]
    if search == "hopping":
      search = f"hopping/{genome['move']}"
    return f"{genome['optimiser']} {search} from {genome['pattern']}"

  def suspects(self, gate: str, message: str) -> tuple[str, ...]:
    del message
    slow = ("optimiser", "effort", "screen", "reach")
    return slow if gate == "cpu_seconds" else ()

  def render(self, genome: Genome) -> str:
    """Returns a module with `pack(n, seed, work)`; see Space.render."""
    genome = self.repair(genome)
    ways = (genome["optimiser"], genome["finish"])
    tools = [templates.SLSQP] if "slsqp" in ways else []
    blocks = [
      templates.DESCENTS[genome["optimiser"]],
      *self._perturb(genome),
      templates.CHEAP[genome["screen"] > 1],
      self._pack(genome),
    ]
    sizes = templates.SIZES[genome["sizes"]]
    if any("linear_step(" in text for text in (sizes, *blocks)):
      tools.insert(0, templates.LINEAR)
    blocks = [
      templates.PATTERNS[genome["pattern"]],
      templates.START[genome["noise"] > 0],
      templates.GEOMETRY,
      *tools,
      *blocks,
    ]
    body = "\n\n".join(block.strip("\n") + "\n" for block in blocks if block)
    numbers = {name: repr(value) for name, value in genome.items()}
    numbers["sizes"] = sizes
    numbers["reserve"] = repr(templates.RESERVES[genome["finish"]])
    numbers["calls"] = repr(templates.CALLS_A_UNIT)
    victims = templates.VICTIMS[genome["victims"]]
    numbers["victims"] = string.Template(victims).substitute(numbers)
    body = string.Template(body).substitute(numbers)
    return f"{self._head(genome, body)}\n\n{body}"

  def _head(self, genome: Genome, body: str) -> str:
    lines = [f'"""Circle packing: {self.title(genome)}."""', ""]
    if "math." in body:
      lines += ["import math", ""]
    lines.append("import numpy as np")
    optimisers = [f for f in ("linprog", "minimize") if f"{f}(" in body]
    if optimisers:
      lines.append(f"from scipy.optimize import {', '.join(optimisers)}")
    if "csr_matrix(" in body:
      lines.append("from scipy.sparse import csr_matrix")
    return "\n".join([*lines, ""])

  def _perturb(self, genome: Genome) -> list[str]:
    if genome["search"] != "hopping":
      return []
    if genome["move"] != "mixed":
      return [templates.MOVES[genome["move"]]]
    return [
      templates.MOVES[name].replace("def perturb(", f"def {name}(")
      for name in templates.MIXED
    ] + [templates.MIXED_MOVE]

  def _pack(self, genome: Genome) -> str:
    screened = genome["screen"] > 1
    accept = "gain > 0.0"
    if genome["temperature"]:
      accept = "gain > -$temperature * (1 - spent / work) * rng.exponential()"
    give_up = ""
    if genome["patience"]:
      give_up = "if fails >= $patience:\n  here, fails = None, 0"
    lines = {
      "fresh": _made("start(n, rng)", screened),
      "hop": _made("perturb(*here, rng)", screened),
      "accept": accept,
      "give_up": give_up,
      "finish": templates.FINISHES[genome["finish"]],
    }
    out = []
    for line in templates.PACKS[genome["search"]].splitlines():
      text = line.strip()
      if text.startswith("$"):  # a whole line: takes the line's indentation
        margin = line[: len(line) - len(text)]
        inner = lines[text[1:]].strip("\n")
        out += textwrap.indent(inner, margin).splitlines()
      else:
        out.append(line.replace("$accept", lines["accept"]))
    return "\n".join(out)


def _made(call: str, screened: bool) -> str:
  if not screened:
    return f"centers = {call}"
  return f"centers, used = draft(lambda: {call}, work - spent)\nspent += used"
