// Expert grading: five characteristics by keys, back and change, tier computed live.
import { byId, call, keyIsTaken, make } from "./common.js";

const NAMES = ["straight_reject", "gadolinium", "motion", "contrast", "noise"];
const KEYS = { r: "straight_reject", k: "gadolinium", a: "motion", z: "contrast", d: "noise" };
let work = { todo: [], done: [], queue: [] };
let task = null;
let values = null;
let since = 0;
let history = [];
let settling = false;
let saving = false;

const key = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");

function draw() {
  for (const group of document.querySelectorAll(".characteristic")) {
    const name = group.dataset.name;
    const off = values.straight_reject && name !== "straight_reject";
    group.classList.toggle("off", off);
    for (const b of group.querySelectorAll(".level")) {
      b.setAttribute("aria-checked", String(!off && values[name] === Number(b.dataset.level)));
      b.disabled = off;
    }
  }
  const worst = Math.max(values.motion, values.contrast, values.noise);
  byId("tier").textContent = values.straight_reject ? "■ Straight reject" : ["● Tier 1, good", "▲ Tier 2, medium", "■ Tier 3, bad"][worst];
  byId("tier").className = `tier ${values.straight_reject ? "poor" : ["good", "usable", "poor"][worst]}-tone`;
}

function set(name, level) { values[name] = level; draw(); }

function next(name) {
  if (!task || settling) return;
  if (values.straight_reject && name !== "straight_reject") return;
  const levels = name === "straight_reject" || name === "gadolinium" ? 2 : 3;
  set(name, (values[name] + 1) % levels);
}

function showSlice(n) {
  const at = Math.max(0, Math.min(task.slices - 1, n));
  byId("slice-at").value = at;
  byId("slice").src = `/api/annotate/${task.id}/slices/${at}.png`;
  byId("slice-says").textContent = `Stored slice ${at + 1} of ${task.slices}`;
}

async function open(id, settle) {
  task = await call("GET", `/api/annotate/${id}`);
  settling = Boolean(settle && task.both);
  since = performance.now();
  values = Object.fromEntries(NAMES.map((n) => [n, Number(task.mine?.[n] ?? 0)]));
  byId("task").hidden = false;
  byId("done").hidden = true;
  byId("form").hidden = settling;
  byId("settle").hidden = !settling;
  byId("planes").replaceChildren(...task.pictures.map((p) => {
    const div = make("div");
    const img = make("img");
    img.src = p.src;
    img.alt = `central ${p.view} slice`;
    div.append(img, make("span", "", p.view));
    return div;
  }));
  byId("scroll").hidden = task.slices === 0;
  if (task.slices) { byId("slice-at").max = task.slices - 1; showSlice(Math.floor(task.slices / 2)); }
  byId("grade-says").textContent = task.mine ? "You graded this one before; saving changes it." : "";
  byId("title").textContent = settling ? "Consensus" : "Expert grading";
  draw();
  if (settling) drawBoth();
  progress();
}

function said(g) {
  if (g.straight_reject) return "Straight reject";
  return `Tier ${g.tier}: motion ${g.motion}, contrast ${g.contrast}, noise ${g.noise}, gadolinium ${g.gadolinium ? "yes" : "no"}`;
}

function drawBoth() {
  byId("settle-says").textContent = "";
  byId("both").replaceChildren(...task.both.map((g, n) => {
    const b = make("button", "choice");
    b.type = "button";
    b.append(make("kbd", "", String(n + 1)), make("span", "", said(g)));
    b.onclick = () => settle(n);
    return b;
  }));
}

async function settle(n) {
  const g = task.both[n];
  if (!g || saving) return;
  saving = true;
  try {
    const body = { key: key(), kind: "consensus" };
    for (const name of NAMES) body[name] = g[name];
    await call("POST", `/api/annotate/${task.id}`, body);
    work = await call("GET", "/api/annotate");
    if (work.queue.length) await open(work.queue[0], true);
    else await go();
  } catch (error) {
    byId("settle-says").textContent = error.status === 0 ? "Not saved: the network is cut. Press again." : error.message;
  } finally {
    saving = false;
  }
}

async function save() {
  if (!task || settling || saving) return;
  saving = true;
  const rejected = Boolean(values.straight_reject);
  const body = { key: key(), straight_reject: rejected, ms: Math.round(Math.min(performance.now() - since, 86400000)) };
  if (!rejected) Object.assign(body, { gadolinium: Boolean(values.gadolinium), motion: values.motion, contrast: values.contrast, noise: values.noise });
  try {
    await call("POST", `/api/annotate/${task.id}`, body);
    if (history.at(-1) !== task.id) history.push(task.id);
    await go();
  } catch (error) {
    byId("grade-says").textContent = error.status === 0 ? "Not saved: the network is cut. Press Space again." : error.message;
  } finally {
    saving = false;
  }
}

async function back() {
  if (settling) { await go(); return; }
  const here = task ? history.indexOf(task.id) : -1;
  const before = here > 0 ? history[here - 1] : here === 0 ? null : history.at(-1);
  if (before !== null && before !== undefined) await open(before);
  else byId("grade-says").textContent = "This is the first one.";
}

function progress() {
  byId("progress").textContent = `${work.done.length} graded by you, ${work.todo.length} to do, ${work.labels} labels of two raters`;
  byId("queue-open").hidden = !work.queue.length || settling;
  byId("queue-open").textContent = `${work.queue.length} to decide together`;
}

async function go() {
  work = await call("GET", "/api/annotate");
  settling = false;
  if (work.todo.length) { await open(work.todo[0]); return; }
  task = null;
  byId("task").hidden = true;
  byId("done").hidden = false;
  progress();
}

for (const group of document.querySelectorAll(".characteristic")) for (const b of group.querySelectorAll(".level")) b.addEventListener("click", () => set(group.dataset.name, Number(b.dataset.level)));
byId("form").addEventListener("submit", (event) => { event.preventDefault(); save(); });
byId("back").addEventListener("click", back);
byId("queue-open").addEventListener("click", () => open(work.queue[0], true));
byId("slice-at").addEventListener("input", (event) => showSlice(Number(event.target.value)));
byId("scroll").addEventListener("wheel", (event) => { event.preventDefault(); showSlice(Number(byId("slice-at").value) + Math.sign(event.deltaY)); }, { passive: false });

document.addEventListener("keydown", (event) => {
  if (keyIsTaken(event) && event.target.type !== "range") return;
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const k = event.key.toLowerCase();
  if (KEYS[k] && !event.repeat) next(KEYS[k]);
  else if (k === " " && !event.repeat) save();
  else if ((k === "b" || k === "backspace") && !event.repeat) back();
  else if (settling && (k === "1" || k === "2")) settle(Number(k) - 1);
  else if ((k === "arrowleft" || k === "arrowright") && task?.slices) showSlice(Number(byId("slice-at").value) + (k === "arrowleft" ? -1 : 1));
  else return;
  event.preventDefault();
});

go().catch((error) => { byId("progress").textContent = error.message; });
