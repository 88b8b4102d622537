/**
 * A button that switches between light and dark colours, at first the system's; returns what names it anew.
 * @param {HTMLElement} button
 * @param {Say} say
 * @param {(theme: string) => void} remember
 */
export function wireTheme(button, say, remember = () => {}) {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const dark = () => (root.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";
  const name = () => { button.textContent = say(dark() ? "theme.light" : "theme.dark"); };
  button.hidden = false;
  button.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    remember(root.dataset.theme);
    name();
  });
  system.addEventListener("change", name);
  name();
  return name;
}
