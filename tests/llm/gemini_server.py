"""A loopback server that speaks Gemini's wire format, and misbehaves on order.

Each request takes the next entry of a script; the last one repeats.
"""

import contextlib
import http.server
import json
import socket
import struct
import threading
import time


def reply(text, *, finish="STOP", usage=(100, 20, 5), **more):
  """Returns the entry for a candidate with `text`."""
  body = {
    "candidates": [
      {
        "content": {"role": "model", "parts": [{"text": text}]},
        "finishReason": finish,
        "index": 0,
      }
    ],
    **more,
  }
  if usage is not None:
    body["usageMetadata"] = {
      "promptTokenCount": usage[0],
      "candidatesTokenCount": usage[1],
      "thoughtsTokenCount": usage[2],
      "totalTokenCount": sum(usage),
    }
  return {"body": body}


def error(code, message, *, status="", details=(), headers=None):
  """Returns the entry for an error, as Google's APIs tell it."""
  inner = {"code": code, "message": message, "status": status}
  if details:
    inner["details"] = list(details)
  return {"code": code, "body": {"error": inner}, "headers": headers or {}}


def retry_info(seconds):
  return {
    "@type": "type.googleapis.com/google.rpc.RetryInfo",
    "retryDelay": f"{seconds}s",
  }


class GeminiServer:
  """Context manager; `url` is the base URL, `requests` what was asked."""

  def __init__(self, *script):
    self.script = list(script)
    self.requests = []
    self._lock = threading.Lock()
    self._closing = threading.Event()
    server = self

    class Handler(http.server.BaseHTTPRequestHandler):
      protocol_version = "HTTP/1.1"
      # Head and body are two writes: the second must not wait for the
      # acknowledgement of the first, 40 ms each time.
      disable_nagle_algorithm = True

      def do_POST(self):
        size = int(self.headers.get("content-length", 0))
        content = self.rfile.read(size)
        with server._lock:
          server.requests.append(
            {
              "path": self.path,
              "headers": {k.lower(): v for k, v in self.headers.items()},
              "body": json.loads(content),
              "at": time.monotonic(),
            }
          )
          entry = (
            server.script.pop(0) if len(server.script) > 1 else server.script[0]
          )
        if callable(entry):
          entry = entry(server.requests[-1])
        server._send(self, entry)

      def log_message(self, *args):
        pass

    class Server(http.server.ThreadingHTTPServer):
      daemon_threads = True

      def handle_error(self, request, client_address):
        pass  # clients that hang up are what is tested

    self._http = Server(("127.0.0.1", 0), Handler)
    self.url = f"http://127.0.0.1:{self._http.server_port}"

  def __enter__(self):
    self._thread = threading.Thread(
      target=self._http.serve_forever, args=(0.02,), daemon=True
    )
    self._thread.start()
    return self

  def __exit__(self, *error):
    self._closing.set()
    self._http.shutdown()
    self._http.server_close()

  def text(self, number=-1):
    """Returns the user's text of a request."""
    return self.requests[number]["body"]["contents"][0]["parts"][0]["text"]

  def _send(self, handler, entry):
    if entry.get("hang"):
      self._closing.wait(30)
      return
    if entry.get("reset"):
      _reset(handler)
      return
    raw = entry.get("raw")
    body = json.dumps(entry.get("body")).encode() if raw is None else raw
    handler.send_response(entry.get("code", 200))
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(body)))
    for name, value in entry.get("headers", {}).items():
      handler.send_header(name, value)
    handler.end_headers()
    if entry.get("cut"):
      handler.wfile.write(body[: len(body) // 2])
      handler.wfile.flush()
      _reset(handler)
      return
    if entry.get("drip"):
      for i in range(len(body)):
        if self._closing.is_set():
          return
        handler.wfile.write(body[i : i + 1])
        handler.wfile.flush()
        time.sleep(0.02)
      return
    with contextlib.suppress(OSError):  # who has read enough hangs up
      handler.wfile.write(body)


def _reset(handler):
  """Cuts the connection with a reset, not an orderly end."""
  handler.connection.setsockopt(
    socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
  )
  handler.connection.close()
  handler.close_connection = True
