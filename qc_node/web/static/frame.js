// The frame of every page: the menu of narrow windows, and what the server wrote as the reader's browser writes it.
import { age, byId, clock, figure, share } from "./common.js";

const menu = byId("menu");
const pages = byId("pages");

function unfold(open) {
  menu.setAttribute("aria-expanded", String(open));
  pages.classList.toggle("open", open);
}

menu.addEventListener("click", () => unfold(menu.getAttribute("aria-expanded") !== "true"));
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || menu.getAttribute("aria-expanded") !== "true") return;
  if (pages.contains(document.activeElement)) menu.focus();
  unfold(false);
});
document.addEventListener("pointerdown", (event) => { if (!menu.contains(event.target) && !pages.contains(event.target)) unfold(false); });
pages.addEventListener("focusout", (event) => { if (event.relatedTarget && event.relatedTarget !== menu && !pages.contains(event.relatedTarget)) unfold(false); });

function write(node) {
  const at = Date.parse(node.dateTime) / 1000;
  if (node.dataset.as === "day") node.textContent = new Date(at * 1000).toLocaleDateString(undefined, { dateStyle: "medium" });
  else if (node.dataset.as === "moment") node.textContent = clock(at);
  else { node.title = clock(at); node.textContent = age(Date.now() / 1000 - at); }
}

for (const node of document.querySelectorAll("time[data-as]")) write(node);
for (const node of document.querySelectorAll("data.figure")) {
  const digits = Number(node.dataset.digits);
  node.textContent = (node.dataset.unit === "percent" ? share : figure)(Number(node.value), digits);
}
setInterval(() => { for (const node of document.querySelectorAll("time[data-as=ago]")) write(node); }, 30000);

// Pictures further down are fetched when they come into view; on paper everything is in view.
window.addEventListener("beforeprint", () => { for (const img of document.querySelectorAll("img[loading=lazy]")) img.loading = "eager"; });
