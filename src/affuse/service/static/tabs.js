// Tabs as in the ARIA Authoring Practices; the part of the address after "#" names the open one, then what is open in it.

const tabs = [...document.querySelectorAll("[role=tab]")];
const panelOf = (tab) => document.getElementById(tab.getAttribute("aria-controls"));

const place = () => {
  const [name, rest = ""] = location.hash.slice(1).split("/");
  return tabs.some((tab) => panelOf(tab).id === name) ? { name, rest } : null;
};

function open({ name, rest }, tell) {
  for (const tab of tabs) {
    const chosen = panelOf(tab).id === name;
    tab.setAttribute("aria-selected", String(chosen));
    tab.tabIndex = chosen ? 0 : -1;
    panelOf(tab).hidden = !chosen;
  }
  tell(name, rest);
}

function onKey(event) {
  const at = tabs.indexOf(event.target);
  const goals = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: tabs.length - 1 };
  if (!(event.key in goals)) return;
  event.preventDefault();
  const tab = tabs[(goals[event.key] + tabs.length) % tabs.length];
  tab.focus();
  tab.click();
}

/** `tell(name, rest)` hears what is open, now and later. */
export function wireTabs(tell) {
  for (const tab of tabs) {
    tab.addEventListener("click", () => { location.hash = panelOf(tab).id; });
    tab.addEventListener("keydown", onKey);
  }
  window.addEventListener("hashchange", () => { if (place()) open(place(), tell); });
  open(place() ?? { name: panelOf(tabs[0]).id, rest: "" }, tell);
}
