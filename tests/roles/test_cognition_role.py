"""The Cognition role on real records."""

import pytest
from lessons_run import SETTINGS, SPACE, TRACK, Run, all_of, drain, genomes

import cognition
from asi_evolve_jax.records import Records, schema
from asi_evolve_jax.roles.analyzer import Analyzer
from asi_evolve_jax.roles.cognition import CognitionRole, insight_item


@pytest.fixture(name="records")
def _records(tmp_path):
  return Records.open(tmp_path / "records")


@pytest.fixture(name="run")
def _run(records):
  return Run(records)


def role(records):
  return CognitionRole(records, SETTINGS, TRACK)


def effect(feature, mean, half, n=10):
  return {
    "feature": feature,
    "effect": mean,
    "low": mean - half,
    "high": mean + half,
    "n": n,
    "rung": "quick",
  }


def analyse(records, number, *effects):
  """Writes an Analysis with these effects; returns its id."""
  analysis = schema.Analysis(
    program=schema.digest(number),
    results=(schema.digest("task", number),),
    text="text",
    effects=effects,
  )
  records.put(analysis)
  return analysis.id


def insights(records):
  return {i.id: i for i in all_of(records, "insight")}


def test_an_effect_becomes_an_insight_with_interval_and_evidence(records):
  first = analyse(records, 1, effect("decay=scalar", 0.12, 0.04))
  assert drain(role(records)) == 1
  (insight,) = insights(records).values()
  assert insight.id == "decay-scalar.1"
  assert insight.suggests == ("decay=scalar",)
  assert insight.warns == ()
  assert (insight.effect, insight.low) == (0.12, pytest.approx(0.08))
  assert insight.evidence == (first,)
  assert "decay=scalar helps: +0.12 bits_per_byte" in insight.text


def test_harm_is_warned_of_and_doubt_is_not_written(records):
  analyse(
    records,
    1,
    effect("conv=0", -0.2, 0.1),
    effect("norm=rms", 0.01, 0.05),
    effect("update=delta", 0.3, 0.1, n=2),  # too few programs
  )
  drain(role(records))
  (insight,) = insights(records).values()
  assert insight.warns == ("conv=0",)
  assert insight.suggests == ()


def test_a_version_is_written_only_when_the_evidence_moved(records):
  cognition_role = role(records)
  steps = [
    (effect("conv=4", 0.10, 0.05), "conv-4.1"),
    (effect("conv=4", 0.11, 0.05), None),  # inside the old interval
    (effect("conv=4", 0.12, 0.04), None),
    (effect("conv=4", 0.12, 0.02), "conv-4.2"),  # less than half as wide
    (effect("conv=4", 0.18, 0.02), "conv-4.3"),  # outside the old interval
    (effect("conv=4", 0.18, 0.02), None),
  ]
  for number, (seen, expected) in enumerate(steps):
    analyse(records, number, seen)
    before = set(insights(records))
    assert cognition_role.step() == (expected is not None)
    assert set(insights(records)) - before == ({expected} - {None})


def test_an_interval_that_hovers_around_zero_writes_no_versions(records):
  cognition_role = role(records)
  for number in range(20):
    half = 0.05 + 0.02 * (number % 2)
    analyse(records, number, effect("conv=4", 0.06, half))
    cognition_role.step()
  assert set(insights(records)) == {"conv-4.1"}


def test_a_contradicted_insight_says_so(records):
  cognition_role = role(records)
  analyse(records, 1, effect("conv=4", 0.10, 0.05))
  cognition_role.step()
  analyse(records, 2, effect("conv=4", 0.01, 0.05))
  cognition_role.step()
  analyse(records, 3, effect("conv=4", -0.10, 0.05))
  cognition_role.step()
  _, second, third = insights(records).values()
  assert second.suggests == second.warns == ()
  assert "contradicts version 1, which found it to help" in second.text
  assert third.warns == ("conv=4",)
  assert "contradicts version 2, which found it to be undecided" in third.text


def test_an_insight_weighs_less_each_time_it_is_contradicted(records):
  cognition_role = role(records)
  steps = [
    (0.10, 0.05, 1.0),
    (-0.10, 0.05, 0.5),  # the contrary
    (0.10, 0.05, 0.25),  # and back again
    (0.30, 0.05, 0.5),  # the same, only more
    (0.30, 0.01, 1.0),  # the same, more certain
    (0.40, 0.01, 1.0),  # never above full trust
  ]
  for number, (mean, half, weight) in enumerate(steps):
    analyse(records, number, effect("conv=4", mean, half))
    assert cognition_role.step()
    latest = insights(records)[f"conv-4.{number + 1}"]
    assert latest.weight == weight
    assert insight_item(latest).weight == weight


def test_roles_beside_and_after_each_other_collide(records, tmp_path):
  first, second = role(records), role(Records.open(tmp_path / "records"))
  for number in range(12):
    mean = 0.1 + 0.05 * number
    analyse(records, number, effect("conv=4", mean, 0.04))
    first.step()
    if number % 3 == 2:
      second.step()
  drain(second)
  expected = insights(records)
  # One that starts anew walks the same way and writes nothing.
  assert drain(role(records)) == 0
  assert insights(records) == expected
  assert [i.version for i in expected.values()] == list(
    range(1, len(expected) + 1)
  )
  # All agree on what to say next.
  analyse(records, 99, effect("conv=4", -1.0, 0.1))
  assert second.step()
  assert not first.step()
  assert len(insights(records)) == len(expected) + 1


def test_repeated_rejections_are_tied_to_a_feature(records, run):
  parent = run.propose("root", SPACE.repair({}), author="baseline")
  run.measure(parent, {0: 2.5})
  for number, genome in enumerate(genomes()[1:]):
    child = run.propose(f"g{number}", genome, parents=(parent,))
    if genome["decay"] == "fixed":
      error = "sum of gradients is nan"
      run.end(
        child, status=schema.REJECTED, gate="finite_gradients", error=error
      )
    else:
      run.measure(child, {0: 2.4})
  drain(Analyzer(records, SETTINGS, TRACK))
  drain(role(records))
  found = [
    i
    for i in insights(records).values()
    if i.slug == "stops-at-finite_gradients"
  ]
  # Told at 2, 4 and 8; the eighth was the nineteenth to be measured.
  assert [i.version for i in found] == [1, 2, 3]
  assert found[-1].warns == ("decay=fixed",)
  assert [len(i.evidence) for i in found] == [2, 4, 5]
  assert "With decay=fixed: 8 of 8" in found[-1].text
  assert "sum of gradients is nan" in found[-1].text
  assert "8 of 19 programs" in found[-1].text


def test_a_warning_of_failures_is_withdrawn_where_others_pass(records, run):
  parent = run.propose("root", SPACE.repair({}), author="baseline")
  run.measure(parent, {0: 2.5})
  analyzer, follower = Analyzer(records, SETTINGS, TRACK), role(records)

  def add(decay, count, *, fails=False):
    """Returns the versions that so many more Programs bring about."""
    before = set(insights(records))
    for _ in range(count):
      name = f"{run.round}-{decay}"
      genome = SPACE.repair({"decay": decay})
      child = run.propose(name, genome, parents=(parent,))
      if fails:
        run.end(child, status=schema.REJECTED, gate="finite", error="is nan")
      else:
        run.measure(child, {0: 2.4})
      drain(analyzer)
      follower.step()
    return [
      insight
      for name, insight in insights(records).items()
      if name not in before and insight.slug == "stops-at-finite"
    ]

  add("none", 4)
  _, warning = add("fixed", 4, fails=True)
  assert (warning.warns, warning.weight) == (("decay=fixed",), 1.0)
  assert not add("scalar", 3)
  assert not add("fixed", 4)  # half of them fail
  (withdrawn,) = add("fixed", 1)
  assert withdrawn.version == warning.version + 1
  assert (withdrawn.warns, withdrawn.weight) == ((), 0.5)
  assert "4 of 9 with it stopped there, and 0 of 7 without" in withdrawn.text
  assert "is nan" in withdrawn.text
  passed = records.get("analysis", withdrawn.evidence[-1])
  assert passed.program == schema.digest(f"{run.round - 1}-fixed")
  # Said once; whoever starts anew walks the same way.
  assert not add("fixed", 3)
  assert not add("none", 3)
  assert drain(role(records)) == 0
  # It holds again once enough fail: as for effects, it regains its weight.
  assert not add("fixed", 3, fails=True)
  (again,) = add("fixed", 1, fails=True)
  assert (again.warns, again.weight) == (("decay=fixed",), 1.0)


def test_a_warning_is_withdrawn_where_others_fail_as_often(records, run):
  parent = run.propose("root", SPACE.repair({}), author="baseline")
  run.measure(parent, {0: 2.5})
  passing = 2
  decays = ["none"] * passing + ["fixed"] * 4 + ["none"] * 3
  for number, decay in enumerate(decays):
    genome = SPACE.repair({"decay": decay})
    child = run.propose(f"p{number}", genome, parents=(parent,))
    if number < passing:
      run.measure(child, {0: 2.4})
    else:
      run.end(child, status=schema.REJECTED, gate="finite", error="is nan")
  drain(Analyzer(records, SETTINGS, TRACK))
  drain(role(records))
  told = [
    (insight.warns, insight.weight)
    for insight in insights(records).values()
    if insight.slug == "stops-at-finite"
  ]
  assert told == [((), 1.0), (("decay=fixed",), 1.0), ((), 0.5)]


def test_one_rejection_is_no_pattern(records, run):
  child = run.propose("c", SPACE.repair({}), parents=("0" * 32,))
  run.end(child, status=schema.FAILED, error="NameError")
  drain(Analyzer(records, SETTINGS, TRACK))
  assert drain(role(records)) == 0


def test_insights_are_found_by_retrieval_and_replaced(records):
  analyse(records, 1, effect("decay=scalar", 0.12, 0.04))
  drain(role(records))
  index = cognition.Index(cognition.load_items(track="architecture"))
  for insight in insights(records).values():
    index.add(insight_item(insight))
  query = "parent has decay=none; decay=scalar helps in this run"
  hits = index.search(query, 3, "architecture")
  assert "decay-scalar.1" in [h.item.id for h in hits]
  size = len(index)
  analyse(records, 2, effect("decay=scalar", -0.5, 0.04))
  drain(role(records))
  for insight in insights(records).values():
    index.add(insight_item(insight))
  assert len(index) == size
  assert index.get("decay-scalar.2").warns == ("decay=scalar",)
  assert index.get("decay-scalar.1") is None


def test_slugs_are_safe_keys_and_differ(records):
  features = ["w=-1", "w=1", "w=(1, 2)", "w=1e-05", "w=True", "path=a/b"]
  analyse(records, 1, *(effect(f, 1.0, 0.1) for f in features))
  drain(role(records))
  slugs = {i.slug for i in insights(records).values()}
  assert len(slugs) == len(features)
  assert all("/" not in slug and " " not in slug for slug in slugs)


def test_odd_analyses_stop_nothing(records, caplog):
  analyse(records, 1, {"what": 1})
  good = analyse(records, 2, effect("conv=4", 0.1, 0.05))
  drain(role(records))
  (insight,) = insights(records).values()
  assert insight.evidence == (good,)
  assert "teaches nothing" in caplog.text


def test_lessons_that_a_model_read_join_with_less_weight(records):
  def read(number, task, **report):
    records.put(
      schema.Analysis(
        program=schema.digest(number),
        results=(schema.digest("task", task),),
        text="text",
        report={"cause": "a long decay", "misquotes": [], **report},
      )
    )

  read(1, 1, lessons=["Gates that stay shut lose recall.", "Open them."])
  read(2, 2, lessons=["It fell by 9 %."], misquotes=["9%"])
  read(3, 3, lessons=[])
  assert drain(role(records)) == 1
  (insight,) = insights(records).values()
  assert insight.title == "Gates that stay shut lose recall."
  assert "no measured effect" in insight.text
  assert "Probable cause: a long decay" in insight.text
  assert insight.weight == 0.5
  assert not insight.suggests
  # Said again at the next rung: nothing new. Said otherwise: a new version.
  read(1, 4, lessons=["Gates that stay shut lose recall.", "Open them."])
  assert drain(role(records)) == 0
  read(1, 5, lessons=["Gates do not matter."])
  assert drain(role(records)) == 1
  index = cognition.Index()
  for insight in insights(records).values():
    index.add(insight_item(insight))
  (hit,) = index.search("gates", 5)
  assert hit.item.title == "Gates do not matter."
