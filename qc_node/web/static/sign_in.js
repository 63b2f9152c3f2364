// A personal link: its token stands behind #, is taken out of the address bar at once, and is sent once.
import { byId, call, Failed, t } from "./common.js";

const next = byId("sign-in").dataset.next;
const says = byId("link-says");
const form = byId("pin-form");

function say(text) {
  says.hidden = false;
  says.textContent = text;
}

async function useLink(token, instead) {
  byId("instead").hidden = true;
  try {
    await call("POST", "/api/sign-in", { token, instead });
    location.replace(next);
  } catch (error) {
    if (form) form.hidden = false;
    if (error instanceof Failed && error.status === 409) {
      say(t("Somebody else is signed in on this workstation."));
      const button = byId("instead");
      button.textContent = t("Sign in by this link instead");
      button.hidden = false;
      button.onclick = () => useLink(token, true);
    } else {
      say(error.status === 0 ? t("qc-node does not answer; try again in a moment.") : error.message);
    }
  }
}

function takeLink() {
  const token = location.hash.slice(1);
  if (!token || token === "main") return; // "main" is the link that skips the menu
  history.replaceState(null, "", location.pathname + location.search);
  if (form) form.hidden = true;
  say(t("Signing in …"));
  useLink(token, false);
}

// A link that is pasted while this page is open changes only what stands behind #.
window.addEventListener("hashchange", takeLink);
takeLink();

// Who signs out leaves the provider too: else the next person here would be signed in as this one by one click.
byId("leave")?.click();
