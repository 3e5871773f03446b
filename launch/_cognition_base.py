"""`python -m launch.cognition add|query|stats|lint|recall`: by hand."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from absl import app, flags, logging
from rich.console import Console
from rich.table import Table

import cognition
from asi_evolve_jax.evaluation.statistics import bootstrap_interval
from asi_evolve_jax.records import RecordError, StoreError
from asi_evolve_jax.reporting.lift import lifts
from asi_evolve_jax.roles import errands
from asi_evolve_jax.roles.embedding import MiniLmWorker, minilm_wheel
from asi_evolve_jax.roles.library import names_of, names_to_come
from asi_evolve_jax.roles.papers import PaperReader
from asi_evolve_jax.settings import MINILM, SettingsError
from asi_evolve_jax.supervisor.processes import EXIT_FAILED, EXIT_USAGE
from asi_evolve_jax.supervisor.run import OpenRun, attach
from asi_evolve_jax.supervisor.steering import view_of
from asi_evolve_jax.tracks import registry
from cognition import ITEMS_DIR, CognitionError, Names, recall
from cognition.add import Template, Writer, candidates, targets
from cognition.item import Item
from cognition.paper import Paper, text_of
from cognition.retrievers import Bm25, Embeddings, HashedTfidf, Retriever
from launch import _errand, _words

USAGE = """\
python -m launch.cognition <command>

  query TEXT ...  the items that fit a text, e.g. of an Analysis
  stats           what the base holds; with --records=URL what each was worth
  lint            items that name genes or metrics that exist nowhere
  recall FILE     how often held-out symptoms find their items
  add PAPER       candidate items from Markdown, LaTeX, an arXiv source archive
                  or text, for review: a model's (--llm, --model, --money), or
                  without a key a form
"""

_ITEMS = flags.DEFINE_string("items", str(ITEMS_DIR), "Folder of the items.")
_TRACK = flags.DEFINE_string("track", None, "Only items that serve this track.")
_EXCLUDE = flags.DEFINE_list("exclude", [], "Tags and ids to leave out.")
_HITS = flags.DEFINE_integer("k", 5, "query, recall: how many.")
_EMBEDDINGS = flags.DEFINE_enum(
  "embeddings", "", ["", MINILM], "recall: a model to compare besides."
)
_OUT = flags.DEFINE_string("out", ".", "add: folder for the candidates.")
_RECORDS = flags.DEFINE_string(
  "records", "", "stats: URL of a run's records, to show measured lifts."
)

_WIDEST = 10_000  # characters; more than any table here has


def run() -> None:
  """Runs one command; does not return."""
  app.run(_main, flags_parser=_words.parser("cognition", USAGE))


def _main(argv: list[str]) -> int:
  logging.set_verbosity(logging.ERROR)
  command, *words = argv[1:]
  if command not in _COMMANDS:
    print(f"unknown command {command!r}\n\n{USAGE}", file=sys.stderr)
    return EXIT_USAGE
  try:
    return _COMMANDS[command](words, Console())
  except CognitionError as error:
    print(f"cognition: {error}", file=sys.stderr)
    return EXIT_USAGE
  except (
    *(RecordError, StoreError, SettingsError, errands.ErrandError, OSError),
  ) as error:
    print(f"cognition: {error}", file=sys.stderr)
    return EXIT_FAILED


def _items() -> list[Item]:
  return cognition.load_items(_ITEMS.value, _TRACK.value, _EXCLUDE.value)


def _names() -> dict[str, Names]:
  tracks = {name: registry.load(name, {}) for name in registry.names()}
  return names_to_come() | {n: names_of(t) for n, t in tracks.items()}


def _query(words: list[str], console: Console) -> int:
  if not words:
    print(f"query needs a text.\n\n{USAGE}", file=sys.stderr)
    return EXIT_USAGE
  index = cognition.Index(_items())
  for hit in index.search(" ".join(words), _HITS.value):
    doubt = "" if hit.item.checked else "  (unchecked)"
    head = f"{hit.score:.3f}  {hit.item.id}  {hit.item.title}{doubt}"
    console.print(head, markup=False, highlight=False)
    said = " ".join((*hit.item.suggests, *(f"not {w}" for w in hit.item.warns)))
    console.print(f"       {said or hit.item.source}", markup=False)
  return 0


def _stats(words: list[str], console: Console) -> int:
  if words:
    print(f"stats takes no arguments.\n\n{USAGE}", file=sys.stderr)
    return EXIT_USAGE
  items = _items()
  table = Table("track", "items", "papers", "unchecked")
  figures = cognition.stats(items)
  for track in figures["tracks"]:
    some = cognition.stats([item for item in items if item.track == track])
    figure = (some[key] for key in ("items", "sources", "unchecked"))
    table.add_row(track or "any", *map(str, figure))
  totals = (figures[key] for key in ("items", "sources", "unchecked"))
  table.add_row("all", *map(str, totals))
  _show(table, console)
  if _RECORDS.value:
    _print_lifts(attach(_RECORDS.value), console)
  return 0


def _print_lifts(run: OpenRun, console: Console) -> None:
  metric = run.track.metric
  rungs = [rung.name for rung in run.settings.ladder]
  found = lifts(view_of(run), metric, rungs)
  table = Table("item", "used", "others", "failed", "lift", "95 % interval")
  for lift in sorted(found, key=lambda lift: -(lift.gain or 0.0)):
    figures = map(str, (lift.used, lift.others, lift.failed))
    size = interval = "-"
    if lift.gain is not None:
      size = f"{lift.gain:+.4g}"
      interval = f"{lift.low:+.4g} to {lift.high:+.4g}"
    table.add_row(lift.item, *figures, size, interval)
  _show(table, console)
  console.print(
    f"lift: gain in {metric.name} over the parent, mean of those that "
    "used the item less that of the others; + is better. Items are chosen, "
    "not drawn: it says what went together."
  )


def _show(table: Table, console: Console) -> None:
  """Prints a table whole: who cannot read an id cannot look it up."""
  for column in table.columns:
    column.overflow = "fold"
  if not console.is_terminal:
    # A file has no width: a row stays one line.
    widest = Console(width=_WIDEST).measure(table).maximum
    console = Console(width=widest)
  console.print(table)


def _lint(words: list[str], console: Console) -> int:
  if words:
    print(f"lint takes no arguments.\n\n{USAGE}", file=sys.stderr)
    return EXIT_USAGE
  items = _items()
  problems = cognition.lint(items, _names())
  for problem in problems:
    console.print(f"{problem.item}: {problem.text}", markup=False)
  console.print(f"{len(items)} items, {len(problems)} problems")
  return EXIT_FAILED if problems else 0


def _retrievers() -> dict[str, Callable[[], Sequence[Retriever]]]:
  """Returns what `recall` compares."""
  if _EMBEDDINGS.value != MINILM:
    return recall.RETRIEVERS
  embed = MiniLmWorker(minilm_wheel(print))
  dense = functools.partial(Embeddings, embed.name, embed, {})
  return {
    **recall.RETRIEVERS,
    MINILM: lambda: (dense(),),
    f"bm25 and {MINILM}": lambda: (Bm25(), dense()),
    f"fused and {MINILM}": lambda: (Bm25(), HashedTfidf(), dense()),
  }


def _recall(words: list[str], console: Console) -> int:
  if len(words) != 1:
    print(f"recall needs a file of queries.\n\n{USAGE}", file=sys.stderr)
    return EXIT_USAGE
  items, queries = _items(), recall.load_queries(words[0])
  tracks = sorted({query.track for query in queries})
  table = Table(
    *("retriever", f"recall at {_HITS.value}", "95 %", "over fused", "95 %"),
    *tracks,
  )
  found = {
    name: recall.recalls(items, queries, _HITS.value, make())
    for name, make in _retrievers().items()
  }
  for name, values in found.items():
    interval = bootstrap_interval(values)
    gain = bootstrap_interval(np.subtract(values, found["fused"]).tolist())
    parts = [
      [v for v, q in zip(values, queries, strict=True) if q.track == track]
      for track in tracks
    ]
    table.add_row(
      name,
      f"{interval.mean:.3f}",
      f"{interval.low:.3f} to {interval.high:.3f}",
      f"{gain.mean:+.3f}",
      f"{gain.low:+.3f} to {gain.high:+.3f}",
      *(f"{sum(part) / len(part):.3f}" for part in parts),
    )
  counts = (str(sum(q.track == track for q in queries)) for track in tracks)
  table.add_row("queries", str(len(queries)), "", "", "", *counts)
  _show(table, console)
  return 0


def _add(words: list[str], console: Console) -> int:
  names = _names()
  if len(words) != 1 or _TRACK.value not in names:
    print(
      f"add needs one file and --track, one of {', '.join(sorted(names))}."
      f"\n\n{USAGE}",
      file=sys.stderr,
    )
    return EXIT_USAGE
  paper = Paper.read(text_of(Path(words[0])))
  models, folder = _errand.models(), Path(_OUT.value)
  metrics = {m for m in names[_TRACK.value].metrics if "/" not in m}
  writer: Writer = Template()
  todo = "fill in"
  with _errand.ledger(folder) as ledger:
    try:
      model = errands.reach(_errand.LLM.value, models, ledger)
    except errands.NobodyToAsk as error:
      console.print(f"A form, and no model's reading: {error}", markup=False)
    else:
      writer, todo = PaperReader(model.complete, models, names), "correct"
    # Before anything is paid for.
    files = targets(paper, writer.most, folder, Path(_ITEMS.value))
    errands.make_folder(folder)
    found = candidates(paper, _TRACK.value, metrics, writer)
  for name, text in found:
    target = files[name]
    with open(target, "x", encoding="utf-8") as file:
      file.write(text)
    console.print(
      f"{target}: {todo}, check against the paper, move to {_ITEMS.value}, "
      "then `lint`",
      markup=False,
    )
  return 0


_COMMANDS: dict[str, Callable[[list[str], Console], int]] = {
  "query": _query,
  "stats": _stats,
  "lint": _lint,
  "recall": _recall,
  "add": _add,
}
