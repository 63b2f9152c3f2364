// Slices on a canvas: scroll, window and level, three planes. The page gets numbers and makes grey of them itself, so
// that a window costs no request. Used by the review page's viewer and by the expert grading.
import { Failed, make, t } from "./common.js";

const KEPT = 400; // slices that stay in memory: 50 MB of 256 by 256
const WINDOWS = {
  whole: () => t("Whole"), air: () => t("Air"), brain: () => t("Brain"), soft: () => t("Soft tissue"),
  lung: () => t("Lung"), bone: () => t("Bone"),
};
const PLANES = {
  axial: () => t("Axial"), coronal: () => t("Coronal"), sagittal: () => t("Sagittal"), stored: () => t("Stored slices"),
};

export const planeName = (view) => {
  const plane = PLANES[view.replace(/[-_]?mip[-_]?/, "")]?.() ?? view;
  return view.includes("mip") ? t("{plane}, MIP", { plane }) : plane;
};

async function fetchSlice(series, plane, number, signal) {
  let answer;
  try {
    answer = await fetch(`/api/slices/${series}/${plane}/${number}`, { credentials: "same-origin", cache: "no-store", signal });
  } catch (error) {
    throw signal.aborted ? error : new Failed(0, "no answer");
  }
  if (!answer.ok) throw new Failed(answer.status, (await answer.json().catch(() => ({}))).detail ?? `error ${answer.status}`);
  const head = (name) => Number(answer.headers.get(name));
  return {
    values: new Uint16Array(await answer.arrayBuffer()),
    rows: head("x-rows"), columns: head("x-columns"), aspect: head("x-aspect"), count: head("x-slices"),
  };
}

// A kept picture, as numbers from 0 to 255.
async function fetchPicture(src) {
  const img = new Image();
  img.src = src;
  await img.decode();
  const canvas = new OffscreenCanvas(img.naturalWidth, img.naturalHeight);
  const context = canvas.getContext("2d");
  context.drawImage(img, 0, 0);
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height).data;
  const values = new Uint16Array(canvas.width * canvas.height);
  for (let i = 0; i < values.length; i++) values[i] = pixels[4 * i];
  return { values, rows: canvas.height, columns: canvas.width, aspect: 1, count: 1 };
}

function slider(label, oninput) {
  const row = make("label", "slider");
  const input = make("input");
  input.type = "range";
  input.step = "any";
  input.oninput = () => oninput(Number(input.value));
  row.append(make("span", "", label), input);
  return [row, input];
}

export class SliceViewer {
  // `box` is filled with canvas and tools.
  constructor(box) {
    this.canvas = make("canvas", "film");
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("role", "img");
    this.says = make("p", "slice-says soft small");
    this.says.setAttribute("role", "status");
    this.planes = make("div", "tabs");
    this.planes.setAttribute("role", "group");
    this.planes.setAttribute("aria-label", t("Plane"));
    this.presets = make("div", "tabs");
    this.presets.setAttribute("role", "group");
    this.presets.setAttribute("aria-label", t("Window"));
    let row;
    [row, this.at] = slider(t("Slice"), (n) => this.go(Math.round(n)));
    this.at.step = "1";
    this.atRow = row;
    let level, width;
    [level, this.level] = slider(t("Level"), (v) => this.window(v, this.high - this.low));
    [width, this.width] = slider(t("Width"), (v) => this.window((this.low + this.high) / 2, v));
    const tools = make("div", "slice-tools");
    tools.append(this.planes, row, this.presets, level, width);
    box.replaceChildren(this.canvas, this.says, tools);
    this.canvas.addEventListener("wheel", (event) => { event.preventDefault(); this.go(this.number + Math.sign(event.deltaY)); }, { passive: false });
    this.canvas.addEventListener("keydown", (event) => this.key(event));
    this.canvas.addEventListener("pointerdown", (event) => this.drag(event));
    this.clear();
  }

  clear() {
    this.abort?.abort();
    this.abort = new AbortController();
    this.cache = new Map();
    this.tabs = [];
    this.tab = null;
    this.number = 0;
    this.shown = null;
    this.canvas.width = this.canvas.height = 1;
    this.says.textContent = "";
    this.planes.replaceChildren();
    this.presets.replaceChildren();
    this.atRow.hidden = true;
  }

  // What there is: `stored` as /api/slices/{series} tells it, and the kept pictures ({view, src}).
  async open(series, stored, pictures = []) {
    this.clear();
    const { signal } = this.abort;
    const slices = (plane, count) => ({
      name: planeName(plane), count, least: stored.least, step: stored.step, unit: stored.unit, stored: true,
      windows: [{ name: "whole", low: stored.window[0], high: stored.window[1] }, ...stored.windows],
      load: (n) => fetchSlice(series, plane, n, signal),
    });
    for (const [plane, count] of Object.entries(stored.planes)) this.tabs.push(slices(plane, count));
    for (const plane of stored.others ?? []) this.tabs.push(slices(plane, null));
    const whole = this.tabs.length > 0;
    for (const p of pictures) {
      const name = planeName(p.view);
      this.tabs.push({
        name: whole ? t("Kept: {name}", { name }) : name, count: 1, least: 0, step: 1, unit: "", stored: false,
        windows: [{ name: "whole", low: 0, high: 255 }, { name: "air", low: 0, high: 30 }],
        load: () => fetchPicture(p.src),
      });
    }
    this.planes.replaceChildren(...this.tabs.map((tab) => {
      const b = make("button", "chip", tab.name);
      b.type = "button";
      b.onclick = () => this.choose(tab);
      tab.button = b;
      return b;
    }));
    if (this.tabs.length) await this.choose(this.tabs[0]);
    else this.say(stored.sentence || t("Nothing of this series is kept here."));
  }

  async choose(tab) {
    this.tab = tab;
    for (const other of this.tabs) other.button.setAttribute("aria-pressed", String(other === tab));
    this.presets.replaceChildren(...tab.windows.map((w) => {
      const b = make("button", "chip", WINDOWS[w.name]?.() ?? w.name);
      b.type = "button";
      b.dataset.window = w.name;
      b.onclick = () => this.window((w.low + w.high) / 2, w.high - w.low, w.name);
      return b;
    }));
    const { low, high } = tab.windows[0];
    const least = Math.min(...tab.windows.map((w) => w.low));
    const most = Math.max(...tab.windows.map((w) => w.high));
    Object.assign(this.level, { min: least, max: most });
    Object.assign(this.width, { min: (most - least) / 500, max: (most - least) * 1.2 });
    this.low = low;
    this.high = high;
    this.mark("whole");
    if (tab.count === null) {
      this.say(t("Making the other planes …"));
      try {
        tab.count = (await this.slice(tab, 0)).count;
      } catch (error) {
        if (this.tab === tab && error.name !== "AbortError") this.fail(error);
        return;
      }
      if (this.tab !== tab) return;
    }
    this.at.max = tab.count - 1;
    this.atRow.hidden = tab.count < 2;
    await this.go(tab.at ?? Math.floor(tab.count / 2));
  }

  async slice(tab, n) {
    const key = `${this.tabs.indexOf(tab)}/${n}`;
    if (!this.cache.has(key)) {
      const loading = tab.load(n);
      this.cache.set(key, loading);
      loading.catch(() => this.cache.delete(key));
      if (this.cache.size > KEPT) this.cache.delete(this.cache.keys().next().value);
    }
    return this.cache.get(key);
  }

  async go(n) {
    const { tab } = this;
    if (!tab?.count) return;
    this.number = Math.max(0, Math.min(tab.count - 1, n));
    tab.at = this.number;
    const number = this.number;
    this.at.value = number;
    this.at.setAttribute("aria-valuetext", t("{n} of {count}", { n: number + 1, count: tab.count }));
    try {
      const slice = await this.slice(tab, number);
      if (this.tab !== tab || this.number !== number) return; // scrolled on meanwhile
      this.shown = slice;
      this.paint();
      for (const near of [number + 1, number - 1]) if (near >= 0 && near < tab.count) this.slice(tab, near).catch(() => {});
    } catch (error) {
      if (error.name !== "AbortError" && this.tab === tab) this.fail(error);
    }
  }

  window(level, width, name = "") {
    if (!this.tab) return;
    const least = Math.max(width, Number(this.width.min));
    this.low = level - least / 2;
    this.high = level + least / 2;
    this.mark(name);
    this.paint();
  }

  mark(name) {
    for (const b of this.presets.children) b.setAttribute("aria-pressed", String(b.dataset.window === name));
    this.level.value = (this.low + this.high) / 2;
    this.width.value = this.high - this.low;
  }

  paint() {
    const { shown, tab } = this;
    if (!shown) return;
    const { rows, columns, values, aspect } = shown;
    const grey = new ImageData(columns, rows);
    const pixels = new Uint32Array(grey.data.buffer);
    const scale = 255 / (this.high - this.low);
    const from = (tab.least - this.low) * scale;
    const step = tab.step * scale;
    for (let i = 0; i < values.length; i++) {
      const v = Math.max(0, Math.min(255, from + step * values[i])) | 0;
      pixels[i] = 0xff000000 | (v << 16) | (v << 8) | v;
    }
    const film = new OffscreenCanvas(columns, rows);
    film.getContext("2d").putImageData(grey, 0, 0);
    const zoom = Math.max(1, Math.ceil(512 / Math.max(columns, rows * aspect)));
    this.canvas.width = columns * zoom;
    this.canvas.height = Math.max(1, Math.round(rows * aspect * zoom));
    this.canvas.getContext("2d").drawImage(film, 0, 0, this.canvas.width, this.canvas.height);
    const name = tab.count > 1 ? t("{plane}, slice {n} of {count}", { plane: tab.name, n: this.number + 1, count: tab.count }) : tab.name;
    const unit = tab.unit ? ` ${tab.unit}` : "";
    const shades = t("level {level}, width {width}", {
      level: Math.round((this.low + this.high) / 2).toLocaleString() + unit, width: Math.round(this.high - this.low).toLocaleString() + unit,
    });
    this.canvas.setAttribute("aria-label", name);
    this.say(`${name} · ${shades}`);
  }

  say(text) { this.says.textContent = text; }

  fail(error) {
    this.say(error.status === 0 ? t("The network is cut; the slice could not be loaded.") : error.status === 404 ? t("This slice is not kept any more.") : t("The slice could not be loaded."));
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const by = { ArrowUp: -1, ArrowLeft: -1, ArrowDown: 1, ArrowRight: 1, PageUp: -5, PageDown: 5 }[event.key];
    if (by !== undefined) this.go(this.number + by);
    else if (event.key === "Home") this.go(0);
    else if (event.key === "End") this.go((this.tab?.count ?? 1) - 1);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  // Drag: to the right widens the window, down makes the picture darker.
  drag(event) {
    if (event.button !== 0 || !this.tab) return;
    const from = { x: event.clientX, y: event.clientY, level: (this.low + this.high) / 2, width: this.high - this.low };
    const reach = Number(this.width.max) / 400;
    const move = (e) => this.window(from.level + (e.clientY - from.y) * reach, from.width + (e.clientX - from.x) * reach);
    this.canvas.setPointerCapture(event.pointerId);
    this.canvas.addEventListener("pointermove", move);
    this.canvas.addEventListener("pointerup", () => this.canvas.removeEventListener("pointermove", move), { once: true });
    this.canvas.addEventListener("pointercancel", () => this.canvas.removeEventListener("pointermove", move), { once: true });
  }
}
