// Small helpers of every page. Text reaches the page through textContent only, never as markup.
// What the page says, in its language. The English text is the key; {name} in it is replaced by a value.
const texts = JSON.parse(document.getElementById("texts")?.textContent ?? "{}");
const filled = (text, values) => text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));

export const t = (text, values = {}) => filled(texts[text] ?? text, values);

// One or many: {count} is the number as the reader's browser writes it.
export function n(one, many, count, values = {}) {
  const forms = texts[one] ?? [one, many];
  return filled(count === 1 ? forms[0] : forms.at(-1), { count: count.toLocaleString(), ...values });
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
    throw new Failed(0, "no answer");
  }
  const data = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Failed(answer.status, data.detail || `error ${answer.status}`);
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
