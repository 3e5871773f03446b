"""What `python -m launch.records` does: look at, move and compact records."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.table import Table

from asi_evolve_jax.records import archive, codec, schema
from asi_evolve_jax.records.records import Records

USAGE = """\
python -m launch.records <command> --records=URL

  ls              how many records of each kind there are
  ls KIND         the newest of a kind (--limit=N, 0 for all)
  show KEY ...    records whole, e.g. task/0123..., or by the start of a key
  export FILE     everything into one new zip; prints its seal
  import FILE     an archive into an empty or fitting folder (--seal=HEX)
  compact         drop leases of finished Tasks, merge the log (stop the run)
"""

# Columns of `ls KIND` beside id and time.
_COLUMNS = {
  "run": ("name", "track", "commit"),
  "program": ("track",),
  "artifact": ("track", "platform", "shape_key", "program"),
  "proposal": ("round", "name", "author", "operator"),
  "task": ("program", "rung", "seeds", "purpose", "attempt"),
  "result": ("program", "rung", "status", "metrics", "gate"),
  "analysis": ("program", "text"),
  "insight": ("title", "effect"),
  "claim": ("program", "baseline", "verdict", "effect", "p_corrected"),
  "call": ("role", "model", "status", "seconds"),
  "milestone": ("by",),
  "steer": ("verb", "by", "arguments"),
}
_WIDTH = 40
_CLOSE = 5  # keys named when one is ambiguous


class UsageError(ValueError):
  """A command line that means nothing; the message says what would."""


def run(
  arguments: Sequence[str],
  url: str,
  console: Console,
  *,
  limit: int = 20,
  seal: str = "",
) -> None:
  """Runs one command and prints what it found to `console`.

  Raises:
    UsageError: on an unknown command or missing arguments.
    StoreError, RecordError, ArchiveError: where the command cannot be done.
  """
  command, *rest = list(arguments) or [""]
  if command not in _COMMANDS:
    raise UsageError(f"unknown command {command!r}.\n\n{USAGE}")
  if not url:
    raise UsageError(f"--records=URL is missing.\n\n{USAGE}")
  function, least, most = _COMMANDS[command]
  if not least <= len(rest) <= most:
    raise UsageError(f"{command} has {len(rest)} arguments.\n\n{USAGE}")
  function(Records.open(url), rest, console, limit, seal)


def _list(records, rest, console, limit, seal) -> None:
  del seal
  if rest:
    _list_kind(records, rest[0], console, limit)
    return
  table = Table("kind", "records")
  table.columns[1].justify = "right"
  total = 0
  for kind in schema.KINDS:
    count = len(records.store.keys(f"{kind}/"))
    total += count
    table.add_row(kind, str(count))
  table.add_section()
  for name, prefix in (
    ("blobs", "blob/"),
    ("leases", "lease/"),
    ("log entries", "log/"),
  ):
    table.add_row(name, str(len(records.store.keys(prefix))))
  if not total:
    raise archive.ArchiveError(
      f"{records.url} holds no records: check the URL (a run keeps them in "
      "the folder records/ of its own)."
    )
  console.print(table)


def _list_kind(records, kind: str, console, limit: int) -> None:
  if kind not in schema.KINDS:
    raise UsageError(f"{kind!r} is no kind; kinds: {', '.join(schema.KINDS)}.")
  found, _ = records.follow(kinds=[kind])
  found.sort(key=lambda r: (r.created_at, r.id))
  shown = found[-limit:] if limit > 0 else found
  columns = _COLUMNS[kind]
  table = Table("id", "time", *columns)
  for record in shown:
    when = time.strftime("%m-%d %H:%M:%S", time.localtime(record.created_at))
    table.add_row(
      record.id, when, *(_cell(getattr(record, name)) for name in columns)
    )
  console.print(table)
  console.print(f"{len(shown)} of {len(found)}", highlight=False)
  for key in records.set_aside:
    console.print(f"set aside, cannot be parsed: {key}", style="red")


def _show(records, rest, console, limit, seal) -> None:
  del limit, seal
  for name in rest:
    key = _full_key(records, name)
    value, _ = records.store.get(key)
    codec.decode(key, value)  # says what is wrong with a damaged one
    text = json.dumps(json.loads(value), indent=2, ensure_ascii=False)
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _full_key(records: Records, name: str) -> str:
  kind = name.split("/", 1)[0]
  if kind not in schema.KINDS or "/" not in name:
    raise UsageError(
      f"{name!r} is no key: write kind/id, e.g. run/run or task/01ab "
      f"(kinds: {', '.join(schema.KINDS)})."
    )
  keys = records.store.keys(name)
  if name in keys:
    return name
  if len(keys) == 1:
    return keys[0]
  if not keys:
    raise archive.ArchiveError(
      f"{records.url} holds nothing at {name}: see `ls {kind}`."
    )
  more = ", ..." if len(keys) > _CLOSE else ""
  raise archive.ArchiveError(
    f"{name} begins {len(keys)} keys: {', '.join(keys[:_CLOSE])}{more}"
  )


def _export(records, rest, console, limit, seal) -> None:
  del limit, seal
  made = archive.export_archive(records, rest[0])
  _print_summary(made, console)
  console.print(
    f"{rest[0]}: {made.new} records, {made.files} files\nseal {made.seal}",
    highlight=False,
    soft_wrap=True,
  )


def _import(records, rest, console, limit, seal) -> None:
  del limit
  told = archive.import_archive(records, rest[0], seal)
  _print_summary(told, console)
  total = sum(told.kinds.values())
  console.print(
    f"{records.url}: {told.new} of {total} records are new, {told.files} "
    f"files\nseal {told.seal}",
    highlight=False,
    soft_wrap=True,
  )


def _compact(records, rest, console, limit, seal) -> None:
  del rest, limit, seal
  console.print("watching for writers ...", style="dim")
  done = archive.compact(records)
  console.print(
    f"{done.leases} leases of finished Tasks dropped, log entries "
    f"{done.entries_before} -> {done.entries_after}",
    highlight=False,
    soft_wrap=True,
  )


def _print_summary(summary: archive.Summary, console: Console) -> None:
  table = Table("kind", "records")
  for kind, count in summary.kinds.items():
    table.add_row(kind, str(count))
  console.print(table)
  for key in summary.set_aside:
    console.print(f"left out, cannot be parsed: {key}", style="red")


def _cell(value: object) -> str:
  text = " ".join(str(value).split())
  # Brackets would be markup to rich.
  text = text.replace("[", "\\[")
  return text if len(text) <= _WIDTH else text[: _WIDTH - 3] + "..."


_Command = Callable[[Records, list[str], Console, int, str], None]
# Name -> function, least and most arguments.
_COMMANDS: dict[str, tuple[_Command, int, int]] = {
  "ls": (_list, 0, 1),
  "show": (_show, 1, 99),
  "export": (_export, 1, 1),
  "import": (_import, 1, 1),
  "compact": (_compact, 0, 0),
}
