import { onLanguage, say } from "./language.js";
import { make } from "./report/elements.js";

export const byId = (id) => document.getElementById(id);

/** Show the one of some elements that `id` names. */
export const showOnly = (id, ids) => ids.forEach((other) => { byId(other).hidden = other !== id; });

/** A sentence about what went wrong, or none. */
export function problem(id, text = "") {
  byId(id).textContent = text;
  byId(id).hidden = !text;
}

/** Files dropped on `zone` or chosen in its `input` go to `take`. */
export function wireDrop(zone, input, take) {
  const over = (on) => (event) => {
    event.preventDefault();
    zone.classList.toggle("over", on);
  };
  zone.addEventListener("dragover", over(true));
  zone.addEventListener("dragleave", over(false));
  zone.addEventListener("drop", (event) => {
    over(false)(event);
    if (event.dataTransfer.files.length) take([...event.dataTransfer.files]);
  });
  input.addEventListener("change", () => {
    if (input.files.length) take([...input.files]);
    input.value = "";
  });
}

/** Let an input of one file show its name and a way to remove it, in the language of the page; `tell` hears of changes. */
export function wireFile(input, tell = () => {}) {
  const choose = make("label", { for: input.id, class: "quiet" });
  const name = make("span", { class: "help", role: "status" });
  const remove = make("button", { type: "button", class: "quiet" }, "×");
  input.after(choose, name, remove);
  const draw = () => {
    const [file] = input.files;
    choose.textContent = say("file.choose");
    name.textContent = file ? file.name : say("file.none");
    remove.hidden = !file;
    if (file) remove.setAttribute("aria-label", say("drop.remove", { name: file.name }));
  };
  const changed = () => {
    draw();
    tell();
  };
  input.addEventListener("change", changed);
  remove.addEventListener("click", () => {
    input.value = "";
    changed();
    input.focus();
  });
  onLanguage(draw);
  draw();
}

export const sizeOf = (bytes) => (bytes < 1e6 ? `${Math.max(1, Math.round(bytes / 1e3))} kB` : `${(bytes / 1e6).toFixed(1)} MB`);
