import { wireAnalyse } from "./analyse.js";
import { byId } from "./dom.js";
import { wireFuse } from "./fuse.js";
import { onLanguage, say, wireLanguage } from "./language.js";
import { wireLive } from "./live.js";
import { wireTheme } from "./report/theme.js";
import { pauseResult } from "./result.js";
import { wireTabs } from "./tabs.js";

const THEME = "affuse.theme";

const kept = localStorage.getItem(THEME);
if (kept) document.documentElement.dataset.theme = kept;
wireLanguage(byId("language"));
onLanguage(wireTheme(byId("theme"), say, (theme) => localStorage.setItem(THEME, theme)));
const openAnalyse = wireAnalyse();
const stopLive = wireLive();
const openFuse = wireFuse();
wireTabs((name, rest) => {
  if (name === "analyse") openAnalyse(rest);
  else pauseResult();
  if (name === "fuse") openFuse();
  if (name !== "live") stopLive();
});

// A file that misses the place for it must not replace the page.
for (const kind of ["dragover", "drop"]) window.addEventListener(kind, (event) => event.preventDefault());
