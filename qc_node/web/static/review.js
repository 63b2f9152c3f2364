// The analyst page: any series by any name, pictures, claimed against found, confirm or correct by keyboard.
// A search is a POST: an accession number or a UID is never part of an address.
import { advice, age, byId, call, clock, keyIsTaken, make, n, t, unusual } from "./common.js";
import { openViewer } from "./review_viewer.js";

const PAGE = 50;
const ROUNDS = 30; // stretches that are looked through for one page, before somebody must ask for more
const box = byId("rows");
const form = byId("search");
const rows = new Map(); // by number of the series, in the order of the page
const fresh = new Set(); // wanted series that came since
let only = "all";
let next = null;
let known = { total: 0, moreThan: false };
let asked = 0; // which search is the newest
let searching = false;

const WORDS = { yes: () => t("yes"), no: () => t("no"), abdomen_pelvis: () => t("abdomen and pelvis") };
const pretty = (value) => (value === null || value === undefined ? t("undetermined") : WORDS[value]?.() ?? value);
const say = (text) => { byId("review-says").textContent = text; };
const nodes = () => [...box.children];
const nodeOf = (series) => box.querySelector(`[data-series="${series}"]`);
const currentNode = () => box.querySelector(".row.current");
const current = () => rows.get(Number(currentNode()?.dataset.series));

// -- what is looked for --------------------------------------------------------------------------------------------
function day(value, after = 0) {
  const [year, month, date] = value.split("-").map(Number);
  return new Date(year, month - 1, date + after).getTime() / 1000;
}

function wanted() {
  const said = Object.fromEntries([...new FormData(form)].filter(([, value]) => value.trim()));
  if (said.since) said.since = day(said.since);
  if (said.until) said.until = day(said.until, 1);
  return { ...said, show: only };
}

function count() {
  const shown = rows.size;
  if (known.moreThan) return t("{shown} of more than {total} series", { shown: shown.toLocaleString(), total: Math.max(shown, known.total).toLocaleString() });
  return n("{shown} of {count} series", "{shown} of {count} series", Math.max(shown, known.total), { shown: shown.toLocaleString() });
}

// One page; a rare word may need several answers, each of which looks further back.
async function more() {
  const mine = ++asked;
  const first = rows.size === 0;
  searching = true;
  byId("further").hidden = true;
  let shown = 0;
  try {
    for (let round = 0; round < ROUNDS && shown < PAGE; round++) {
      const answer = await call("POST", "/api/review/search", { ...wanted(), after: next, limit: PAGE - shown });
      if (mine !== asked) return;
      known = { total: rows.size + answer.total, moreThan: answer.more_than };
      next = answer.next;
      shown += answer.rows.length;
      append(answer.rows);
      if (next === null) break;
      if (answer.back_to !== null && shown < PAGE) say(t("{count} · looked back to {when}", { count: count(), when: clock(answer.back_to) }));
    }
    if (next === null || shown >= PAGE) say(count());
    if (first && !currentNode()) select(box.firstElementChild, false);
  } catch (error) {
    if (mine !== asked) return;
    say(error.status === 401 ? t("Sign in first.") : error.status === 0 ? t("The network is cut. Search again.") : error.message);
  } finally {
    if (mine === asked) {
      searching = false;
      byId("further").hidden = next === null;
      byId("no-rows").hidden = rows.size > 0 || next !== null;
      byId("no-rows").textContent = Object.keys(wanted()).length > 1 || only !== "all" ? t("No series fits this search.") : t("No series has come yet.");
    }
  }
}

function search() {
  rows.clear();
  box.replaceChildren();
  next = null;
  fresh.clear();
  drawFresh();
  say(t("Searching …"));
  return more();
}

let typing = 0;
function soon() {
  clearTimeout(typing);
  typing = setTimeout(search, 300);
}

// -- rows ----------------------------------------------------------------------------------------------------------
function append(found) {
  for (const row of found) {
    if (rows.has(row.series)) continue; // it got another image meanwhile and moved
    rows.set(row.series, row);
    box.append(rowNode(row));
  }
}

function strip(pictures, name) {
  const div = make("div", "strip");
  for (const p of pictures) {
    const img = make("img");
    img.src = p.src;
    img.alt = `${p.view.replace(/[-_]?mip[-_]?/, "")} ${name}`;
    img.loading = "lazy";
    img.onerror = () => img.remove();
    div.append(img);
  }
  if (pictures.length) div.append(make("span", "soft small", name));
  return div;
}

function picturesNode(row) {
  const open = make("button", "row-pictures");
  open.type = "button";
  open.dataset.act = "pictures";
  open.setAttribute("aria-label", t("Open the pictures"));
  if (row.mid.length || row.mip.length) open.append(strip(row.mid, t("mid-plane")), strip(row.mip, "MIP"));
  else open.append(make("span", "no-picture", row.words.shape));
  open.onclick = () => show(row);
  return open;
}

async function copy(text, button) {
  const before = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // no clipboard without https: the old way
    const field = make("textarea", "visually-hidden");
    field.value = text;
    button.after(field);
    field.select();
    document.execCommand("copy");
    field.remove();
    button.focus();
  }
  button.textContent = t("Copied");
  setTimeout(() => { button.textContent = before; }, 1500);
}

// A name in short form: the whole of it is in the page, can be selected, and is what is copied.
function named(label, value) {
  const dd = make("dd");
  const text = make("bdi", "uid mono", value);
  text.title = value;
  const button = make("button", "copy", t("Copy"));
  button.type = "button";
  button.dataset.act = `copy ${label}`;
  button.setAttribute("aria-label", t("Copy {what}", { what: label }));
  button.onclick = () => copy(value, button);
  dd.append(text, button);
  const pair = make("div");
  pair.append(make("dt", "", label), dd);
  return pair;
}

function namesNode(row) {
  const list = make("dl", "names");
  if (row.accession_number) list.append(named(t("Accession"), row.accession_number));
  list.append(named(t("Study"), row.study_uid), named(t("Series"), row.series_uid));
  return list;
}

function answersNode(row) {
  const list = make("dl", "answers");
  for (const a of row.answers) {
    if (a.found === null && a.label === null && row.words.attention && a.question !== "straight_reject") continue;
    const dd = make("dd", "", pretty(a.found));
    if (a.probability !== null && a.probability !== undefined) dd.append(make("span", "soft small", ` ${Math.round(100 * a.probability)} %`));
    if (a.label !== null) dd.append(make("span", a.label === a.found ? "label same" : "label", a.label === a.found ? ` ✓ ${t("confirmed")}` : ` ✎ ${pretty(a.label)}`));
    list.append(make("dt", "", a.name), dd);
  }
  return list;
}

// -- what was measured ---------------------------------------------------------------------------------------------
const opened = new Set(); // series whose table is open: it stays so when the row is drawn anew

const COMPARED = {
  usual: () => `● ${t("usual")}`,
  high: () => `▲ ${t("high")}`,
  low: () => `▼ ${t("low")}`,
  unusual: () => `◆ ${t("unusual")}`,
  drift: () => `◆ ${t("drifts")}`,
};

function measureLine(line) {
  const row = make("tr", line.word === "unusual" || line.word === "drift" ? "is-unusual" : "");
  const name = make("th", "", line.title);
  name.scope = "row";
  row.append(name, make("td", "number", [line.value, line.unit].filter(Boolean).join(" ")), make("td", "", COMPARED[line.word]?.() ?? line.word), make("td", "number", line.usual), make("td", "number", line.z));
  return row;
}

function measureTable(found) {
  const box = make("div", "scroll");
  box.tabIndex = 0; // wider than a narrow window: arrows scroll it
  box.setAttribute("role", "region");
  box.setAttribute("aria-label", t("Measures"));
  if (found.lacking) box.append(make("p", "soft small", found.lacking));
  if (found.rows.length) {
    const table = make("table", "table measures");
    const head = make("tr");
    for (const [text, kind] of [[t("Measure"), ""], [t("Value"), "number"], [t("Compared"), ""], [t("Usual here"), "number"], [t("Spreads"), "number"]]) {
      const cell = make("th", kind, text);
      cell.scope = "col";
      head.append(cell);
    }
    const top = make("thead");
    top.append(head);
    const body = make("tbody");
    body.append(...found.rows.map(measureLine));
    table.append(top, body);
    box.append(table);
  }
  for (const one of found.unmeasured) box.append(make("p", "soft small", [one.title, one.sentence].filter(Boolean).join(": ")));
  return box;
}

async function fill(box, series) {
  try {
    box.replaceWith(measureTable(await call("GET", `/api/measures/${series}`)));
  } catch (error) {
    box.classList.replace("fetching", "unread");
    box.textContent = error.status === 0 ? t("The network is cut. Open it again.") : error.message;
  }
}

function measuredNodes(row) {
  if (!row.measured) return [];
  const { count, sentence } = row.measured;
  const lines = [...row.measured.findings, ...row.measured.unusual, ...row.measured.departures].map((said) => unusual(said));
  if (!count) return sentence ? [...lines, make("p", "soft small", sentence)] : lines;
  const details = make("details", "measured");
  const summary = make("summary", "", n("{count} measure", "{count} measures", count));
  summary.dataset.act = "measures";
  details.append(summary);
  details.addEventListener("toggle", () => {
    if (details.open) opened.add(row.series); else opened.delete(row.series);
    if (!details.open || details.querySelector(".scroll, .fetching")) return;
    details.querySelector(".unread")?.remove(); // it said to open it again
    const box = make("p", "soft small fetching", t("Loading …"));
    details.append(box);
    fill(box, row.series);
  });
  details.open = opened.has(row.series);
  return [...lines, details];
}

function textNode(row) {
  const text = make("div", "row-text");
  const head = make("h2", "head");
  const shape = make("span", "shape", row.words.shape);
  shape.setAttribute("aria-hidden", "true");
  head.append(shape, make("span", "", row.words.headline));
  text.append(head);
  // the warnings have lines of their own
  text.append(...advice(row.words, row.warnings.reduce((rest, w) => rest.replace(w, ""), row.words.detail).trim()));
  for (const w of [...row.warnings, ...row.missing, ...row.notes]) text.append(make("p", "warning", w));
  text.append(...measuredNodes(row));
  const claims = make("dl", "claims");
  const line = (name, value) => { const dd = make("dd"); dd.append(make("bdi", "", value)); claims.append(make("dt", "", name), dd); };
  if (row.claimed) line(t("Claimed"), row.claimed);
  if (row.ordered) line(t("Ordered"), row.ordered);
  const source = make("p", "soft small");
  source.append(make("bdi", "", row.scanner), ` · ${row.modality} · `, ...(row.description && !row.claimed ? [make("bdi", "", row.description), " · "] : []),
    n("{count} image", "{count} images", row.images), " · ");
  const when = make("time", "", age(Date.now() / 1000 - row.at));
  when.dateTime = new Date(row.at * 1000).toISOString();
  when.title = clock(row.at);
  source.append(when);
  text.append(claims, source, namesNode(row));
  return text;
}

function toolsNode(row) {
  const tools = make("div", "tools");
  const button = (act, text, onclick, disabled = false) => {
    const b = make("button", "quiet", text);
    b.type = "button";
    b.dataset.act = act;
    b.disabled = disabled;
    b.onclick = onclick;
    tools.append(b);
  };
  if (box.dataset.reader && row.answers.length) {
    button("confirm", row.reviewed ? t("Reviewed") : t("Confirm"), () => confirmRow(row), row.reviewed || row.answers.every((a) => a.found === null));
    button("correct", t("Correct"), () => editRow(row));
  }
  if (row.viewer) {
    const link = make("a", "quiet", t("Open in my viewer"));
    link.href = row.viewer;
    link.target = "_blank";
    link.rel = "noreferrer noopener";
    link.dataset.act = "viewer";
    tools.append(link);
  }
  return tools;
}

function rowNode(row) {
  const node = make("article", `row ${row.words.tone}-tone`);
  node.dataset.series = row.series;
  node.tabIndex = -1;
  const side = make("div", "row-side");
  side.append(answersNode(row), toolsNode(row));
  node.append(picturesNode(row), textNode(row), side);
  node.addEventListener("focusin", () => select(node, false));
  node.addEventListener("click", () => select(node, false));
  return node;
}

// Only this row changes; what had the focus has it again, and nothing above the reader's eye moves.
function redraw(row) {
  const old = nodeOf(row.series);
  rows.set(row.series, row);
  if (!old) return;
  if (old.querySelector("form")) { old.dataset.stale = "1"; return; } // somebody is typing: after that
  const focus = old.contains(document.activeElement) ? document.activeElement.dataset.act ?? "" : null;
  const here = currentNode();
  const top = here?.getBoundingClientRect().top;
  const node = rowNode(row);
  node.classList.toggle("current", old === here);
  old.replaceWith(node);
  if (focus !== null) (focus ? node.querySelector(`[data-act="${focus}"]:not(:disabled)`) ?? node : node).focus({ preventScroll: true });
  const moved = here && here !== old ? here.getBoundingClientRect().top - top : 0;
  if (moved) scrollBy(0, moved);
}

function select(node, focus = true) {
  if (!node) return;
  for (const other of nodes()) other.classList.toggle("current", other === node);
  if (focus) { node.focus({ preventScroll: true }); node.scrollIntoView({ block: "nearest" }); }
}

function step(by) {
  const all = nodes();
  const at = all.indexOf(currentNode());
  select(all[Math.max(0, Math.min(all.length - 1, at + by))]);
  if (by > 0 && at + by >= all.length - 1 && next !== null && !searching) more();
}

const show = (row) => openViewer(row, () => nodeOf(row.series)?.querySelector("[data-act=pictures]")?.focus());

// -- answers of people ---------------------------------------------------------------------------------------------
async function save(row, labels) {
  if (!Object.keys(labels).length) return false;
  try {
    const answer = await call("POST", `/api/verdicts/${row.id}/labels`, { labels });
    for (const a of row.answers) if (labels[a.question] !== undefined) { a.label = labels[a.question]; a.labelled_by = answer.labelled_by; }
    row.reviewed = row.answers.some((a) => a.label !== null) && row.answers.every((a) => a.found === null || a.label !== null);
    say(t("Saved."));
    return true;
  } catch (error) {
    say(error.status === 401 ? t("Sign in to confirm or correct.") : error.status === 0 ? t("The network is cut; not saved.") : error.message);
    return false;
  }
}

async function confirmRow(row) {
  const labels = Object.fromEntries(row.answers.filter((a) => a.found !== null).map((a) => [a.question, a.label ?? a.found]));
  if (!(await save(row, labels))) return;
  redraw(row);
  const here = nodeOf(row.series);
  if (here !== currentNode() || document.activeElement.matches("input, select, textarea")) return; // gone on meanwhile
  select(here.nextElementSibling ?? here);
}

function editRow(row) {
  const node = nodeOf(row.series);
  select(node, false);
  const edit = make("form", "edit");
  for (const a of row.answers) {
    const label = make("label", "", a.name);
    const choice = make("select");
    choice.name = a.question;
    choice.append(new Option("—", ""));
    for (const c of a.choices) choice.append(new Option(pretty(c), c, false, c === (a.label ?? a.found)));
    label.append(choice);
    edit.append(label);
  }
  const ok = make("button", "main", t("Save"));
  const no = make("button", "quiet", t("Cancel"));
  no.type = "button";
  const close = () => { edit.remove(); redraw(rows.get(row.series) ?? row); select(nodeOf(row.series)); };
  no.onclick = close;
  const tools = make("div", "tools");
  tools.append(ok, no);
  edit.append(tools);
  edit.onsubmit = async (event) => {
    event.preventDefault();
    const labels = Object.fromEntries([...new FormData(edit)].filter(([, v]) => v));
    if (await save(row, labels)) { rows.set(row.series, row); close(); }
  };
  edit.onkeydown = (event) => {
    if (event.key === "Escape") close();
    if (event.key === "Enter" && event.target.tagName === "SELECT") { event.preventDefault(); edit.requestSubmit(); }
  };
  node.querySelector(".row-side").replaceChildren(edit);
  edit.querySelector("select").focus();
}

// -- what changes meanwhile ----------------------------------------------------------------------------------------
const changed = new Set();
let waiting = 0;

function drawFresh() {
  const button = byId("fresh");
  button.hidden = fresh.size === 0;
  if (fresh.size) button.textContent = n("{count} new series: show", "{count} new series: show", fresh.size);
}

async function refresh() {
  const here = [...changed].filter((series) => rows.has(series));
  const new_ = [...changed].filter((series) => !rows.has(series));
  changed.clear();
  try {
    for (let i = 0; i < here.length; i += 500) {
      const answer = await call("POST", "/api/review/search", { numbers: here.slice(i, i + 500), limit: 500 });
      for (const row of answer.rows) redraw(row);
    }
    if (new_.length) {
      const answer = await call("POST", "/api/review/search", { ...wanted(), numbers: new_.slice(0, 500), limit: 500 });
      for (const row of answer.rows) if (!rows.has(row.series)) fresh.add(row.series);
      drawFresh();
    }
  } catch {
    // the connection is cut; all is asked for again when it is back
  }
}

function heard(series) {
  changed.add(series);
  clearTimeout(waiting);
  waiting = setTimeout(refresh, 400);
}

let before = false;
const events = new EventSource("/review/events");
events.addEventListener("series", (event) => heard(JSON.parse(event.data).series));
events.addEventListener("hello", async () => {
  if (before) {
    for (const series of rows.keys()) changed.add(series);
    const newest = await call("POST", "/api/review/search", { ...wanted(), limit: PAGE }).catch(() => ({ rows: [] }));
    const top = rows.values().next().value;
    for (const row of newest.rows) if (!rows.has(row.series) && (!top || row.series > top.series)) fresh.add(row.series);
    drawFresh();
    refresh();
    say(count());
  }
  before = true;
});
events.addEventListener("error", () => { if (before) say(t("The connection is cut; what you see may be old.")); });

// -- keys and buttons ----------------------------------------------------------------------------------------------
form.addEventListener("input", soon);
form.addEventListener("submit", (event) => { event.preventDefault(); clearTimeout(typing); search(); });
form.addEventListener("reset", () => {
  only = "all";
  for (const c of form.querySelectorAll(".chip")) c.setAttribute("aria-pressed", String(c.dataset.only === only));
  setTimeout(search);
});
for (const chip of form.querySelectorAll(".chip")) chip.addEventListener("click", () => {
  only = chip.dataset.only;
  for (const c of form.querySelectorAll(".chip")) c.setAttribute("aria-pressed", String(c === chip));
  search();
});
byId("filter").addEventListener("keydown", async (event) => {
  if (event.key !== "Escape" && event.key !== "Enter") return;
  event.preventDefault();
  clearTimeout(typing);
  event.target.blur();
  await search();
  select(box.firstElementChild);
});
byId("table").addEventListener("submit", () => { byId("table-search").value = JSON.stringify(wanted()); });
byId("further").addEventListener("click", more);
byId("fresh").addEventListener("click", async () => { await search(); scrollTo(0, 0); select(box.firstElementChild); });

document.addEventListener("keydown", (event) => {
  if (keyIsTaken(event) || byId("viewer").open) return;
  const key = event.key.toLowerCase();
  if (key === "arrowdown" || key === "j") step(1);
  else if (key === "arrowup" || key === "k") step(-1);
  else if (key === "/") byId("filter").focus();
  else if (key === "y" && current()?.answers.length && !event.repeat) confirmRow(current());
  else if (key === "e" && current()?.answers.length && box.dataset.reader) editRow(current());
  else if (key === "enter" && current() && event.target === currentNode()) show(current());
  else return;
  event.preventDefault();
});

async function offerScanners() {
  const { scanners } = await call("GET", "/api/review/filters").catch(() => ({ scanners: [] }));
  byId("scanners").replaceChildren(...scanners.map((name) => new Option(name, name)));
}
byId("more").addEventListener("toggle", offerScanners, { once: true });
byId("more").open = matchMedia("(min-width: 1200px)").matches;
search();
