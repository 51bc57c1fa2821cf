"use strict";
// Sends photographs to the server, a few at a time, and shows what it finds. A server that is busy
// is asked again, so that no photograph is lost.
const AT_ONCE = 2;
const find = (id) => document.getElementById(id);
const waiting = [];
let [running, done, all] = [0, 0, 0];

function element(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

async function ask(file) {
  for (;;) {
    // An image of an unknown type is sent as bytes; the server looks at them.
    const type = file.type.startsWith("image/") ? file.type : "application/octet-stream";
    const options = { method: "POST", body: file, headers: { "Content-Type": type } };
    const answer = await fetch("predict?heatmap=true", options);
    if (answer.status !== 503) return answer.json();
    const seconds = Number(answer.headers.get("Retry-After")) || 1;
    await new Promise((resolve) => setTimeout(resolve, 1000 * seconds * (0.5 + Math.random())));
  }
}

function boxes(found) {
  const name = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(name, "svg");
  svg.setAttribute("viewBox", `0 0 ${found.width} ${found.height}`);
  svg.setAttribute("aria-hidden", "true");
  for (const { box } of found.boxes) {
    const rect = document.createElementNS(name, "rect");
    ["x", "y", "width", "height"].forEach((side, place) => rect.setAttribute(side, box[place]));
    svg.append(rect);
  }
  return svg;
}

function picture(found, file) {
  const image = element("img", { src: found.heatmap, alt: `Heat map of ${file.name}` });
  const frame = element("div", { className: "picture" }, image, boxes(found));
  const toggle = element("button", { type: "button", textContent: "Photograph" });
  let plain = null;
  toggle.addEventListener("click", () => {
    plain ??= URL.createObjectURL(file);
    const shows = image.src === plain;
    image.src = shows ? found.heatmap : plain;
    toggle.textContent = shows ? "Photograph" : "Heat map";
  });
  return [frame, toggle];
}

function show(item, file, found) {
  const name = element("p", { className: "name", textContent: file.name });
  if (found.error) {
    const [problem, fix] = [found.error, found.fix ?? ""];
    item.replaceChildren(
      element("div", { className: "text" }, name, element("p", { textContent: `${problem} ${fix}` })),
    );
    return;
  }
  item.className = found.verdict;
  const [frame, toggle] = picture(found, file);
  const places = found.boxes.length === 1 ? "1 place" : `${found.boxes.length} places`;
  const verdict = element("span", { className: "verdict", textContent: found.verdict });
  const line = element("p", {}, verdict, `, score ${found.score.toFixed(4)}, ${places} marked `, toggle);
  const doubts = Object.entries(found.doubts).map(([what, how]) =>
    element("p", { className: "doubt", textContent: `Unlike what was learnt (${what}): ${how}.` }),
  );
  item.replaceChildren(frame, element("div", { className: "text" }, name, line, ...doubts));
}

function tell() {
  find("progress").textContent = done < all ? `${done} of ${all} judged …` : `${all} judged.`;
}

async function work() {
  if (running >= AT_ONCE || waiting.length === 0) return;
  running += 1;
  const { item, file } = waiting.shift();
  try {
    show(item, file, await ask(file));
  } catch (error) {
    show(item, file, { error: "The server cannot be reached.", fix: "Start it again, and drop the file again." });
  }
  running -= 1;
  done += 1;
  tell();
  work();
}

function take(files) {
  for (const file of files) {
    const item = element("li", {}, element("div", { className: "text" }, `${file.name} …`));
    find("results").prepend(item);
    waiting.push({ item, file });
    all += 1;
    work();
  }
  if (all) tell();
}

const drop = find("drop");
find("files").addEventListener("change", (event) => take(event.target.files));
for (const kind of ["dragenter", "dragover"]) {
  document.addEventListener(kind, (event) => (event.preventDefault(), drop.classList.add("over")));
}
document.addEventListener("dragleave", (event) => event.relatedTarget || drop.classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  take(event.dataTransfer.files);
});
