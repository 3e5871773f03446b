import math

import numpy as np
import pytest
from scipy import stats

from asi_evolve_jax.evaluation import statistics as lib


def test_mean_interval_is_the_t_interval():
  x = [2.1, 2.4, 1.9, 2.0]
  mean, low, high = lib.mean_interval(x)
  expected = stats.t.interval(0.95, 3, np.mean(x), stats.sem(x))
  np.testing.assert_allclose((low, high), expected, rtol=1e-12)
  assert mean == pytest.approx(np.mean(x), rel=1e-14)
  assert lib.mean_interval([3.0]) == (3.0, -math.inf, math.inf)
  for bad in ([], [1.0, math.nan]):
    with pytest.raises(ValueError, match="values"):
      lib.mean_interval(bad)


def test_mean_interval_covers():
  rng = np.random.default_rng(1)
  inside = 0
  for _ in range(2000):
    _, low, high = lib.mean_interval(rng.normal(5.0, 2.0, 4))
    inside += low <= 5.0 <= high
  # Binomial(2000, 0.95) has a standard deviation of 9.7: four of them.
  assert abs(inside - 1900) < 39


def test_paired_difference_is_the_paired_t_test():
  a, b = [1.2, 1.1, 1.4, 1.3], [1.0, 1.05, 1.1, 1.2]
  mean, low, high, p = lib.paired_difference(np.subtract(a, b))
  assert p == pytest.approx(stats.ttest_rel(a, b).pvalue, rel=1e-9)
  assert low < mean < high
  assert lib.paired_difference([0.5]).p == 1.0
  assert lib.paired_difference([0.0, 0.0]).p == 1.0
  assert lib.paired_difference([0.5, 0.5, 0.5]).p == 0.0


def test_sign_flip_matches_scipy_and_its_floor():
  x = np.array([0.3, 0.1, -0.05, 0.2, 0.4, 0.15])
  expected = stats.permutation_test(
    (x,), np.mean, permutation_type="samples", n_resamples=np.inf
  ).pvalue
  assert lib.sign_flip_p(x) == pytest.approx(expected, rel=1e-12)
  assert lib.sign_flip_p([0.1, 0.2, 0.3]) == 2 / 8
  rng = np.random.default_rng(0)
  assert lib.sign_flip_p(rng.normal(2.0, 1.0, 30)) < 1e-3
  assert lib.sign_flip_p([*([1.0, -1.0] * 10)]) == 1.0


def test_bootstrap_interval_is_near_the_normal_one():
  x = np.random.default_rng(2).normal(0.0, 1.0, 400)
  mean, low, high = lib.bootstrap_interval(x)
  half = 1.96 * x.std(ddof=1) / 20
  assert mean == pytest.approx(x.mean(), rel=1e-12)
  # Quantiles of 2,000 draws are themselves known to a few per cent.
  assert low == pytest.approx(x.mean() - half, abs=0.1 * half)
  assert high == pytest.approx(x.mean() + half, abs=0.1 * half)


def test_spearman():
  a, b = [1, 2, 3, 4, 5, 6], [2, 1, 4, 3, 6, 5]
  r, low, high = lib.spearman(a, b)
  assert r == pytest.approx(stats.spearmanr(a, b).statistic, rel=1e-12)
  assert -1 <= low < r < high <= 1
  r, low, high = lib.spearman(a, a)
  assert (r, high) == (pytest.approx(1.0), pytest.approx(1.0))
  assert low < 0.95
  assert math.isnan(lib.spearman(a, [1] * 6).mean)
  assert lib.spearman([1, 2, 3], [3, 1, 2]).low == -1.0
  with pytest.raises(ValueError, match="cannot be"):
    lib.spearman([1, 2], [1])


def test_spearman_interval_covers():
  rng = np.random.default_rng(3)
  rho, inside = 0.7, 0
  truth = 6 / math.pi * math.asin(rho / 2)  # of a bivariate normal
  for _ in range(1000):
    a = rng.normal(size=30)
    b = rho * a + math.sqrt(1 - rho**2) * rng.normal(size=30)
    _, low, high = lib.spearman(a, b)
    inside += low <= truth <= high
  assert 0.93 < inside / 1000 < 0.985


def test_seed_spread_pools_within_groups():
  spread, freedom = lib.seed_spread([[1.0, 3.0], [10.0, 12.0, 14.0], [7.0]])
  assert freedom == 3
  assert spread == pytest.approx(math.sqrt((2.0 + 8.0) / 3))
  assert lib.seed_spread([[1.0]])[1] == 0


def test_holm():
  assert lib.holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
  assert lib.holm([0.9, 0.8]) == [1.0, 1.0]
  assert lib.holm([]) == []


def _history(rng, rows, genes, values, noise, scale):
  """A random search over one-hot genes with normal effects."""
  true = {
    f"g{g}={v}": rng.normal(0, scale)
    for g in range(genes)
    for v in range(values)
  }
  history = [
    {f"g{g}={rng.integers(values)}" for g in range(genes)} for _ in range(rows)
  ]
  scores = [
    3.0 + sum(true[f] for f in row) + rng.normal(0, noise) for row in history
  ]
  return true, history, scores


@pytest.mark.parametrize(
  ("rows", "noise"), [(12, 0.1), (30, 0.01), (30, 0.1), (200, 0.1)]
)
def test_feature_effects_cover(rows, noise):
  rng = np.random.default_rng(rows)
  inside = total = 0
  for _ in range(40):
    true, history, scores = _history(rng, rows, 8, 3, noise, 0.05)
    for effect in lib.feature_effects(history, scores):
      assert effect.low <= effect.effect <= effect.high
      inside += effect.low <= true[effect.feature] <= effect.high
      total += 1
  # The interval is Bayesian: at one true width of the prior it may cover a
  # little less than 95 %. The 24 effects of a history go together, so 40
  # histories know the rate to about 2 %.
  assert inside / total >= 0.9


def test_feature_effects_find_what_matters():
  rng = np.random.default_rng(0)
  history = [
    {f for f in ("delta", "gate", "conv", "noise") if rng.random() < 0.5}
    for _ in range(60)
  ]
  scores = [
    2.5 - 0.2 * ("delta" in r) + 0.1 * ("gate" in r) + rng.normal(0, 0.02)
    for r in history
  ]
  effects = {e.feature: e for e in lib.feature_effects(history, scores)}
  assert effects["delta"].high < -0.15
  assert effects["gate"].low > 0.05
  assert effects["noise"].low < 0 < effects["noise"].high
  assert effects["delta"].n == sum("delta" in r for r in history)
  first = lib.feature_effects(history, scores)[0]
  assert first.feature == "delta"


def test_values_of_one_choice_are_compared_with_each_other():
  rng = np.random.default_rng(2)
  true = {"a=0": 0.0, "a=1": 0.3, "b=0": 0.0, "b=1": 0.1, "b=2": -0.1}
  history = [
    {f"a={rng.integers(2)}", f"b={rng.integers(3)}"} for _ in range(80)
  ]
  scores = [sum(true[f] for f in r) + rng.normal(0, 0.01) for r in history]
  effects = {
    e.feature: e
    for e in lib.feature_effects(
      history, scores, choice=lambda f: f.split("=")[0]
    )
  }
  # 80 rows at a noise of 0.01: an effect is known to about 0.002.
  expected = {"a=1": 0.15, "a=0": -0.15, "b=1": 0.1, "b=0": 0.0, "b=2": -0.1}
  for name, value in expected.items():
    assert effects[name].effect == pytest.approx(value, abs=0.01)
    assert effects[name].high - effects[name].low < 0.02
  assert effects["a=1"].effect == pytest.approx(-effects["a=0"].effect)
  # Without it a value alone is known only as far as its prior reaches.
  alone = {e.feature: e for e in lib.feature_effects(history, scores)}
  assert alone["a=1"].high - alone["a=1"].low > 0.1


def test_feature_effects_with_few_rows_say_little():
  effects = lib.feature_effects([{"a"}, {"b"}, {"c"}, {"d"}], [1, 1.1, 0.9, 1])
  assert len(effects) == 4
  assert all(e.low < 0 < e.high for e in effects)
  assert lib.feature_effects([{"a"}, {"b"}], [1, 2]) == []
  assert lib.feature_effects([{"a"}] * 5, [1, 2, 3, 4, 5]) == []
  assert lib.feature_effects([], []) == []
  # Nothing varies: nothing has an effect.
  flat = lib.feature_effects([{"a"}, {"b"}, {"a", "b"}, set()], [2.0] * 4)
  assert all(abs(e.effect) < 1e-9 for e in flat)


def test_weights_count_as_repeats():
  rng = np.random.default_rng(4)
  _, history, scores = _history(rng, 30, 3, 2, 0.02, 0.2)
  best = lib.feature_effects(history, scores)
  # A wild row moves the effects unless its weight says that it is noise.
  wild = history + history[:1], [*scores, scores[0] + 5.0]
  trusted = {e.feature: e for e in lib.feature_effects(*wild)}
  ignored = {
    e.feature: e for e in lib.feature_effects(*wild, [1.0] * 30 + [1e-9])
  }
  for e in best:
    assert ignored[e.feature].effect == pytest.approx(e.effect, rel=0.05)
    assert e.high - e.low < 0.5 * (
      trusted[e.feature].high - trusted[e.feature].low
    )
  for bad in ([1, 1, 1, 1, 0], [1, 1]):
    with pytest.raises(ValueError, match="weights"):
      lib.feature_effects(history[:5], scores[:5], bad)
