// The viewer of the review page: a dialog with the stored slices where they are kept, and the kept pictures.
import { byId, call, t } from "./common.js";
import { SliceViewer } from "./slices.js";

const dialog = byId("viewer");
const viewer = new SliceViewer(byId("viewer-box"));
let closed = () => {};

function note(row, stored) {
  const pictures = row.mid.length + row.mip.length;
  if (!pictures && row.id !== null) return [stored.sentence, t("The small pictures were removed when their time was over.")];
  return [stored.sentence];
}

export async function openViewer(row, done) {
  closed = done;
  const what = row.description || row.claimed || row.modality;
  byId("viewer-title").textContent = row.accession_number ? `${row.accession_number} · ${what}` : what;
  byId("viewer-note").textContent = t("Loading …");
  viewer.clear();
  dialog.showModal();
  viewer.canvas.focus();
  let stored = { planes: {}, sentence: "" };
  try {
    stored = await call("GET", `/api/slices/${row.series}`);
  } catch (error) {
    stored.sentence = error.status === 0 ? t("The network is cut; only small pictures can be shown.") : error.message;
  }
  if (!dialog.open) return;
  byId("viewer-note").textContent = note(row, stored).filter(Boolean).join(" ");
  await viewer.open(row.series, stored, [...row.mid, ...row.mip]);
}

byId("viewer-close").addEventListener("click", () => dialog.close());
dialog.addEventListener("close", () => { viewer.clear(); closed(); });
dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
dialog.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.type === "range") return;
  const planes = [...viewer.planes.children];
  const windows = [...viewer.presets.children];
  if (/^[1-9]$/.test(event.key)) planes[Number(event.key) - 1]?.click();
  else if (event.key.toLowerCase() === "w" && windows.length) {
    windows[(windows.findIndex((b) => b.getAttribute("aria-pressed") === "true") + 1) % windows.length].click();
  } else if (event.target !== viewer.canvas && /^(Arrow|Page|Home|End)/.test(event.key)) viewer.key(event);
});
