// Runs before the first paint, so that a chosen theme never flashes the other one.
(function () {
  try {
    var theme = JSON.parse(localStorage.getItem("hubbub.prefs") || "{}").theme;
    if (theme === "dark" || theme === "light") document.documentElement.dataset.theme = theme;
  } catch (_) {
    // Storage may be denied; the system's scheme then decides.
  }
})();
