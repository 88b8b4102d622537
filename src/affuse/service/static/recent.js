import { ApiError, getJson, sentence } from "./api.js";
import { language, say } from "./language.js";
import { make } from "./report/elements.js";
import { tagOf } from "./report/speech.js";

const SHOWN = 20;
const AGAIN = 3000;  // milliseconds between looks while something is in work

/**
 * The list of recent analyses inside `root`; `remove(id)` deletes one. Returns refresh and draw.
 * @param {HTMLElement} root
 * @param {(id: string) => Promise<void>} remove
 */
export function createRecent(root, remove) {
  /** @type {Job[] | null} */
  let jobs = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;

  const visible = () => root.offsetParent !== null;

  async function refresh() {
    clearTimeout(timer);
    try {
      jobs = (await getJson(`v1/analyses?limit=${SHOWN}`)).analyses;
      draw();
    } catch (error) {
      root.replaceChildren(make("p", { class: "problem" }, sentence(error)));
    }
    if (visible() && jobs?.some((job) => job.state === "queued" || job.state === "running")) timer = setTimeout(refresh, AGAIN);
  }

  function draw() {
    if (!jobs) return;
    root.replaceChildren(jobs.length ? make("ul", { class: "jobs" }, ...jobs.map(row)) : make("p", { class: "help" }, say("recent.none")));
  }

  /** @param {Job} job */
  function row(job) {
    const when = new Date(1000 * job.created).toLocaleString(tagOf(language()), { dateStyle: "medium", timeStyle: "short" });
    const open = make("a", { href: `#analyse/${job.id}`, title: job.name }, make("bdi", {}, job.name));
    const button = make("button", { type: "button", class: "quiet", "aria-label": say("recent.delete", { name: job.name }) }, "×");
    button.addEventListener("click", async () => {
      button.disabled = true;
      try {
        await remove(job.id);
      } catch (error) {
        if (!(error instanceof ApiError) || error.status !== 404) root.append(make("p", { class: "problem", role: "alert" }, sentence(error)));
      }
      await refresh();
      (root.querySelector("a") ?? root).focus();
    });
    return make("li", {}, open, make("span", { class: `badge ${job.state}`, title: job.error || null }, say(`state.${job.state}`)),
      make("time", { datetime: new Date(1000 * job.created).toISOString() }, when), button);
  }

  return { refresh, draw };
}
