// The chart: events per second as a curve, outages as bands, gaps as lines. Its scale is that of the square root, so that a
// burst leaves something of the rest to see.
const space = "http://www.w3.org/2000/svg";
const width = 120, height = 100;

export function draw(svg, seconds) {
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const top = Math.max(10, ...seconds.map(s => s.events)) * 1.1;
  const from = width - seconds.length; // the present is at the right
  const x = i => from + i + 1;
  const y = n => height - height * Math.sqrt(n / top);
  const points = seconds.map((s, i) => `${x(i)},${y(s.events).toFixed(1)}`);
  const parts = [shape("line", { class: "base", x1: 0, x2: width, y1: height, y2: height })];
  seconds.forEach((s, i) => {
    if (s.down) parts.push(shape("rect", { class: "down", x: x(i) - 1, y: 0, width: 1, height }));
  });
  if (points.length > 1) {
    parts.push(shape("polygon", { class: "area", points: `${x(0)},${height} ${points.join(" ")} ${width},${height}` }));
    parts.push(shape("polyline", { class: "curve", points: points.join(" ") }));
  }
  seconds.forEach((s, i) => {
    if (s.gaps) parts.push(shape("line", { class: "gap", x1: x(i), x2: x(i), y1: 0, y2: height }));
  });
  svg.replaceChildren(...parts);
}

function shape(name, attributes) {
  const e = document.createElementNS(space, name);
  for (const [key, value] of Object.entries(attributes)) e.setAttribute(key, value);
  return e;
}
