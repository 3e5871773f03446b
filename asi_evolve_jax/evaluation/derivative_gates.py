"""Gates on derivatives, parameters and other forms of the same function.

As `gates`, they know no track: functions of arrays by name, time on axis 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from asi_evolve_jax.evaluation.gates import Rejected, eps_of, tolerance

Arrays = Mapping[str, np.ndarray]
# point -> y
Value = Callable[[Arrays], np.ndarray]
# (point, cotangent of y) -> cotangents of the point
Gradients = Callable[[Arrays, np.ndarray], Arrays]

# Share of a directional derivative that a step's curvature may make up.
_CURVATURE = 0.05
# Rounding of one output, in units in the last place of the largest.
_ROUNDING = 16
# An entry that the first half moves less than this share of the second's.
_IDLE = 0.01
GRADIENT = "the gradient of "  # how the names of gradients begin
# Share of an array that only the second half may read: the last of some
# buckets, the end of a filter.
_MOST_LATE = 0.25
# Cotangents tried: of one, an entry of a gradient in a hundred is a sum that
# comes out near 0 by chance, and some parameters have two entries.
_DRAWS = 3


def check_derivative(
  value: Value,
  gradients: Gradients,
  point: Arrays,
  cotangents: Sequence[np.ndarray],
  rng: np.random.Generator,
  *,
  together: bool = False,
) -> None:
  """Rejects a derivative that finite differences do not confirm.

  Each array of the point is moved on its own, in a random direction u, and
  (y(p + h u) - y(p - h u)) / 2h is compared with the pulled back cotangents.
  The step h is the cube root of the precision, where rounding (eps / h) and
  curvature (h^2) of central differences meet, or else its square root, for
  functions with kinks. The tolerance is what rounding leaves in the sum, and 5
  % of its typical size, which cannot be small by chance for every cotangent.

  Args:
    value: the function.
    gradients: its derivative, as it is claimed to be.
    point: where to look.
    cotangents: some of the shape of y, independent and of unit variance.
    rng: of the directions.
    together: moves all arrays at once: a look that costs as much as one array.
  """
  first = value(point)
  y, eps = np.asarray(first, np.float64), eps_of(first.dtype)
  flat = [np.asarray(dy, np.float64).ravel() for dy in cotangents]
  claimed = [gradients(point, dy) for dy in cotangents]
  for names in [list(point)] if together else [[name] for name in point]:
    directions = {name: _direction(point[name], rng) for name in names}
    worst = ""
    for step in (eps ** (1 / 3), eps ** (1 / 2)):
      ends = [
        {
          name: (point[name] + sign * step * u).astype(point[name].dtype)
          for name, u in directions.items()
        }
        for sign in (1, -1)
      ]
      after, before = (
        np.asarray(value({**point, **end}), np.float64) for end in ends
      )
      slope = ((after - before) / (2 * step)).ravel()
      # What was really moved: the ends are rounded.
      moved = {
        name: (end.astype(np.float64) - ends[1][name]).ravel() / (2 * step)
        for name, end in ends[0].items()
      }
      rounding = _ROUNDING * eps * float(np.max(np.abs(y))) / step
      found = [float(dy @ slope) for dy in flat]
      told = [
        sum(
          float(np.asarray(c[name], np.float64).ravel() @ by)
          for name, by in moved.items()
        )
        for c in claimed
      ]
      allowed = [
        _CURVATURE * float(np.linalg.norm(dy * slope))
        + rounding * float(np.linalg.norm(dy))
        for dy in flat
      ]
      gaps = np.abs(np.subtract(found, told)) / np.maximum(allowed, 1e-300)
      i = int(np.argmax(gaps))
      if gaps[i] <= 1:
        break
      worst = worst or f"{told[i]:.4g} where differences give {found[i]:.4g}"
    else:
      raise Rejected(
        f"the derivative with respect to {', '.join(names)} is {worst}. A "
        "custom_vjp or custom_jvp must be the derivative of its function; use "
        "no stop_gradient on what the result depends on, and no jumps "
        "(rounding, hard choices)."
      )


def _direction(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  scale = float(np.sqrt(np.mean(np.square(array, dtype=np.float64)))) or 1.0
  return rng.standard_normal(array.shape) * scale


def check_positions(
  gradients: Callable[[np.ndarray, np.ndarray], Arrays],
  x: np.ndarray,
  dy: np.ndarray,
) -> None:
  """Rejects parameters that are a table over positions.

  The sequence is one half twice, so both halves choose alike by content. A
  parameter that the result of the second half reads and that of the first does
  not is chosen by its position: it is trained for this length and no other.

  Args:
    gradients: (x, cotangent of y) -> cotangents of the parameters by name.
    x: [batch, time, dim].
    dy: cotangent of y [batch, time, dim], of unit variance.
  """
  half = x.shape[1] // 2
  if not half:
    return
  twice = x.copy()
  twice[:, half : 2 * half] = x[:, :half]
  late = np.arange(x.shape[1])[None, :, None] >= half
  first, second = {}, {}
  for draw in range(_DRAWS):
    other = np.roll(dy, draw, axis=-1)
    for most, part in ((first, ~late), (second, late)):
      found = gradients(twice, (other * part).astype(dy.dtype))
      for name, value in found.items():
        size = np.abs(np.asarray(value, np.float64))
        most[name] = np.maximum(most.get(name, 0.0), size)
  for name, later in second.items():
    earlier = first[name]
    either = np.maximum(earlier, later)
    read = either > np.finfo(np.float32).eps * np.max(either, initial=0.0)
    idle = read & (earlier < _IDLE * later)
    share = np.count_nonzero(idle) / max(1, np.count_nonzero(read))
    if share > _MOST_LATE:
      raise Rejected(
        f"{share:.0%} of {name} is read by the second half of the sequence "
        "alone: a table over positions, trained for one length. Compute what "
        "depends on the position from it (decays, sines), or index by the "
        "place within a chunk; keep filters shorter than half the sequence."
      )


def check_equal(what: str, found: Arrays, wanted: Arrays, advice: str) -> None:
  """Rejects another form of the function that gives other numbers.

  A gradient that is small because large terms cancel keeps their rounding, so
  rounding is counted against the largest of all gradients.

  Args:
    what: the form, for the message.
    found: its results and gradients by name; those begin with GRADIENT.
    wanted: those of the form that trains.
    advice: what to change.
  """
  rounding = max(
    (tolerance(v) for name, v in wanted.items() if name.startswith(GRADIENT)),
    default=0.0,
  )
  for name, value in wanted.items():
    gap = np.abs(
      np.asarray(found[name], np.float64) - np.asarray(value, np.float64)
    )
    worst = float(np.max(gap, initial=0.0))
    most = rounding if name.startswith(GRADIENT) else tolerance(value)
    if not worst <= most:
      raise Rejected(
        f"{name} of {what} differs by {worst:.2e}, where rounding leaves at "
        f"most {most:.2e}. {advice}"
      )
