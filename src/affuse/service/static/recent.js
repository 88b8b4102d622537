import { ApiError, getJson, request, save, sentence, token } from "./api.js";
import { byId, problem } from "./dom.js";
import { language, palette, say } from "./language.js";
import { make, percent, signed } from "./report/elements.js";
import { tagOf } from "./report/speech.js";

const SHOWN = 20;
const MORE = 100;
const MOST = 1000;  // that are asked for at once
const TOLD = 3;  // answers about persons in a line
const AGAIN = 3000;  // milliseconds between looks while something is in work

/**
 * The list of recent analyses inside `root`; `remove(id)` deletes one. Returns refresh and draw.
 * @param {HTMLElement} root
 * @param {(id: string) => Promise<void>} remove
 */
export function createRecent(root, remove) {
  /** @type {Job[] | null} */
  let jobs = null;
  let shown = SHOWN;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;

  const visible = () => root.offsetParent !== null;

  async function refresh() {
    clearTimeout(timer);
    try {
      jobs = (await getJson(`v1/analyses?answers=true&limit=${Math.min(MOST, shown + 1)}`)).analyses;
      draw();
    } catch (error) {
      root.replaceChildren(make("p", { class: "problem" }, sentence(error)));
    }
    if (visible() && jobs?.some((job) => job.state === "queued" || job.state === "running")) timer = setTimeout(refresh, AGAIN);
  }

  function draw() {
    if (!jobs) return;
    byId("recent-all").hidden = !jobs.some(({ state }) => state === "done");
    if (!jobs.length) {
      root.replaceChildren(make("p", { class: "help" }, say("recent.none")));
      return;
    }
    const more = make("button", { type: "button", class: "quiet" }, say("recent.more"));
    more.hidden = jobs.length <= shown || shown + 1 >= MOST;
    more.addEventListener("click", () => { shown = Math.min(MOST - 1, shown + MORE); refresh(); });
    root.replaceChildren(make("ul", { class: "jobs" }, ...jobs.slice(0, shown).map(row)), more);
  }

  /**
   * The emotions of the first persons, and the sentiment of the first.
   * @param {Job} job
   */
  function answers(job) {
    const known = (job.answers ?? []).filter(({ label }) => label !== null);
    if (!known.length) return null;
    const chips = known.slice(0, TOLD).map(({ person, label, confidence }) => {
      const name = label ?? "";
      const style = { background: palette.colours[name] ?? "", color: palette.inks[name] ?? "" };
      return make("span", { class: "chip", style, title: person }, `${say(`emotion.${name}`)} ${percent(confidence ?? 0)}`);
    });
    const [{ sentiment }] = known;
    return make("span", { class: "felt" }, ...chips, known.length > TOLD ? `+${known.length - TOLD}` : null, sentiment === null ? null : make("span", { class: "help", title: say("row.sentiment") }, signed(sentiment, 1)));
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
    return make("li", {}, open, answers(job), make("span", { class: `badge ${job.state}`, title: job.error || null }, say(`state.${job.state}`)),
      make("time", { datetime: new Date(1000 * job.created).toISOString() }, when), button);
  }

  for (const button of /** @type {NodeListOf<HTMLButtonElement>} */ (byId("recent-all").querySelectorAll("button"))) button.addEventListener("click", () => all(button.dataset.kind ?? ""));

  return { refresh, draw };
}

/**
 * All finished analyses as one page, table or archive. The page leads to reports, and needs no copy where no token does.
 * @param {string} kind
 */
async function all(kind) {
  problem("recent-problem");
  const path = `v1/analyses/${kind}?language=${language()}`;
  if (kind === "index.html" && !token()) {
    open(path, "_blank", "noopener");
    return;
  }
  try {
    save(await (await request(path)).blob(), kind);
  } catch (error) {
    problem("recent-problem", sentence(error));
  }
}
