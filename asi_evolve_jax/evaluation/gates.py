"""Gates: what a Program must pass before it may spend budget.

A gate is a name, what it checks, and a callable that raises `Rejected` with a
message that tells the author what to change. Those here know no track: they
take functions of arrays [batch, time, dim] with time going forward on axis 1.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from asi_evolve_jax.evaluation.cost import Cost, growth

Forward = Callable[[np.ndarray], np.ndarray]
# (x, cotangent of y) -> (y, cotangent of x)
ForwardAndPullback = Callable[
  [np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]
]

# Rounding that different order of summation may leave, in units in the last
# place of the largest output: sums of some thousand terms stay below it.
ROUNDING_ULPS = 256
MAX_GROWTH = 2.6  # of costs at doubled lengths: 2 linear, 2.2 T log T, 4 T^2
# What a later token may move an earlier result by, over the largest entry: in
# half precision those units would be the whole of it.
MOST_LEAK = 2.0**-4
MAX_OF_HALF = 2.5  # of what half of the tokens cost: T log T below it
# A length other than those that growth is read from may cost this much more
# than they let expect: the same blocks, perhaps padded.
MAX_EXCESS = 1.25


class Rejected(Exception):
  """A gate said no; the message tells the author what to change."""


@dataclasses.dataclass(frozen=True)
class Gate:
  """One check.

  Attributes:
    name: for Results and statistics.
    checks: what it checks, one line.
    run: raises Rejected, or whatever the Program raises.
  """

  name: str
  checks: str
  run: Callable[[], None]


@dataclasses.dataclass(frozen=True)
class Verdict:
  """What came of a list of gates.

  Attributes:
    gate: the one that rejected; "" if all passed.
    message: what to change; "" if all passed.
    seconds: how long each gate that ran took, by name.
  """

  gate: str
  message: str
  seconds: dict[str, float]

  @property
  def passed(self) -> bool:
    return not self.gate


def judge(
  gates: Sequence[Gate], explain: Callable[[BaseException], str]
) -> Verdict:
  """Runs `gates` in order until one rejects.

  Args:
    gates: cheapest first.
    explain: turns what a Program raised into a message.
  """
  seconds: dict[str, float] = {}
  for gate in gates:
    start = time.perf_counter()
    try:
      gate.run()
      message = ""
    except Rejected as rejection:
      message = str(rejection)
    except (Exception, SystemExit) as error:
      # A Program's own error is its rejection, at whatever gate it comes up.
      message = explain(error)
    seconds[gate.name] = time.perf_counter() - start
    if message:
      return Verdict(gate.name, message, seconds)
  return Verdict("", "", seconds)


def check_growth(
  costs: Sequence[Cost], times: Sequence[int], bound: float = MAX_GROWTH
) -> None:
  """Rejects cost that grows much faster than the length.

  Args:
    costs: at lengths `times`.
    times: T, 2T, 4T.
    bound: largest growth (see `cost.growth`) that passes.
  """
  for what in ("flops", "bytes"):
    values = [getattr(c, what) for c in costs]
    ratio = growth(*values)
    if ratio > bound:
      dearest = next(iter(costs[-1].work), "none")
      at = ", ".join(
        f"{v:.3g} at {t}" for v, t in zip(values, times, strict=True)
      )
      raise Rejected(
        f"{what} grow with a factor of {ratio:.2f} when the length doubles "
        f"(2 is linear, at most {bound} passes): {at}. The dearest operation "
        f"at length {times[-1]} is {dearest}. Do not form [time, time] arrays "
        "over the whole sequence and do not read all of it in every step of a "
        "scan; work in chunks of fixed size with a state."
      )


def check_same_cost(
  cost: Cost, time: int, costs: Sequence[Cost], times: Sequence[int]
) -> None:
  """Rejects more work at one length than others let expect.

  A Program knows the length when it is traced: it could be linear only at the
  lengths that `check_growth` looks at.

  Args:
    cost: at length `time`.
    time: another length.
    costs: at lengths `times`.
    times: at least two, rising.
  """
  for what in ("flops", "bytes"):
    first, second = (getattr(c, what) for c in costs[:2])
    share = (time - times[0]) / (times[1] - times[0])
    line = first + share * (second - first)
    # T log T lies above the line and below what is proportional.
    expected = max(line, first * time / times[0])
    found = getattr(cost, what)
    if found > MAX_EXCESS * expected:
      raise Rejected(
        f"at length {time} it takes {found:.3g} {what}; from lengths "
        f"{times[0]} and {times[1]} at most {expected:.3g} would follow. Do "
        "the same work a token at every length."
      )


def check_half(half: Cost, whole: Cost, time: int) -> None:
  """Rejects a window as long as the sequences: attention over all of them.

  Beyond its window such a Program is linear, and `check_growth` sees no more
  than that.

  Args:
    half: the cost of half as many tokens; `check_same_cost` has seen to it that
      it is not that of more.
    whole: of `time` tokens.
    time: tokens a sequence in training.
  """
  for what in ("flops", "bytes"):
    ratio = getattr(whole, what) / getattr(half, what)
    if ratio > MAX_OF_HALF:
      raise Rejected(
        f"{time} tokens, as in training, take {ratio:.2f} times the {what} of "
        f"half as many (at most {MAX_OF_HALF} passes): a window or a chunk as "
        "long as the sequence. Keep windows and chunks to half of it at most."
      )


def check_purity(forward: Forward, x: np.ndarray) -> None:
  """Rejects a result that two calls with the same input do not share.

  Args:
    forward: the function.
    x: any input.
  """
  first, second = forward(x), forward(x)
  if first.tobytes() != second.tobytes():
    changed = int(np.count_nonzero(first != second))
    raise Rejected(
      f"two calls with the same input differ in {changed} of {first.size} "
      "numbers. Draw no random numbers in __call__ and keep no state."
    )


def check_batch_independence(
  forward: Forward, x: np.ndarray, other: np.ndarray
) -> None:
  """Rejects a result that depends on the other sequences of its batch.

  Changed are the sequences whose number has a bit, then those that lack it,
  for each bit: of any two sequences, each is changed once while the other
  stays, in twice the binary logarithm of the batch.

  Args:
    forward: the function.
    x: [batch, time, dim], batch at least 2.
    other: the same shape, other values.
  """
  before = forward(x)
  numbers = np.arange(len(x))
  for bit in range((len(x) - 1).bit_length()):
    for side in (0, 1):
      changed = (numbers >> bit) & 1 == side
      after = forward(np.where(changed[:, None, None], other, x))
      worst = float(np.max(np.abs(before - after)[~changed]))
      if not worst <= tolerance(before):
        raise Rejected(
          "changing some sequences of a batch changed the result for another "
          f"by {worst:.2e}. Compute nothing over axis 0: no batch statistics, "
          "no normalisation or reshape across sequences."
        )


def check_causality(
  run: ForwardAndPullback,
  x: np.ndarray,
  other: np.ndarray,
  cuts: Sequence[int],
) -> None:
  """Rejects a result that depends on later tokens.

  Tokens from a cut on are replaced; what comes before must stay within
  rounding. The gradient of what comes before a cut, with respect to the tokens
  from the cut on, must be zero: this finds a leak that the values hide.

  Args:
    run: (x, cotangent of y) -> (y, cotangent of x), all [batch, time, dim].
    x: inputs.
    other: inputs to replace them by.
    cuts: positions, each in [1, time). As many are tried at a time as there
      are sequences, so sequences must be independent (check that first).
      Where one position alone reads ahead, only the cuts behind it show it:
      `draw_cuts` says which to ask.
  """
  batch, length = x.shape[:2]
  before, _ = run(x, np.zeros_like(x))
  for start in range(0, len(cuts), batch):
    group = list(cuts[start : start + batch])
    group += group[-1:] * (batch - len(group))
    future = np.arange(length)[None, :] >= np.asarray(group)[:, None]
    past = ~future[..., None]
    after, pulled = run(np.where(future[..., None], other, x), other * past)
    leak = _leak(before, after, past, group, eps_of(before.dtype))
    if leak:
      raise Rejected(f"{leak}. {_CAUSAL_ADVICE}")
    leak = np.abs(pulled) * ~past
    if not np.max(leak) <= _leak_tolerance(pulled, eps_of(pulled.dtype)):
      row, place, _ = np.unravel_index(np.argmax(leak), leak.shape)
      raise Rejected(
        f"the result before position {group[row]} has a gradient of "
        f"{leak[row, place].max():.2e} with respect to the token at position "
        f"{place}. " + _CAUSAL_ADVICE
      )


def check_trained_causality(
  scores: Callable[[np.ndarray], np.ndarray],
  tokens: np.ndarray,
  cuts: Sequence[int],
  eps: float,
) -> None:
  """Rejects a trained model that reads later tokens.

  `check_causality` asks a mixer at made-up parameters and inputs; this asks the
  whole model at those that training gave, on text: a parameter may open a path
  that was shut, or one layer alone may leak.

  Args:
    scores: tokens -> a number for each position, of the same shape, for targets
      that stay; rows must be independent.
    tokens: [rows, time] text. Row i is cut at `cuts[i]`, rows repeating, and
      from there on replaced by text of another row, read backwards.
    cuts: positions, each in [1, time).
    eps: precision of what the model computes in; see `eps_of`.
  """
  rows = np.resize(tokens, (len(cuts), tokens.shape[1]))
  future = np.arange(rows.shape[1])[None, :] >= np.asarray(cuts)[:, None]
  changed = np.where(future, np.resize(tokens[::-1, ::-1], rows.shape), rows)
  leak = _leak(scores(rows), scores(changed), ~future, cuts, eps)
  if leak:
    raise Rejected(
      f"on text, with the parameters that training gave, {leak}. The mixer was "
      "judged at other parameters: look for a path that a parameter opens, or "
      f"that one layer alone takes. {_CAUSAL_ADVICE}"
    )


def _leak(
  before: np.ndarray,
  after: np.ndarray,
  past: np.ndarray,
  cuts: Sequence[int],
  eps: float,
) -> str:
  """Says where what comes before a cut has moved, or returns ""."""
  with np.errstate(invalid="ignore"):  # a NaN is refused below
    moved = np.abs(after - before) * past
  if np.max(moved) <= _leak_tolerance(before, eps):
    return ""
  row, place = np.unravel_index(np.argmax(moved), moved.shape)[:2]
  return (
    f"replacing the tokens from position {cuts[int(row)]} on changed the "
    f"result at position {place} by {moved[row, place].max():.2e}"
  )


def _leak_tolerance(y: np.ndarray, eps: float) -> float:
  largest = float(np.max(np.abs(y), initial=0.0))
  return min(ROUNDING_ULPS * eps, MOST_LEAK) * largest


_CAUSAL_ADVICE = (
  "Position t may read positions up to and including t only: scan forwards, "
  "pad convolutions on the left, mask above the diagonal, and take no mean, "
  "maximum or normalisation over the time axis."
)


def check_finite(
  run: Callable[[np.ndarray], Mapping[str, np.ndarray]],
  inputs: Mapping[str, np.ndarray],
) -> None:
  """Rejects results or gradients that are not finite.

  Args:
    run: x -> arrays by name (result, gradients).
    inputs: x by what kind of input it is.
  """
  for kind, x in inputs.items():
    for name, value in run(x).items():
      bad = int(np.size(value) - np.isfinite(value).sum())
      if bad:
        raise Rejected(
          f"{name} is not finite ({bad} of {np.size(value)} numbers) for "
          f"{kind}. Look for a division or a square root of something that can "
          "be zero (add an epsilon under the root), for exp of something "
          "without a bound, and for where() around a NaN, whose gradient is "
          "NaN."
        )


def draw_cuts(
  length: int, most: int, rng: np.random.Generator
) -> tuple[int, ...]:
  """Returns where to cut a sequence: everywhere, or at places drawn.

  A Program that knew which would read ahead between them, so `rng` must be one
  that its author cannot foresee.

  Args:
    length: of the sequence, at least 2.
    most: cuts.
    rng: that draws where there are more places.
  """
  places = np.arange(1, length)
  if len(places) > most:
    places = np.sort(rng.choice(places, most, replace=False))
  return tuple(int(place) for place in places)


def eps_of(dtype: np.dtype) -> float:
  """Returns the spacing of a dtype's numbers at 1; bfloat16 for two bytes."""
  return 2.0**-8 if dtype.itemsize == 2 else float(np.finfo(dtype).eps)


def tolerance(y: np.ndarray) -> float:
  """Returns by how much rounding may move an entry of `y`."""
  largest = float(np.max(np.abs(y), initial=0.0))
  return ROUNDING_ULPS * eps_of(y.dtype) * largest
