"""The store: conditional writes, URLs, arrays, errors that say what to do."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import numpy as np
import pytest

from asi_evolve_jax.records.store import Store, StoreError, normalise_url


@pytest.fixture(params=["file", "memory", "durable"])
def store(request, tmp_path):
  if request.param == "memory":
    return Store(f"memory://{tmp_path.name}/")
  return Store(tmp_path / "store", durable=request.param == "durable")


def test_create_is_once(store):
  assert store.create("a/b", b"1")
  assert store.create("a/b", b"2") is None
  assert store.get("a/b")[0] == b"1"
  assert store.create_many([("a/b", b"3"), ("a/c", b"4")])[0] is None
  assert store.keys("a/") == ["a/b", "a/c"]


def test_swap_needs_the_present_generation(store):
  first = store.create("k", b"1")
  second = store.swap("k", b"2", first)
  assert second
  assert store.swap("k", b"3", first) is None
  assert not store.delete("k", first)
  assert store.delete("k", second)
  assert store.get("k")[0] is None
  assert store.swap("k", b"4", second) is None


def test_lists_stop_at_their_prefix(store):
  for key in ("log/1/a", "log/2/b", "log/3/c", "logs", "lo"):
    store.create(key, b"")
  assert store.keys("log/") == ["log/1/a", "log/2/b", "log/3/c"]
  assert store.keys_range("log/2/", "log0") == ["log/2/b", "log/3/c"]


def test_operations_are_counted(store):
  store.create_many([("a", b""), ("b", b"")])
  store.get_many(["a", "b", "c"])
  store.keys("a")
  assert store.operations == {"create": 2, "get": 3, "list": 1}


@pytest.mark.parametrize(
  "array",
  [
    np.arange(12.0).reshape(3, 4),
    np.arange(12.0).reshape(3, 4).T,
    np.float32(2.5),
    np.zeros((0, 3), np.int32),
    np.array([True, False]),
    np.array([np.nan, np.inf, -0.0]),
    np.arange(3, dtype=np.uint8),
  ],
)
def test_arrays_come_back_with_shape_and_dtype(store, array):
  assert store.get_array("arrays/a") is None
  assert store.put_array("arrays/a", array)
  again = store.get_array("arrays/a")
  assert again.dtype == array.dtype
  np.testing.assert_array_equal(again, array)


def test_the_first_array_stays_but_a_half_written_one_does_not(tmp_path):
  store = Store(tmp_path)
  first, second = np.ones(5), np.zeros(5)
  assert store.put_array("arrays/a", first)
  assert not store.put_array("arrays/a", second)
  np.testing.assert_array_equal(store.get_array("arrays/a"), first)
  # What a process killed between metadata and data leaves behind.
  (tmp_path / "arrays/a/c/0").unlink()
  assert store.get_array("arrays/a") is None
  assert store.put_array("arrays/a", second)
  np.testing.assert_array_equal(store.get_array("arrays/a"), second)


def test_urls(tmp_path):
  spaced = tmp_path / "a b"
  assert normalise_url(spaced) == f"file://{tmp_path}/a%20b/"
  assert normalise_url(f"file://{spaced}") == f"file://{tmp_path}/a%20b/"
  assert normalise_url(f"file://{tmp_path}/a%20b") == normalise_url(spaced)
  assert normalise_url("file:///a#b?c/") == "file:///a%23b%3Fc/"
  assert normalise_url("file:///a/b") == "file:///a/b/"
  assert normalise_url("gs://bucket/run/") == "gs://bucket/run/"
  store = Store(spaced)
  store.create("k", b"1")
  assert (spaced / "k").read_bytes() == b"1"
  assert store.put_array("arrays/a", np.ones(2))
  np.testing.assert_array_equal(store.get_array("arrays/a"), np.ones(2))


@pytest.mark.parametrize(
  ("url", "said"),
  [
    ("s3://bucket/run", "gs://"),
    ("ftp://host/x", "cannot hold records"),
    ("file:///x/|ocdbt:", "cannot hold records"),
    ("", "empty"),
  ],
)
def test_urls_that_cannot_hold_records_are_refused(url, said):
  with pytest.raises(StoreError, match=said):
    Store(url)


def test_a_place_that_cannot_be_written_is_named(tmp_path):
  blocker = tmp_path / "file"
  blocker.write_text("in the way")
  with pytest.raises(StoreError, match="file/run") as caught:
    Store(blocker / "run").create("k", b"1")
  assert "Check that the place exists" in str(caught.value)


def test_a_write_that_the_system_refuses_raises_and_leaves_nothing(tmp_path):
  """A limit on file size stands in for a disk that is full."""
  script = f"""
    import resource, signal
    from asi_evolve_jax.records.store import Store, StoreError
    store = Store({str(tmp_path)!r})
    assert store.create("small", b"x")
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    try:
      store.create("large", b"x" * 100_000)
    except StoreError as e:
      print(e)
    """
  done = subprocess.run(
    [sys.executable, "-c", textwrap.dedent(script)],
    capture_output=True,
    text=True,
    check=True,
  )
  assert "could not be written at large" in done.stdout
  assert Store(tmp_path).keys("") == ["small"]


@pytest.mark.parametrize(
  ("text", "said"),
  [
    ("Failed to write: No space left on device", "free space"),
    ("PERMISSION_DENIED: Permission denied", "change its permissions"),
    ("Read-only file system", "change its permissions"),
    ("RESOURCE_EXHAUSTED: Disk quota exceeded", "quota"),
  ],
)
def test_the_remedy_fits_the_error(store, monkeypatch, text, said):
  class Failing:
    def write(self, *args, **kwargs):
      return self

    def result(self):
      raise ValueError(text)

  monkeypatch.setattr(store, "_kv", Failing())
  with pytest.raises(StoreError, match=said):
    store.create("k", b"1")
