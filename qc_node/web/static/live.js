// The technologist board: one card per scanner; what calls for attention stays until somebody acknowledges it.
import { advice, age, byId, call, make } from "./common.js";

const cards = new Map();
let offset = 0; // the node's clock minus this one's, in seconds

const now = () => Date.now() / 1000 + offset;

function ageNode(at) {
  const span = make("span", "soft small age", age(now() - at));
  span.dataset.at = at;
  return span;
}

function entryNode(series) {
  const box = make("div", `entry ${series.words.tone}-tone`);
  if (series.picture) {
    const img = make("img", "picture");
    img.src = series.picture;
    img.alt = "mid-plane of this series";
    img.onerror = () => img.replaceWith(make("div", "no-picture", series.words.shape));
    box.append(img);
  } else {
    box.append(make("div", "no-picture", series.words.shape));
  }
  const text = make("div", "text");
  const head = make("p", "head");
  const shape = make("span", "shape", series.words.shape);
  shape.setAttribute("aria-hidden", "true");
  head.append(shape, make("span", "", series.words.headline));
  text.append(head);
  text.append(...advice(series.words));
  for (const sentence of [...series.missing, ...series.notes]) text.append(make("p", "warning", sentence));
  text.append(make("p", "soft small", `${series.description} · ${series.images} image${series.images === 1 ? "" : "s"}`));
  box.append(text);
  return box;
}

function alarmNode(alarm) {
  const box = make("section", "alarm");
  const callRow = make("div", "call");
  const what = make("span", "", "Needs a look · ");
  what.append(ageNode(alarm.at));
  const button = make("button", "", "Acknowledge");
  button.type = "button";
  button.onclick = async () => {
    button.disabled = true;
    try {
      await call("POST", `/api/alarms/${alarm.id}/acknowledge`);
    } catch (error) {
      button.disabled = false;
      if (error.status === 401) location.assign("/sign-in?next=/live");
      else if (error.status !== 404) button.textContent = "Not saved, try again";
    }
  };
  callRow.append(what, button);
  box.append(callRow, entryNode(alarm));
  return box;
}

function cardNode(card) {
  const node = make("article", card.alarms.length ? "card calls" : "card");
  node.dataset.scanner = card.scanner;
  const header = make("header");
  header.append(make("b", "", card.scanner), ageNode(card.newest.at));
  node.append(header, ...card.alarms.map(alarmNode));
  // An alarm that is itself the newest series is shown once.
  const same = card.alarms.some((a) => a.at >= card.newest.at && a.description === card.newest.description && a.words.headline === card.newest.words.headline);
  if (!same) node.append(entryNode(card.newest));
  return node;
}

const spoken = (scanner, words) => [`${scanner}: ${words.headline}.`, words.detail, words.sure && `${words.sure}.`, words.action].filter(Boolean).join(" ");

function draw() {
  const order = [...cards.values()].sort((a, b) => (b.alarms.length > 0) - (a.alarms.length > 0) || a.scanner.localeCompare(b.scanner));
  const focused = document.activeElement?.closest?.(".card")?.dataset.scanner;
  byId("cards").replaceChildren(...order.map(cardNode));
  if (focused) document.querySelector(`.card[data-scanner="${CSS.escape(focused)}"] button`)?.focus();
  byId("no-cards").hidden = order.length > 0;
  const open = order.reduce((n, c) => n + c.alarms.length, 0);
  document.title = `${open ? `(${open}) ` : ""}Board · qc-node`;
}

function notice(text) {
  byId("notice").textContent = text;
  byId("notice").hidden = !text;
}

const source = new EventSource("/live/events");
source.addEventListener("hello", (event) => {
  cards.clear();
  const all = JSON.parse(event.data);
  notice(all.notice ?? "");
  for (const card of all.cards) { cards.set(card.scanner, card); offset = card.now - Date.now() / 1000; }
  byId("live-says").textContent = "Live";
  draw();
});
source.addEventListener("card", (event) => {
  const card = JSON.parse(event.data);
  const before = cards.get(card.scanner)?.alarms.length ?? 0;
  cards.set(card.scanner, card);
  offset = card.now - Date.now() / 1000;
  if (card.alarms.length > before) byId("loud").textContent = spoken(card.scanner, card.alarms.at(-1).words);
  draw();
});
source.addEventListener("notice", (event) => notice(JSON.parse(event.data).text));
source.onerror = () => { byId("live-says").textContent = "No connection; the board shows what was last known."; };
setInterval(() => { for (const span of document.querySelectorAll(".age")) span.textContent = age(now() - Number(span.dataset.at)); }, 1000);
