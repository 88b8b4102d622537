// Tabs as in the ARIA Authoring Practices; the part of the address after "#" names the open one, then what is open in it.
// Panels have other ids than these names: a browser that finds an element of the name takes the focus off the tab.

import { find } from "./report/elements.js";

const tabs = [.../** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll("[role=tab]"))];
/** @param {HTMLElement} tab */
const nameOf = (tab) => tab.id.replace("tab-", "");
/** @param {HTMLElement} tab */
const panelOf = (tab) => find(document, tab.getAttribute("aria-controls") ?? "");

const place = () => {
  const [name, rest = ""] = location.hash.slice(1).split("/");
  return tabs.some((tab) => nameOf(tab) === name) ? { name, rest } : null;
};

/**
 * What is open in each tab: who comes back to one finds it as it was.
 * @type {Map<string, string>}
 */
const places = new Map();

/** @param {HTMLElement} tab */
const isOpen = (tab) => tab.getAttribute("aria-selected") === "true";

/**
 * Go to a place of a tab; where another tab is open, it waits for the user to come back.
 * @param {string} name
 */
export function goTo(name, rest = "") {
  places.set(name, rest);
  if (tabs.some((tab) => isOpen(tab) && nameOf(tab) === name)) location.hash = rest ? `${name}/${rest}` : name;
}

/** @param {HTMLElement} tab */
function choose(tab) {
  const name = nameOf(tab);
  const rest = isOpen(tab) ? "" : places.get(name);
  location.hash = rest ? `${name}/${rest}` : name;
}

/**
 * @param {{ name: string, rest: string }} place
 * @param {(name: string, rest: string) => void} tell
 */
function open({ name, rest }, tell) {
  places.set(name, rest);
  for (const tab of tabs) {
    const chosen = nameOf(tab) === name;
    tab.setAttribute("aria-selected", String(chosen));
    tab.tabIndex = chosen ? 0 : -1;
    panelOf(tab).hidden = !chosen;
  }
  tell(name, rest);
}

/** @param {KeyboardEvent} event */
function onKey(event) {
  const at = tabs.findIndex((tab) => tab === event.target);
  /** @type {Record<string, number>} */
  const goals = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: tabs.length - 1 };
  if (!(event.key in goals)) return;
  event.preventDefault();
  const tab = tabs[(goals[event.key] + tabs.length) % tabs.length];
  tab.focus();
  tab.click();
}

/**
 * `tell(name, rest)` hears what is open, now and later.
 * @param {(name: string, rest: string) => void} tell
 */
export function wireTabs(tell) {
  for (const tab of tabs) {
    tab.addEventListener("click", () => choose(tab));
    tab.addEventListener("keydown", onKey);
  }
  window.addEventListener("hashchange", () => {
    const next = place();
    if (next) open(next, tell);
  });
  open(place() ?? { name: nameOf(tabs[0]), rest: "" }, tell);
}
