// What the node has in hand. Rows keep their place and their focus while figures change; acts ask before they drop.
import { byId, call, cut, ago, figure, foreign, make, n, t } from "./common.js";

const EVERY_MS = 5000;
const acts = Boolean(byId("all-again"));
const QUEUES = {
  receiving: () => t("Receiving"), queued: () => t("Waiting to be judged"), judging: () => t("Being judged"), judged: () => t("Report to be written"),
};
const EVENTS = {
  "outbox again": () => t("Objects sent again"), "outbox drop": () => t("Objects dropped"), "judge again": () => t("Series judged again"),
  drain: () => t("Draining asked for"), drained: () => t("Drained"), "drain ended": () => t("Draining ended"), relink: () => t("Identifiers corrected"), forgotten: () => t("A patient or study was forgotten"),
};
const KINDS = { sr: () => t("report"), kos: () => t("key object"), vote: () => t("vote"), summary: () => t("picture") };
let asking = null;

// Rows by key: new ones come, old ones go, those that stay are changed cell by cell and only where something changed.
function rows(body, items, key, cells, none) {
  const old = new Map([...body.children].map((row) => [row.dataset.key, row]));
  let place = null;
  for (const item of items) {
    const name = String(key(item));
    const row = old.get(name) ?? make("tr");
    old.delete(name);
    row.dataset.key = name;
    cells(item).forEach(([className, print, fill], at) => {
      const cell = row.children[at] ?? row.appendChild(make(at ? "td" : "th"));
      if (!at) cell.scope = "row";
      if (cell.dataset.print === print) return;
      cell.dataset.print = print;
      cell.className = className;
      cell.replaceChildren(fill());
    });
    const next = place ? place.nextSibling : body.firstChild;
    if (row !== next) body.insertBefore(row, next);
    place = row;
  }
  for (const row of old.values()) row.remove();
  if (!items.length) {
    const row = body.appendChild(make("tr"));
    row.dataset.key = "";
    const cell = row.appendChild(make("td", "none", none));
    cell.colSpan = 6;
  }
}

const text = (said, className = "") => [className, `${said}`, () => document.createTextNode(said)];
const since = (at) => ["", `${at}`, () => (at === null ? document.createTextNode("—") : ago(at))];

function gigabytes(bytes) { return t("{size} GB", { size: figure(bytes / 1e9, 1) }); }

function facts(state) {
  const list = byId("facts");
  const said = state.queues.map((q) => [q.name, QUEUES[q.name](), figure(q.count), q.since]);
  if (state.associations !== null) said.push(["associations", t("Connections open"), figure(state.associations), null]);
  said.push(["quarantine", t("In quarantine"), figure(state.quarantine), null], ["disk", t("Free on the disk"), gigabytes(state.disk_free_bytes), null]);
  for (const [name, word, value, at] of said) {
    let item = list.querySelector(`[data-key="${name}"]`);
    if (!item) {
      item = list.appendChild(make("div"));
      item.dataset.key = name;
      item.append(make("dt", "", word), make("dd"), make("dd", "soft small"));
    }
    if (item.children[1].textContent !== value) item.children[1].textContent = value;
    if (item.dataset.since !== String(at)) {
      item.dataset.since = String(at);
      item.children[2].replaceChildren(...(at === null ? [] : [`${t("oldest")} `, ago(at)]));
    }
  }
}

function button(word, spoken, act) {
  const made = make("button", "quiet", word);
  made.type = "button";
  made.setAttribute("aria-label", spoken);
  made.addEventListener("click", act);
  return made;
}

function deliveryActs(row) {
  const both = document.createDocumentFragment();
  both.append(
    button(t("Send again"), t("Send number {id} again", { id: row.id }), () => act("deliveries/again", { ids: [row.id] }, (done) => n("{count} object is in the queue again.", "{count} objects are in the queue again.", done.again))),
    button(t("Drop …"), t("Drop number {id}", { id: row.id }), () => ask(row)),
  );
  return both;
}

function ask(row) {
  asking = row;
  byId("sure-what").replaceChildren(t("Number {id}, for {destination}.", { id: row.id, destination: row.destination }));
  byId("sure").showModal();
  byId("sure-keep").focus();
}

async function act(address, body, say) {
  const says = byId("says");
  says.className = "notice";
  try {
    says.textContent = say(await call("POST", `/api/operations/${address}`, body));
  } catch (error) {
    says.className = "notice bad";
    says.textContent = error.status ? error.message : t("The node does not answer. Nothing was done.");
  }
  await look();
}

function about(row) {
  const parts = document.createDocumentFragment();
  parts.append((KINDS[row.kind] ?? (() => row.kind))());
  if (row.station) parts.append(", ", foreign(row.station));
  if (row.accession_number) parts.append(", ", foreign(row.accession_number));
  return parts;
}

function scanner(row) {
  const parts = document.createDocumentFragment();
  parts.append(foreign(row.station), ` ${row.modality}`);
  if (row.accession_number) parts.append(", ", foreign(row.accession_number));
  return parts;
}

function show(state) {
  byId("ready").textContent = state.ready ? t("Takes, judges and delivers.") : t("Something is wrong:");
  const faults = byId("faults");
  const said = state.faults.join("\n");
  if (faults.dataset.print !== said) {
    faults.dataset.print = said;
    faults.replaceChildren(...state.faults.map((sentence) => make("li", "", sentence)));
  }
  facts(state);
  const models = byId("models");
  const names = Object.entries(state.models).map(([stage, name]) => `${stage.replaceAll("_", " ")}: ${name}`);
  if (models.dataset.print !== names.join()) {
    models.dataset.print = names.join();
    models.replaceChildren(...(names.length ? names : [t("None.")]).map((name) => make("li", "", name)));
  }
  byId("delivered").hidden = state.destinations.length > 0;
  rows(byId("destinations"), state.destinations, (d) => d.destination, (d) => [
    text(d.destination), text(figure(d.waiting), "number"), since(d.oldest), since(d.failing_since), text(figure(d.held), "number"), text(figure(d.failed), "number"),
  ], t("Nothing waits."));
  rows(byId("deliveries"), state.deliveries, (d) => d.id, (d) => [
    text(d.id), ...(acts ? [["acts", "acts", () => deliveryActs(d)]] : []),
    [`state ${d.state}`, d.state, () => document.createTextNode(d.state === "failed" ? t("Refused") : t("Tried in vain"))],
    ["", `${d.kind} ${d.station} ${d.accession_number}`, () => about(d)], text(d.destination),
    ["sentence", `${d.last_error} ${d.attempts}`, () => document.createTextNode(`${d.last_error ?? ""} ${n("{count} attempt.", "{count} attempts.", d.attempts)}`)],
  ], t("Nothing."));
  if (acts) byId("all-again").hidden = !state.deliveries.some((d) => d.state === "failed");
  rows(byId("failed"), state.failed, (s) => s.series_id, (s) => [
    ["", `${s.station} ${s.accession_number}`, () => scanner(s)], ...(acts ? [["acts", `${s.images_removed_at}`, () => judgeAgain(s)]] : []),
    since(s.closed_at), text(s.sentence ?? "", "sentence"),
  ], t("Nothing."));
  rows(byId("audit"), state.audit, (a) => a.id, (a) => [since(a.at), text(EVENTS[a.event] ? EVENTS[a.event]() : a.event), ["", a.by, () => foreign(a.by)]], t("Nothing yet."));
}

function judgeAgain(row) {
  if (row.images_removed_at !== null) return document.createTextNode(t("The images were removed."));
  return button(t("Judge again"), t("Judge series {id} again", { id: row.series_id }), () => act(`series/${row.series_id}/judge-again`, {}, () => t("The series is in the queue.")));
}

async function look() {
  try {
    show(await call("GET", "/api/operations"));
    cut(null);
  } catch (error) {
    cut(error.status ? error.message : t("No connection to the node. What you see is old."));
  }
}

byId("sure-keep").addEventListener("click", () => byId("sure").close());
byId("sure-drop").addEventListener("click", () => {
  byId("sure").close();
  act("deliveries/drop", { ids: [asking.id] }, (done) => n("{count} object is dropped.", "{count} objects are dropped.", done.dropped));
});
byId("all-again")?.addEventListener("click", () => act("deliveries/all-again", {}, (done) => n("{count} object is in the queue again.", "{count} objects are in the queue again.", done.again)));

async function follow() {
  if (!document.hidden) await look();
  setTimeout(follow, EVERY_MS);
}

follow();
