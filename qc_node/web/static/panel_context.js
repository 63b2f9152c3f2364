// Following the viewer: what it opens is on the screen here, and nothing is once nobody tells any more.
import { byId, call, t } from "./common.js";
import { choose, list } from "./panel_list.js";
import { blank, me, open, root, state } from "./panel_study.js";
import { heardElsewhere, outbox } from "./panel_votes.js";

const SILENT_BEATS = 2.5; // a connection on which nothing came for so many heartbeats is cut
let events = null;
let heard_at = performance.now();
let beat_s = 10;
let node = "connecting"; // the connection to the node: connecting, connected, cut
let started = false;
let retrying = 0;
let greeted = () => {};
const hello = new Promise((done) => { greeted = done; });

const byViewer = () => (state.shown?.how ?? state.opening) === "fhircast";
const same = (a, b) => a.length === b.length && a.every((x, i) => x === b[i]);

// -- how the connections are --------------------------------------------------------------------------------
function showLinks() {
  const { viewer } = state;
  const banner = byId("banner");
  const problem = trouble(viewer);
  banner.hidden = !problem;
  if (problem && byId("banner-says").textContent !== problem) byId("banner-says").textContent = problem;
  byId("stop-following").hidden = !viewer.following;
  byId("follow").textContent = status(viewer);
}

function trouble(viewer) {
  if (node === "cut") return t("No connection to qc-node. A vote on a study that you chose here is kept and sent later.");
  if (!viewer.following) return "";
  if (viewer.link === "cut") return t("Your viewer is not connected. The panel shows its study again as soon as it is.");
  if (viewer.link === "refused") return t("Your viewer does not let qc-node follow it any more. Open the panel from the viewer again.");
  return "";
}

function status(viewer) {
  if (node === "connecting") return t("Connecting …");
  if (node === "cut") return t("No connection. Votes are kept here.");
  if (!viewer.following) return t("Connected. Not following a viewer.");
  if (viewer.link === "connecting") return t("Connecting to your viewer …");
  if (viewer.link !== "connected") return t("Your viewer is not connected.");
  return viewer.cases.length ? t("Following your viewer") : t("Following your viewer: no study open");
}

// -- what the viewer has open -------------------------------------------------------------------------------
function hear(data) {
  const before = state.viewer;
  const connected = data.following && data.link === "connected";
  // A cut says nothing of what the viewer has open: what it had is compared with what it has afterwards.
  state.viewer = connected || !data.following ? data : { ...data, context: before.context, cases: byViewer() ? [] : before.cases };
  showLinks();
  if (!started) return;
  if (!connected) { if (byViewer()) list(); return; }
  if (data.context === before.context && same(data.cases, before.cases)) return;
  if (same(data.cases, before.cases) && state.shown && !byViewer()) return;
  follow(before.cases);
}

function follow(before) {
  const { cases } = state.viewer;
  const open_here = state.shown?.case;
  if (cases.length === 1) open(cases[0], "fhircast");
  else if (cases.length > 1) { if (!cases.includes(open_here)) choose(cases); else open(open_here, "fhircast"); }
  else if (byViewer() || before.includes(open_here)) list();
}

// -- the connection to the node -----------------------------------------------------------------------------
function connect() {
  events?.close();
  events = new EventSource("/panel-events");
  const on = (name, act) => events.addEventListener(name, (event) => { heard_at = performance.now(); act(JSON.parse(event.data)); });
  on("hello", (data) => {
    if (data.reader !== me) { location.reload(); return; }
    beat_s = data.beat_s;
    node = "connected";
    outbox.soon(0);
    hear(data.context);
    if (started && !state.shown && !state.opening && byId("search-text").value === "" && !state.viewer.cases.length) list();
    greeted();
  });
  on("beat", () => {});
  on("context", hear);
  on("vote", heardElsewhere);
  on("signed-out", leaveIfSignedOut);
  events.onerror = cut;
}

// Nobody tells what the viewer has open: what it had open is on the screen no more.
function cut() {
  node = "cut";
  if (byViewer()) { blank(); state.viewer = { ...state.viewer, context: null, cases: [] }; }
  showLinks();
  greeted();
  if (events.readyState === EventSource.CLOSED) retry(1500);
}

function retry(ms) {
  clearTimeout(retrying);
  retrying = setTimeout(again, ms);
}

// Somebody signed out, here or at another workstation: only this browser's own sign-in says whether it ended.
async function leaveIfSignedOut() {
  try {
    const { reader } = await call("GET", "/api/me");
    if (reader === me) return false;
    location.assign(reader === null ? `/sign-in?next=${encodeURIComponent(location.pathname)}` : "/panel");
    return true;
  } catch { return false; /* cut */ }
}

async function again() {
  if (await leaveIfSignedOut()) return;
  heard_at = performance.now();
  connect();
}

function watch() {
  if (performance.now() - heard_at < beat_s * SILENT_BEATS * 1000) return;
  events.close();
  cut();
  retry(1000);
  heard_at = performance.now();
}

byId("stop-following").addEventListener("click", async () => {
  try {
    hear(await call("DELETE", "/api/following"));
  } catch (error) {
    byId("follow").textContent = error.status === 0 ? t("The network is cut.") : error.message;
  }
});

// A study that was launched by its address is shown whatever the viewer has open; what the viewer opened is shown
// again after a reload only where it is still open.
export async function start() {
  connect();
  setInterval(watch, 2000);
  const handle = root.dataset.case;
  const how = history.state?.how ?? (handle ? root.dataset.how : "fhircast");
  await Promise.race([hello, new Promise((done) => { setTimeout(done, 800); })]);
  started = true;
  if (handle && how !== "fhircast") open(handle, how);
  else if (state.viewer.cases.length) follow([]);
  else list();
}
