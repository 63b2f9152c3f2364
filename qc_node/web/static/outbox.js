// Votes that have not been acknowledged by the node.  Each is written to localStorage before it is sent, one
// item per vote, so that a cut network, a closed window or a second window loses or doubles none: the node
// knows a vote by its key.  Only opaque names are kept here, no accession number.
import { call, Failed } from "./common.js";

const PREFIX = "qc-node-vote:";
const REFUSED = "qc-node-refused:";

function newKey() {
  // crypto.randomUUID needs https; this does not.
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");
}

export class Outbox {
  constructor(reader, on) {
    this.reader = reader;
    this.on = on;
    this.wait = 500;
    this.busy = false;
    this.own = new Set(); // keys pressed in this window
    addEventListener("online", () => this.soon(0));
    addEventListener("storage", (e) => { if (e.key === null || e.key.startsWith(PREFIX)) this.on.count(this.waiting().length); });
  }

  waiting() {
    const found = [];
    for (let i = 0; i < localStorage.length; i += 1) {
      const name = localStorage.key(i);
      if (!name.startsWith(PREFIX)) continue;
      try {
        const vote = JSON.parse(localStorage.getItem(name));
        if (vote.reader === this.reader) found.push(vote);
      } catch { /* another program's item */ }
    }
    return found.sort((a, b) => a.pressed_at - b.pressed_at || a.order - b.order);
  }

  // Whether a key pressed in this window is still on its way for this study.
  pending(handle) {
    return this.waiting().some((v) => v.case === handle && this.own.has(v.key));
  }

  // `to` is where it is sent; `said` in it stays here: what the page says once the node has it.
  put(vote, to) {
    const entry = { ...vote, to, key: newKey(), reader: this.reader, pressed_at: Date.now(), order: performance.now() };
    this.own.add(entry.key);
    localStorage.setItem(PREFIX + entry.key, JSON.stringify(entry));
    this.on.count(this.waiting().length);
    this.soon(0);
    return entry.key;
  }

  soon(ms) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.flush(), ms);
  }

  async flush() {
    if (this.busy) return;
    this.busy = true;
    try {
      for (let next = this.waiting()[0]; next; next = this.waiting()[0]) {
        const { pressed_at, order, to, said, ...body } = next;
        try {
          const answer = await call("POST", to ?? "/api/votes", { ...body, age_ms: Math.max(0, Date.now() - pressed_at) });
          localStorage.removeItem(PREFIX + next.key);
          this.wait = 500;
          this.on.sent(next, answer);
        } catch (error) {
          if (!(error instanceof Failed)) throw error;
          if (error.status === 401) { this.on.signIn(); return; }
          if ([0, 408, 425, 429].includes(error.status) || error.status >= 500) {
            this.on.cut();
            this.soon(this.wait);
            this.wait = Math.min(15000, this.wait * 2);
            return;
          }
          // The node will never take this one: keep it out of the way, and say so.
          localStorage.setItem(REFUSED + next.key, JSON.stringify({ ...next, why: error.message }));
          localStorage.removeItem(PREFIX + next.key);
          for (const later of this.waiting()) if (later.of === next.key) localStorage.removeItem(PREFIX + later.key);
          this.on.refused(next, error.message);
        }
        this.on.count(this.waiting().length);
      }
    } finally {
      this.busy = false;
      this.on.count(this.waiting().length);
    }
  }
}
