"use strict";
/* One file in, its prediction out. No other server is asked, and text is only ever set as text. */

const PAGE = 10;
const at = (id) => document.getElementById(id);
let bundle = null; // what the server says of its bundle
let result = null; // the answer that is shown: its id, frames and labels
let stem = ""; // name of the chosen file without its ending, for downloads
let frame = 0;
let running = null; // stops the request in progress
let hidden = new Set(); // numbers of the labels that are switched off

async function begin() {
  try {
    bundle = await json(await fetch("/api/bundle"));
  } catch (error) {
    fail(error.message);
    return;
  }
  // the line may break where the name is joined
  at("name").replaceChildren(...bundle.name.split(/(?<=__)/).flatMap((part) => [part, element("wbr")]));
  document.title = bundle.name;
  const names = bundle.labels.map((label) => label.name).join(", ");
  const [height, width] = bundle.image_size;
  const networks = bundle.networks > 1 ? `, ${bundle.networks} networks` : "";
  const what = !classifies() ? "Finds" : bundle.multilabel ? "Tells which there are of" : "Tells one of";
  const threshold = !classifies() || bundle.multilabel ? `; threshold ${bundle.threshold}` : "";
  at("about").textContent = `${what}: ${names}. The network sees ${width} × ${height} pixels${networks}${threshold}.`;
  for (const part of document.querySelectorAll("[data-of]")) {
    part.hidden = (part.dataset.of === "classes") !== classifies();
  }
  at("note").textContent = bundle.note;
  at("most").textContent = `, up to ${bundle.max_bytes / 1e6} MB`;
}

function classifies() {
  return bundle.task === "classification";
}

async function json(response) {
  let content = null;
  try {
    content = await response.json();
  } catch {
    throw new Error(`the server answered ${response.status} without a reason`);
  }
  if (!response.ok) {
    throw new Error(content.error || `the server answered ${response.status}`);
  }
  return content;
}

async function send(file) {
  if (running) {
    running.abort();
  }
  forget();
  at("fault").hidden = true;
  if (bundle && file.size > bundle.max_bytes) {
    fail(`the file is larger than ${bundle.max_bytes / 1e6} MB; --max-megabytes allows more`);
    return;
  }
  const own = (running = new AbortController());
  working(`Predicting ${file.name} …`);
  const form = new FormData();
  // the server needs no name
  form.append("file", file, "image");
  try {
    const answer = await json(await fetch("/api/predict", { method: "POST", body: form, signal: own.signal }));
    if (running === own) {
      present(answer, file.name);
    }
  } catch (error) {
    if (error.name !== "AbortError") {
      fail(error instanceof TypeError ? "the server did not answer; is it still running?" : error.message);
    } else if (running === own) {
      working("");
    }
  } finally {
    if (running === own) {
      running = null;
      at("stop").hidden = true;
    }
  }
}

function working(text) {
  at("state").textContent = text;
  at("state").hidden = !text;
  at("stop").hidden = !text;
}

function fail(text) {
  working("");
  at("fault").textContent = text;
  at("fault").hidden = false;
}

/* The server keeps an answer for a while: tell it when that is no longer needed. */
function forget() {
  if (result) {
    fetch(`/api/results/${result.id}`, { method: "DELETE", keepalive: true }).catch(() => {});
  }
  result = null;
  at("result").hidden = true;
}

function present(answer, name) {
  result = answer;
  stem = name.replace(/\.(nii\.gz|[^.\s]{1,5})$/i, "") || "image";
  hidden = new Set();
  at("title").textContent = name;
  listLabels();
  at("slice").max = answer.frames.length;
  at("slices").hidden = answer.frames.length < 2;
  at("notes").replaceChildren(...answer.notes.map((note) => element("li", note)));
  at("result").hidden = false;
  show(classifies() ? 0 : largest());
  at("state").textContent = `Done: ${summary()}`;
  at("stop").hidden = true;
  at("result").focus({ preventScroll: true });
}

function summary() {
  if (classifies()) {
    return classSummary();
  }
  const found = result.frames.filter((one) => area(one) > 0).length;
  if (result.frames.length > 1) {
    return `lesions in ${found} of ${result.frames.length} slices.`;
  }
  return found ? "a lesion was found." : "no lesion was found.";
}

/* The classes of the image, or of how many slices each is told. */
function classSummary() {
  if (result.frames.length === 1) {
    return `${verdict(result.frames[0])}.`;
  }
  const counts = new Map();
  for (const one of result.frames) {
    const told = names(one.predicted) || "none of them";
    counts.set(told, (counts.get(told) || 0) + 1);
  }
  const parts = [...counts].map(([told, count]) => `${told} in ${count}`);
  return `of ${result.frames.length} slices, ${parts.join("; ")}.`;
}

function verdict(one) {
  return `${names(one.predicted) || "none of them"}, confidence ${percent(one.confidence)}`;
}

function percent(value) {
  return `${(100 * value).toFixed(1)} %`;
}

function area(one) {
  return one.measures.reduce((sum, measure) => sum + measure.area_px, 0);
}

function largest() {
  const areas = result.frames.map(area);
  return areas.indexOf(Math.max(...areas));
}

function listLabels() {
  at("labels").replaceChildren(
    ...result.labels.map((label) => {
      const row = element("div");
      const box = element("input");
      box.type = "checkbox";
      box.checked = true;
      box.id = `label-${label.number}`;
      box.addEventListener("change", () => {
        if (box.checked) {
          hidden.delete(label.number);
        } else {
          hidden.add(label.number);
        }
        show(frame);
      });
      const swatch = element("span");
      swatch.className = "swatch";
      swatch.style.background = label.colour;
      const name = element("label", label.name);
      name.htmlFor = box.id;
      row.append(box, swatch, name);
      return row;
    }),
  );
}

function show(number) {
  frame = Math.min(Math.max(number, 0), result.frames.length - 1);
  const one = result.frames[frame];
  const several = result.frames.length > 1;
  const numbers = layered();
  const drawn = at("outline").checked && !classifies() ? numbers : [];
  const shown = at("shown");
  at("picture").style.setProperty("--ratio", ratio(one));
  shown.src = address(drawn.length ? "overlay.png" : "displayed.png", { labels: drawn.join(",") });
  shown.alt = drawn.length ? `The image with the outlines of: ${names(drawn)}` : "The image";
  at("slice").value = frame + 1;
  at("place").textContent = `${frame + 1} of ${result.frames.length}`;
  at("caption").textContent = `${one.width} × ${one.height} pixels${several ? `, slice ${frame + 1} of ${result.frames.length}` : ""}`;
  const heading = classifies() ? "Classes" : "Measures";
  at("measured").textContent = several ? `${heading} of slice ${frame + 1}` : heading;
  at("whole").textContent = several ? `In the whole file: ${summary()}` : "";
  if (classifies()) {
    showClasses(one);
    layers(layered());
    return;
  }
  at("spacing").textContent = spacing(one);
  table(one.measures);
  layers(numbers);
  downloads();
}

function names(numbers) {
  return result.labels.filter((label) => numbers.includes(label.number)).map((label) => label.name).join(", ");
}

/* Width by height as it is in the patient, where the file knows it. */
function ratio(one) {
  const { row: rows, column } = one.spacing || { row: 1, column: 1 };
  return (one.width * column) / (one.height * rows);
}

const MEASURES = [
  ["area_px", "Area (pixels)", 0],
  ["area_mm2", "Area (mm²)", 1],
  ["lesions", "Lesions", 0],
  ["mean_probability", "Mean probability", 3],
  ["uncertainty", "Uncertainty (bits)", 3],
  ["disagreement", "Disagreement", 3],
];

/* A row for each measure and a column for each label. */
function table(measures) {
  const heads = measures.map((measure) => cell("th", result.labels[measure.label - 1].name, measure));
  heads.forEach((head) => (head.scope = "col"));
  at("columns").replaceChildren(element("td"), ...heads);
  const known = MEASURES.filter(([key]) => key !== "disagreement" || measures.some((measure) => measure[key] !== null));
  at("measures").replaceChildren(
    ...known.map(([key, name, digits]) => {
      const line = element("tr");
      const head = element("th", name);
      head.scope = "row";
      const values = measures.map((measure) => {
        const value = measure[key];
        return cell("td", value === null ? "–" : value.toFixed(digits), measure);
      });
      line.append(head, ...values);
      return line;
    }),
  );
}

/* A row for each class, with its probability as a bar. */
function showClasses(one) {
  at("verdict").textContent = verdict(one);
  const heads = ["Class", "Probability"].map((text) => element("th", text));
  heads.forEach((head) => (head.scope = "col"));
  heads[1].className = "number";
  at("columns").replaceChildren(...heads, element("td"));
  at("measures").replaceChildren(
    ...result.labels.map((label, index) => {
      const line = element("tr");
      line.className = one.predicted.includes(label.number) ? "said" : "";
      const head = element("th", label.name);
      head.scope = "row";
      const value = element("td", percent(one.probabilities[index]));
      value.className = "number";
      const bar = element("td");
      bar.className = "bar";
      const length = element("span");
      length.style.width = `${100 * one.probabilities[index]}%`;
      length.style.background = label.colour;
      bar.append(length);
      line.append(head, value, bar);
      return line;
    }),
  );
  at("spoken").textContent = names([one.cam.label]);
  const apart = one.disagreement === null ? "" : `, disagreement ${one.disagreement.toFixed(3)} bits`;
  at("spacing").textContent = `Uncertainty ${one.uncertainty.toFixed(3)} bits${apart}. ${one.cam.reason ? `The layer is empty: ${one.cam.reason}.` : ""}`;
}

function cell(tag, text, measure) {
  const made = element(tag, text);
  made.className = hidden.has(measure.label) ? "number off" : "number";
  return made;
}

const PLANES = {
  patient: "in the patient",
  detector: "at the detector, where lesions look larger than they are",
  region: "of the ultrasound region",
  volume: "of the volume",
};

function spacing(one) {
  if (!one.spacing) {
    return "The file does not say how large a pixel is.";
  }
  const { row: rows, column, plane } = one.spacing;
  return `Pixels are ${rows.toPrecision(3)} × ${column.toPrecision(3)} mm (rows × columns) ${PLANES[plane] || plane}.`;
}

/* The layer of each label lies on the picture; it is fetched when it is first to be seen. */
function layers(numbers) {
  const opacity = at("opacity").value / 100;
  at("percent").textContent = `${at("opacity").value} %`;
  const wanted = opacity > 0 ? numbers : [];
  at("layers").replaceChildren(
    ...wanted.map((label) => {
      const image = element("img");
      image.alt = "";
      image.src = classifies() ? address("cam.png", { coloured: 1 }) : address("probability.png", { label, coloured: 1 });
      image.style.opacity = opacity;
      return image;
    }),
  );
}

/* Numbers of the labels that have a layer: those that are switched on, or the likeliest class. */
function layered() {
  if (classifies()) {
    return [result.frames[frame].cam.label];
  }
  return result.labels.map((label) => label.number).filter((label) => !hidden.has(label));
}

function fade() {
  const opacity = at("opacity").value / 100;
  const images = at("layers").children;
  if (!images.length || opacity === 0) {
    layers(layered());
    return;
  }
  at("percent").textContent = `${at("opacity").value} %`;
  for (const image of images) {
    image.style.opacity = opacity;
  }
}

function downloads() {
  const several = result.frames.length > 1;
  const ending = several ? `_${String(frame + 1).padStart(3, "0")}` : "";
  const here = several ? " of this slice" : "";
  const all = several ? " of all slices" : "";
  const offers = {
    "mask.dcm": [`Mask as DICOM SEG${all}`, address("mask.dcm", {}), "_mask.dcm"],
    "mask.nii.gz": [`Mask as NIfTI${all}`, address("mask.nii.gz", {}), "_mask.nii.gz"],
    "mask.png": [`Mask as PNG${here}`, address("mask.png", {}), `${ending}_mask.png`],
    "overlay.png": [`Overlay as PNG${here}`, address("overlay.png", {}), `${ending}_overlay.png`],
  };
  const wanted = Object.keys(offers).filter((name) => result.files.includes(name));
  const items = wanted.map((name) => link(...offers[name]));
  for (const label of result.labels) {
    const text = result.labels.length > 1 ? `Probability of ${label.name} as PNG${here}` : `Probability as PNG${here}`;
    const last = result.labels.length > 1 ? `_probability_${label.number}.png` : "_probability.png";
    items.push(link(text, address("probability.png", { label: label.number }), ending + last));
  }
  at("downloads").replaceChildren(...items);
}

function link(text, href, ending) {
  const item = element("li");
  const anchor = element("a", text);
  anchor.href = href;
  anchor.download = stem + ending;
  item.append(anchor);
  return item;
}

function address(name, query) {
  return `/api/results/${result.id}/${name}?${new URLSearchParams({ frame, ...query })}`;
}

function element(tag, text = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  return made;
}

/* A picture that does not come says why. */
at("shown").addEventListener("error", async () => {
  if (result) {
    try {
      await json(await fetch(at("shown").src));
    } catch (error) {
      fail(error.message);
    }
  }
});
at("file").addEventListener("change", () => {
  const file = at("file").files[0];
  if (file) {
    send(file);
  }
  at("file").value = ""; // so that the same file can be chosen again
});
at("stop").addEventListener("click", () => running && running.abort());
at("slice").addEventListener("input", () => show(at("slice").value - 1));
at("largest").addEventListener("click", () => show(largest()));
at("opacity").addEventListener("input", fade);
at("outline").addEventListener("change", () => show(frame));

document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("over");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) {
    document.body.classList.remove("over");
  }
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  const files = event.dataTransfer.files;
  if (files.length > 1) {
    fail("one file at a time; 'medseg predict' takes many");
  } else if (files.length) {
    send(files[0]);
  }
});

const STEPS = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, PageDown: PAGE, PageUp: -PAGE };
document.addEventListener("keydown", (event) => {
  const busy = event.altKey || event.ctrlKey || event.metaKey || event.shiftKey;
  // sliders and the table have arrow keys of their own
  const taken = event.target.closest("input, .scroll, button, a");
  if (!result || result.frames.length < 2 || busy || taken || !(event.key in STEPS)) {
    return;
  }
  event.preventDefault();
  show(frame + STEPS[event.key]);
});
window.addEventListener("pagehide", forget);
begin();
