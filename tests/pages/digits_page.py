"""The page of digits as tests see it: its states, its pictures, what it tells; and what Python draws."""

import base64
import contextlib
import threading

import numpy as np

from tinydiff.generate import Trajectory
from tinydiff.model.unet import UNet
from tinydiff.noise import schedules
from tinydiff.pages import serve, shipped

# in the page: its own state; arrays travel in base64
GET = """async (path) => {
  const { page } = await import(new URL("digits.js", location.href));
  await page.over;
  const pack = (value) => {
    if (!ArrayBuffer.isView(value)) return value;
    const bytes = new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
    return { base64: btoa(Array.from(bytes, (each) => String.fromCharCode(each)).join("")) };
  };
  if (path === "row") return pack(page.row.x);
  return page.film.states.map((state) =>
    Object.fromEntries(Object.entries(state).map(([name, value]) => [name, pack(value)])));
}"""
PIXELS = """(canvas) => {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  return Array.from(data).filter((_, i) => i % 4 < 3);
}"""
COLLECT = """
  globalThis.told = [];
  addEventListener("DOMContentLoaded", () => {
    const hear = (id) => {
      const at = document.getElementById(id), tell = () => told.push([id, at.textContent]);
      tell();
      new MutationObserver(tell).observe(at, { childList: true, characterData: true, subtree: true });
    };
    hear("status");
    hear("moment");
  });
"""


def unpacked(value):
    if isinstance(value, dict) and "base64" in value:
        return np.frombuffer(base64.b64decode(value["base64"]), np.float32)
    return value


def states(page):
    """Those of the drawing, when it is over."""
    return [{name: unpacked(each) for name, each in state.items()} for state in page.evaluate(GET, "states")]


def row(page):
    return unpacked(page.evaluate(GET, "row"))


def drawn(page):
    """Wait until it has loaded, and drawn."""
    page.wait_for_function("document.getElementById('status').textContent.startsWith('Ready. ')")
    return page


def text(page, name):
    return page.locator(f"#{name}").text_content()


def pixels(page, selector="#picture"):
    return np.array(page.locator(selector).first.evaluate(PIXELS), np.uint8)


def grey(values):
    """What a canvas shows of grey values."""
    return np.repeat(np.clip(np.rint(127.5 * (1 + values.astype(np.float64))), 0, 255).astype(np.uint8), 3)


def trajectory(checkpoint, backend, count=1, **options):
    config = checkpoint.config
    model = UNet(config.model, backend)
    model.parameters.load(model.parameters.values, checkpoint.parts[shipped.PART])
    return Trajectory(model, schedules.get(config.schedule, config.noise_steps), config.prediction, count, **options)


@contextlib.contextmanager
def served(files):
    """The address of these files."""
    server = serve.server(files)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://{serve.HOST}:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
