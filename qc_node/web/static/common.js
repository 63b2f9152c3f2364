// Small helpers of every page. Text reaches the page through textContent only, never as markup.
export const byId = (id) => document.getElementById(id);

export function make(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined && text !== null) node.textContent = text;
  return node;
}

export function age(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return s < 5 ? "just now" : `${s} s ago`;
  if (s < 3600) return `${Math.floor(s / 60)} min ago`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min ago`;
  return `${Math.floor(s / 86400)} d ago`;
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
