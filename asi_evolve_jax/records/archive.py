"""Archives: a whole run in one sealed zip, and the log made compact.

An archive holds `records.jsonl` (every record, by time), the blobs and the
arrays, and `manifest.json` with the SHA-256 of each. The SHA-256 of the
manifest is the archive's seal: equal stores give equal seals, and whoever
knows the seal can tell that nothing was changed.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import json
import os
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from asi_evolve_jax.records import codec, schema
from asi_evolve_jax.records.records import Records

FORMAT = 1
_RECORDS = "records.jsonl"
_MANIFEST = "manifest.json"
_FILES = ("blob/", "arrays/")  # kept as they are, one member a key
_EPOCH = (1980, 1, 1, 0, 0, 0)  # of every member: equal stores, equal bytes
_BATCH = 100  # records in a log entry


class ArchiveError(RuntimeError):
  """An archive that cannot be used; the message names member and remedy."""


@dataclasses.dataclass(frozen=True)
class Summary:
  """What an archive holds or an import did.

  Attributes:
    seal: SHA-256 of the manifest, hexadecimal.
    kinds: number of records by kind.
    files: number of blobs and files of arrays.
    new: records that an import added; all of them after an export.
    set_aside: keys of records that could not be parsed and were left out.
  """

  seal: str
  kinds: dict[str, int]
  files: int
  new: int
  set_aside: tuple[str, ...] = ()


def export_archive(records: Records, path: str | os.PathLike[str]) -> Summary:
  """Writes all of `records` to a new archive at `path`.

  Leases are left out. Records that cannot be parsed are left out too and named
  in the manifest and the summary.

  Raises:
    ArchiveError: if there is a file at `path`, or nothing to export.
  """
  target = Path(path)
  if target.exists():
    raise ArchiveError(f"{target} exists: move it or name another file.")
  store = records.store
  found, _ = records.reconcile(records.cursor())
  if not found:
    raise ArchiveError(f"{records.url} holds no records: check the URL.")
  found.sort(key=lambda r: (r.created_at, r.key))
  lines = b"".join(codec.encode(r) + b"\n" for r in found)
  hashes = {_RECORDS: _sha256(lines)}
  names = sorted(n for prefix in _FILES for n in store.keys(prefix))
  # Beside the target, then moved: no half-written archive has its name.
  partial = target.with_name(target.name + ".partial")
  try:
    with zipfile.ZipFile(partial, "w") as out:
      _add(out, _RECORDS, lines)
      for name in names:
        value, _ = store.get(name)
        if value is not None:
          hashes[name] = _sha256(value)
          _add(out, name, value)
      manifest = json.dumps(
        {
          "format": FORMAT,
          "schema": schema.SCHEMA_VERSION,
          "kinds": _count(found),
          "set_aside": sorted(records.set_aside),
          "sha256": hashes,
        },
        indent=1,
        sort_keys=True,
      ).encode()
      _add(out, _MANIFEST, manifest)
    os.replace(partial, target)
  except OSError as e:
    raise ArchiveError(f"{target} could not be written: {e}") from e
  finally:
    partial.unlink(missing_ok=True)
  return Summary(
    _sha256(manifest),
    _count(found),
    len(hashes) - 1,
    len(found),
    tuple(sorted(records.set_aside)),
  )


def read_archive(
  path: str | os.PathLike[str], seal: str = ""
) -> tuple[list[schema.Record], dict[str, bytes], Summary]:
  """Returns the records and files of an archive, every hash checked.

  Args:
    path: of the archive.
    seal: what `export_archive` said; "" where it is not known.

  Raises:
    ArchiveError: if the archive is damaged, changed, or of a newer version.
  """
  try:
    with zipfile.ZipFile(path) as archive:
      members = archive.namelist()
      if len(set(members)) != len(members):
        raise ArchiveError(f"{path} holds a member twice: it was changed.")
      data = {name: archive.read(name) for name in members}
  except (OSError, zipfile.BadZipFile, NotImplementedError, EOFError) as e:
    raise ArchiveError(f"{path} is no readable archive: {e}") from e
  if _MANIFEST not in data:
    raise ArchiveError(f"{path} has no {_MANIFEST}: it is no archive of ours.")
  raw = data.pop(_MANIFEST)
  found_seal = _sha256(raw)
  if seal and seal.lower() != found_seal:
    raise ArchiveError(
      f"{path} has the seal {found_seal}, not {seal}: it was changed, or it "
      "is another archive."
    )
  manifest = _manifest(path, raw)
  hashes = manifest["sha256"]
  for name in sorted(hashes.keys() | data.keys()):
    if name not in data or name not in hashes:
      where = "the archive" if name not in data else _MANIFEST
      raise ArchiveError(f"{path}: {name} is missing from {where}.")
    if _sha256(data[name]) != hashes[name]:
      raise ArchiveError(f"{path}: {name} was changed, its hash differs.")
  lines = data.pop(_RECORDS, b"").splitlines()
  for name in data:
    if not name.startswith(_FILES) or ".." in name.split("/"):
      raise ArchiveError(f"{path}: {name} has no place in a store.")
  records = []
  for number, line in enumerate(lines, 1):
    where = f"{path}: {_RECORDS} line {number}"
    try:
      records.append(codec.decode_line(where, line))
    except codec.RecordError as e:
      raise ArchiveError(str(e)) from e
  return (
    records,
    data,
    Summary(found_seal, _count(records), len(data), len(records)),
  )


def import_archive(
  records: Records, path: str | os.PathLike[str], seal: str = ""
) -> Summary:
  """Adds an archive to `records`, which may be empty or hold some of it.

  Raises:
    ArchiveError: as `read_archive`, and where the store holds something else
      at a key of the archive; then nothing is written.
  """
  found, files, summary = read_archive(path, seal)
  store = records.store
  content: dict[str, Any] = {r.key: r for r in found}
  content.update(files)
  prefixes = {key.split("/", 1)[0] + "/" for key in content}
  present = {k for prefix in prefixes for k in store.keys(prefix)}
  both = sorted(content.keys() & present)
  conflicts = [
    key
    for key, (value, _) in zip(both, store.get_many(both), strict=True)
    if value is not None and not _same(key, value, content[key])
  ]
  if conflicts:
    more = f" and {len(conflicts) - 5} more" if len(conflicts) > 5 else ""
    raise ArchiveError(
      f"{records.url} holds other content at {', '.join(conflicts[:5])}{more}:"
      " import into an empty folder."
    )
  # Files first: no record may point at bytes that are not there yet.
  store.create_many([(k, v) for k, v in files.items() if k not in present])
  new = 0
  for start in range(0, len(found), _BATCH):
    new += sum(records.put(*found[start : start + _BATCH]))
  return dataclasses.replace(summary, new=new)


@dataclasses.dataclass(frozen=True)
class Compaction:
  """What `compact` did."""

  leases: int  # deleted, of finished Tasks
  entries_before: int
  entries_after: int


def compact(
  records: Records,
  wait_s: float = 3.0,
  sleep: Callable[[float], None] = time.sleep,
) -> Compaction:
  """Deletes leases of finished Tasks and merges the log into large entries.

  For a store that nobody writes to: it watches for `wait_s` first. Killed at
  any moment it loses nothing; run it again. Followers that are open meanwhile
  see every record once all the same, new ones after their next `reconcile`.

  Raises:
    ArchiveError: if somebody writes.
  """
  store = records.store
  before = _activity(records)
  sleep(wait_s)
  if _activity(records) != before:
    raise ArchiveError(
      f"{records.url} is being written to: stop the run (Ctrl-C), then "
      "compact it."
    )
  found, _ = records.reconcile(records.cursor())
  old = store.keys("log/")
  smallest = -(-len(found) // _BATCH)
  leases = _delete_finished(
    records, {r.id for r in found if r.kind == "result"}
  )
  if len(old) <= smallest + 1:
    return Compaction(leases, len(old), len(old))
  # The new entries go behind the old ones, and those go after the new ones are
  # safe: a follower meets doubles, which it drops, but never a gap.
  records.rewrite_log(found, _BATCH)
  for name in old:
    store.delete(name)
  return Compaction(leases, len(old), len(store.keys("log/")))


def _activity(records: Records) -> tuple[Any, ...]:
  """Returns what changes when anybody appends or renews."""
  store = records.store
  finished = {k.split("/", 1)[1] for k in store.keys("result/")}
  open_leases = [
    k for k in store.keys("lease/") if k.split("/", 1)[1] not in finished
  ]
  beats = [generation for _, generation in store.get_many(open_leases)]
  return store.keys("log/"), open_leases, beats, len(finished)


def _delete_finished(records: Records, finished: set[str]) -> int:
  names = [
    k for k in records.store.keys("lease/") if k.split("/", 1)[1] in finished
  ]
  for name in names:
    records.store.delete(name)
  return len(names)


def _same(key: str, value: bytes, wanted: schema.Record | bytes) -> bool:
  if isinstance(wanted, bytes):
    return value == wanted
  try:
    return codec.decode(key, value) == wanted
  except codec.RecordError:
    return False


def _manifest(path: str | os.PathLike[str], raw: bytes) -> dict[str, Any]:
  try:
    manifest = json.loads(raw)
    version, hashes = manifest["format"], manifest["sha256"]
    if not isinstance(version, int) or not isinstance(hashes, dict):
      raise TypeError("format and sha256 have other types")
  except (ValueError, TypeError, KeyError) as e:
    raise ArchiveError(f"{path}: {_MANIFEST} cannot be read: {e}") from e
  if version > FORMAT:
    raise ArchiveError(
      f"{path} has format {version}, newer than {FORMAT}: update "
      "asi_evolve_jax to import it."
    )
  return manifest


def _add(out: zipfile.ZipFile, name: str, value: bytes) -> None:
  info = zipfile.ZipInfo(name, _EPOCH)
  info.compress_type = zipfile.ZIP_DEFLATED
  info.external_attr = 0o644 << 16
  out.writestr(info, value, compresslevel=9)


def _sha256(data: bytes) -> str:
  return hashlib.sha256(data).hexdigest()


def _count(records: list[schema.Record]) -> dict[str, int]:
  return dict(sorted(collections.Counter(r.kind for r in records).items()))
