import { make } from "./elements.js";
import { wireTheme } from "./theme.js";
import { formatTime, formatter } from "./timeline.js";
import { createViewer } from "./viewer.js";

const { strings, ...data } = JSON.parse(document.getElementById("affuse-data").textContent);
const { source, settings } = data.analysis;
const say = formatter(strings);
const byId = (id) => document.getElementById(id);

const flat = (value, path = "") =>
  value !== null && typeof value === "object" && Object.keys(value).length
    ? Object.entries(value).flatMap(([key, item]) => flat(item, path ? `${path} · ${key}` : key))
    : [[path, typeof value === "string" ? value : JSON.stringify(value)]];

byId("length").textContent = ` · ${say("kind." + source.kind)}${source.duration ? ` · ${formatTime(source.duration)}` : ""}`;
byId("settings").append(...flat(settings).filter(([path]) => path).flatMap(([path, value]) => [make("dt", {}, path), make("dd", {}, value)]));
wireTheme(byId("theme"), say);
createViewer(document, { ...data, say });
