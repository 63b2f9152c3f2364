// Small helpers of every page. Text reaches the page through textContent only, never as markup.
// What the page says, in its language. The English text is the key; {name} in it is replaced by a value.
const texts = JSON.parse(document.getElementById("texts")?.textContent ?? "{}");
const filled = (text, values) => text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));

export const t = (text, values = {}) => filled(texts[text] ?? text, values);

// One or many: {count} is the number as the reader's browser writes it.  The forms of a catalogue stand in the order
// of CLDR, as pybabel lays them out; a language may have up to six.
const ORDER = ["zero", "one", "two", "few", "many", "other"];
const plural = new Intl.PluralRules(document.documentElement.lang);
const categories = ORDER.filter((category) => plural.resolvedOptions().pluralCategories.includes(category));

export function n(one, many, count, values = {}) {
  const forms = texts[one] ?? [one, many];
  const at = Math.min(categories.indexOf(plural.select(count)), forms.length - 1);
  return filled(forms[at], { count: count.toLocaleString(), ...values });
}

export const byId = (id) => document.getElementById(id);

export function make(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined && text !== null) node.textContent = text;
  return node;
}

export function age(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return s < 5 ? t("just now") : t("{s} s ago", { s });
  if (s < 3600) return t("{min} min ago", { min: Math.floor(s / 60) });
  if (s < 86400) return t("{h} h {min} min ago", { h: Math.floor(s / 3600), min: Math.floor((s % 3600) / 60) });
  return t("{d} d ago", { d: Math.floor(s / 86400) });
}

export function clock(epoch) {
  return new Date(epoch * 1000).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}

// Numbers as the reader's browser writes them; a share in [0, 1] as per cent.
export const figure = (value, digits = 0) => value.toLocaleString(undefined, { minimumFractionDigits: digits, maximumFractionDigits: digits });
export const share = (value, digits = 0) => value.toLocaleString(undefined, { style: "percent", minimumFractionDigits: digits, maximumFractionDigits: digits });

// Text from a header, an order or a person may run from right to left: a node of its own (bdi), or, inside of a
// sentence or an attribute, between U+2068 and U+2069.  Neither changes the order of what stands around it.
export const foreign = (text, className) => make("bdi", className, text);
export const isolated = (text) => `\u2068${text}\u2069`;

// A time as an element: the moment, or how long ago with the moment in its title.
export function moment(epoch, className) {
  const node = make("time", className, clock(epoch));
  node.dateTime = new Date(epoch * 1000).toISOString();
  return node;
}

export function ago(epoch, now = Date.now() / 1000, className = undefined) {
  const node = moment(epoch, className);
  node.title = node.textContent;
  node.textContent = age(now - epoch);
  return node;
}

// The band at the top of the page that says that nothing comes in any more; no text takes it away.
// What the page shows meanwhile is old, and looks so (.stale on main).
export function cut(text) {
  const band = byId("cut");
  if ((band.textContent || "") !== (text ?? "")) band.textContent = text ?? "";
  band.hidden = !text;
  byId("main").classList.toggle("stale", Boolean(text));
}

// While the first answer is on its way: a line in the place of what will come.
export function loading(node, on = true) {
  node.setAttribute("aria-busy", String(on));
  node.querySelector(":scope > .loading")?.remove();
  if (on) node.prepend(make("p", "loading", t("Loading …")));
}

export class Failed extends Error {
  constructor(status, detail) { super(detail); this.status = status; }
}

// status 0 means that nobody answered: the network is cut, or the node is being restarted.
export async function call(method, address, body) {
  let answer;
  try {
    answer = await fetch(address, {
      method, credentials: "same-origin", cache: "no-store",
      headers: body === undefined ? {} : { "content-type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: AbortSignal.timeout(8000),
    });
  } catch {
    throw new Failed(0, t("The node does not answer."));
  }
  const data = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Failed(answer.status, data.detail || t("Error {status}.", { status: answer.status }));
  return data;
}

// True when a key belongs to a text field or to the browser, not to the page.
export function keyIsTaken(event) {
  const field = event.target.closest?.("input, select, textarea");
  return event.ctrlKey || event.metaKey || event.altKey || event.isComposing || Boolean(field);
}

// What is under a headline: details, how sure the machine is, and what to do.
export function advice(words, detail = words.detail) {
  const lines = [];
  if (detail) lines.push(make("p", "", detail));
  if (words.sure) lines.push(make("p", "sure soft small", words.sure));
  if (words.action) lines.push(make("p", "action", words.action));
  return lines;
}

// What was measured and is not as usual: it informs, so it looks milder than a warning.
export function unusual(sentence, more = "") {
  const line = make("p", `unusual ${more}`);
  const shape = make("span", "shape", "◆");
  shape.setAttribute("aria-hidden", "true");
  line.append(shape, make("bdi", "", sentence));
  return line;
}
