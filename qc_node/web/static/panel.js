// The panel: keys and buttons.  What they do stands in panel_study, panel_votes, panel_list and panel_context.
import { byId, keyIsTaken } from "./common.js";
import { start } from "./panel_context.js";
import { list } from "./panel_list.js";
import { turnSeries } from "./panel_study.js";
import { cast, sendComment, setAgrees, setSure, toggleReason, undo, withdraw } from "./panel_votes.js";

const all = (selector, act) => { for (const b of document.querySelectorAll(selector)) b.addEventListener("click", () => act(b)); };
const forget = () => { byId("search-says").textContent = ""; list(); };

all(".vote", (b) => cast(b.dataset.vote));
all(".reason", toggleReason);
all(".sure-button", setSure);
all(".agree-button", (b) => setAgrees(b.dataset.agrees === "true"));
byId("undo").addEventListener("click", undo);
byId("withdraw").addEventListener("click", withdraw);
byId("close").addEventListener("click", forget);
byId("series-back").addEventListener("click", () => turnSeries(-1));
byId("series-next").addEventListener("click", () => turnSeries(1));
byId("comment").addEventListener("submit", (event) => { event.preventDefault(); sendComment(); byId("comment-text").blur(); });
byId("comment-text").addEventListener("keydown", (event) => { if (event.key === "Escape") event.target.blur(); });

const VOTES = { 1: "good", 2: "acceptable", 3: "poor" };

document.addEventListener("keydown", (event) => {
  if (event.repeat || keyIsTaken(event)) return;
  const key = event.key.toLowerCase();
  const button = byId("study").hidden ? null : document.querySelector(`[data-key="${CSS.escape(key)}"]`);
  if (VOTES[key]) cast(VOTES[key]);
  else if (key === "u") undo();
  else if (key === "/") { forget(); byId("search-text").focus(); }
  else if (key === "arrowleft" || key === "arrowright") turnSeries(key === "arrowleft" ? -1 : 1);
  else if (key === "k" && !byId("study").hidden) byId("comment-text").focus();
  else if (button && !button.closest("[hidden]")) button.click();
  else return;
  event.preventDefault();
});

start();
