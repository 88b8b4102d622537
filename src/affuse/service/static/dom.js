import { onLanguage, say } from "./language.js";
import { find, make } from "./report/elements.js";

/**
 * The element of an id; of one kind where that is given.
 * @template {Element} [T=HTMLElement]
 * @param {string} id
 * @param {new () => T} [kind]
 * @returns {T}
 */
export const byId = (id, kind) => find(document, id, kind);

/** @param {string} id */
export const input = (id) => byId(id, HTMLInputElement);

/** @param {string} id */
export const select = (id) => byId(id, HTMLSelectElement);

/** @param {string} id */
export const form = (id) => byId(id, HTMLFormElement);

/**
 * The files that were chosen in a field.
 * @param {HTMLInputElement} field
 */
export const filesOf = (field) => [...(field.files ?? [])];

/**
 * Show the one of some elements that `id` names.
 * @param {string} id
 * @param {string[]} ids
 */
export const showOnly = (id, ids) => ids.forEach((other) => { byId(other).hidden = other !== id; });

/**
 * A sentence about what went wrong, or none.
 * @param {string} id
 */
export function problem(id, text = "") {
  byId(id).textContent = text;
  byId(id).hidden = !text;
}

/**
 * Files dropped on `zone` or chosen in its `field` go to `take`.
 * @param {HTMLElement} zone
 * @param {HTMLInputElement} field
 * @param {(files: File[]) => void} take
 */
export function wireDrop(zone, field, take) {
  /** @param {boolean} on */
  const over = (on) => (/** @type {DragEvent} */ event) => {
    event.preventDefault();
    zone.classList.toggle("over", on);
  };
  zone.addEventListener("dragover", over(true));
  zone.addEventListener("dragleave", over(false));
  zone.addEventListener("drop", (event) => {
    over(false)(event);
    const dropped = [...(event.dataTransfer?.files ?? [])];
    if (dropped.length) take(dropped);
  });
  field.addEventListener("change", () => {
    const chosen = filesOf(field);
    if (chosen.length) take(chosen);
    field.value = "";
  });
}

/**
 * Let a field for one file show its name and a way to remove it, in the language of the page; `tell` hears of changes.
 * @param {HTMLInputElement} field
 */
export function wireFile(field, tell = () => {}) {
  const choose = make("label", { for: field.id, class: "quiet" });
  const name = make("span", { class: "help", role: "status" });
  const remove = make("button", { type: "button", class: "quiet" }, "×");
  field.after(choose, name, remove);
  const draw = () => {
    const [file] = filesOf(field);
    choose.textContent = say("file.choose");
    name.textContent = file ? file.name : say("file.none");
    remove.hidden = !file;
    if (file) remove.setAttribute("aria-label", say("drop.remove", { name: file.name }));
  };
  const changed = () => {
    draw();
    tell();
  };
  field.addEventListener("change", changed);
  remove.addEventListener("click", () => {
    field.value = "";
    changed();
    field.focus();
  });
  onLanguage(draw);
  draw();
}

/** @param {number} bytes */
export const sizeOf = (bytes) => (bytes < 1e6 ? `${Math.max(1, Math.round(bytes / 1e3))} kB` : `${(bytes / 1e6).toFixed(1)} MB`);
