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

export const sizeOf = (bytes) => (bytes < 1e6 ? `${Math.max(1, Math.round(bytes / 1e3))} kB` : `${(bytes / 1e6).toFixed(1)} MB`);
