"""A run with islands: restarts change nothing, lines stay where they are."""

from loop_kit import Loop

from asi_evolve_jax.settings import IslandSettings, SamplerSettings

ISLANDS = SamplerSettings(
  name="islands", islands=IslandSettings(count=2, every=2)
)


def _told(loop):
  return [(p.program, p.parents, p.island) for p in loop.candidates()]


def test_a_restart_changes_nothing(tmp_path):
  whole, cut = (
    Loop(tmp_path / name, sampler=ISLANDS, researcher={"repair": True})
    for name in ("whole", "cut")
  )
  whole.steps(15)
  for _ in range(5):
    cut.steps(3)
    cut.restart()  # from nothing but the records
  assert _told(cut) == _told(whole)
  assert len(_told(whole)) > 8  # past two migrations


def test_islands_take_turns_and_keep_their_children(tmp_path):
  never = SamplerSettings(
    name="islands", islands=IslandSettings(count=3, every=1000)
  )
  loop = Loop(tmp_path, sampler=never, researcher={"repair": True})
  loop.steps(24)
  view = loop.view
  for proposal in loop.candidates():
    assert proposal.island == (proposal.round - 1) % 3
    for parent in map(view.proposal_of.get, proposal.parents):
      # Without migration a line never leaves its island.
      assert parent.round == 0 or parent.island == proposal.island
