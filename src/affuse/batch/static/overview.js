"use strict";
// A table of thousands of rows of which only those in view are in the document: all of them would take seconds.
(() => {
  const stored = document.getElementById("pictures"); // of the strongest moments, where there are any
  const ROW = stored ? 64 : 34; // pixels, as in the style sheet
  const MARGIN = 8; // rows above and below those in view
  const data = JSON.parse(document.getElementById("data").textContent);
  const say = data.say;
  const count = data.rows.path.length;
  const colours = data.palette.colours;
  const box = document.getElementById("box");
  const body = document.getElementById("rows");
  const search = document.getElementById("search");
  const label = document.getElementById("label");
  const conflicts = document.getElementById("conflicts");
  const failed = document.getElementById("failed");
  const shown = document.getElementById("shown");

  const percent = (share) => (share === null ? "" : `${Math.round(100 * share)} %`);
  const signed = (value) => (value === null ? "" : `${value > 0 ? "+" : ""}${value.toFixed(2)}`);
  const clock = (seconds) => {
    const whole = Math.floor(seconds);
    const parts = [Math.floor(whole / 60) % 60, whole % 60].map((part) => String(part).padStart(2, "0"));
    return whole < 3600 ? parts.join(":") : [Math.floor(whole / 3600), ...parts].join(":");
  };
  const name = (key) => (key === null ? "" : (say[`emotion.${key}`] ?? key));

  const element = (tag, text, className) => {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (className) made.className = className;
    return made;
  };

  // Megabytes of text, which are read after the first rows are drawn, and decoded only for rows in view.
  let pictures = {};
  const readPictures = () => {
    pictures = JSON.parse(stored.textContent);
    draw();
  };

  const recording = (row) => {
    const cell = element("td");
    const link = data.rows.link?.[row];
    const shownName = element(link ? "a" : "span", data.rows.path[row]);
    if (link) shownName.href = link;
    cell.append(shownName);
    cell.title = data.rows.path[row];
    return cell;
  };
  const shares = (row) => {
    const cell = element("td");
    const bar = element("div", undefined, "bar");
    const told = [];
    data.palette.stack.forEach((key) => {
      const share = data.rows[`share_${key}`]?.[row];
      if (!share) return;
      const part = element("i");
      part.style.width = `${100 * share}%`;
      part.style.background = colours[key];
      bar.append(part);
      told.push(`${name(key)} ${percent(share)}`);
    });
    bar.setAttribute("role", "img");
    bar.setAttribute("aria-label", told.join(", "));
    bar.title = told.join(", ");
    if (told.length) cell.append(bar);
    return cell;
  };
  const moment = (row) => {
    if (data.rows.moment_start[row] === null) return element("td");
    const confidence = percent(data.rows.moment_confidence[row]);
    const text = `${clock(data.rows.moment_start[row])} ${name(data.rows.moment_label[row])} ${confidence}`;
    const cell = element("td");
    const picture = pictures[row];
    if (picture) {
      const image = element("img");
      image.alt = ""; // the words beside it say what it shows
      image.src = `data:image/jpeg;base64,${picture}`;
      cell.append(image);
    }
    cell.append(text);
    return cell;
  };
  const own = (column) => (row) => {
    const value = data.rows[column][row];
    return element("td", value === null ? "" : String(value), typeof value === "number" ? "number" : "");
  };
  const answer = (row) => {
    const error = data.rows.error[row];
    if (error !== null) {
      const cell = element("td", error, "failed");
      cell.title = error;
      return cell;
    }
    const confidence = percent(data.rows.confidence[row]);
    return element("td", `${name(data.rows.label[row])} ${confidence}`);
  };

  const columns = [
    { title: say["column.path"], cell: recording, by: "path" },
    { title: say["column.person"], cell: own("person"), by: "person" },
    ...data.own.map((column) => ({ title: column, cell: own(column), by: column })),
    { title: say["column.label"], cell: answer, by: "label" },
    { title: say["column.shares"], cell: shares, by: null },
    {
      title: say["column.sentiment"],
      cell: (row) => element("td", signed(data.rows.sentiment[row]), "number"),
      by: "sentiment",
    },
    { title: say["column.moment"], cell: moment, by: "moment_confidence" },
    { title: say["column.conflicts"], cell: own("conflicts"), by: "conflicts" },
  ];
  if (data.rows.head_towards_camera.some((share) => share !== null)) {
    columns.push({
      title: say["column.head_towards_camera"],
      cell: (row) => element("td", percent(data.rows.head_towards_camera[row]), "number"),
      by: "head_towards_camera",
    });
  }
  data.labels.forEach((key) => {
    columns.push({
      title: name(key),
      cell: (row) => element("td", percent(data.rows[`share_${key}`][row]), "number"),
      by: `share_${key}`,
    });
  });

  // What a search looks in, made once: it answers with every key that is pressed.
  const texts = Array.from({ length: count }, (_, row) =>
    ["path", "person", ...data.own, "error"]
      .map((column) => data.rows[column][row] ?? "")
      .concat(name(data.rows.label[row]))
      .join("\n")
      .toLowerCase(),
  );

  let order = Array.from({ length: count }, (_, row) => row);
  let visible = order;
  let sorted = { by: "path", down: false };

  const compare = (a, b) => {
    if (typeof a === "number" && typeof b === "number") return a - b;
    return String(a) < String(b) ? -1 : String(a) > String(b) ? 1 : 0;
  };
  const sort = () => {
    const values = data.rows[sorted.by];
    const sign = sorted.down ? -1 : 1;
    order = Array.from({ length: count }, (_, row) => row).sort((a, b) => {
      if (values[a] === null || values[b] === null) return (values[a] === null) - (values[b] === null) || a - b;
      return sign * compare(values[a], values[b]) || a - b;
    });
  };
  const filter = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    visible = order.filter(
      (row) =>
        words.every((word) => texts[row].includes(word)) &&
        (!label.value || data.rows.label[row] === label.value) &&
        (!conflicts.checked || data.rows.conflicts[row] > 0) &&
        (!failed.checked || data.rows.error[row] !== null),
    );
    shown.textContent = say.shown.replace("{shown}", visible.length).replace("{total}", count);
    box.scrollTop = 0;
    draw();
  };
  const gap = (rows) => {
    const line = element("tr", undefined, "gap");
    const cell = element("td");
    cell.colSpan = columns.length;
    cell.style.height = `${rows * ROW}px`;
    line.append(cell);
    line.setAttribute("aria-hidden", "true");
    return line;
  };
  const draw = () => {
    const first = Math.max(0, Math.floor(box.scrollTop / ROW) - MARGIN);
    const last = Math.min(visible.length, first + Math.ceil((box.clientHeight || 600) / ROW) + 2 * MARGIN);
    const lines = visible.slice(first, last).map((row, number) => {
      const line = element("tr");
      line.setAttribute("aria-rowindex", String(first + number + 2));
      line.append(...columns.map((column) => column.cell(row)));
      return line;
    });
    body.replaceChildren(gap(first), ...lines, gap(visible.length - last));
  };

  const head = document.getElementById("head");
  columns.forEach((column) => {
    const cell = element("th");
    cell.scope = "col";
    if (column.by === null) {
      cell.textContent = column.title;
    } else {
      const button = element("button", column.title);
      button.type = "button";
      button.addEventListener("click", () => {
        sorted = { by: column.by, down: sorted.by === column.by ? !sorted.down : false };
        head.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
        cell.setAttribute("aria-sort", sorted.down ? "descending" : "ascending");
        sort();
        filter();
      });
      if (column.by === sorted.by) cell.setAttribute("aria-sort", "ascending");
      cell.append(button);
    }
    head.append(cell);
  });
  document.getElementById("table").setAttribute("aria-rowcount", String(count + 1));

  const legend = document.getElementById("legend");
  data.palette.stack.forEach((key) => {
    const item = element("li");
    const colour = element("i");
    colour.style.background = colours[key];
    item.append(colour, name(key));
    legend.append(item);
    const option = element("option", name(key));
    option.value = key;
    label.append(option);
  });

  search.addEventListener("input", filter);
  [label, conflicts, failed].forEach((input) => input.addEventListener("change", filter));
  document.getElementById("filters").addEventListener("submit", (event) => event.preventDefault());
  box.addEventListener("scroll", draw, { passive: true });
  window.addEventListener("resize", draw);
  document.getElementById("table").classList.toggle("pictured", Boolean(stored));
  sort();
  filter();
  if (stored) requestAnimationFrame(() => setTimeout(readPictures, 0));
})();
