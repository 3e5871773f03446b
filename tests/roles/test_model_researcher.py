"""The Researcher with a language model: the real client, a loopback server."""

import dataclasses
import json
import pathlib
import sys
import zlib

import numpy as np
import pytest

from asi_evolve_jax.evaluation.budget import Budget
from asi_evolve_jax.evaluation.limits import worker_environment
from asi_evolve_jax.programs.source import program_id
from asi_evolve_jax.proposers import registry
from asi_evolve_jax.records.schema import REPAIR, Call, Program
from asi_evolve_jax.roles import researcher
from asi_evolve_jax.roles.credit import credits
from asi_evolve_jax.roles.loop import setup_logging
from asi_evolve_jax.settings import BudgetSettings, ModelSettings

sys.path.insert(0, str(pathlib.Path(__file__).parent))
sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "llm"))

from gemini_server import GeminiServer, error, reply
from loop_kit import Loop

KEY = "sk-loopback-4711-bbbb"
AUTHOR = "llm:gemini-3.8-flash"


@pytest.fixture(autouse=True)
def _key(monkeypatch):
  monkeypatch.setenv("GEMINI_API_KEY", KEY)
  monkeypatch.delenv("GOOGLE_API_KEY", raising=False)


def _loop(folder, server, proposer="llm", models=None, llm="gemini", **more):
  budget = more.pop("budget", BudgetSettings())
  settings = {"tries": 1, "parallel": 1, **(models or {})}
  return Loop(
    folder,
    researcher={"proposer": proposer, "edits": 0.0, **more},
    llm=llm,
    models=ModelSettings(base_url=server.url, **settings),
    budget=budget,
  )


def _whole(what, motivation="Because.", name="a-new one", **usage):
  program = what if isinstance(what, str) else json.dumps(what)
  said = {"name": name, "motivation": motivation, "program": program}
  return reply(json.dumps(said), **usage)


def _edit(*pairs):
  edits = [{"search": s, "replace": r} for s, r in pairs]
  said = {"name": "edited", "motivation": "Fewer.", "edits": edits}
  return reply(json.dumps(said))


def _run(loop, rounds):
  """Steps until so many rounds are proposed and measured."""
  for _ in range(40):
    if loop.view.rounds() >= rounds:
      return
    loop.steps(1)
  raise AssertionError(f"{loop.view.rounds()} of {rounds} rounds")


def _calls(loop):
  return [r for r in loop.records.follow()[0] if isinstance(r, Call)]


def test_a_program_is_written_measured_and_accounted_for(tmp_path):
  with GeminiServer(_whole({"score": 3.0})) as server:
    loop = _loop(tmp_path, server)
    _run(loop, 1)
  proposal = loop.candidates()[0]
  assert (proposal.author, proposal.operator) == (AUTHOR, "write")
  assert (proposal.name, proposal.genome) == ("a-new-one", None)
  assert proposal.choice["model"] == "gemini-3.8-flash"
  assert proposal.cost["tokens"] == 125
  assert proposal.cost["calls"] == 1
  assert proposal.seen
  view = loop.view
  assert view.score(proposal.program, "quick") == pytest.approx(3.0)
  assert view.spending.total["tokens"] == sum(
    call.usage["tokens"] for call in _calls(loop)
  )
  # The model has read the parent, what it measured and the other baseline.
  text = server.text(0)
  parent = view.proposal_of[proposal.parents[0]]
  assert f"# Parent: {parent.name}" in text
  assert "loss (lower is better)" in text
  assert "- quick (seeds 0): loss" in text
  assert "held_out" not in text
  earned = credits(view, loop.settings.ladder, loop.track.metric)[AUTHOR]
  assert earned.proposals >= 1
  assert earned.improvement > 3.9  # 7 or 8, less 3
  assert earned.money == pytest.approx(view.spending.total["money"])


def test_edits_that_cannot_be_made_go_back_once_then_a_whole_one_is_asked(
  tmp_path,
):
  script = [
    _edit(("no such line", "x")),
    _edit(("", "import os")),
    _whole({"score": 2.0}),
  ]
  with GeminiServer(*script, error(500, "stop")) as server:
    loop = _loop(tmp_path, server, edits=1.0)
    _run(loop, 1)
  proposal = loop.candidates()[0]
  assert (proposal.author, proposal.operator) == (AUTHOR, "edit")
  assert proposal.cost["calls"] == 3
  assert "edit 1: its search text is not in the source" in server.text(1)
  assert "edit 1: its search text is empty" in server.text(2)
  assert "write the module whole" in server.text(2)
  schemas = [
    r["body"]["generationConfig"]["responseJsonSchema"]["required"][-1]
    for r in server.requests[:3]
  ]
  assert schemas == ["edits", "edits", "program"]
  purposes = [c.purpose for c in _calls(loop)][:3]
  assert purposes == ["edit", "edit", "edit-whole"]


def test_an_edit_is_made_in_the_parent(tmp_path):
  def lower(request):
    text = request["body"]["contents"][0]["parts"][0]["text"]
    line = text.split("```python\n")[1].split("\n")[0]
    return _edit((line, line.replace("}", ', "steps": 7}')))

  with GeminiServer(lower) as server:
    loop = _loop(tmp_path, server, edits=1.0)
    _run(loop, 1)
  proposal = loop.candidates()[0]
  source = loop.view.programs[proposal.program].source
  parent = loop.view.programs[proposal.parents[0]].source
  assert source.strip() == parent.replace("}", ', "steps": 7}')


def test_what_is_too_long_or_does_not_parse_goes_back_uncut(tmp_path):
  script = [
    _whole("x = 1\n" * 100),
    _whole("x = ("),
    reply('{"name": "cut', finish="MAX_TOKENS"),
    _whole({"score": 2.0}),
  ]
  with GeminiServer(*script, error(500, "stop")) as server:
    loop = _loop(tmp_path, server, max_chars=200)
    _run(loop, 1)
  assert loop.candidates()[0].author == AUTHOR
  assert "600 characters, at most 200" in server.text(1)
  assert "does not parse: line 1" in server.text(2)
  assert "output_tokens" in server.text(3)


def test_a_long_reply_goes_back_to_its_last_line(tmp_path):
  long = "name = [\n" + '  "text",\n' * 4500 + "last = ("
  script = [_whole(long), _whole({"score": 2.0}), error(500, "stop")]
  with GeminiServer(*script) as server:
    loop = _loop(tmp_path, server)
    _run(loop, 1)
  assert loop.candidates()[0].author == AUTHOR
  assert len(long) > 40_000
  assert json.dumps(long) in server.text(1)


def test_a_prompt_that_is_too_long_is_sent_again_only_shorter(tmp_path):
  def too_long(request):
    del request
    return error(400, "the prompt is too long")

  with GeminiServer(*[too_long] * 9) as server:
    loop = _loop(tmp_path, server)
    _run(loop, 1)
    sizes = [len(server.text(i)) for i in range(len(server.requests))]
  assert loop.candidates()[0].choice["instead_of"] == "llm"
  first = [c for c in _calls(loop) if c.about == "round 1"]
  sizes = sizes[: len(first)]
  assert 1 < len(sizes) < 9
  assert sizes == sorted(set(sizes), reverse=True)


def test_nothing_is_measured_twice(tmp_path):
  def verdict(new):
    return reply(json.dumps({"new": new, "why": "Only a constant moved."}))

  def known(request):
    text = request["body"]["contents"][0]["parts"][0]["text"]
    return _whole(text.split("```python\n")[1].split("\n```")[0])

  same = "A lower score by a wider model with more steps."
  near = {"score": 2.0, "width": 2, "steps": 10}
  script = [
    known,  # the parent itself
    _whole(near, same),
    _whole({**near, "steps": 11}, same),
    verdict(False),
    _whole({**near, "steps": 12}, same),
    verdict(True),
    error(500, "stop"),
  ]
  with GeminiServer(*script) as server:
    loop = _loop(tmp_path, server, novelty=(0.5, 0.999))
    _run(loop, 2)
  first, second = loop.candidates()[:2]
  assert "was proposed before" in server.text(1)
  assert json.loads(loop.view.programs[first.program].source) == near
  assert "Only a constant moved." in server.text(4)
  assert second.cost["calls"] == 4
  assert '"steps": 12' in loop.view.programs[second.program].source
  assert {c.role for c in _calls(loop)} == {"researcher", "judge"}


def test_a_rejected_program_goes_back_to_its_author(tmp_path):
  bad = '{"score": 3.0, "reject": true}'.replace("true", "1")
  script = [_whole(bad), _edit((bad, '{"score": 3.5}')), error(500, "stop")]
  with GeminiServer(*script) as server:
    loop = _loop(tmp_path, server, repair=True)
    _run(loop, 1)
    loop.steps(2)
  (mended,) = [p for p in loop.view.proposals.values() if p.operator == REPAIR]
  assert (mended.author, mended.name) == (AUTHOR, "edited")
  assert mended.parents == (program_id(bad),)
  assert "causality" in server.text(1)
  assert "It reads the future." in server.text(1)
  assert loop.view.score(mended.program, "quick") == pytest.approx(3.5)


@pytest.mark.parametrize("vectors", [False, True])
def test_a_repair_may_be_like_what_it_mends(tmp_path, monkeypatch, vectors):
  if vectors:
    monkeypatch.setattr(researcher, "make_embedder", lambda *_: _Placed())
  others = [
    _whole({"score": 6.0, f"knob{n}": n}, f"{letter}{letter} alone")
    for n, letter in enumerate("abcd")
  ]
  rejected = {f"width{n}": n for n in range(30)} | {"score": 3.0, "reject": 1}
  source = json.dumps(rejected)

  def mended(by):
    edits = [{"search": source, "replace": source.replace('"reject": 1', by)}]
    idea = "Widths that remember more."
    return reply(
      json.dumps({"name": "edited", "motivation": idea, "edits": edits})
    )

  script = [
    *others,
    _whole(rejected, "Widths that remember more."),
    mended('"reject":  1'),  # the same but for layout
    mended('"reject": 0'),
    error(500, "stop"),
  ]
  with GeminiServer(*script) as server:
    loop = _loop(tmp_path, server, repair=True)
    _run(loop, 5)
    loop.steps(2)
    assert "was proposed before" in server.text(6)
  (repair,) = [p for p in loop.view.proposals.values() if p.operator == REPAIR]
  assert (repair.author, repair.cost["calls"]) == (AUTHOR, 2)
  assert repair.parents == (program_id(source),)
  assert loop.view.score(repair.program, "quick") == pytest.approx(3.0)


def test_a_mixed_run_asks_who_brings_more(tmp_path):
  numbers = iter(range(1, 100))

  def better(request):
    n = next(numbers)
    said = f"Idea {n}: " + " ".join(f"word{n * 20 + i}" for i in range(12))
    return _whole({"score": 4.0 / n, f"knob{n}": n}, said)

  with GeminiServer(better) as server:
    loop = _loop(tmp_path, server, "mixed", exploration=0.1)
    _run(loop, 8)
  authors = [p.author for p in loop.candidates()]
  assert authors[:2] == [AUTHOR, "symbolic"]
  assert authors.count(AUTHOR) > 4
  last = loop.candidates()[-1]
  assert set(last.choice["proposers"]) == {"llm", "symbolic"}
  assert last.choice["proposer"] in last.author
  # The symbolic proposer edits genomes only: its parents have one.
  for proposal in loop.candidates():
    parents = [loop.view.proposal_of[p] for p in proposal.parents]
    if proposal.author == "symbolic":
      assert all(p.genome for p in parents)


@pytest.mark.parametrize(
  "script",
  [
    [error(503, "down")],
    [error(403, "no")],
    [reply("", finish="SAFETY")],
    [reply("prose")],
    [_whole("x = (")],
  ],
)
def test_the_round_goes_on_without_the_model(tmp_path, script):
  with GeminiServer(*script) as server:
    loop = _loop(tmp_path, server, turns=2)
    _run(loop, 1)
  proposal = loop.candidates()[0]
  assert proposal.author == "symbolic"
  assert proposal.choice["instead_of"] == "llm"
  assert proposal.choice["why"]
  # It was asked: a bandit must not take it for one that was not.
  earned = credits(loop.view, loop.settings.ladder, loop.track.metric)
  assert earned[AUTHOR].proposals == 1
  assert earned[AUTHOR].money == proposal.cost["money"]
  assert earned["symbolic"].money == 0


def test_a_model_that_gives_nothing_is_left_for_one_that_does(tmp_path):
  numbers = iter(range(1, 100))

  def answer(request):
    if "mute" in request["path"]:
      return reply("", finish="SAFETY")
    n = next(numbers)
    said = f"alpha{n} beta{n} gamma{n}"
    return _whole({"score": 5.0 / n, f"knob{n}": n}, said)

  price = {"input": 1.0, "output": 1.0}
  models = {
    "names": ("mute", "able"),
    "prices": {"mute": price, "able": price},
    "choice": "bandit",
    "parallel": 2,
  }
  with GeminiServer(answer) as server:
    more = {"queue": 2, "batch": 2, "exploration": 0.1}
    loop = _loop(tmp_path, server, models=models, **more)
    _run(loop, 6)
  asked = [call.model for call in _calls(loop)]
  # Drawn together, so neither knew of the other's outcome.
  assert set(asked[:2]) == {"mute", "able"}
  assert asked.count("able") > asked.count("mute")
  mute = next(p for p in loop.candidates() if p.author == "symbolic")
  assert mute.choice["model"] == "mute"
  assert mute.cost["money"] > 0
  earned = credits(loop.view, loop.settings.ladder, loop.track.metric)
  turns = [p for p in loop.candidates() if p.choice.get("model") == "mute"]
  assert earned["llm:mute"].proposals == len(turns)
  assert earned["llm:mute"].improvement == 0
  assert earned["llm:mute"].money == sum(p.cost["money"] for p in turns)
  assert earned["symbolic"].money == 0


def test_a_call_that_could_break_the_budget_is_not_made(tmp_path):
  with GeminiServer(_whole({"score": 3.0})) as server:
    loop = _loop(tmp_path, server, budget=BudgetSettings(tokens=20_000))
    _run(loop, 1)
  assert not server.requests
  assert loop.candidates()[0].author == "symbolic"
  assert _calls(loop)[0].status == "over-budget"


@pytest.mark.parametrize("proposer", ["llm", "mixed"])
def test_money_that_is_spent_ends_no_search(tmp_path, proposer):
  dear = _whole({"score": 3.0}, usage=(100, 30_000, 0))
  with GeminiServer(dear) as server:
    loop = _loop(tmp_path, server, proposer, budget=BudgetSettings(money=0.3))
    _run(loop, 4)
  assert len(server.requests) == 1
  view = loop.view
  budget = Budget(view, loop.settings)
  (line,) = [line for line in budget.lines() if line.name == "money"]
  assert 0.3 > line.spent > 0.2
  assert line.round > 0
  authors = [p.author for p in loop.candidates()]
  assert authors.count(AUTHOR) == 1
  assert "over-budget" in {call.status for call in _calls(loop)}
  loop.say("budget", "money=0.01")  # less than is spent
  _run(loop, len(authors) + 2)
  assert not Budget(loop.view, loop.settings).exhausted()


def test_several_answers_at_once_become_rounds_in_order(tmp_path):
  numbers = iter(range(1, 100))

  def one(request):
    n = next(numbers)
    return _whole({"score": 5.0, f"knob{n}": n}, f"alpha{n} beta{n} gamma{n}")

  with GeminiServer(one) as server:
    loop = _loop(tmp_path, server, models={"parallel": 3}, queue=3, batch=3)
    _run(loop, 3)
  proposals = loop.candidates()
  assert [p.round for p in proposals] == [*range(1, len(proposals) + 1)]
  assert len({p.program for p in proposals}) == len(proposals)
  assert len({p.parents for p in proposals[:2]}) == 2  # both baselines
  assert loop.researcher.view.visits == loop.view.visits


def test_what_doubles_another_of_its_batch_counts_as_a_turn(tmp_path):
  with GeminiServer(_whole({"score": 3.0})) as server:
    more = {"queue": 3, "batch": 3}
    loop = _loop(tmp_path, server, models={"parallel": 3}, **more)
    _run(loop, 3)
    calls = _calls(loop)[:3]
  first, *others = loop.candidates()[:3]
  assert first.author == AUTHOR
  for proposal in others:
    assert proposal.author == "symbolic"
    assert proposal.choice["instead_of"] == "llm"
    assert "another of its batch" in proposal.choice["why"]
    assert proposal.cost["calls"] == 1
  asked = [p for p in loop.candidates() if p.round <= 3]
  assert len({p.program for p in asked}) == 3
  earned = credits(loop.view, loop.settings.ladder, loop.track.metric)[AUTHOR]
  assert earned.proposals >= 3
  assert earned.money >= sum(call.usage["money"] for call in calls)


def test_a_replay_gives_the_same_proposals_in_the_same_order(tmp_path):
  numbers = iter(range(1, 100))

  def one(request):
    n = next(numbers)
    what = {"score": 9.0 - n, f"knob{n}": n, "reject": n == 2}
    what["reject"] = int(what["reject"])
    return _whole(what, f"alpha{n} beta{n} gamma{n}")

  with GeminiServer(one) as server:
    first = _loop(tmp_path / "a", server, "mixed", repair=True)
    _run(first, 6)
  # A second Researcher wrote round 4 beside the first one, on an island.
  fourth = next(p for p in first.candidates() if p.round == 4)
  source = json.dumps({"score": 2.5, "beside": 1})
  beside = Program(hash=program_id(source), track=fourth.track, source=source)
  first.records.put(
    beside, dataclasses.replace(fourth, program=beside.hash, island=1)
  )
  url = f"replay:file://{tmp_path / 'a' / 'records'}/"
  again = _loop(tmp_path / "b", server, "mixed", llm=url, repair=True)
  _run(again, 7)  # the server is gone

  def told(loop):
    return [
      dataclasses.replace(p, created_at=0.0, seen="", cost={})
      for p in sorted(loop.view.proposals.values(), key=lambda p: p.id)
    ]

  assert len(told(first)) > 8
  assert told(again) == told(first)
  assert {p.author for p in again.candidates()} == {AUTHOR, "symbolic"}
  assert not _calls(again)


def test_the_key_is_in_no_record_log_error_or_environment(tmp_path, caplog):
  echo = json.dumps({"score": 3.0, "leak": KEY})
  script = [
    error(400, f"bad key {KEY}"),
    _whole(echo, f"My key is {KEY}", name=KEY),
    error(500, KEY),
  ]
  setup_logging(tmp_path / "logs" / "researcher.log")
  with GeminiServer(*script) as server:
    loop = _loop(tmp_path, server)
    _run(loop, 2)
  assert any(p.author == AUTHOR for p in loop.candidates())
  assert len(_calls(loop)) >= 2
  files = [p for p in tmp_path.rglob("*") if p.is_file()]
  assert len(files) > 10
  for path in files:
    assert KEY.encode() not in path.read_bytes(), path
  assert KEY not in caplog.text
  assert KEY not in json.dumps(worker_environment(single_thread=True))


def test_who_proposes_is_said_in_a_line(tmp_path, monkeypatch):
  with GeminiServer(error(500, "x")) as server:
    loop = _loop(tmp_path, server, "auto")
    said = registry.announce(loop.settings)
    assert said == "language model: gemini-3.8-flash through gemini"
    monkeypatch.delenv("GEMINI_API_KEY")
    said = registry.announce(loop.settings)
    assert "no GEMINI_API_KEY in the environment" in said
    loop.restart()
    _run(loop, 1)
  assert loop.candidates()[0].author == "symbolic"
  assert not server.requests


class _Placed:
  """An Embedder that sees one idea in whatever speaks of memory."""

  name = "placed"

  def __call__(self, texts):
    rows = np.zeros((len(texts), 9), np.float32)
    for row, text in zip(rows, texts, strict=True):
      alike = "remember" in text or "memory" in text
      row[0 if alike else 1 + zlib.crc32(text.encode()) % 8] = 1
    return rows

  def close(self):
    pass


def test_an_idea_told_again_in_other_words_goes_to_the_judge(
  tmp_path, monkeypatch
):
  monkeypatch.setattr(researcher, "make_embedder", lambda *_: _Placed())
  others = [
    _whole({"score": 2.0, f"knob{n}": n}, f"{letter}{letter} alone")
    for n, letter in enumerate("abcdef")
  ]
  first = {"score": 2.0, "width": 2, "steps": 10}
  told = "Facts from far back stay in memory."
  script = [
    *others,
    _whole(first, "It can remember more."),
    _whole({**first, "steps": 11}, told),
    reply(json.dumps({"new": False, "why": "The same wish for more room."})),
    _whole({"score": 1.0, "depth": 4}, "gg alone"),
    error(500, "stop"),
  ]
  with GeminiServer(*script) as server:
    loop = _loop(tmp_path, server)
    _run(loop, 8)
  assert "It can remember more." in server.text(8)  # to the judge, as the old
  assert "The same wish for more room." in server.text(9)
  assert told not in {p.motivation for p in loop.candidates()}
