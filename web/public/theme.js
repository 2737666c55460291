// Sets the theme before the first paint: what was chosen here, else what the system says.
(() => {
  let chosen = "system";
  try {
    chosen = localStorage.getItem("llmscope.theme") ?? "system";
  } catch {
    // storage is switched off: follow the system
  }
  const dark = chosen === "dark" || (chosen !== "light" && matchMedia("(prefers-color-scheme: dark)").matches);
  document.documentElement.dataset.theme = dark ? "dark" : "light";
})();
