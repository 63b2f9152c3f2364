// Days on the axes of plots, as the reader's browser writes them.
for (const node of document.querySelectorAll("svg text[data-day]")) {
  node.textContent = new Date(`${node.dataset.day}T00:00:00Z`).toLocaleDateString(undefined, { day: "numeric", month: "short", timeZone: "UTC" });
}
