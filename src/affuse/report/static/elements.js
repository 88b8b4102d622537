// Elements and numbers as text. Text is only ever set as text, and styles through the CSSOM, as a strict policy demands.

export const percent = (value) => `${Math.round(100 * value)}\u00a0%`;

export const signed = (value, digits) => (value < 0 ? "−" : value > 0 ? "+" : "") + Math.abs(value).toFixed(digits);

export const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

export const top = (probabilities) => Object.keys(probabilities).reduce((a, b) => (probabilities[b] > probabilities[a] ? b : a));

/** An HTML element; children that are null are left out, attributes that are null or false as well. */
export function make(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "style") for (const [property, set] of Object.entries(value)) node.style.setProperty(property, set);
    else if (value !== false && value !== null) node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}
