// The technologist board: one card per scanner; what calls stays until somebody has answered it.
import { advice, age, byId, call, clock, make, n, t, unusual } from "./common.js";

const SILENT_MS = 25000; // the node says something every ten seconds
const GRACE_MS = 2000; // a node that is restarted is back before anybody need be told

const wanted = byId("cards").dataset.wanted;
const where = wanted ? `?scanner=${encodeURIComponent(wanted)}` : "";
const cards = new Map(); // by scanner: what the node said, and its node on the page
let offset = 0; // the node's clock minus this one's, in seconds
let heardAt = Date.now();
let lostAt = null;
let source = null;

const now = () => Date.now() / 1000 + offset;

const KINDS = {
  verdict: () => t("Needs a look"),
  order: () => t("Not what was ordered"),
  missing: () => t("Something is missing"),
  failed: () => t("Could not be judged"),
  vote: () => t("Read as poor"),
  unusual: () => t("Unusual image"),
};
const ANSWERS = {
  repeated: () => t("Repeated"),
  patient_moved: () => t("Patient moved"),
  noted: () => t("Noted"),
};

function own(tag, className, text) { // text from outside: may run from right to left
  const node = make(tag, className);
  node.append(make("bdi", "", text));
  return node;
}

function ageNode(at) {
  const span = make("span", "soft small age", age(now() - at));
  span.dataset.at = at;
  return span;
}

function pictureNode(series, alt) {
  const empty = () => {
    const box = make("div", "no-picture", series.words.shape);
    box.setAttribute("aria-hidden", "true");
    return box;
  };
  if (!series.picture) return empty();
  const img = make("img", "picture");
  img.src = series.picture;
  img.alt = alt;
  img.loading = "lazy";
  img.onerror = () => img.replaceWith(empty());
  return img;
}

function headNode(words) {
  const head = make("p", "head");
  const shape = make("span", "shape", words.shape);
  shape.setAttribute("aria-hidden", "true");
  head.append(shape, make("span", "", words.headline));
  return head;
}

// A verdict that finds nothing wrong must not say "nothing to do" under a call that has another cause.
const ACTIONS = {
  vote: () => t("Look at the images before the patient leaves."),
  missing: () => t("See whether it is still to come before the patient leaves."),
  unusual: () => t("Look at the images before the patient leaves."),
};
const actionOf = (series) => (series.words.tone === "poor" ? undefined : ACTIONS[series.kind]?.()) ?? series.words.action;

function entryNode(series) {
  const box = make("div", `entry ${series.words.tone}-tone`);
  const text = make("div", "text");
  text.append(headNode(series.words), ...advice({ ...series.words, action: actionOf(series) }));
  const said = series.sentence ?? "";
  if (said && !series.words.detail.includes(said)) text.append(series.kind === "unusual" ? unusual(said) : own("p", "warning", said));
  for (const sentence of [...series.mismatches, ...series.missing, ...series.notes]) {
    if (!said.includes(sentence)) text.append(own("p", "warning", sentence));
  }
  for (const sentence of series.measured) if (!said.includes(sentence)) text.append(unusual(sentence));
  const what = make("p", "soft small");
  what.append(make("bdi", "", series.description), ` · ${n("{count} image", "{count} images", series.images)}`);
  text.append(what);
  box.append(pictureNode(series, t("Middle slice")), text);
  return box;
}

const DOUBLE_MS = 700;
let answeredAt = -DOUBLE_MS;
function answerNode(alarm, answer, says) {
  const button = make("button", "", ANSWERS[answer]?.() ?? answer);
  button.type = "button";
  button.dataset.key = `${alarm.id} ${answer}`;
  button.onclick = async () => {
    if (performance.now() - answeredAt < DOUBLE_MS) return; // the next call has just moved under the finger
    answeredAt = performance.now();
    const all = button.parentElement.querySelectorAll("button");
    for (const one of all) one.disabled = true;
    try {
      await call("POST", `/api/alarms/${alarm.id}/acknowledge`, { answer });
    } catch (error) {
      for (const one of all) one.disabled = false;
      if (error.status === 401) signIn();
      else if (error.status !== 404) says.textContent = t("Not saved, try again.");
    }
  };
  return button;
}

function alarmNode(alarm) {
  const box = make("section", `alarm ${alarm.kind}-alarm`);
  const row = make("p", "call");
  row.append(make("span", "", KINDS[alarm.kind]?.() ?? alarm.kind), ageNode(alarm.at));
  const says = make("span", "small");
  says.setAttribute("role", "status");
  const answers = make("div", "answers");
  answers.setAttribute("role", "group");
  answers.setAttribute("aria-label", t("What was done"));
  answers.append(...alarm.answers.map((answer) => answerNode(alarm, answer, says)), says);
  box.append(row, entryNode(alarm), answers);
  return box;
}

function stripNode(recent) {
  const list = make("ul", "strip");
  list.setAttribute("aria-label", t("Before that"));
  for (const series of recent) {
    const item = make("li", `${series.words.tone}-tone`);
    item.append(pictureNode(series, ""), headNode(series.words), ageNode(series.at));
    list.append(item);
  }
  return list;
}

function callsNode(calls) {
  const words = [];
  if (calls.raised) words.push(n("{count} call today", "{count} calls today", calls.raised), t("{acted} acted upon", { acted: calls.acted.toLocaleString() }));
  if (calls.votes) words.push(n("{count} read as poor", "{count} read as poor", calls.votes));
  const box = make("p", calls.over_budget ? "calls-today warning" : "calls-today soft small", words.join(", "));
  if (calls.over_budget) box.append(` · ${n("This scanner calls more often than once a day.", "This scanner calls more often than {count} times a day.", calls.budget)}`);
  return words.length ? box : null;
}

function cardNode(card) {
  const node = make("article", card.alarms.length ? "card calls" : "card");
  node.dataset.scanner = card.scanner;
  const header = make("header");
  const name = make("h2");
  if (wanted) name.append(make("bdi", "", card.scanner));
  else {
    const link = own("a", "", card.scanner);
    link.href = `/live?scanner=${encodeURIComponent(card.scanner)}`;
    name.append(link);
  }
  header.append(name, make("span", "last-known", t("last known")), ageNode(card.newest.at));
  node.append(header, ...card.alarms.map(alarmNode));
  // a newest series that calls is shown once
  if (!card.alarms.some((alarm) => alarm.series === card.newest.series)) node.append(entryNode(card.newest));
  for (const sentence of card.scanner_notes) if (!card.newest.measured.includes(sentence)) node.append(unusual(sentence, "of-scanner"));
  if (card.recent.length) node.append(stripNode(card.recent));
  const calls = callsNode(card.calls);
  if (calls) node.append(calls);
  return node;
}

const sameCard = (a, b) => JSON.stringify({ ...a, now: 0 }) === JSON.stringify({ ...b, now: 0 });

function take(card) {
  const before = cards.get(card.scanner);
  if (before && sameCard(before.card, card)) return before.card;
  cards.set(card.scanner, { card, node: cardNode(card) });
  return before?.card;
}

function draw() {
  const order = [...cards.values()].sort((a, b) => (b.card.alarms.length > 0) - (a.card.alarms.length > 0) || a.card.scanner.localeCompare(b.card.scanner));
  const nodes = order.map((one) => one.node);
  const box = byId("cards");
  const focused = document.activeElement?.dataset?.key;
  if (nodes.length !== box.children.length || nodes.some((node, i) => node !== box.children[i])) box.replaceChildren(...nodes);
  if (focused && !document.activeElement?.dataset?.key) box.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
  byId("loading").hidden = true;
  byId("no-cards").hidden = order.length > 0;
  const open = order.reduce((sum, one) => sum + one.card.alarms.length, 0);
  document.title = `${open ? `(${open.toLocaleString()}) ` : ""}${t("Board")} · qc-node`;
}

function notice(text) {
  byId("notice").textContent = text;
  byId("notice").hidden = !text;
}

const spoken = (scanner, alarm) => [`${scanner}: ${KINDS[alarm.kind]?.() ?? ""}.`, `${alarm.words.headline}.`, alarm.sentence || alarm.words.detail, actionOf(alarm)].filter(Boolean).join(" ");

// -- the connection ---------------------------------------------------------------------------------
function signIn() { location.assign(`/sign-in?next=${encodeURIComponent(location.pathname + location.search)}`); }

function heard() {
  heardAt = Date.now();
  lostAt = null;
  byId("cut").hidden = true;
  document.body.classList.remove("is-cut");
  byId("live-says").textContent = t("Live");
}

function showCut() {
  if (lostAt === null || Date.now() - lostAt < GRACE_MS || document.body.classList.contains("is-cut")) return;
  document.body.classList.add("is-cut");
  byId("live-says").textContent = t("Not connected");
  byId("cut").textContent = t("No connection to the node since {time}. New series and calls are not shown; what you see is what was last known.", { time: clock(heardAt / 1000 + offset) });
  byId("cut").hidden = false;
}

async function again() { // a stream that the browser has given up, or that is silent
  connect();
  try {
    await call("GET", `/api/board${where}`);
  } catch (error) {
    if (error.status === 401) signIn();
  }
}

function connect() {
  source?.close();
  source = new EventSource(`/live/events${where}`);
  source.addEventListener("hello", (event) => {
    heard();
    const all = JSON.parse(event.data);
    offset = all.now - Date.now() / 1000;
    notice(all.notice ?? "");
    const names = new Set(all.cards.map((card) => card.scanner));
    for (const name of [...cards.keys()]) if (!names.has(name)) cards.delete(name);
    all.cards.forEach(take);
    draw();
  });
  source.addEventListener("card", (event) => {
    heard();
    const card = JSON.parse(event.data);
    offset = card.now - Date.now() / 1000;
    const known = new Set((take(card)?.alarms ?? []).map((alarm) => alarm.id));
    const fresh = card.alarms.filter((alarm) => !known.has(alarm.id));
    if (fresh.length) byId("loud").textContent = fresh.map((alarm) => spoken(card.scanner, alarm)).join(" ");
    draw();
  });
  source.addEventListener("notice", (event) => { heard(); notice(JSON.parse(event.data).text); });
  source.addEventListener("beat", heard);
  source.onerror = () => { lostAt ??= Date.now(); };
}

connect();
let triedAt = 0;
setInterval(() => {
  for (const span of document.querySelectorAll(".age")) span.textContent = age(now() - Number(span.dataset.at));
  if (Date.now() - heardAt > SILENT_MS) lostAt ??= heardAt;
  showCut();
  const stuck = source.readyState === EventSource.CLOSED || Date.now() - heardAt > SILENT_MS;
  if (stuck && Date.now() - triedAt > 5000) { triedAt = Date.now(); again(); }
}, 1000);
