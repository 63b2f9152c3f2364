// What there is to open: studies for which a vote is asked, recent ones, and those that a reader types.
import { age, byId, call, make, t } from "./common.js";
import { bdi, blank, headline, open } from "./panel_study.js";

const ANSWERS_DAYS = 7;
let turn = 0;

function entry(study) {
  const li = make("li");
  const b = make("button");
  b.type = "button";
  const number = make("b");
  number.append(study.accession_number ? bdi(study.accession_number) : t("No accession number"));
  const line = make("span");
  const what = headline(study);
  const when = study.received_at ? age(Date.now() / 1000 - study.received_at) : "";
  line.append(...what, ...(what.length && when ? [" · "] : []), when);
  b.append(number, line);
  b.onclick = () => open(study.case, study.how ?? (study.asked ? "prompt" : "search"));
  li.append(b);
  return li;
}

export function list() {
  blank();
  byId("search-says").textContent = "";
  turn += 1;
  loadRecent(turn);
  loadAnswers(turn);
}

async function loadRecent(mine) {
  byId("recent-title").textContent = t("Recent");
  try {
    const data = await call("GET", "/api/recent");
    if (mine !== turn) return;
    byId("recent").replaceChildren(...data.recent.map(entry));
    byId("recent-title").hidden = !data.recent.length;
    byId("asked").replaceChildren(...data.asked.map(entry));
    byId("asked-part").hidden = !data.asked.length;
  } catch (error) {
    if (error.status === 401) location.assign("/sign-in?next=/panel");
    else if (mine === turn) byId("search-says").textContent = t("The list could not be loaded.");
  }
}

// What technologists answered to this reader's votes "poor".
async function loadAnswers(mine) {
  byId("answers-part").hidden = true;
  try {
    const { answers } = await call("GET", `/api/votes/answers?days=${ANSWERS_DAYS}`);
    const given = answers.filter((a) => a.answer);
    if (mine !== turn || !given.length) return;
    byId("answers").replaceChildren(...given.slice(0, 5).map((a) => {
      const li = make("li", "small");
      li.append(bdi(a.scanner), `, ${age(Date.now() / 1000 - a.answered_at)}: ${a.sentence}`);
      return li;
    }));
    byId("answers-part").hidden = false;
  } catch { /* the list is only an extra */ }
}

// A report on several studies: only the reader knows which one the vote is for.
export async function choose(handles) {
  blank();
  turn += 1; // the recent list must not come in over this one
  const mine = turn;
  byId("search-says").textContent = t("Your report covers more than one study. Which one?");
  byId("answers-part").hidden = true;
  try {
    const found = await Promise.all(handles.map((h) => call("GET", `/api/cases/${h}`)));
    if (mine !== turn) return;
    byId("recent-title").hidden = true;
    byId("recent").replaceChildren(...found.map((s) => entry({ ...s, how: "fhircast" })));
  } catch {
    if (mine === turn) byId("search-says").textContent = t("The studies could not be loaded.");
  }
}

function unknown(text, near) {
  const p = byId("search-says");
  p.replaceChildren(...t("No study has the number {number}.", { number: "\u0000" }).split("\u0000").flatMap((part, i) => (i ? [bdi(text), part] : [part])));
  byId("recent").replaceChildren(...near.map(entry));
  byId("recent-title").hidden = !near.length;
  byId("recent-title").textContent = t("Did you mean");
}

byId("search").addEventListener("submit", async (event) => {
  event.preventDefault();
  const text = byId("search-text").value.trim();
  if (!text) return;
  turn += 1;
  const mine = turn;
  byId("search-says").textContent = t("Looking …");
  try {
    const { found, near } = await call("POST", "/api/search", { text });
    if (mine !== turn) return;
    byId("search-says").textContent = "";
    if (found.length === 1) { byId("search-text").value = ""; byId("search-text").blur(); open(found[0].case, "search"); return; }
    if (!found.length) { unknown(text, near); return; }
    byId("search-says").textContent = t("More than one study has this number:");
    byId("recent").replaceChildren(...found.map(entry));
  } catch (error) {
    if (mine === turn) byId("search-says").textContent = error.status === 0 ? t("The network is cut.") : error.message;
  }
});
