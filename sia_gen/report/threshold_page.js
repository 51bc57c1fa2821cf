"use strict";
// Judges the images of the page anew whenever the threshold moves. The functions before `start` are
// pure; images have a score, and a label that is "anomalous", "normal" or null.

const isAnomalous = (image, threshold) => image.score > threshold;

function count(images, threshold) {
  const counts = { anomalous: 0, normal: 0, defects: 0, good: 0, missed: 0, alarms: 0 };
  for (const image of images) {
    const called = isAnomalous(image, threshold);
    counts[called ? "anomalous" : "normal"] += 1;
    if (image.label === "anomalous") {
      counts.defects += 1;
      counts.missed += called ? 0 : 1;
    } else if (image.label === "normal") {
      counts.good += 1;
      counts.alarms += called ? 1 : 0;
    }
  }
  return counts;
}

// Thresholds that judge in all different ways, ascending: below all scores, between, at the highest.
function candidates(images) {
  const scores = [...new Set(images.map((image) => image.score))].sort((a, b) => a - b);
  if (scores.length === 0) return [0];
  const between = scores.slice(1).map((score, place) => (scores[place] + score) / 2);
  // Scores may be so close that their mean is the higher one.
  const kept = between.map((middle, place) => (middle < scores[place + 1] ? middle : scores[place]));
  const step = scores.length > 1 ? (scores.at(-1) - scores[0]) / scores.length : 0.01;
  return [scores[0] - step, ...kept, scores.at(-1)];
}

const costOf = (counts, miss, alarm) => counts.missed * miss + counts.alarms * alarm;

// Of equally cheap thresholds the one in the middle.
function cheapest(images, miss, alarm) {
  const sorted = images.filter((image) => image.label !== null).sort((a, b) => a.score - b.score);
  const { good } = count(sorted, Infinity);
  let [cost, place, best] = [good * alarm, 0, []];
  let least = Infinity;
  for (const threshold of candidates(sorted)) {
    for (; place < sorted.length && sorted[place].score <= threshold; place += 1) {
      cost += sorted[place].label === "anomalous" ? miss : -alarm;
    }
    if (cost < least - 1e-9) [least, best] = [cost, []];
    if (cost <= least + 1e-9) best.push(threshold);
  }
  return best[Math.floor((best.length - 1) / 2)];
}

// The nearest threshold in a direction that judges one of the images otherwise.
function neighbour(images, threshold, direction) {
  const above = (one) => count(images, one).anomalous;
  const now = above(threshold);
  const steps = candidates(images).filter((one) => (one - threshold) * direction > 0);
  if (direction < 0) steps.reverse();
  return steps.find((one) => above(one) !== now) ?? threshold;
}

const FILTERS = {
  "All": () => true,
  "Missed defects": (image, called) => image.label === "anomalous" && !called,
  "False alarms": (image, called) => image.label === "normal" && called,
  "Anomalous": (_, called) => called,
  "Normal": (_, called) => !called,
};

function start(data) {
  const [BINS, PAGE] = [60, 200];
  const find = (id) => document.getElementById(id);
  const names = ["name", "score", "label", "kind", "photograph", "thumbnail", "heatmap"];
  const images = data.images
    .map((values) => Object.fromEntries(names.map((name, place) => [name, values[place]])))
    .sort((a, b) => b.score - a.score);
  const labelled = images.some((image) => image.label !== null);
  const scores = images.map((image) => image.score);
  const low = scores.reduce((a, b) => Math.min(a, b), data.threshold);
  const high = scores.reduce((a, b) => Math.max(a, b), data.threshold);
  const room = (high - low || 0.1) * 0.02;
  const range = [low - room, high + room];
  let [threshold, filter, shown, limit, current] = [data.threshold, "All", [], PAGE, -1];
  let [scale, fits, heat] = [1, true, true];

  const percent = (part, whole) => (whole ? ` (${((100 * part) / whole).toFixed(1)} %)` : "");
  const digits = (score) => score.toFixed(range[1] - range[0] < 0.05 ? 5 : 3);
  const amount = (id) => Math.max(0, Number(find(id).value) || 0);

  function element(tag, properties, ...children) {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  }

  function verdict(image) {
    const called = isAnomalous(image, threshold);
    const text = called ? "anomalous" : "normal";
    if (image.label === null || (image.label === "anomalous") === called) return [text, false];
    return [called ? "false alarm" : "missed", true];
  }

  function drawHistogram() {
    const groups = labelled ? ["normal", "anomalous"] : [null];
    const all = groups.map((label) => {
      const bins = new Array(BINS).fill(0);
      for (const image of images) {
        if (image.label !== label) continue;
        const place = ((image.score - range[0]) / (range[1] - range[0])) * BINS;
        bins[Math.min(BINS - 1, Math.floor(place))] += 1;
      }
      return bins;
    });
    const highest = Math.max(1, ...all.flat());
    const draw = (tag, attributes) => {
      const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
      for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
      find("histogram").append(made);
      return made;
    };
    const width = 600 / BINS / groups.length;
    all.forEach((bins, group) =>
      bins.forEach((number, place) => {
        // A single image stays visible.
        const height = number ? Math.max(2, (56 * number) / highest) : 0;
        const x = (600 / BINS) * place + group * width;
        const kind = groups[group] ?? "normal";
        draw("rect", { class: kind, x, y: 60 - height, width: width * 0.9, height });
      }),
    );
    return draw("line", { y1: 0, y2: 60, stroke: "currentColor", "stroke-width": 2 });
  }

  function showCounts() {
    const counts = count(images, threshold);
    const part = (text, number, rest) =>
      element("span", {}, `${text} `, element("b", { textContent: number }), rest);
    const parts = labelled
      ? [
          part("Missed", counts.missed, ` of ${counts.defects} defects${percent(counts.missed, counts.defects)}`),
          part("False alarms", counts.alarms, ` of ${counts.good} good${percent(counts.alarms, counts.good)}`),
          part("Cost", +costOf(counts, amount("miss"), amount("alarm")).toFixed(2), ""),
        ]
      : [
          part("Anomalous", counts.anomalous, ` of ${images.length}${percent(counts.anomalous, images.length)}`),
          part("Normal", counts.normal, ""),
        ];
    find("counts").replaceChildren(...parts);
  }

  function card(image, place) {
    const [text, wrong] = verdict(image);
    const picture = (address) => element("img", { src: address, alt: "", loading: "lazy" });
    const button = element(
      "button",
      { type: "button", className: isAnomalous(image, threshold) ? "anomalous" : "" },
      element("span", { className: "pair" }, picture(image.thumbnail), picture(image.heatmap)),
      element(
        "span",
        { className: "text" },
        `${digits(image.score)} `,
        element("span", { className: wrong ? "wrong" : "", textContent: text }),
        element("br"),
        element("span", { className: "name", textContent: image.name }),
      ),
    );
    button.addEventListener("click", () => open(place));
    return element("li", {}, button);
  }

  function showGrid() {
    shown = images.filter((image) => FILTERS[filter](image, isAnomalous(image, threshold)));
    find("grid").replaceChildren(...shown.slice(0, limit).map(card));
    find("more").hidden = shown.length <= limit;
  }

  // The cards follow when the slider rests, because there may be many.
  let waiting = 0;
  function judge(value) {
    if (!Number.isFinite(value)) return;
    threshold = value;
    find("slider").value = value;
    if (document.activeElement !== find("threshold")) find("threshold").value = +value.toPrecision(5);
    const x = (600 * (value - range[0])) / (range[1] - range[0]);
    line.setAttribute("x1", x);
    line.setAttribute("x2", x);
    showCounts();
    clearTimeout(waiting);
    waiting = setTimeout(showGrid, 60);
  }

  function zoomTo(value, fit = false) {
    const [stage, picture, photograph] = ["stage", "picture", "photograph"].map(find);
    const [width, height] = [photograph.naturalWidth, photograph.naturalHeight];
    if (!width) return;
    const whole = Math.min(stage.clientWidth / width, stage.clientHeight / height);
    const [x, y] = [
      (stage.scrollLeft + stage.clientWidth / 2) / scale,
      (stage.scrollTop + stage.clientHeight / 2) / scale,
    ];
    fits = fit;
    scale = fit ? whole : Math.min(32, Math.max(Math.min(whole, 1) / 2, value));
    picture.style.width = `${width * scale}px`;
    picture.style.height = `${height * scale}px`;
    picture.classList.toggle("sharp", scale >= 2);
    stage.scrollTo(x * scale - stage.clientWidth / 2, y * scale - stage.clientHeight / 2);
    find("zoom").textContent = `${Math.round(100 * scale)} % of ${width} × ${height}`;
  }

  function open(place) {
    const image = shown[place];
    if (image === undefined) return;
    current = place;
    const [text, wrong] = verdict(image);
    const truth = image.kind || image.label;
    find("caption").replaceChildren(
      `${place + 1} of ${shown.length}: ${image.name}, score ${digits(image.score)}, `,
      element("span", { className: wrong ? "wrong" : "", textContent: text }),
      truth ? ` (${truth})` : "",
    );
    find("photograph").alt = `Photograph ${image.name}`;
    find("photograph").src = image.photograph;
    find("overlay").src = image.heatmap;
    if (!find("viewer").open) find("viewer").showModal();
    find("stage").focus();
  }

  function toggleHeat() {
    heat = !heat;
    find("overlay").hidden = !heat;
    find("heat").setAttribute("aria-pressed", heat);
  }

  function drag(stage) {
    let from = null;
    stage.addEventListener("pointerdown", (event) => {
      // A finger scrolls by itself.
      if (event.pointerType !== "mouse") return;
      from = [event.clientX + stage.scrollLeft, event.clientY + stage.scrollTop];
      stage.setPointerCapture(event.pointerId);
    });
    stage.addEventListener("pointermove", (event) => {
      if (from) stage.scrollTo(from[0] - event.clientX, from[1] - event.clientY);
    });
    stage.addEventListener("pointerup", () => (from = null));
    stage.addEventListener("dragstart", (event) => event.preventDefault());
    stage.addEventListener("wheel", (event) => {
      event.preventDefault();
      zoomTo(scale * (event.deltaY < 0 ? 1.25 : 0.8));
    }, { passive: false });
  }

  const IN_VIEWER = {
    ArrowLeft: () => open(current - 1),
    ArrowRight: () => open(current + 1),
    h: toggleHeat,
    "+": () => zoomTo(scale * 1.5),
    "=": () => zoomTo(scale * 1.5),
    "-": () => zoomTo(scale / 1.5),
    0: () => zoomTo(1, true),
    1: () => zoomTo(1),
  };
  const step = (direction) => judge(neighbour(images, threshold, direction));
  const ANYWHERE = { "[": () => step(-1), "]": () => step(1) };

  const line = drawHistogram();
  const slider = find("slider");
  Object.assign(slider, { min: range[0], max: range[1], step: (range[1] - range[0]) / 1000 });
  slider.addEventListener("input", () => judge(Number(slider.value)));
  find("threshold").addEventListener("input", (event) => judge(parseFloat(event.target.value)));
  find("threshold").addEventListener("blur", () => judge(threshold));
  const clicks = {
    lower: () => step(-1),
    higher: () => step(1),
    fitted: () => judge(data.threshold),
    more: () => ((limit += PAGE), showGrid()),
    previous: IN_VIEWER.ArrowLeft,
    next: IN_VIEWER.ArrowRight,
    heat: toggleHeat,
    smaller: IN_VIEWER["-"],
    larger: IN_VIEWER["+"],
    fit: IN_VIEWER[0],
    own: IN_VIEWER[1],
    close: () => find("viewer").close(),
  };
  if (labelled) {
    clicks.cheapest = () => judge(cheapest(images, amount("miss"), amount("alarm")));
    for (const id of ["miss", "alarm"]) find(id).addEventListener("input", showCounts);
  }
  for (const [id, act] of Object.entries(clicks)) find(id).addEventListener("click", act);
  for (const name of Object.keys(FILTERS)) {
    if (!labelled && (name === "Missed defects" || name === "False alarms")) continue;
    const radio = element("input", { type: "radio", name: "filter", checked: name === filter });
    radio.addEventListener("change", () => {
      [filter, limit] = [name, PAGE];
      showGrid();
    });
    find("filters").append(element("label", {}, radio, ` ${name}`));
  }
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.type === "number") return;
    const act = ANYWHERE[event.key] ?? (find("viewer").open ? IN_VIEWER[event.key] : undefined);
    if (act === undefined) return;
    event.preventDefault();
    act();
  });
  find("photograph").addEventListener("load", () => zoomTo(scale, fits));
  find("photograph").addEventListener("error", () => {
    find("zoom").textContent = "The photograph is not beside the page.";
  });
  window.addEventListener("resize", () => fits && zoomTo(1, true));
  drag(find("stage"));
  judge(threshold);
  showGrid();
}

if (typeof document === "undefined") module.exports = { candidates, cheapest, count, neighbour };
else start(JSON.parse(document.getElementById("data").textContent));
