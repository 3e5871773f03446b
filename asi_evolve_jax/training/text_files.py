"""One's own text: a folder of UTF-8 files as the source of a corpus."""

from __future__ import annotations

import pathlib
from typing import Any

from asi_evolve_jax.training.wheels import CorpusError, Progress

# A group is a file; where there are few, files are cut into about this many.
_MIN_GROUPS = 40
_OTHER = "other"


class TextFiles:
  """The text files below a folder.

  Files in its subfolder `other` are held out as another kind of text. Hidden
  files are left out, and so are files that are empty or not UTF-8, which is
  said.
  """

  def __init__(self, path: str):
    """Raises CorpusError if `path` is no folder or holds no file."""
    self.root = pathlib.Path(path).expanduser().resolve()
    if not self.root.is_dir():
      raise CorpusError(
        f"{self.root} is not a folder: dir:PATH names a folder of text files."
      )
    names = sorted(
      file.relative_to(self.root)
      for file in self.root.rglob("*")
      if file.is_file()
    )
    names = [
      name for name in names if not any(p.startswith(".") for p in name.parts)
    ]
    self.files = [n for n in names if n.parts[0] != _OTHER or len(n.parts) < 2]
    self.other = [n for n in names if n not in set(self.files)]
    if not self.files:
      raise CorpusError(f"{self.root} holds no files: put text files there.")

  def fingerprint(self) -> list[list[Any]]:
    """Returns path, size in bytes and time of change of every file."""
    facts = []
    for name in [*self.files, *self.other]:
      stat = (self.root / name).stat()
      facts.append([name.as_posix(), stat.st_size, stat.st_mtime_ns])
    return facts

  def entry(self) -> dict[str, Any]:
    """Returns what the manifest says about this source."""
    return {"source": "files", "package": str(self.root), "licence": "yours"}

  def documents(self, say: Progress) -> list[tuple[str, bytes]]:
    """Returns (group, text) of the files outside `other`."""
    return self._read(self.files, say)

  def other_documents(self, say: Progress) -> list[tuple[str, bytes]]:
    """Returns (group, text) of the files in `other`."""
    return self._read(self.other, say)

  def _read(
    self, names: list[pathlib.Path], say: Progress
  ) -> list[tuple[str, bytes]]:
    texts, empty, foreign = [], 0, 0
    for name in names:
      data = (self.root / name).read_bytes()
      try:
        text = data.decode("utf-8").replace("\0", "").strip()
      except UnicodeDecodeError:
        foreign += 1
        continue
      if text:
        texts.append((name.as_posix(), text.encode()))
      else:
        empty += 1
    if empty or foreign:
      say(f"skipped {empty} empty files and {foreign} that are not UTF-8")
    if len(texts) >= _MIN_GROUPS:
      return texts
    size = sum(len(data) for _, data in texts) // _MIN_GROUPS + 1
    return [
      (f"{name}#{i}", piece)
      for name, data in texts
      for i, piece in enumerate(_cut(data, size))
    ]


def _cut(data: bytes, size: int) -> list[bytes]:
  """Cuts at line ends (or spaces) into pieces of at least `size` bytes."""
  pieces = []
  while len(data) > size:
    end = data.find(b"\n", size)
    if end < 0 or end > 2 * size:
      end = data.find(b" ", size)
    if end < 0:
      break
    pieces.append(data[:end])
    data = data[end + 1 :]
  return [piece for piece in [*pieces, data] if piece.strip()]
