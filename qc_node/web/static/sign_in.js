import { byId, call, Failed } from "./common.js";

const token = location.hash.slice(1);
const next = document.querySelector("input[name=next]").value;
const says = byId("link-says");

async function useLink(instead) {
  try {
    await call("POST", "/api/sign-in", { token, instead });
    location.replace(next);
  } catch (error) {
    says.hidden = false;
    if (error instanceof Failed && error.status === 409) {
      says.textContent = "Somebody else is signed in on this workstation.";
      const button = byId("instead");
      button.textContent = "Sign in by this link instead";
      button.hidden = false;
      button.onclick = () => useLink(true);
    } else {
      says.textContent = error.status === 0 ? "qc-node does not answer; try again in a moment." : error.message;
    }
  }
}

if (token) {
  history.replaceState(null, "", location.pathname + location.search);
  byId("pin-form").hidden = true;
  says.hidden = false;
  says.textContent = "Signing in …";
  useLink(false);
}
