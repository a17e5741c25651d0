// ---- light and dark

const THEMES = ["auto", "light", "dark"];

function theme(name) {
  document.documentElement.dataset.theme = name;
  at("theme").textContent = { auto: "◐ Auto", light: "☀ Light", dark: "☾ Dark" }[name];
  at("theme").setAttribute("aria-label", `Theme: ${name}`);
}

// A browser may keep nothing for a page, and then says so with an exception.
function remembered() {
  try {
    return localStorage.getItem("wserver-theme");
  } catch {
    return null;
  }
}

at("theme").onclick = () => {
  const next = THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % THEMES.length];
  theme(next);
  try {
    localStorage.setItem("wserver-theme", next);
  } catch {
    // It holds until the page is left.
  }
};

// ---- begin

theme(THEMES.includes(remembered()) ? remembered() : "auto");
choose(tabs[0]);
add("demo", ["notify"]);
add("jack", ["notify"]);
