// Runs before the first paint, so that the page does not flash in the wrong colours. A classic script: modules run later.
(function () {
  "use strict";
  var chosen = null;
  try {
    chosen = localStorage.getItem("crawlwire.theme");
  } catch {
    chosen = null;
  }
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
})();
