"""Source blocks that circle-packing Programs are assembled from.

`$name` marks a number that a gene sets. Each block is what a person would
write: plain NumPy and SciPy, 80 columns, two spaces.
"""

from __future__ import annotations

# Gradient evaluations that count as one unit of work: about as long as one
# linear program or one SLSQP iteration with 26 circles.
CALLS_A_UNIT = 40

PATTERNS = {
  "random": '''
def pattern(n, rng):
  """Centres drawn uniformly, a little away from the walls."""
  return rng.uniform(0.03, 0.97, (n, 2))
''',
  "even": '''
def pattern(n, rng):
  """A randomly shifted additive recurrence: even cover of the square."""
  ratio = 1.32471795724474602596  # root of x^3 = x + 1
  steps = np.arange(n)[:, None] * np.array([1 / ratio, 1 / ratio**2])
  return 0.03 + 0.94 * ((rng.random(2) + steps) % 1.0)
''',
  "square": '''
def pattern(n, rng):
  """A square grid; circles that do not fit it go into its gaps."""
  side = math.isqrt(n)
  cells = [(x, y) for x in range(side) for y in range(side)]
  gaps = [(x + 0.5, y + 0.5) for x, y in cells if max(x, y) < side - 1]
  # Fewer gaps than spare circles: they share the gaps, a little apart.
  extra = [gaps[k % len(gaps)] for k in rng.permutation(n - side * side)]
  shift = 0.01 * rng.standard_normal((len(extra), 2))
  spare = np.array(extra).reshape(-1, 2) + shift
  return (np.concatenate([np.array(cells), spare]) + 0.5) / side
''',
  "hexagonal": '''
def pattern(n, rng):
  """Rows of alternating length, each row over the gaps of the last."""
  rows = max(2, round(math.sqrt(n * 2 / math.sqrt(3))))
  lengths = [n // rows + (k < n % rows) for k in range(rows)]
  lengths = rng.permutation(lengths)
  points = []
  for row, length in enumerate(lengths):
    shift = 0.25 if row % 2 else -0.25
    x = (np.arange(length) + 0.5 + shift * (length > 1)) / length
    points += [(value, (row + 0.5) / rows) for value in x]
  return np.array(points)
''',
  "rings": '''
def pattern(n, rng):
  """One circle in the middle and rings around it, turned at random."""
  points, ring = [(0.5, 0.5)], 1
  total = math.ceil((math.sqrt(4 * n / 3) - 1) / 2)
  while len(points) < n:
    last = ring >= total
    count = n - len(points) if last else min(6 * ring, n - len(points))
    angle = rng.random() + np.arange(count) / count
    x, y = np.cos(2 * np.pi * angle), np.sin(2 * np.pi * angle)
    radius = 0.45 * ring / total
    points += [(0.5 + radius * a, 0.5 + radius * b) for a, b in zip(x, y)]
    ring += 1
  return np.array(points)
''',
  "corners": '''
def pattern(n, rng):
  """The corners first, then the edges, the rest inside at random."""
  edge = 0.1
  points = [(x, y) for x in (edge, 1 - edge) for y in (edge, 1 - edge)]
  for k in range(1, 4):
    t = edge + k * (1 - 2 * edge) / 4
    points += [(t, edge), (t, 1 - edge), (edge, t), (1 - edge, t)]
  inside = rng.uniform(0.2, 0.8, (max(n - len(points), 0), 2))
  return np.concatenate([np.array(points), inside])[:n]
''',
  "holes": '''
def pattern(n, rng):
  """One circle after the other into the largest hole seen."""
  points = np.empty((0, 2))
  for _ in range(n):
    tries = rng.random((50, 2))
    room = 2 * np.minimum(tries, 1 - tries).min(1)
    if len(points):
      offset = tries[:, None] - points
      room = np.minimum(room, np.hypot(*offset.transpose(2, 0, 1)).min(1))
    points = np.concatenate([points, tries[[room.argmax()]]])
  return points
''',
}

START = {
  False: '''
def start(n, rng):
  """Centres of a fresh packing."""
  return pattern(n, rng)
''',
  True: '''
def start(n, rng):
  """Centres of a fresh packing: the pattern, shaken."""
  shaken = pattern(n, rng) + $noise * rng.standard_normal((n, 2))
  return np.clip(shaken, 0.02, 0.98)
''',
}

# Every Program holds these three.
GEOMETRY = '''
def neighbours(centers, radii, reach):
  """Pairs of circles whose gap is below `reach`."""
  i, j = np.triu_indices(len(centers), 1)
  offset = centers[i] - centers[j]
  distance = np.hypot(offset[:, 0], offset[:, 1])
  near = distance - radii[i] - radii[j] < reach
  return i[near], j[near], offset[near], distance[near]


def even_radii(centers):
  """Half the distance to the nearest centre, or all of that to a wall."""
  i, j, _, distance = neighbours(centers, np.zeros(len(centers)), 2.0)
  radii = np.minimum(centers, 1 - centers).min(1)
  np.minimum.at(radii, i, distance / 2)
  np.minimum.at(radii, j, distance / 2)
  return np.maximum(radii, 1e-9)


def settle(centers, radii):
  """Shrinks radii until the packing is valid in exact arithmetic.

  Clipping at the walls is exact. A float distance is wrong by a few parts in
  1e16, so the last factor covers what rounding can hide.
  """
  walls = np.minimum(centers, 1 - centers).min(1)
  radii = np.minimum(np.maximum(radii, 1e-9), walls)
  for i, j, _, distance in zip(*neighbours(centers, radii, 0.0)):
    total = max(radii[i] + radii[j], 1e-300)
    radii[[i, j]] *= min(1.0, distance / total)
  return radii * (1 - 1e-14)
'''

LINEAR = '''
def linear_step(centers, radii, step, reach):
  """The best packing near this one, by a linear program (one unit of work).

  Distance is convex in the centres, so linearising it underestimates it:
  whatever the program allows is a valid packing. Returns centres, radii and
  what each pair and each wall would pay for more room.
  """
  n = len(centers)
  i, j, offset, distance = neighbours(centers, radii, reach + 2.83 * step)
  ux, uy = (offset / np.maximum(distance, 1e-12)[:, None]).T
  pair, one = np.arange(len(i)), np.ones(len(i))
  each, unit = len(i) + np.arange(n), np.ones(n)
  row = [pair] * 6
  column = [i, j, n + i, n + j, 2 * n + i, 2 * n + j]
  value = [-ux, ux, -uy, uy, one, one]
  for wall, (axis, sign) in enumerate([(0, -1), (0, 1), (1, -1), (1, 1)]):
    row += [each + wall * n] * 2
    column += [np.arange(n) + axis * n, np.arange(n) + 2 * n]
    value += [sign * unit, unit]
  row, column, value = map(np.concatenate, (row, column, value))
  x, y = centers.T
  moves = [(-step, step)] * (2 * n)
  result = linprog(
    np.repeat([0.0, 0.0, -1.0], n),
    A_ub=csr_matrix((value, (row, column)), (len(i) + 4 * n, 3 * n)),
    b_ub=np.concatenate([distance, x, 1 - x, y, 1 - y]),
    bounds=moves + [(low, 1.0) for low in 0.1 * even_radii(centers)],
    method="highs-ds",
  )
  if result.x is None:
    return centers, even_radii(centers), np.zeros(len(i) + 4 * n)
  dx, dy, grown = result.x.reshape(3, n)
  prices = -result.ineqlin.marginals
  return centers + np.stack([dx, dy], 1), grown, prices
'''

SLSQP = '''
def slsqp(centers, radii, reach, units, tolerance):
  """Sequential quadratic programming over pairs within `reach`."""
  n = len(centers)
  i, j, _, _ = neighbours(centers, radii, reach)
  k, eye, zero = np.arange(len(i)), np.eye(n), np.zeros((n, n))
  walls = np.block([
    [eye, zero, -eye], [-eye, zero, -eye],
    [zero, eye, -eye], [zero, -eye, -eye],
  ])
  offset = np.repeat([0.0, 1.0, 0.0, 1.0], n)
  worth = np.repeat([0.0, 0.0, -1.0], n)

  def slack(z):
    x, y, r = z.reshape(3, n)
    gaps = (x[i] - x[j]) ** 2 + (y[i] - y[j]) ** 2 - (r[i] + r[j]) ** 2
    return np.concatenate([gaps, walls @ z + offset])

  def slope(z):
    x, y, r = z.reshape(3, n)
    rows = np.zeros((len(i), 3 * n))
    for part, value in enumerate((x[i] - x[j], y[i] - y[j])):
      rows[k, part * n + i], rows[k, part * n + j] = 2 * value, -2 * value
    rows[k, 2 * n + i] = rows[k, 2 * n + j] = -2 * (r[i] + r[j])
    return np.concatenate([rows, walls])

  result = minimize(
    lambda z: (worth @ z, worth),
    np.concatenate([centers.T.ravel(), radii]),
    jac=True,
    method="SLSQP",
    bounds=[(0.0, 1.0)] * (2 * n) + [(1e-3, 0.5)] * n,
    constraints={"type": "ineq", "fun": slack, "jac": slope},
    options={"maxiter": max(1, units), "ftol": tolerance},
  )
  if not np.isfinite(result.x).all():
    return centers, even_radii(centers), result.nit
  x, y, r = result.x.reshape(3, n)
  return np.clip(np.stack([x, y], 1), 1e-3, 1 - 1e-3), r, result.nit
'''

DESCENTS = {
  "fixed": '''
def descend(centers, units):
  """Leaves the centres alone; the radii are a linear program."""
  _, radii, _ = linear_step(centers, even_radii(centers), 0.0, 2.0)
  return centers, settle(centers, radii), 1
''',
  "slp": '''
def descend(centers, units):
  """Sequential linear programs in a shrinking trust region."""
  radii, step, used = even_radii(centers), $step, 0
  total = 0.0
  while used < min($effort, units):
    # The first program may change any radius, so it sees all pairs.
    reach = $reach if used else 2.0
    centers, radii, _ = linear_step(centers, radii, step, reach)
    used += 1
    gain, total = radii.sum() - total, radii.sum()
    if gain < $tolerance:
      break
    # A step that gained little for its size was too long to be believed.
    step *= $decay if gain < 0.1 * step else 1.0
  return centers, settle(centers, radii), used
''',
  "slsqp": '''
def descend(centers, units):
  """SLSQP over near pairs; over all if that ran into one it had left out."""
  radii, used = $sizes, 0
  for reach in ($reach, 2.0):
    left = min($effort, units) - used
    centers, radii, steps = slsqp(centers, radii, reach, left, $tolerance)
    used += max(1, steps)
    valid = settle(centers, radii)
    if used >= min($effort, units) or radii.sum() - valid.sum() < 1e-6:
      break
    radii = even_radii(centers)
  return centers, valid, used
''',
  "penalty": '''
def descend(centers, units):
  """Overlaps cost their square, ever more: L-BFGS, then radii by a program."""
  n = len(centers)
  i, j = np.triu_indices(n, 1)
  radii = $sizes
  z = np.concatenate([centers.T.ravel(), radii])

  def cost(z, weight):
    x, y, r = z.reshape(3, n)
    distance = np.hypot(x[i] - x[j], y[i] - y[j]) + 1e-12
    over = np.maximum(r[i] + r[j] - distance, 0.0)
    slope = np.zeros((3, n))
    for axis, part in enumerate((x[i] - x[j], y[i] - y[j])):
      push = over * part / distance
      np.add.at(slope[axis], i, -push)
      np.add.at(slope[axis], j, push)
    np.add.at(slope[2], i, over)
    np.add.at(slope[2], j, over)
    total = (over**2).sum()
    for axis, value in enumerate((x, y)):
      low, high = np.maximum(r - value, 0), np.maximum(r + value - 1, 0)
      total += (low**2 + high**2).sum()
      slope[axis] += high - low
      slope[2] += high + low
    slope *= 2 * weight
    slope[2] -= 1.0
    return weight * total - r.sum(), slope.ravel()

  calls, weight, most = 0, $stiffness, $calls * min($effort, units)
  bounds = [(0.001, 0.999)] * (2 * n) + [(1e-3, 0.5)] * n
  while calls < most and weight < 1e6:
    budget = {"maxfun": min(400, most - calls), "ftol": $tolerance}
    result = minimize(
      cost, z, (weight,), jac=True, method="L-BFGS-B", bounds=bounds,
      options=budget,
    )
    z, calls, weight = result.x, calls + result.nfev, weight * $growth
  centers = z.reshape(3, n)[:2].T
  _, radii, _ = linear_step(centers, even_radii(centers), 0.0, 2.0)
  return centers, settle(centers, radii), 1 + math.ceil(calls / $calls)
''',
  "alternate": '''
def ascent(centers):
  """Best radii for these centres, and the slope of their sum in them."""
  n, even = len(centers), even_radii(centers)
  _, radii, prices = linear_step(centers, even, 0.0, $reach)
  i, j, offset, distance = neighbours(centers, even, $reach)
  force = prices[: len(i), None] * offset / (distance[:, None] + 1e-12)
  left, right, low, high = prices[len(i) :].reshape(4, n)
  slope = np.stack([left - right, low - high], 1)
  np.add.at(slope, i, force)
  np.add.at(slope, j, -force)
  return radii, slope / (np.abs(slope).max() + 1e-12)


def descend(centers, units):
  """Follows the prices of the linear program for the radii."""
  step, used = $step, 1
  radii, slope = ascent(centers)
  while used < min($effort, units) and step > $tolerance:
    moved = np.clip(centers + step * slope, 0.01, 0.99)
    grown, turn = ascent(moved)
    used += 1
    if grown.sum() > radii.sum():
      centers, radii, slope = moved, grown, turn
    else:
      step *= $decay
  return centers, settle(centers, radii), used
''',
}

SIZES = {
  "small": "np.full(len(centers), 0.03)",
  "even": "even_radii(centers)",
  "linear": "linear_step(centers, even_radii(centers), 0.0, 2.0)[1]",
}

MOVES = {
  "jitter": '''
def perturb(centers, radii, rng):
  """Shakes every circle."""
  moved = centers + $size * rng.standard_normal(centers.shape)
  return np.clip(moved, 0.01, 0.99)
''',
  "local": '''
def perturb(centers, radii, rng):
  """Shakes the circles around one place."""
  offset = centers - rng.random(2)
  near = np.hypot(offset[:, 0], offset[:, 1]) < $radius
  moved = centers + $size * near[:, None] * rng.standard_normal(centers.shape)
  return np.clip(moved, 0.01, 0.99)
''',
  "turn": '''
def perturb(centers, radii, rng):
  """Turns the circles around one place by a random angle."""
  middle, angle = rng.random(2), 2 * np.pi * rng.random()
  offset = centers - middle
  near = np.hypot(offset[:, 0], offset[:, 1]) < $radius
  cosine, sine = np.cos(angle), np.sin(angle)
  turned = offset @ np.array([[cosine, sine], [-sine, cosine]]) + middle
  moved = np.where(near[:, None], turned, centers)
  moved += 1e-3 * rng.standard_normal(centers.shape)
  return np.clip(moved, 0.01, 0.99)
''',
  "relocate": '''
def perturb(centers, radii, rng):
  """Takes circles out and puts them where they find room."""
  centers, radii = centers.copy(), radii.copy()
  for k in $victims:
    others = np.arange(len(centers)) != k
    spots = rng.uniform(0.01, 0.99, (200, 2))
    offset = spots[:, None] - centers[others]
    room = (np.hypot(*offset.transpose(2, 0, 1)) - radii[others]).min(1)
    room = np.minimum(room, np.minimum(spots, 1 - spots).min(1))
    pick = rng.choice(np.argsort(room)[-20:])
    centers[k], radii[k] = spots[pick], max(room[pick], 0.0)
  return centers
''',
  "exchange": '''
def perturb(centers, radii, rng):
  """Swaps circles of unequal size with what lies around them."""
  centers = centers.copy()
  for k in $victims:
    other = rng.integers(len(centers))
    # Half the way: the places end up between, where neither circle fits.
    share = rng.uniform(0.2, 0.5)
    gap = share * (centers[other] - centers[k])
    centers[k], centers[other] = centers[k] + gap, centers[other] - gap
  moved = centers + 1e-3 * rng.standard_normal(centers.shape)
  return np.clip(moved, 0.01, 0.99)
''',
}

# A mixed move picks one of these at random.
MIXED = ("jitter", "relocate")

MIXED_MOVE = '''
def perturb(centers, radii, rng):
  """One kind of disturbance or the other."""
  move = jitter if rng.random() < 0.5 else relocate
  return move(centers, radii, rng)
'''

VICTIMS = {
  "random": "rng.choice(len(centers), $moved, replace=False)",
  "smallest": "np.argsort(radii * rng.uniform(0.8, 1.2, len(radii)))[:$moved]",
}

CHEAP = {
  True: '''
def draft(make, units):
  """The most promising of a few tries, ranked by one linear program each."""
  tries = [make() for _ in range(min($screen, max(1, units)))]
  worth = []
  for centers in tries:
    _, radii, _ = linear_step(centers, even_radii(centers), 0.1, 0.1)
    worth.append(radii.sum())
  return tries[int(np.argmax(worth))], len(tries)
''',
  False: "",
}

PACKS = {
  "once": '''
def pack(n, seed, work):
  """A single descent from one start, however much work is allowed."""
  rng = np.random.default_rng(seed)
  spent = $reserve
  $fresh
  centers, radii, _ = descend(centers, max(1, work - spent))
  $finish
''',
  "restarts": '''
def pack(n, seed, work):
  """Descents from fresh starts; the best is kept."""
  rng = np.random.default_rng(seed)
  best, spent = None, $reserve
  while best is None or spent < work:
    $fresh
    centers, radii, used = descend(centers, max(1, work - spent))
    spent += used
    if best is None or radii.sum() > best[1].sum():
      best = centers, radii
  centers, radii = best
  $finish
''',
  "hopping": '''
def pack(n, seed, work):
  """Hops from one local optimum to the next; the best is kept."""
  rng = np.random.default_rng(seed)
  best = here = None
  spent, fails = $reserve, 0
  while best is None or spent < work:
    if here is None:
      $fresh
    else:
      $hop
    centers, radii, used = descend(centers, max(1, work - spent))
    spent += used
    gain = 1.0 if here is None else radii.sum() - here[1].sum()
    fails = 0 if gain > 1e-7 else fails + 1
    if $accept:
      here = centers, radii
    if best is None or radii.sum() > best[1].sum():
      best = centers, radii
    $give_up
  centers, radii = best
  $finish
''',
}

# Work that a finish takes, set aside at the start.
RESERVES = {"none": 0, "linear": 5, "slsqp": 15}

# Lines of `pack`, by what the genome chose; see space.py.
FINISHES = {
  "none": "return centers, radii",
  "linear": """
for _ in range(5):  # each step is a valid packing no worse than the last
  centers, radii, _ = linear_step(centers, radii, 1e-3, 0.01)
return centers, settle(centers, radii)
""",
  "slsqp": """
moved, grown, _ = slsqp(centers, radii, 0.02, 15, 1e-14)
grown = settle(moved, grown)
return (moved, grown) if grown.sum() > radii.sum() else (centers, radii)
""",
}
