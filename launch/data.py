"""Builds a corpus and prints its manifest: `python -m launch.data`."""

from __future__ import annotations

import json
import sys

from absl import app, flags
from rich.console import Console
from rich.table import Table

from asi_evolve_jax.training import corpus, wheels

FLAGS = flags.FLAGS
flags.DEFINE_string(
  "corpus", "mix-v1", "floor-v1, mix-v1, or dir:/path to your own text files."
)
flags.DEFINE_string("data_dir", "", "Where built corpora live.")
flags.DEFINE_string("wheels_dir", "", "Where fetched data wheels live.")
flags.DEFINE_list("sources", [], "Of a named corpus, use only these sources.")
flags.DEFINE_float("slice_mb", 0.0, "Keep so many megabytes of train; 0: all.")
flags.DEFINE_bool("json", False, "Print the manifest as JSON.")


def main(argv: list[str]) -> int:
  if len(argv) > 1:
    print(f"unexpected arguments: {' '.join(argv[1:])}", file=sys.stderr)
    return 2
  try:
    built = corpus.build(
      FLAGS.corpus,
      data_dir=FLAGS.data_dir,
      slice_mb=FLAGS.slice_mb,
      sources=FLAGS.sources,
      wheels_dir=FLAGS.wheels_dir,
    )
  except wheels.CorpusError as error:
    print(f"error: {error}", file=sys.stderr)
    return 1
  if FLAGS.json:
    print(json.dumps(built.manifest, indent=2))
  else:
    _print_tables(built)
  return 0


def _print_tables(built: corpus.Corpus) -> None:
  manifest = built.manifest
  console = Console()
  console.print(f"{manifest['name']} {built.hash}\n{built.directory}")
  sources = Table("source", "package", "version", "MB", "licence")
  for source in manifest["sources"]:
    version = source.get("version", "")
    if isinstance(version, dict):
      version = ", ".join(f"{k} {v}" for k, v in version.items())
    name = source["source"] + (" (other)" if source.get("role") else "")
    size = f"{source['bytes'] / 1e6:.1f}"
    row = (name, source["package"], version, size, source["licence"])
    sources.add_row(*row)
  console.print(sources)
  splits = Table(
    *("split", "bytes", "documents", "groups", "exact duplicates removed"),
    *("near duplicates removed", "sha256"),
  )
  for split, facts in manifest["splits"].items():
    removed = manifest["removed"][split]
    splits.add_row(
      split,
      f"{facts['bytes']:,}",
      f"{facts['documents']:,}",
      f"{facts['groups']:,}",
      f"{removed['exact']:,}",
      f"{removed['near']:,}",
      facts["sha256"][:12],
    )
  console.print(splits)


if __name__ == "__main__":
  app.run(main)
