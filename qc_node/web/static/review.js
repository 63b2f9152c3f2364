// The analyst page: pictures, claimed against found, confirm or correct by keyboard.
import { advice, age, byId, call, keyIsTaken, make } from "./common.js";

const box = byId("rows");
let rows = [];
let at = 0;
let only = "all";

const PRETTY = { yes: "yes", no: "no", abdomen_pelvis: "abdomen and pelvis" };
const pretty = (value) => PRETTY[value] ?? value ?? "undetermined";

function matches(row) {
  if (only === "warnings" && ![...row.warnings, ...row.missing, ...row.notes].length) return false;
  if (only === "open" && row.reviewed) return false;
  const words = byId("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const text = [row.scanner, row.modality, row.claimed, row.ordered, row.words.headline, row.words.detail, row.words.sure, row.words.action, ...row.warnings, ...row.missing, ...row.notes].join(" ").toLowerCase();
  return words.every((w) => text.includes(w));
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

function answersNode(row) {
  const list = make("dl", "answers");
  for (const a of row.answers) {
    if (a.found === null && a.label === null && row.words.attention && a.question !== "straight_reject") continue;
    const dd = make("dd", "", pretty(a.found));
    if (a.probability !== null && a.probability !== undefined) dd.append(make("span", "soft small", ` ${Math.round(100 * a.probability)} %`));
    if (a.label !== null) dd.append(make("span", a.label === a.found ? "label same" : "label", a.label === a.found ? " ✓ confirmed" : ` ✎ ${pretty(a.label)}`));
    list.append(make("dt", "", a.name), dd);
  }
  return list;
}

function rowNode(row) {
  const node = make("article", `row ${row.words.tone}-tone`);
  node.dataset.id = row.id;
  node.tabIndex = -1;
  const pictures = make("div", "row-pictures");
  pictures.append(strip(row.mid, "mid-plane"), strip(row.mip, "MIP"));
  if (!row.mid.length && !row.mip.length) pictures.append(make("div", "no-picture", row.words.shape));
  const text = make("div", "row-text");
  const head = make("p", "head");
  const shape = make("span", "shape", row.words.shape);
  shape.setAttribute("aria-hidden", "true");
  head.append(shape, make("span", "", row.words.headline));
  text.append(head);
  // the warnings have lines of their own
  text.append(...advice(row.words, row.warnings.reduce((rest, w) => rest.replace(w, ""), row.words.detail).trim()));
  for (const w of [...row.warnings, ...row.missing, ...row.notes]) text.append(make("p", "warning", w));
  const claims = make("dl", "claims");
  if (row.claimed) claims.append(make("dt", "", "Claimed"), make("dd", "", row.claimed));
  if (row.ordered) claims.append(make("dt", "", "Ordered"), make("dd", "", row.ordered));
  text.append(claims, make("p", "soft small", `${row.scanner} · ${row.modality} · ${row.images} images · ${age(Date.now() / 1000 - row.at)}`));
  const side = make("div", "row-side");
  side.append(answersNode(row));
  if (box.dataset.reader) {
    const tools = make("div", "tools");
    const yes = make("button", "quiet", row.reviewed ? "Reviewed" : "Confirm");
    yes.type = "button";
    yes.disabled = row.reviewed || row.answers.every((a) => a.found === null);
    yes.onclick = () => confirmRow(row);
    const edit = make("button", "quiet", "Correct");
    edit.type = "button";
    edit.onclick = () => editRow(row);
    tools.append(yes, edit);
    side.append(tools);
  }
  node.append(pictures, text, side);
  node.addEventListener("focusin", () => select(node, false));
  node.addEventListener("click", () => select(node, false));
  return node;
}

function draw() {
  const keep = box.querySelector(".row.current")?.dataset.id;
  const shown = rows.filter(matches);
  box.replaceChildren(...shown.map(rowNode));
  byId("no-rows").hidden = shown.length > 0;
  byId("review-says").textContent = `${shown.length} of ${rows.length} series`;
  const nodes = [...box.children];
  at = Math.max(0, nodes.findIndex((n) => n.dataset.id === keep));
  nodes[at]?.classList.add("current");
}

function select(node, focus = true) {
  const nodes = [...box.children];
  if (!node) return;
  for (const n of nodes) n.classList.toggle("current", n === node);
  at = nodes.indexOf(node);
  if (focus) { node.focus({ preventScroll: true }); node.scrollIntoView({ block: "nearest" }); }
}

const current = () => rows.find((r) => String(r.id) === box.children[at]?.dataset.id);

async function save(row, labels) {
  if (!Object.keys(labels).length) return false;
  try {
    const answer = await call("POST", `/api/verdicts/${row.id}/labels`, { labels });
    for (const a of row.answers) if (labels[a.question] !== undefined) { a.label = labels[a.question]; a.labelled_by = answer.labelled_by; }
    row.reviewed = row.answers.some((a) => a.label !== null) && row.answers.every((a) => a.found === null || a.label !== null);
    byId("review-says").textContent = "Saved.";
    return true;
  } catch (error) {
    byId("review-says").textContent = error.status === 401 ? "Sign in to confirm or correct." : error.status === 0 ? "The network is cut; not saved." : error.message;
    return false;
  }
}

async function confirmRow(row) {
  const labels = Object.fromEntries(row.answers.filter((a) => a.found !== null).map((a) => [a.question, a.label ?? a.found]));
  const next = box.children[at + 1]?.dataset.id;
  if (!(await save(row, labels))) return;
  draw();
  select([...box.children].find((n) => n.dataset.id === next) ?? box.children[at]);
}

function editRow(row) {
  const node = [...box.children].find((n) => n.dataset.id === String(row.id));
  select(node, false);
  const form = make("form", "edit");
  for (const a of row.answers) {
    const label = make("label", "", a.name);
    const choice = make("select");
    choice.name = a.question;
    choice.append(new Option("—", ""));
    for (const c of a.choices) choice.append(new Option(pretty(c), c, false, c === (a.label ?? a.found)));
    label.append(choice);
    form.append(label);
  }
  const ok = make("button", "main", "Save");
  const no = make("button", "quiet", "Cancel");
  no.type = "button";
  no.onclick = () => { draw(); select(box.children[at]); };
  const tools = make("div", "tools");
  tools.append(ok, no);
  form.append(tools);
  form.onsubmit = async (event) => {
    event.preventDefault();
    const labels = Object.fromEntries([...new FormData(form)].filter(([, v]) => v));
    if (await save(row, labels)) { draw(); select(box.children[at]); }
  };
  form.onkeydown = (event) => {
    if (event.key === "Escape") no.onclick();
    if (event.key === "Enter") { event.preventDefault(); form.requestSubmit(); }
  };
  node.querySelector(".row-side").replaceChildren(form);
  form.querySelector("select").focus();
}

async function load() {
  try {
    rows = (await call("GET", "/api/review")).rows;
    draw();
  } catch (error) {
    byId("review-says").textContent = error.status === 401 ? "Sign in first." : "The list could not be loaded.";
  }
}

byId("filter").addEventListener("input", draw);
for (const chip of document.querySelectorAll(".chip")) chip.addEventListener("click", () => {
  only = chip.dataset.only;
  for (const c of document.querySelectorAll(".chip")) c.setAttribute("aria-pressed", String(c === chip));
  draw();
});
byId("filter").addEventListener("keydown", (event) => { if (event.key === "Escape" || event.key === "Enter") { event.target.blur(); select(box.children[0]); } });

document.addEventListener("keydown", (event) => {
  if (keyIsTaken(event)) return;
  const key = event.key.toLowerCase();
  if (key === "arrowdown" || key === "j") select(box.children[Math.min(at + 1, box.children.length - 1)]);
  else if (key === "arrowup" || key === "k") select(box.children[Math.max(at - 1, 0)]);
  else if (key === "/") byId("filter").focus();
  else if (key === "y" && current() && !event.repeat) confirmRow(current());
  else if (key === "e" && current() && box.dataset.reader) editRow(current());
  else return;
  event.preventDefault();
});

new EventSource("/live/events").addEventListener("card", () => { if (!box.querySelector("form")) load(); });
load();
