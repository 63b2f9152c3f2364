// Votes and what is added to them: each key press is written to the browser's storage before it is sent.
import { byId, call, make, n, t } from "./common.js";
import { Outbox } from "./outbox.js";
import { me, onLeave, onShown, open, root, says, setOpinions, state } from "./panel_study.js";

const UNDO_MS = Number(root.dataset.undo) * 1000;
const DOUBLE_MS = 400;
const REASON_PAUSE_MS = 900;
const ACTS = "/api/votes/acts";
const words = () => ({ good: t("Good"), acceptable: t("Acceptable"), poor: t("Poor") });

let lastPress = { at: -1e9, vote: null };
let undoable = []; // what was done in the last seconds, oldest first
let undoTimer = 0;
let reasonTimer = 0;
let newest = null; // key of what was done last: only its answer is worth a word

const pressed = (selector) => [...document.querySelectorAll(`${selector}[aria-pressed="true"]`)];
const press = (selector, is) => { for (const b of document.querySelectorAll(selector)) b.setAttribute("aria-pressed", String(is(b))); };
const reasonsPressed = () => pressed(".reason").map((b) => b.dataset.reason);
const surePressed = () => pressed(".sure-button")[0]?.dataset.sure ?? null;

export const outbox = new Outbox(me, {
  count(waiting) {
    const p = byId("queue");
    p.textContent = waiting ? n("{count} vote waiting to be sent", "{count} votes waiting to be sent", waiting) : "";
    p.className = waiting ? "small waiting" : "small";
  },
  sent(entry, answer) {
    if (state.shown?.case !== entry.case) return;
    // A newer key press that is still on its way says more than this answer.
    if (!reasonTimer && !outbox.pending(entry.case)) setMine(answer.mine);
    setOpinions(answer.opinions);
    setAgreeing();
    if (entry.key !== newest) return;
    if (entry.vote && entry.vote !== "withdrawn") says(t("Saved: {vote}.", { vote: words()[entry.vote] }));
    else if (entry.said) says(entry.said);
  },
  cut() { says(t("The network is cut. Your vote is kept here and will be sent."), "wait"); },
  refused(entry, why) {
    says(t("A vote was not taken: {why}", { why }), "bad");
    byId("search-says").textContent = state.shown ? "" : t("A vote was not taken: {why}", { why });
    if (state.shown) open(state.shown.case, state.shown.how).then(() => says(t("A vote was not taken: {why}", { why }), "bad"));
  },
  signIn() {
    says(`${t("Signed out. Your vote is kept:")} `, "wait");
    const link = make("a", "", t("sign in again"));
    link.href = `/sign-in?next=${encodeURIComponent(location.pathname)}`;
    byId("says").append(link);
  },
});

onLeave(() => {
  if (reasonTimer) sendReasons();
  sendComment();
  undoable = [];
  showUndo();
  setMine(null);
});
onShown(() => {
  setMine(state.shown.mine);
  setAgreeing();
  showAnswer();
});

// -- what is on the screen ----------------------------------------------------------------------------------
export function setMine(mine) {
  if (state.shown) state.shown.mine = mine;
  byId("study").classList.toggle("voted", Boolean(mine));
  press(".vote", (b) => mine?.vote === b.dataset.vote);
  press(".reason", (b) => Boolean(mine?.reasons.includes(b.dataset.reason)));
  press(".sure-button", (b) => mine?.confidence === b.dataset.sure);
  press(".agree-button", (b) => mine?.agrees !== null && mine?.agrees !== undefined && String(mine.agrees) === b.dataset.agrees);
  if (document.activeElement !== byId("comment-text")) byId("comment-text").value = mine?.comment ?? "";
  byId("withdraw").hidden = !mine;
}

export function setAgreeing() {
  byId("agreeing").hidden = !state.shown?.mine || !state.shown.opinions?.length;
}

// What the technologists answered to a vote "poor".
async function showAnswer() {
  byId("answer").hidden = true;
  const { shown } = state;
  if (shown.mine?.vote !== "poor") return;
  try {
    const { answer, sentence } = await call("GET", `/api/votes/${encodeURIComponent(shown.mine.key)}/answer`);
    if (state.shown !== shown || !answer) return;
    byId("answer").textContent = t("Technologist: {answer}", { answer: sentence });
    byId("answer").hidden = false;
  } catch { /* nobody was asked, or nobody knows */ }
}

// -- voting -------------------------------------------------------------------------------------------------
export function cast(vote) {
  const now = performance.now();
  const { shown } = state;
  if (!shown || document.querySelector(".vote").disabled) {
    if (!byId("study").hidden) says(t("The study is changing. Look, then press again."), "wait");
    return;
  }
  if (vote === lastPress.vote && now - lastPress.at < DOUBLE_MS) return; // a double click is one vote
  lastPress = { at: now, vote };
  if (shown.mine?.vote === vote) { says(t("{vote} is your vote already.", { vote: words()[vote] })); return; }
  clearTimeout(reasonTimer);
  reasonTimer = 0;
  const reasons = reasonsPressed();
  const comment = byId("comment-text").value.trim() || null;
  const confidence = surePressed();
  const body = {
    vote, reasons, comment, confidence, presentation: shown.presentation,
    ms_to_vote: Math.round(Math.min(now - shown.at, 86400000)),
    // A clock that stood still while the PC slept, or was set meanwhile, must not make a late key an early one.
    ms_since_asked: Math.max(now - shown.asked.at, Date.now() - shown.asked.wall),
  };
  says(`${words()[vote]} …`);
  done(body, undefined, t("Vote taken back."), { vote, reasons, comment, confidence, agrees: null });
}

// Write one act down, send it, and remember how it is undone.
function done(body, to, undone, mine) {
  const { shown } = state;
  const before = shown.mine;
  const key = outbox.put({ ...body, case: shown.case }, to);
  newest = key;
  undoable.push({ key, at: performance.now(), before, undone, case: shown.case, presentation: shown.presentation });
  setMine({ ...before, ...mine, key: body.vote ? key : before.key });
  showUndo();
}

function add(kind, fields, said, undone, mine) {
  const { shown } = state;
  done({ of: shown.mine.key, kind, ...fields, presentation: shown.presentation, said }, ACTS, undone, mine);
  says(said);
}

export function toggleReason(button) {
  const { shown } = state;
  if (!shown) return;
  button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
  if (!shown.mine) return; // goes with the vote
  clearTimeout(reasonTimer);
  reasonTimer = setTimeout(sendReasons, REASON_PAUSE_MS);
}

function changed(before, after) {
  return [...before.filter((r) => !after.includes(r)), ...after.filter((r) => !before.includes(r))].length;
}

function sendReasons() {
  clearTimeout(reasonTimer);
  reasonTimer = 0;
  const { shown } = state;
  if (!shown?.mine) return;
  const reasons = reasonsPressed();
  const count = changed(shown.mine.reasons, reasons);
  if (!count) return;
  add("reasons", { reasons }, n("Reason saved.", "Reasons saved.", count), n("Reason taken back.", "Reasons taken back.", count), { reasons });
}

export function setSure(button) {
  const { shown } = state;
  if (!shown) return;
  const sure = button.dataset.sure;
  if (!shown.mine) { press(".sure-button", (b) => b === button && b.getAttribute("aria-pressed") !== "true"); return; }
  if (shown.mine.confidence === sure) return;
  add("confidence", { confidence: sure }, t("Saved: how sure you are."), t("How sure you are was taken back."), { confidence: sure });
}

export function setAgrees(agrees) {
  const { shown } = state;
  if (!shown?.mine || !shown.opinions?.length) return;
  if (shown.mine.agrees === agrees) return;
  const reports = shown.opinions.map((o) => o.report).filter(Boolean);
  const said = agrees ? t("Saved: you agree with qc-node.") : t("Saved: you disagree with qc-node.");
  add("agreement", { agrees, reports }, said, t("Your answer to the verdict was taken back."), { agrees });
}

export function sendComment() {
  const { shown } = state;
  const comment = byId("comment-text").value.trim();
  if (!shown?.mine || comment === (shown.mine.comment ?? "")) return;
  add("comment", { comment }, t("Comment saved."), t("Comment taken back."), { comment });
}

export function withdraw() {
  const { shown } = state;
  if (!shown?.mine) return;
  clearTimeout(reasonTimer);
  reasonTimer = 0;
  const said = t("Your vote is withdrawn.");
  newest = outbox.put({ of: shown.mine.key, kind: "withdrawal", case: shown.case, presentation: shown.presentation, said }, ACTS);
  undoable = [];
  lastPress = { at: -1e9, vote: null };
  setMine(null);
  setAgreeing();
  says(said);
  showUndo();
}

// -- undo ---------------------------------------------------------------------------------------------------
export function undo() {
  const { shown } = state;
  if (!shown) return;
  if (reasonTimer) { // not sent yet
    const count = changed(shown.mine?.reasons ?? [], reasonsPressed());
    clearTimeout(reasonTimer);
    reasonTimer = 0;
    newest = null;
    setMine(shown.mine);
    says(n("Reason taken back.", "Reasons taken back.", count));
    return;
  }
  const last = undoable.pop();
  if (!last || performance.now() - last.at > UNDO_MS) {
    says(shown.mine ? t("Nothing to undo. Press another button to change your vote, or withdraw it.") : t("Nothing to undo."));
    showUndo();
    return;
  }
  lastPress = { at: -1e9, vote: null };
  newest = outbox.put({ of: last.key, kind: "withdrawal", case: last.case, presentation: last.presentation, said: last.undone }, ACTS);
  setMine(last.before);
  setAgreeing();
  says(last.undone);
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

// Another window of this reader voted on, or added to, what is on the screen here.
export function heardElsewhere(data) {
  if (state.shown?.case !== data.case || outbox.pending(data.case) || reasonTimer) return;
  const key = data.mine?.key ?? null;
  if (key !== (state.shown.mine?.key ?? null) && !undoable.some((done) => done.key === key)) {
    undoable = []; // what was done here is no longer what stands
    showUndo();
    says(data.mine ? t("Voted in another window: {vote}.", { vote: words()[data.mine.vote] }) : t("Vote taken back in another window."));
  }
  setMine(data.mine);
  setOpinions(data.opinions);
  setAgreeing();
}
