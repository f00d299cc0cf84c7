// The mark: a repeat sign, as scores have it where a passage is played again.
const SVG = "http://www.w3.org/2000/svg";

export function mark(): SVGSVGElement {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 22 24");
  svg.setAttribute("class", "mark");
  svg.setAttribute("aria-hidden", "true");
  for (const [x, width] of [
    [0, 5],
    [8, 1.8],
  ] as const) {
    const line = document.createElementNS(SVG, "rect");
    const box = { x, y: 0, width, height: 24 };
    for (const [name, value] of Object.entries(box)) line.setAttribute(name, String(value));
    svg.append(line);
  }
  for (const cy of [8, 16]) {
    const dot = document.createElementNS(SVG, "circle");
    for (const [name, value] of Object.entries({ cx: 16.5, cy, r: 2.9 })) dot.setAttribute(name, String(value));
    svg.append(dot);
  }
  return svg;
}
