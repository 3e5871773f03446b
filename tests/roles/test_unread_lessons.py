"""`researcher.analyses` off: nothing that the Analyzer says has an effect."""

from loop_kit import Loop

from asi_evolve_jax.roles.analyzer import Analyzer
from asi_evolve_jax.settings import ResearcherSettings, SamplerSettings, of_run


def _told(folder, *, analyses, analysed):
  greedy = SamplerSettings(name="greedy")
  loop = Loop(folder, researcher={"analyses": analyses}, sampler=greedy)
  analyzer = Analyzer(loop.records, loop.settings, loop.track)
  for _ in range(14):
    loop.steps(1)
    if analysed:
      analyzer.step()
  assert bool(loop.view.analyses_of) == analysed
  return [p.program for p in loop.candidates()]


def test_lessons_reach_the_researcher_or_not(tmp_path):
  deaf = _told(tmp_path / "deaf", analyses=False, analysed=True)
  alone = _told(tmp_path / "alone", analyses=False, analysed=False)
  taught = _told(tmp_path / "taught", analyses=True, analysed=True)
  assert deaf == alone
  assert taught != alone


def test_runs_of_before_read_as_they_acted():
  def read(researcher):
    config = {"name": "old", "track": "toy", "researcher": researcher}
    return of_run(config).researcher

  assert read({"use_effects": False, "repair": True}) == ResearcherSettings(
    analyses=False
  )
  assert read({}).analyses
