// The page to draw on: takes drawings, pictures and camera frames, asks the server what
// they say, and shows its answers. Nothing is kept but the choice of colours.

const find = (id) => document.getElementById(id);
const [paper, picture, video, boxes] = ["paper", "picture", "video", "boxes"].map(find);
const READ_WIDTH = 400; // pixels; a drawing is sent no wider, as that is read faster
const MOST_DIGITS = 100; // that are listed one by one
const settings = await (await fetch("settings")).json();

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function makeSvg(tag, attributes, text = "") {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.textContent = text;
  return element;
}

const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
const toBlob = (canvas, ...how) => new Promise((done) => canvas.toBlob(done, ...how));
const percent = (share) => (share < 0.01 ? "<1 %" : `${Math.floor(100 * share)} %`);

function say(text) { // to those who listen to the page
  if (find("spoken").textContent !== text) find("spoken").textContent = text;
}

// ------------------------------------------------------------------------- the server

async function ask(path, blob) {
  if (blob.size > settings.max_bytes) {
    throw new Error(`A picture may have ${settings.max_bytes / 2 ** 20} MiB.`);
  }
  for (;;) {
    const response = await fetch(path, { method: "POST", body: blob }).catch(() => {
      throw new Error("The server does not answer. Is draw.py still running?");
    });
    if (response.status === 503 && response.headers.has("Retry-After")) {
      await pause(1000);
      continue;
    }
    const answer = await response.json().catch(() => ({ error: response.statusText }));
    if (!response.ok) throw new Error(answer.error);
    return answer;
  }
}

// Returns what the answer panel shows, of each page. `original` returns the picture to
// cut a corrected digit out of, in which boxes are `scale` times as large.
async function readPages(blob, path = "explain", original = () => blob, scale = 1) {
  try {
    const { answers, explanations } = await ask(path, blob);
    return answers.map((answer, i) => ({ ...explanations[i], ...answer, original, scale }));
  } catch (error) {
    return [failed(error)];
  }
}

const failed = (error) => ({ status: "error", why: error.message, digits: [], text: "" });

// ------------------------------------------------------------------------- the answer

const TEXTS = {
  empty: "Nothing here yet",
  waits: "Reading …",
  blank: "Nothing here yet",
  no_digit: "No digit",
  error: "Cannot be read",
};
const EMPTY = { status: "empty", why: "", digits: [], text: "" };
const WAITS = { ...EMPTY, status: "waits" };
let shown = EMPTY;

function headline(page) {
  const text = page.status === "unsure" ? `${page.text}?` : page.text;
  return text || TEXTS[page.status];
}

function certainty(page) {
  if (page.status === "ok") return `${percent(page.confidence)} sure`;
  return page.status === "unsure" ? `Not sure (${percent(page.confidence)})` : "";
}

function show(page, size) {
  shown = page;
  find("answer").dataset.status = page.status;
  find("text").textContent = headline(page);
  find("state").textContent = certainty(page);
  find("why").textContent = page.why;
  const listed = page.digits.slice(0, MOST_DIGITS);
  find("digits").replaceChildren(...listed.map((digit, i) => describe(page, digit, i)));
  const more = page.digits.length - listed.length;
  find("digits").append(...(more > 0 ? [make("li", {}, `and ${more} more`)] : []));
  drawBoxes(page, size);
}

function tell(page) {
  say([headline(page), certainty(page), page.why].filter(Boolean).join(". "));
}

function describe(page, digit, index) {
  const guesses = digit.top_k.map((guess) => {
    const bar = make("i");
    bar.style.width = `${100 * guess.confidence}%`;
    return make(
      "div", { className: "guess" },
      make("span", { className: "name" }, String(guess.digit)),
      make("span", { className: "bar" }, bar),
      make("span", { className: "number" }, percent(guess.confidence)),
    );
  });
  const row = make(
    "li", { className: digit.confidence < 0.5 ? "unsure" : "" },
    make("img", {
      className: "seen", src: page.seen[index], width: 84, height: 84,
      alt: `What the model saw of number ${index + 1}, 28 by 28 pixels`,
    }),
    make("div", {}, ...guesses),
  );
  const isStill = mode() !== "camera" || isHeld(); // else the next frame takes its place
  if (settings.keeps_corrections && isStill) row.append(correctionsOf(page, digit, index));
  return row;
}

function correctionsOf(page, digit, index) {
  const said = make("p");
  const buttons = settings.class_names.map((name) => {
    const button = make("button", { type: "button", textContent: name });
    button.setAttribute("aria-label", `Number ${index + 1} is ${name}`);
    button.addEventListener("click", async () => {
      const query = new URLSearchParams({ label: name, page: page.page });
      if (digit.box) query.set("box", digit.box.map((n) => Math.round(n * page.scale)));
      try {
        const { kept } = await ask(`correct?${query}`, await page.original());
        for (const b of buttons) b.setAttribute("aria-pressed", b === button);
        said.textContent = `Kept as ${kept}`;
      } catch (error) {
        said.textContent = `Not kept: ${error.message}`;
      }
      say(said.textContent);
    });
    return button;
  });
  const legend = make("legend", {}, "Is it wrong? Say what it is");
  const few = buttons.length <= 10 ? "few" : "";
  const choice = make("div", { className: few }, ...buttons);
  return make("fieldset", { className: "correct" }, legend, choice, said);
}

function drawBoxes(page, size) {
  boxes.replaceChildren();
  if (!size) return;
  const [width, height] = size;
  boxes.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const unit = width / (boxes.clientWidth || width); // of the picture, for a pixel here
  for (const digit of page.digits) {
    if (!digit.box) continue;
    const [left, top, right, bottom] = digit.box;
    const sure = digit.confidence >= 0.5;
    const group = makeSvg("g", { class: sure ? "" : "unsure" });
    const frame = {
      x: left, y: top, width: right - left, height: bottom - top, rx: 4 * unit,
    };
    const dashes = sure ? "none" : `${6 * unit} ${4 * unit}`;
    group.append(
      makeSvg("rect", { ...frame, class: "around", "stroke-width": 4 * unit }),
      makeSvg("rect", { ...frame, "stroke-width": 2 * unit, "stroke-dasharray": dashes }),
    );
    const text = `${digit.digit}${sure ? "" : "?"}`;
    const wide = (12 + 8 * text.length) * unit;
    const x = Math.min(Math.max(0, left), width - wide);
    const y = top > 20 * unit ? top - 20 * unit : Math.min(bottom, height - 20 * unit);
    group.append(
      makeSvg("rect", { class: "label", x, y, width: wide, height: 19 * unit, rx: 4 * unit }),
      makeSvg("text", { x: x + wide / 2, y: y + 14.5 * unit, "font-size": 14 * unit }, text),
    );
    boxes.append(group);
  }
}

// ------------------------------------------------------------------------- where from

const mode = () => document.querySelector("[name=mode]:checked").value;

const HINTS = {
  draw: "Write here, with mouse, pen or finger",
  pictures: "Drop, paste or choose pictures, as many as you like",
  camera: "Show digits to the camera",
};

function hint(text) {
  find("hint").textContent = text;
  find("hint").hidden = !text;
}

function setMode(name) {
  document.querySelector(`[name=mode][value=${name}]`).checked = true;
  find("stage").dataset.mode = name;
  for (const tools of document.querySelectorAll("[data-for]")) {
    tools.hidden = tools.dataset.for !== name;
  }
  paper.hidden = name !== "draw";
  picture.hidden = video.hidden = true;
  find("shelf").hidden = name !== "pictures";
  stopCamera();
  show(EMPTY);
  hint(HINTS[name]);
  if (name === "draw") drawingChanged();
  if (name === "pictures") select(selected ?? entries[0]);
}

for (const input of document.querySelectorAll("[name=mode]")) {
  input.addEventListener("change", () => setMode(input.value));
}

// --------------------------------------------------------------------------- to draw

// A stroke is {thickness, points: [[x, y], ...]}; lengths are shares of the paper's
// width. `strokes` is never changed, only replaced, so that Undo can go back.
let strokes = [];
let past = []; // what `strokes` was before each stroke, and before Clear
let pen = null; // the stroke that is being drawn
let isReading = false;
let isNew = false; // whether the drawing has changed since it was sent

const allStrokes = () => (pen ? [...strokes, pen] : strokes);

function drawStrokes(canvas, width, drawn, ink, ground) {
  canvas.width = Math.round(width);
  canvas.height = Math.round((width * paper.clientHeight) / paper.clientWidth);
  const context = canvas.getContext("2d");
  if (ground) {
    context.fillStyle = ground;
    context.fillRect(0, 0, canvas.width, canvas.height);
  }
  context.strokeStyle = ink;
  context.lineCap = context.lineJoin = "round";
  for (const { thickness, points } of drawn) {
    const at = points.map(([x, y]) => [x * canvas.width, y * canvas.width]);
    context.lineWidth = thickness * canvas.width;
    context.beginPath();
    context.moveTo(...at[0]);
    for (let i = 1; i < at.length - 1; i++) { // curves through the middles between points
      const middle = [0, 1].map((k) => (at[i][k] + at[i + 1][k]) / 2);
      context.quadraticCurveTo(...at[i], ...middle);
    }
    context.lineTo(...at.at(-1));
    context.stroke();
  }
  return canvas;
}

function redraw() {
  if (!paper.clientWidth) return;
  const ink = getComputedStyle(paper).color;
  drawStrokes(paper, paper.clientWidth * devicePixelRatio, allStrokes(), ink);
}

function drawingChanged() {
  redraw();
  const count = allStrokes().length;
  find("undo").disabled = !past.length;
  find("clear").disabled = !count;
  hint(count ? "" : HINTS.draw);
  isNew = true;
  readDrawing();
}

// One drawing is with the server at a time; the next is the newest. So the answer
// follows the pen as fast as it can.
async function readDrawing() {
  if (isReading) return;
  isReading = true;
  while (isNew && mode() === "draw") {
    isNew = false;
    const drawn = allStrokes().map((stroke) => ({ ...stroke, points: [...stroke.points] }));
    let page = { ...EMPTY, why: "The answer follows while you draw." };
    let size;
    if (drawn.length) {
      if (shown.status === "empty") show(WAITS);
      const onWhite = (width) => drawStrokes(make("canvas"), width, drawn, "#000", "#fff");
      const sent = onWhite(Math.min(READ_WIDTH, paper.clientWidth));
      const wide = Math.round(paper.clientWidth * devicePixelRatio);
      const original = () => toBlob(onWhite(wide));
      size = [sent.width, sent.height];
      [page] = await readPages(
        await toBlob(sent), "explain", original, wide / sent.width,
      );
    }
    if (mode() !== "draw") break;
    show(page, size);
    paper.setAttribute("aria-label", `Paper to draw on: ${headline(page)}`);
    if (!pen && !isNew) tell(page);
  }
  isReading = false;
}

function pointOf(event) {
  const { left, top, width } = paper.getBoundingClientRect();
  return [(event.clientX - left) / width, (event.clientY - top) / width];
}

paper.addEventListener("pointerdown", (event) => {
  if (pen || event.button > 0) return;
  event.preventDefault();
  paper.setPointerCapture(event.pointerId);
  const thickness = Number(find("thickness").value) / paper.clientWidth;
  pen = { thickness, points: [pointOf(event)], pointer: event.pointerId };
  drawingChanged();
});
paper.addEventListener("pointermove", (event) => {
  if (pen?.pointer !== event.pointerId) return;
  const events = event.getCoalescedEvents?.() ?? [];
  pen.points.push(...(events.length ? events : [event]).map(pointOf));
  drawingChanged();
});
for (const kind of ["pointerup", "pointercancel"]) {
  paper.addEventListener(kind, (event) => {
    if (pen?.pointer !== event.pointerId) return;
    replaceStrokes(allStrokes());
  });
}

function replaceStrokes(others) {
  past.push(strokes);
  strokes = others;
  pen = null;
  drawingChanged();
}

function undo() {
  if (!past.length) return;
  strokes = past.pop();
  drawingChanged();
}

find("undo").addEventListener("click", undo);
find("clear").addEventListener("click", () => replaceStrokes([]));
document.addEventListener("keydown", (event) => {
  if ((event.ctrlKey || event.metaKey) && event.key === "z" && mode() === "draw") {
    event.preventDefault();
    undo();
  }
});
new ResizeObserver(() => {
  redraw();
  drawBoxes(shown, boxes.viewBox.baseVal.width && sizeShown());
}).observe(find("frame"));

const sizeShown = () => ["width", "height"].map((side) => boxes.viewBox.baseVal[side]);

// -------------------------------------------------------------------- picture files

let entries = []; // {name, page or null while it waits, item: its place on the shelf}
let selected = null;
let queue = Promise.resolve();

function addFiles(files) {
  if (!files.length) return;
  setMode("pictures");
  for (const file of files) {
    const entry = addEntry(file.name || "picture", null);
    queue = queue.then(() => readFile(file, entry));
  }
}

function addEntry(name, after) {
  const entry = { name, page: null, item: make("li") };
  if (after) after.item.after(entry.item);
  else find("shelf").append(entry.item);
  entries.splice(after ? entries.indexOf(after) + 1 : entries.length, 0, entry);
  fill(entry);
  return entry;
}

async function readFile(file, entry) {
  if (!entries.includes(entry)) return; // it was removed meanwhile
  const pages = await readPages(file, "explain?pages=1");
  if (!entries.includes(entry)) return;
  let last = entry;
  pages.forEach((page, i) => {
    if (i) last = addEntry(`${file.name}, page ${i + 1}`, last);
    last.page = page;
    fill(last);
  });
  if (mode() === "pictures" && (selected ?? entry) === entry) select(entry);
}

function fill(entry) {
  const { name, page } = entry;
  const look = make("span", { className: "thumb" });
  const source = page && (page.picture ?? page.seen?.[0]);
  if (source) look.append(make("img", { src: source, alt: "" }));
  const text = page ? headline(page) : "…";
  const button = make(
    "button", { type: "button", title: name },
    look, make("strong", {}, text), make("small", {}, name),
  );
  button.setAttribute("aria-current", entry === selected);
  button.setAttribute("aria-label", `${name}: ${page ? text : "waits to be read"}`);
  button.addEventListener("click", () => select(entry));
  entry.item.replaceChildren(button);
  find("empty").disabled = !entries.length;
}

function select(entry) {
  selected = entry;
  for (const other of entries) {
    other.item.firstChild.setAttribute("aria-current", other === entry);
  }
  const page = entry?.page;
  const source = page && (page.picture ?? page.seen?.[0]);
  picture.hidden = !source;
  hint(entry ? (source ? "" : entry.name) : HINTS.pictures);
  if (source) {
    picture.src = source;
    picture.alt = entry.name;
    picture.onload = () => {
      picture.classList.toggle("tiny", picture.naturalWidth < 160);
      drawBoxes(page, page.size);
    };
  }
  show(page ?? (entry ? WAITS : EMPTY), page?.size);
  if (page) tell(page);
}

function chooseBy(button, input) {
  find(button).addEventListener("click", () => find(input).click());
  find(input).addEventListener("change", () => {
    addFiles([...find(input).files]);
    find(input).value = "";
  });
}

chooseBy("choose", "files");
chooseBy("photograph", "photo");
find("empty").addEventListener("click", () => {
  entries = [];
  find("shelf").replaceChildren();
  find("empty").disabled = true;
  select(null);
  find("choose").focus();
});
document.addEventListener("paste", (event) => addFiles([...event.clipboardData.files]));

const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
document.addEventListener("dragover", (event) => {
  if (!hasFiles(event)) return;
  event.preventDefault();
  find("drop").hidden = false;
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) find("drop").hidden = true;
});
document.addEventListener("drop", (event) => {
  find("drop").hidden = true;
  if (!hasFiles(event)) return;
  event.preventDefault();
  addFiles([...event.dataTransfer.files]);
});

// ------------------------------------------------------------------------ the camera

let camera = null; // the stream, while it runs

async function startCamera() {
  const wanted = { facingMode: "environment", width: { ideal: 1280 } };
  try {
    camera = await navigator.mediaDevices.getUserMedia({ video: wanted });
  } catch (error) {
    hint(`The camera cannot be used: ${error.message}`);
    say(find("hint").textContent);
    return;
  }
  find("start").textContent = "Stop the camera";
  find("hold").disabled = false;
  hint("");
  show(WAITS);
  video.hidden = false;
  video.srcObject = camera;
  await video.play();
  readCamera(camera);
}

async function readCamera(stream) {
  const frame = make("canvas");
  while (camera === stream) {
    [frame.width, frame.height] = [video.videoWidth, video.videoHeight];
    frame.getContext("2d").drawImage(video, 0, 0);
    const blob = await toBlob(frame, "image/jpeg", 0.92);
    const [page] = await readPages(blob);
    if (camera !== stream) return;
    show(page, [frame.width, frame.height]);
    if (isHeld()) {
      tell(page);
      URL.revokeObjectURL(picture.src);
      picture.onload = null;
      picture.className = "";
      picture.src = URL.createObjectURL(blob);
      picture.alt = "The camera's picture that is held";
      [picture.hidden, video.hidden] = [false, true];
      while (camera === stream && isHeld()) await pause(50);
      [picture.hidden, video.hidden] = [true, camera !== stream];
    }
    await pause(50);
  }
}

const isHeld = () => find("hold").getAttribute("aria-pressed") === "true";

function stopCamera() {
  for (const track of camera?.getTracks() ?? []) track.stop();
  camera = video.srcObject = null;
  video.hidden = true;
  find("hold").disabled = true;
  find("hold").setAttribute("aria-pressed", false);
  find("start").textContent = "Start the camera";
}

find("start").addEventListener("click", () => {
  if (!camera) return startCamera();
  setMode("camera");
});
find("hold").addEventListener("click", () => {
  find("hold").setAttribute("aria-pressed", !isHeld());
});
if (!navigator.mediaDevices) {
  find("start").disabled = true;
  HINTS.camera = "Browsers show a camera live only to pages of this machine. " +
    "Take a photo instead, under Pictures.";
}

// ------------------------------------------------------------------ colours, at last

const isDark = () => {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
};

function setTheme(name) {
  if (name) document.documentElement.dataset.theme = name;
  find("theme").textContent = isDark() ? "Light" : "Dark";
  redraw();
}

const kept = { // a browser may forbid pages to keep anything
  get: () => { try { return localStorage.getItem("theme"); } catch { return null; } },
  set: (name) => { try { localStorage.setItem("theme", name); } catch { /* as it is */ } },
};
find("theme").addEventListener("click", () => {
  const name = isDark() ? "light" : "dark";
  kept.set(name);
  setTheme(name);
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => setTheme());

find("curl").textContent = `curl --data-binary @my_digit.png ${location.origin}/read`;
if (!settings.keeps_corrections) {
  find("note").append(
    "Is an answer wrong? Start draw.py with ",
    make("code", {}, "--corrections=my_digits"),
    ", and a click keeps each digit as what it is.",
  );
  find("note").hidden = false;
}
setTheme(kept.get());
setMode("draw");
