"use strict";
// The page says everything without this; with it, two questions can be asked of the best attacker.
(function () {
  const byId = (id) => document.getElementById(id);
  for (const node of document.querySelectorAll(".js")) node.hidden = false;

  // Bounds are rounded up, as everywhere on the page.
  const percent = (value) => {
    const digits = value < 0.1 ? 2 : 1;
    const scale = 100 * 10 ** digits;
    return Number((Math.ceil(value * scale - 1e-9) / scale * 100).toFixed(digits)) + "\u00a0%";
  };

  const source = byId("attacker-data");
  if (source) {
    const data = JSON.parse(source.textContent);
    const alarm = byId("alarm"), prior = byId("prior");
    const show = () => {
      const { fpr, tpr, x, y } = data.points[alarm.valueAsNumber];
      const before = data.priors[prior.valueAsNumber];
      const hits = tpr * before;
      const after = hits / (hits + fpr * (1 - before));
      const right = Math.ceil(after * 100 - 1e-9);
      alarm.setAttribute("aria-valuetext", percent(fpr) + " false alarms");
      prior.setAttribute("aria-valuetext", percent(before));
      byId("fpr").textContent = percent(fpr);
      byId("tpr").textContent = percent(tpr);
      byId("before").textContent = percent(before);
      byId("after").textContent = percent(after);
      byId("right").textContent = right;
      byId("wrong").textContent = 100 - right;
      byId("dot").setAttribute("cx", x);
      byId("dot").setAttribute("cy", y);
      byId("across").setAttribute("y1", y);
      byId("across").setAttribute("y2", y);
      byId("across").setAttribute("x2", x);
      byId("up").setAttribute("x1", x);
      byId("up").setAttribute("x2", x);
      byId("up").setAttribute("y2", y);
      document.querySelectorAll("#people circle").forEach((dot, place) => dot.classList.toggle("hit", place < right));
    };
    alarm.addEventListener("input", show);
    prior.addEventListener("input", show);
    show();
  }

  for (const button of document.querySelectorAll("button[data-copy]")) {
    button.addEventListener("click", async () => {
      const text = byId(button.dataset.copy).textContent;
      try {
        await navigator.clipboard.writeText(text);
        button.textContent = "Copied";
      } catch {
        const range = document.createRange();
        range.selectNodeContents(byId(button.dataset.copy));
        getSelection().removeAllRanges();
        getSelection().addRange(range);
        button.textContent = "Selected";
      }
    });
  }

  const closed = () => [...document.querySelectorAll("details:not([open])")];
  let opened = [];
  addEventListener("beforeprint", () => { opened = closed(); opened.forEach((node) => { node.open = true; }); });
  addEventListener("afterprint", () => { opened.forEach((node) => { node.open = false; }); opened = []; });
})();
