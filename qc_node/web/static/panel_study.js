// The study on the screen.  The rule of the page: a vote carries the case and the presentation that were on the
// screen when the key went down.  While another study is loading there is no case, so a key cannot land anywhere.
import { advice, byId, call, clock, make, t } from "./common.js";

export const root = byId("panel");
export const me = root.dataset.reader;
const ARM_MS = 350; // a key pressed this soon after the viewer switched was meant for the study before

// What is on the screen and can be voted on (null: nothing), how one is opened just now, what the viewer has open.
export const state = { shown: null, opening: null, viewer: { following: false, link: null, context: null, cases: [] } };
let turn = 0;
const leaving = [];
const arriving = [];

export const onLeave = (act) => leaving.push(act);
export const onShown = (act) => arriving.push(act);
export const says = (text, kind = "") => { const p = byId("says"); p.textContent = text; p.className = `notice ${kind}`; };
export const speak = (text) => { byId("spoken").textContent = text; };
export const setButtons = (on) => { for (const b of document.querySelectorAll(".vote")) b.disabled = !on; };

// Text from a header, an order or a person: it may run from right to left.
export const bdi = (text, className) => make("bdi", className, text);

export const wait = (ms) => new Promise((done) => { setTimeout(done, ms); });

function between(nodes, separator) {
  return nodes.filter(Boolean).flatMap((node, i) => (i ? [separator, node] : [node]));
}

export function headline(study) {
  return between([study.modality, study.description].map((x) => (x ? bdi(x) : null)), " · ");
}

function section(name) {
  for (const id of ["study", "nothing"]) byId(id).hidden = id !== name;
  byId("close").hidden = name !== "study";
}

function setBusy(on) {
  if (!on) state.opening = null;
  byId("study").setAttribute("aria-busy", String(on));
  byId("loading").hidden = !on;
}

export async function open(handle, how) {
  leave();
  turn += 1;
  const mine = turn;
  const by = state.viewer.cases.includes(handle) ? "fhircast" : how;
  state.opening = by;
  section("study");
  setBusy(true);
  setButtons(false);
  says("");
  const asked = { at: performance.now(), wall: Date.now() };
  let data;
  try {
    data = await call("POST", `/api/cases/${handle}/show?how=${by}`);
  } catch (error) {
    if (mine === turn) await failed(error, handle, by, mine);
    return;
  }
  if (mine !== turn) return; // the viewer has switched again meanwhile
  if (data.reader !== me) { location.reload(); return; }
  state.shown = { ...data, how: by, asked, at: performance.now(), series_at: 0 };
  root.dataset.case = handle;
  history.replaceState({ how: by }, "", `/panel/${handle}`);
  draw();
  setBusy(false);
  for (const act of arriving) act();
  setTimeout(() => { if (mine === turn) setButtons(true); }, by === "fhircast" ? ARM_MS : 0);
}

async function failed(error, handle, how, mine) {
  if (error.status === 401) { location.assign(`/sign-in?next=/panel/${handle}`); return; }
  if (error.status === 409 && how === "fhircast") { blank(); return; } // the viewer was quicker; it says what is open
  byId("loading").hidden = error.status !== 0;
  says(error.status === 0 ? t("The network is cut; trying again.") : error.message, "wait");
  if (error.status !== 0) return;
  await wait(1500);
  if (mine === turn) open(handle, how);
}

// Nothing is on the screen any more; a study that is still loading comes to nothing.
export function blank() {
  leave();
  turn += 1;
  root.dataset.case = "";
  history.replaceState(null, "", "/panel");
  setBusy(false);
  section("nothing");
}

function leave() {
  if (state.shown) for (const act of leaving) act();
  state.shown = null;
}

// -- drawing ------------------------------------------------------------------------------------------------
function draw() {
  const { shown } = state;
  byId("accession").replaceChildren(shown.accession_number ? bdi(shown.accession_number) : t("No accession number"));
  const what = headline(shown);
  byId("what").replaceChildren(...(what.length ? what : [t("Study not received here")]));
  byId("when").textContent = shown.received_at ? t("Received {time}", { time: clock(shown.received_at) }) : "";
  drawSeries();
  setOpinions(shown.opinions);
  says("");
  speak(t("Now open: {study}", { study: [byId("accession").textContent, byId("what").textContent].join(", ") }));
}

function picture(one) {
  const div = make("div");
  const img = make("img");
  img.src = one.src;
  img.alt = t("{view} mid-plane", { view: one.view });
  img.onerror = () => img.remove();
  div.append(img, make("span", "", one.view));
  return div;
}

export function drawSeries() {
  const { series, series_at, known } = state.shown;
  const one = series[series_at];
  const pictures = (one?.pictures ?? []).map(picture);
  const none = known ? t("No pictures of this series") : t("This study was not sent to qc-node; your vote counts all the same");
  byId("pictures").replaceChildren(...(pictures.length ? pictures : [make("div", "none", none)]));
  byId("series-row").hidden = series.length === 0;
  const place = series.length > 1 ? t("({number} of {all})", { number: series_at + 1, all: series.length }) : null;
  byId("series-name").replaceChildren(...between([one ? bdi(one.description) : null, place], " "));
  for (const id of ["series-back", "series-next"]) byId(id).hidden = series.length < 2;
}

export function turnSeries(step) {
  const { shown } = state;
  if (!shown || shown.series.length < 2) return;
  shown.series_at = (shown.series_at + step + shown.series.length) % shown.series.length;
  drawSeries();
}

function opinion(o) {
  const li = make("li", `said ${o.tone}-tone`);
  const text = make("div");
  const detail = make("p", "soft small");
  detail.append(...between([o.series ? bdi(o.series) : null, o.detail || null], ": "));
  text.append(make("p", "", o.headline), detail, ...advice(o, ""));
  const shape = make("span", "shape", o.shape);
  shape.setAttribute("aria-hidden", "true");
  li.append(shape, text);
  return li;
}

export function setOpinions(opinions) {
  state.shown.opinions = opinions;
  byId("opinion-hidden").textContent = opinions === null ? t("Shown after your vote.") : t("This study was not judged by qc-node.");
  byId("opinion-hidden").hidden = Boolean(opinions?.length);
  byId("opinions").replaceChildren(...(opinions ?? []).map(opinion));
}
