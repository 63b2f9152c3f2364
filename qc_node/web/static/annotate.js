// Expert grading: five characteristics, none chosen for anybody; back and change, tier computed live.
import { byId, call, make, n, t } from "./common.js";
import { planeName, SliceViewer } from "./slices.js";

const NAMES = ["straight_reject", "gadolinium", "motion", "contrast", "noise"];
const KEYS = { r: "straight_reject", k: "gadolinium", a: "motion", z: "contrast", d: "noise" };
const WORDS = {
  straight_reject: () => t("straight reject"), gadolinium: () => t("gadolinium"), motion: () => t("motion"),
  contrast: () => t("contrast"), noise: () => t("noise"),
};
const TIERS = [() => t("● Tier 1, good"), () => t("▲ Tier 2, medium"), () => t("■ Tier 3, bad")];
const form = byId("form");
const viewer = new SliceViewer(byId("slices"));
let work = { todo: [], done: [], queue: [], labels: 0 };
let task = null;
let since = 0;
let history = [];
let settling = false;
let saving = false;
let again = () => go();

const key = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");

// -- what is chosen ------------------------------------------------------------------------------------------------
const chosen = (name) => {
  const input = form.querySelector(`input[name="${name}"]:checked`);
  return input ? Number(input.value) : null;
};
const rejected = () => chosen("straight_reject") === 1;
const missing = () => (rejected() ? [] : NAMES.filter((name) => chosen(name) === null));

function draw() {
  for (const group of form.querySelectorAll("fieldset")) group.disabled = rejected() && group.dataset.name !== "straight_reject";
  const left = missing();
  const tier = byId("tier");
  const worst = Math.max(...["motion", "contrast", "noise"].map(chosen));
  tier.textContent = rejected() ? t("■ Straight reject") : left.length ? t("Still open: {names}", { names: left.map((name) => WORDS[name]()).join(", ") }) : TIERS[worst]();
  tier.className = `tier ${rejected() ? "poor" : left.length ? "open" : ["good", "usable", "poor"][worst]}-tone`;
}

function set(name, level) {
  for (const input of form.querySelectorAll(`input[name="${name}"]`)) input.checked = Number(input.value) === level;
}

// The first answer of a line, or the one after the chosen.
function step(name) {
  if (!task || settling || (rejected() && name !== "straight_reject")) return;
  const inputs = [...form.querySelectorAll(`input[name="${name}"]`)];
  const at = chosen(name);
  const input = inputs[at === null ? 0 : (at + 1) % inputs.length];
  input.checked = true;
  input.focus({ preventScroll: true });
  byId("grade-says").textContent = "";
  draw();
}

// -- the series on the screen --------------------------------------------------------------------------------------
function phase(name) {
  for (const id of ["loading", "trouble", "task", "done"]) byId(id).hidden = id !== name;
}

function failed(error, retry) {
  again = retry;
  byId("trouble-says").textContent = error.status === 0 ? t("The network is cut: nothing could be loaded.") : error.status === 401 ? t("Sign in again to go on.") : error.message;
  phase("trouble");
}

async function open(id, settle) {
  phase("loading");
  try {
    task = await call("GET", `/api/annotate/${id}`);
  } catch (error) {
    task = null;
    failed(error, () => open(id, settle));
    return;
  }
  settling = Boolean(settle && task.both);
  since = performance.now();
  form.reset();
  for (const name of NAMES) if (task.mine && task.mine[name] !== null) set(name, Number(task.mine[name]));
  form.hidden = settling;
  byId("settle").hidden = !settling;
  byId("grade-says").textContent = task.mine ? t("You graded this one before; saving changes it.") : "";
  byId("title").textContent = settling ? t("Consensus") : t("Expert grading");
  phase("task");
  draw();
  if (settling) drawBoth();
  progress();
  pictures(task);
}

async function pictures({ series, pictures: kept }) {
  byId("planes").replaceChildren(...kept.map((p) => {
    const div = make("div");
    const img = make("img");
    img.src = p.src;
    img.alt = t("central slice, {plane}", { plane: planeName(p.view) });
    div.append(img, make("span", "", planeName(p.view)));
    return div;
  }));
  viewer.clear();
  viewer.say(t("Loading …"));
  let stored = { planes: {}, sentence: "" };
  try {
    stored = await call("GET", `/api/slices/${series}`);
  } catch (error) {
    stored.sentence = error.status === 0 ? t("The network is cut; the slices could not be loaded.") : error.message;
  }
  if (task?.series === series) await viewer.open(series, stored, Object.keys(stored.planes).length ? [] : kept);
}

function said(g) {
  if (g.straight_reject) return t("Straight reject");
  return t("Tier {tier}: motion {motion}, contrast {contrast}, noise {noise}, gadolinium {gadolinium}", { ...g, gadolinium: g.gadolinium ? t("yes") : t("no") });
}

function drawBoth() {
  byId("settle-says").textContent = "";
  byId("both").replaceChildren(...task.both.map((g, number) => {
    const b = make("button", "choice");
    b.type = "button";
    b.append(make("kbd", "", String(number + 1)), make("span", "", said(g)));
    b.onclick = () => settle(number);
    return b;
  }));
}

// -- saving --------------------------------------------------------------------------------------------------------
async function settle(number) {
  const g = task.both[number];
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
    byId("settle-says").textContent = error.status === 0 ? t("Not saved: the network is cut. Press again.") : error.message;
  } finally {
    saving = false;
  }
}

async function save() {
  if (!task || settling || saving) return;
  const left = missing();
  if (left.length) {
    byId("grade-says").textContent = t("Not saved. Still open: {names}.", { names: left.map((name) => WORDS[name]()).join(", ") });
    form.querySelector(`input[name="${left[0]}"]`).focus();
    return;
  }
  saving = true;
  const body = { key: key(), straight_reject: rejected(), ms: Math.round(Math.min(performance.now() - since, 86400000)) };
  if (!rejected()) Object.assign(body, { gadolinium: chosen("gadolinium") === 1, motion: chosen("motion"), contrast: chosen("contrast"), noise: chosen("noise") });
  try {
    await call("POST", `/api/annotate/${task.id}`, body);
  } catch (error) {
    saving = false;
    byId("grade-says").textContent = error.status === 0 ? t("Not saved: the network is cut. Press Space again.") : error.message;
    return;
  }
  if (history.at(-1) !== task.id) history.push(task.id);
  document.activeElement?.blur();
  await go();
  saving = false;
}

async function back() {
  if (settling) { await go(); return; }
  const here = task ? history.indexOf(task.id) : -1;
  const before = here > 0 ? history[here - 1] : here === 0 ? null : history.at(-1);
  if (before !== null && before !== undefined) await open(before);
  else byId("grade-says").textContent = t("This is the first one.");
}

function progress() {
  const labels = n("{count} label of two raters", "{count} labels of two raters", work.labels);
  byId("progress").textContent = `${t("{done} graded by you, {todo} to do", { done: work.done.length, todo: work.todo.length })}, ${labels}`;
  byId("queue-open").hidden = !work.queue.length || settling;
  byId("queue-open").textContent = t("{count} to decide together", { count: work.queue.length });
}

async function go() {
  try {
    work = await call("GET", "/api/annotate");
  } catch (error) {
    failed(error, go);
    return;
  }
  settling = false;
  if (work.todo.length) { await open(work.todo[0]); return; }
  task = null;
  phase("done");
  progress();
}

form.addEventListener("change", () => { byId("grade-says").textContent = ""; draw(); });
form.addEventListener("submit", (event) => { event.preventDefault(); save(); });
byId("back").addEventListener("click", back);
byId("queue-open").addEventListener("click", () => open(work.queue[0], true));
byId("again").addEventListener("click", () => again());

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  const k = event.key.toLowerCase();
  const radio = event.target.type === "radio";
  const button = event.target.closest?.("button, a, summary");
  if (KEYS[k] && !event.repeat) step(KEYS[k]);
  else if (k === " " && !event.repeat) {
    if (button || (radio && !event.target.checked)) return; // a button is pressed, an answer chosen
    save();
  } else if (k === " " && !button) { /* held down: once is enough */ }
  else if ((k === "b" || k === "backspace") && !event.repeat) back();
  else if (settling && (k === "1" || k === "2")) settle(Number(k) - 1);
  else if (k === "pageup" || k === "pagedown") viewer.go(viewer.number + (k === "pageup" ? -1 : 1));
  else return;
  event.preventDefault();
});

go();
