// The panel.  The rule of the page: a vote carries the case and the presentation that were on the screen when
// the key went down.  While another study is loading there is no case, so a key cannot land anywhere.
import { advice, age, byId, call, clock, keyIsTaken, make } from "./common.js";
import { Outbox } from "./outbox.js";

const root = byId("panel");
const me = root.dataset.reader;
const UNDO_MS = Number(root.dataset.undo) * 1000;
const ARM_MS = 350; // a key pressed this soon after the PACS switched was meant for the study before
const DOUBLE_MS = 400;
const REASON_PAUSE_MS = 900;
const WORDS = { good: "Good", acceptable: "Acceptable", poor: "Poor" };

let shown = null; // what is on the screen and can be voted on
let loading = 0;
let listing = 0;
let lastPress = { at: -1e9, vote: null };
let undoable = []; // own votes of the last seconds, oldest first
let undoTimer = 0;
let reasonTimer = 0;

const says = (text, kind = "") => { const p = byId("says"); p.textContent = text; p.className = `notice ${kind}`; };

const outbox = new Outbox(me, {
  count(n) {
    const p = byId("queue");
    p.textContent = n ? `${n} vote${n === 1 ? "" : "s"} waiting to be sent` : "";
    p.className = n ? "small waiting" : "small";
  },
  sent(vote, answer) {
    if (!shown || shown.case !== vote.case) return;
    // A newer key press that is still on its way says more than this answer.
    if (!reasonTimer && !outbox.pending(vote.case)) setMine(answer.mine);
    setOpinions(answer.opinions);
    if (vote.vote !== "withdrawn") says(`Saved: ${WORDS[vote.vote]}.`);
    else says("Taken back.");
  },
  cut() { says("The network is cut. Your vote is kept here and will be sent.", "wait"); },
  refused(_, why) { says(`A vote was not taken: ${why}`, "bad"); if (shown) open(shown.case, shown.how); },
  signIn() {
    says("Signed out. Your vote is kept: ", "wait");
    const link = make("a", "", "sign in again");
    link.href = `/sign-in?next=${encodeURIComponent(location.pathname)}`;
    byId("says").append(link);
  },
});

// -- showing ------------------------------------------------------------------------------------------------
async function open(handle, how) {
  leave();
  const turn = (loading += 1);
  byId("study").setAttribute("aria-busy", "true");
  setButtons(false);
  let data;
  try {
    data = await call("POST", `/api/cases/${handle}/show?how=${how}`);
  } catch (error) {
    if (turn !== loading) return;
    if (error.status === 401) { location.assign(`/sign-in?next=/panel/${handle}`); return; }
    byId("study").hidden = false;
    byId("nothing").hidden = true;
    says(error.status === 0 ? "The network is cut; trying again." : error.message, "wait");
    if (error.status === 0) setTimeout(() => { if (turn === loading) open(handle, how); }, 1500);
    return;
  }
  if (turn !== loading) return; // the PACS has switched again meanwhile
  if (data.reader !== me) { location.reload(); return; }
  shown = { ...data, how, at: performance.now(), series_at: 0, mine: data.mine };
  root.dataset.case = handle;
  history.replaceState(null, "", `/panel/${handle}`);
  byId("accession").textContent = data.accession_number || "No accession number";
  byId("what").textContent = [data.modality, data.description].filter(Boolean).join(" · ") || "Study not received here";
  byId("when").textContent = data.received_at ? `Received ${clock(data.received_at)}` : "";
  drawSeries();
  setMine(data.mine);
  setOpinions(data.opinions);
  says("");
  byId("nothing").hidden = true;
  byId("study").hidden = false;
  byId("close").hidden = false;
  byId("study").setAttribute("aria-busy", "false");
  setTimeout(() => { if (turn === loading) setButtons(true); }, how === "fhircast" ? ARM_MS : 0);
}

function leave() {
  if (reasonTimer) { clearTimeout(reasonTimer); sendReasons(); }
  shown = null;
  undoable = [];
  showUndo();
  for (const b of document.querySelectorAll(".reason")) b.setAttribute("aria-pressed", "false");
}

function list() {
  leave();
  loading += 1;
  root.dataset.case = "";
  history.replaceState(null, "", "/panel");
  byId("study").hidden = true;
  byId("close").hidden = true;
  byId("nothing").hidden = false;
  byId("search-says").textContent = "";
  listing += 1;
  loadRecent(listing);
}

function drawSeries() {
  const box = byId("pictures");
  const series = shown.series;
  const one = series[shown.series_at];
  box.replaceChildren();
  for (const picture of one?.pictures ?? []) {
    const div = make("div");
    const img = make("img");
    img.src = picture.src;
    img.alt = `${picture.view} mid-plane`;
    img.onerror = () => img.remove();
    div.append(img, make("span", "", picture.view));
    box.append(div);
  }
  if (!box.children.length) box.append(make("div", "none", shown.known ? "No pictures of this series" : "This study was not sent to qc-node; your vote counts all the same"));
  byId("series-row").hidden = series.length === 0;
  byId("series-name").textContent = one ? `${one.description}${series.length > 1 ? ` (${shown.series_at + 1} of ${series.length})` : ""}` : "";
  for (const id of ["series-back", "series-next"]) byId(id).hidden = series.length < 2;
}

function turnSeries(step) {
  if (!shown || shown.series.length < 2) return;
  shown.series_at = (shown.series_at + step + shown.series.length) % shown.series.length;
  drawSeries();
}

function setButtons(on) { for (const b of document.querySelectorAll(".vote")) b.disabled = !on; }

function setMine(mine) {
  shown.mine = mine;
  byId("study").classList.toggle("voted", Boolean(mine));
  for (const b of document.querySelectorAll(".vote")) b.setAttribute("aria-pressed", String(mine?.vote === b.dataset.vote));
  if (mine) for (const b of document.querySelectorAll(".reason")) b.setAttribute("aria-pressed", String(mine.reasons.includes(b.dataset.reason)));
}

function setOpinions(opinions) {
  byId("opinion-hidden").textContent = opinions === null ? "Shown after your vote." : "This study was not judged by qc-node.";
  byId("opinion-hidden").hidden = Boolean(opinions?.length);
  byId("opinions").replaceChildren(...(opinions ?? []).map((o) => {
    const li = make("li", `said ${o.tone}-tone`);
    const text = make("div");
    text.append(make("p", "", o.headline), make("p", "soft small", [o.series, o.detail].filter(Boolean).join(": ")), ...advice(o, ""));
    const shape = make("span", "shape", o.shape);
    shape.setAttribute("aria-hidden", "true");
    li.append(shape, text);
    return li;
  }));
}

// -- voting -------------------------------------------------------------------------------------------------
function reasonsPressed() {
  return [...document.querySelectorAll('.reason[aria-pressed="true"]')].map((b) => b.dataset.reason);
}

function cast(vote) {
  const now = performance.now();
  if (!shown || document.querySelector(".vote").disabled) {
    if (!byId("study").hidden) says("The study is changing. Look, then press again.", "wait");
    return;
  }
  if (vote === lastPress.vote && now - lastPress.at < DOUBLE_MS) return; // a double click is one vote
  lastPress = { at: now, vote };
  if (shown.mine?.vote === vote) { says(`${WORDS[vote]} is your vote already.`); return; }
  clearTimeout(reasonTimer);
  reasonTimer = 0;
  send(vote, reasonsPressed());
}

function send(vote, reasons) {
  const before = shown.mine;
  const body = { vote, reasons, case: shown.case, presentation: shown.presentation, ms_to_vote: Math.round(Math.min(performance.now() - shown.at, 86400000)) };
  says(`${WORDS[vote]} …`);
  const key = outbox.put(body);
  undoable.push({ key, at: performance.now(), before, case: shown.case, presentation: shown.presentation });
  setMine({ vote, reasons });
  showUndo();
}

function undo() {
  const last = undoable.pop();
  if (!shown || !last || performance.now() - last.at > UNDO_MS) { says(`A vote can be taken back for ${UNDO_MS / 1000} seconds. Press another button to change it.`); showUndo(); return; }
  clearTimeout(reasonTimer);
  reasonTimer = 0;
  lastPress = { at: -1e9, vote: null };
  outbox.put({ vote: "withdrawn", withdraws: last.key, reasons: [], case: last.case, presentation: last.presentation });
  setMine(last.before);
  if (!last.before) for (const b of document.querySelectorAll(".reason")) b.setAttribute("aria-pressed", "false");
  says("Taken back.");
  showUndo();
}

function showUndo() {
  clearTimeout(undoTimer);
  undoable = undoable.filter((v) => performance.now() - v.at < UNDO_MS);
  byId("undo-row").hidden = undoable.length === 0;
  if (!undoable.length) return;
  const left = UNDO_MS - (performance.now() - undoable.at(-1).at);
  byId("undo-bar").getAnimations().forEach((a) => a.cancel());
  byId("undo-bar").animate([{ transform: `scaleX(${left / UNDO_MS})` }, { transform: "scaleX(0)" }], { duration: left });
  undoTimer = setTimeout(showUndo, left + 20);
}

function toggleReason(button) {
  if (!shown) return;
  button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
  if (!shown.mine) return; // goes with the vote
  clearTimeout(reasonTimer);
  reasonTimer = setTimeout(sendReasons, REASON_PAUSE_MS);
}

function sendReasons() {
  reasonTimer = 0;
  if (shown?.mine) send(shown.mine.vote, reasonsPressed());
}

// -- recent list and search ---------------------------------------------------------------------------------
function entry(study) {
  const li = make("li");
  const b = make("button");
  b.type = "button";
  b.append(make("b", "", study.accession_number || "No accession number"));
  const when = study.received_at ? age(Date.now() / 1000 - study.received_at) : "";
  b.append(make("span", "", [study.modality, study.description, when].filter(Boolean).join(" · ")));
  b.onclick = () => open(study.case, study.how ?? (study.asked ? "prompt" : "search"));
  li.append(b);
  return li;
}

async function loadRecent(turn) {
  try {
    const data = await call("GET", "/api/recent");
    if (turn !== listing) return;
    byId("recent").replaceChildren(...data.recent.map(entry));
    byId("recent-title").hidden = !data.recent.length;
    byId("asked").replaceChildren(...data.asked.map(entry));
    byId("asked-part").hidden = !data.asked.length;
  } catch (error) {
    if (error.status === 401) location.assign("/sign-in?next=/panel");
    else byId("search-says").textContent = "The list could not be loaded.";
  }
}

byId("search").addEventListener("submit", async (event) => {
  event.preventDefault();
  const text = byId("search-text").value.trim();
  if (!text) return;
  byId("search-says").textContent = "";
  try {
    const { found } = await call("POST", "/api/search", { text });
    if (found.length === 1) { byId("search-text").value = ""; byId("search-text").blur(); open(found[0].case, "search"); }
    else { byId("search-says").textContent = "More than one study has this number:"; byId("recent").replaceChildren(...found.map(entry)); }
  } catch (error) {
    byId("search-says").textContent = error.status === 0 ? "The network is cut." : error.message;
  }
});

// -- hands --------------------------------------------------------------------------------------------------
for (const b of document.querySelectorAll(".vote")) b.addEventListener("click", () => cast(b.dataset.vote));
for (const b of document.querySelectorAll(".reason")) b.addEventListener("click", () => toggleReason(b));
byId("undo").addEventListener("click", undo);
byId("close").addEventListener("click", list);
byId("series-back").addEventListener("click", () => turnSeries(-1));
byId("series-next").addEventListener("click", () => turnSeries(1));

document.addEventListener("keydown", (event) => {
  if (event.repeat || keyIsTaken(event)) return;
  const key = event.key.toLowerCase();
  const vote = { 1: "good", 2: "acceptable", 3: "poor" }[key];
  const reason = document.querySelector(`.reason[data-key="${CSS.escape(key)}"]`);
  if (vote) cast(vote);
  else if (key === "u") undo();
  else if (key === "/") { list(); byId("search-text").focus(); }
  else if (key === "arrowleft" || key === "arrowright") turnSeries(key === "arrowleft" ? -1 : 1);
  else if (reason && !byId("study").hidden) toggleReason(reason);
  else return;
  event.preventDefault();
});

// -- following the PACS -------------------------------------------------------------------------------------
const follow = new EventSource("/panel-events");
let following = false;
const context = (data) => {
  if (data === null) return;
  following = true;
  const open_now = data.cases;
  byId("follow").textContent = open_now.length ? "Following your viewer" : "Following your viewer: no study open";
  if (open_now.length === 1) { if (shown?.case !== open_now[0]) open(open_now[0], "fhircast"); }
  else if (open_now.length > 1) { if (!open_now.includes(shown?.case)) choose(open_now); }
  else if (shown?.how === "fhircast" || byId("study").getAttribute("aria-busy") === "true") list();
};

// A report on several studies: only the reader knows which one the vote is for.
function choose(handles) {
  list();
  listing += 1; // the recent list must not come in over this one
  byId("search-says").textContent = "Your report covers more than one study. Which one?";
  Promise.all(handles.map((h) => call("GET", `/api/cases/${h}`))).then((found) => {
    byId("recent-title").hidden = true;
    byId("recent").replaceChildren(...found.map((s) => entry({ ...s, how: "fhircast" })));
  }, () => { byId("search-says").textContent = "The studies could not be loaded."; });
}

follow.addEventListener("hello", (event) => {
  const data = JSON.parse(event.data);
  if (data.reader !== me) { location.reload(); return; }
  byId("follow").textContent = following ? "Following your viewer" : "Connected";
  outbox.soon(0);
  context(data.context);
});
follow.addEventListener("context", (event) => context(JSON.parse(event.data)));
follow.addEventListener("vote", (event) => {
  const data = JSON.parse(event.data);
  if (shown?.case === data.case && !outbox.pending(data.case) && !reasonTimer) setMine(data.mine);
});
follow.onerror = () => { byId("follow").textContent = "No connection. Votes are kept here."; };

if (root.dataset.case) open(root.dataset.case, root.dataset.how);
else list();
