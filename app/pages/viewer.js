// The viewer: uploads an image, follows its job, and lets a person walk through the frames. The address keeps the job
// (#job=<id>), so that a reload shows it again. All it knows comes from the API that it is served with. Where the API asks
// for a key, so does the page, and forgets it with the tab.

const RETRY_MS = 1000;
const KEY = "contrafact-key";
const STAGES = {
  queued: "Waiting for a worker",
  decode: "Reading the image",
  encode: "Finding the image's place in the space",
  traverse: "Walking",
  predict: "Asking the classifier",
  render: "Drawing the strip",
  deliver: "Delivering",
};

const at = (id) => document.getElementById(id);
const percent = (p) => `${(100 * p).toFixed(p < 0.01 || p >= 0.99 ? 1 : 0)}\u202f%`;
const VERDICTS = {
  ok: "Nothing speaks against this explanation",
  caution: "To be read with caution",
  unreliable: "Unreliable: do not conclude anything from it",
};
const HEATMAPS = { strip: "what changes along the strip", gradcam: "where the classifier looks", occlusion: "what it needs" };

// A number of a report in words: per cent, or the grade that it stands for.
// A grade is never rounded across the threshold.
function said({ grades, threshold }, p) {
  if (!grades) return percent(p);
  const [value, bound] = [p, threshold].map((share) => share * (grades.length - 1));
  if (Number(value.toFixed(1)) >= bound === value >= bound) return `grade ${value.toFixed(1)}`;
  return `grade ${((value < bound ? Math.floor : Math.ceil)(100 * value) / 100).toFixed(2)}`;
}
const decides = ({ grades, threshold }, p) =>
  grades ? `${p >= threshold ? "at least" : "below"} ${said({ grades, threshold }, threshold)}` : p >= threshold ? "yes" : "no";
const signed = (value) => (value === 0 ? "0" : `${value > 0 ? "+" : "−"}${Math.abs(value).toFixed(2)}`);
const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

let shown = null; // the job whose result is on the page
let latest = 0; // number of the newest request; older ones fall silent

// --- The API --------------------------------------------------------------------------------------------------------

class Problem extends Error {
  constructor(problem) {
    super(problem.title);
    this.problem = problem;
  }
}

async function call(path, options = {}) {
  const key = sessionStorage.getItem(KEY);
  const headers = key ? { ...options.headers, Authorization: `Bearer ${key}` } : options.headers;
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch {
    throw new Problem({ title: "The service does not answer", detail: "Is it still running?" });
  }
  if (response.status === 401) {
    await askForKey(key !== null);
    return call(path, options);
  }
  if (!response.ok) throw new Problem(await response.json());
  return response;
}

// One question at a time, however many calls wait for its answer.
let asking = null;

function askForKey(again) {
  asking ??= new Promise((resolve) => {
    at("key-hint").textContent = again ? "This key is not known here, has expired or was revoked." : "";
    at("key").value = "";
    at("keys").showModal();
    at("key-form").addEventListener(
      "submit",
      (event) => {
        event.preventDefault();
        at("keys").close();
        sessionStorage.setItem(KEY, at("key").value.trim());
        asking = null;
        resolve();
      },
      { once: true },
    );
  });
  return asking;
}

// What happens to a job, as it happens. EventSource could not send the key.
async function* events(path) {
  const response = await call(path);
  if (response.status === 204) return;
  const lines = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await lines.read();
    if (done) return;
    const blocks = (text + value).split("\n\n");
    text = blocks.pop();
    for (const block of blocks) {
      const data = block.split("\n").find((line) => line.startsWith("data: "));
      if (data) yield JSON.parse(data.slice("data: ".length));
    }
  }
}

const ask = async (path, options) => (await call(path, options)).json();
const pixels = async (url) => URL.createObjectURL(await (await call(url)).blob());

// --- Asking ---------------------------------------------------------------------------------------------------------

async function listClassifiers() {
  const { classifiers } = await ask("/classifiers");
  at("classifier").replaceChildren(...classifiers.map(({ id, title }) => new Option(title, id)));
  const describe = () => {
    const chosen = classifiers.find(({ id }) => id === at("classifier").value);
    at("target").textContent = chosen ? `${chosen.id} ${chosen.version} · ${chosen.target_class}` : "None is served here.";
    const directions = chosen?.directions ?? [];
    at("direction").replaceChildren(...directions.map((one) => new Option(described(one), one.name)));
    at("directions").hidden = directions.length < 2;
  };
  at("classifier").addEventListener("change", describe);
  describe();
}

function described({ name, target_class, share }) {
  if (share !== null) return `${name}: ${percent(share)} of the effect`;
  return name === "main" ? target_class : `${name}: ${target_class}`;
}

function showChoice() {
  const [file] = at("image").files;
  URL.revokeObjectURL(at("preview").src);
  at("preview").hidden = true;
  if (!file) return;
  at("chosen").textContent = file.name;
  at("preview").src = URL.createObjectURL(file);
}

async function explain(event) {
  event.preventDefault();
  const form = new FormData(at("ask"));
  await follow(() => ask("/explain", { method: "POST", body: form }));
}

// --- Following a job ------------------------------------------------------------------------------------------------

async function follow(begin) {
  const mine = ++latest;
  at("explain").disabled = true;
  only("waiting");
  showProgress({ stage: "queued", percent: 0 });
  try {
    let job = await begin();
    history.replaceState(null, "", `#job=${job.id}`);
    while (job.status === "queued" || job.status === "running") {
      showProgress(job.progress, job.queue_position);
      if (!(await watch(job, () => mine === latest))) return;
      job = await ask(job.links.self);
    }
    if (job.error) throw new Problem(job.error);
    if (job.status === "canceled") throw new Problem({ title: "The job was canceled", detail: "It has no result." });
    const { strip, report, animation } = job.links;
    const maps = Object.entries(job.report.heatmaps ?? {}).filter(([, url]) => url);
    const [sheet, figures, motion, ...rest] = await Promise.all(
      [strip, report, animation, ...maps.map(([, url]) => url), ...steps(job.report).map(({ url }) => url)].map(
        (url) => url && pixels(url),
      ),
    );
    const heatmaps = maps.map(([name], index) => [name, rest[index]]);
    if (mine === latest) show(job, rest.slice(maps.length), { sheet, figures, motion, heatmaps });
  } catch (error) {
    if (mine === latest) showProblem(error);
  } finally {
    if (mine === latest) at("explain").disabled = false;
  }
}

// Shows how far a job is until its stream of events ends; false once nobody wants to know any more.
async function watch(job, wanted) {
  try {
    for await (const { status, progress } of events(job.links.events)) {
      if (!wanted()) return false;
      showProgress(progress, status === "queued" ? job.queue_position : null);
    }
  } catch {
    await wait(RETRY_MS); // the connection broke, or too many listen: asking for the job still works
  }
  return wanted();
}

function only(id) {
  for (const part of ["hint", "waiting", "problem", "result"]) at(part).hidden = part !== id;
}

function showProgress({ stage, percent: done }, position) {
  at("stage").textContent = position > 1 ? `${STAGES[stage]}, ${position - 1} before this one` : STAGES[stage];
  at("progress").value = done;
}

function showProblem(error) {
  if (!(error instanceof Problem)) throw error;
  const { title, detail, errors = [] } = error.problem;
  at("problem").replaceChildren(
    element("strong", title),
    element("p", detail),
    element("ul", ...errors.map((fault) => element("li", `${fault.field}: ${fault.detail}`))),
  );
  only("problem");
}

// The frames, and among them the flip where it stands between two.
function steps({ frames, flip }) {
  if (flip.frame !== null || !flip.url) return frames;
  const between = { ...flip, index: null, asked: null, surrogate_probability: null, reached: true };
  return [...frames, between].sort((one, other) => one.lambda - other.lambda);
}

// --- Showing a result -----------------------------------------------------------------------------------------------

function element(name, ...content) {
  const made = document.createElement(name);
  made.append(...content);
  return made;
}

function show(job, frames, { sheet, figures, motion, heatmaps }) {
  shown?.urls.forEach((url) => URL.revokeObjectURL(url));
  shown = { job, frames, steps: steps(job.report), urls: [...frames, sheet, figures, ...(motion ? [motion] : []), ...heatmaps.map(([, url]) => url)] };
  const { report } = job;
  at("title").textContent = report.target_class;
  at("sentence").textContent = sentence(report);
  at("trust").textContent = trust(report);
  showQuality(report.quality);
  showMore(motion, heatmaps);
  at("film").replaceChildren(...shown.steps.map((frame, index) => thumbnail(frame, index)));
  at("figures").replaceChildren(...shown.steps.map((frame) => row(frame)));
  at("strip").href = at("sheet").src = sheet;
  at("report").href = figures;
  at("scrub").max = frames.length - 1;
  at("scrub").style.setProperty("--frames", frames.length);
  at("threshold").style.setProperty("--t", `${100 * report.threshold}%`);
  only("result");
  turnTo(shown.steps.findIndex(({ index }) => index === report.start.frame));
  at("scrub").focus({ preventScroll: true });
}

function showQuality(quality) {
  at("quality").hidden = !quality;
  if (!quality) return;
  at("quality").className = quality.verdict;
  at("verdict").textContent = VERDICTS[quality.verdict];
  at("reasons").replaceChildren(...quality.reasons.map(({ sentence }) => element("li", sentence)));
}

function showMore(motion, heatmaps) {
  at("motion-figure").hidden = at("animation").hidden = !motion;
  if (motion) at("motion").src = at("animation").href = motion;
  at("more").querySelectorAll(".map").forEach((map) => map.remove());
  at("more").append(
    ...heatmaps.map(([name, url]) => {
      const map = element("figure", new Image(), element("figcaption", HEATMAPS[name] ?? name));
      map.className = "map";
      map.firstChild.src = url;
      map.firstChild.alt = `Heatmap: ${HEATMAPS[name] ?? name}`;
      return map;
    }),
  );
}

function sentence(report) {
  const { input, flip } = report;
  const now = `The classifier gives the image ${said(report, input.probability)} (${decides(report, input.probability)}).`;
  if (!flip.reached) return `${now} No frame of this strip changes its decision.`;
  return `${now} Its decision flips at λ ${signed(flip.lambda)}, with ${percent(flip.changed_pixels)} of the pixels changed.`;
}

function trust(report) {
  const { reconstruction: { probability, agrees, ms_ssim }, provenance: { space, runtime, software } } = report;
  const agreement = agrees ? "decides the same" : "decides otherwise";
  return (
    `On the reconstruction the classifier ${agreement} (${said(report, probability)}); similarity to the image ` +
    `${ms_ssim.toFixed(2)}. Drawn by ${space.id} ${space.version} on ${runtime}, ${software}.`
  );
}

function marks(frame) {
  const { start, flip } = shown.job.report;
  return [
    frame.index === start.frame && "start",
    flip.reached && frame.index === flip.frame && "flip",
    !frame.reached && "not reached",
  ].filter(Boolean);
}

function thumbnail(frame, index) {
  const button = element("button", new Image(), said(shown.job.report, frame.probability));
  button.type = "button";
  button.tabIndex = -1; // the slider is the keyboard's way through the frames
  button.firstChild.src = shown.frames[index];
  button.firstChild.alt = `Frame ${index}`;
  button.classList.toggle("flip", marks(frame).includes("flip"));
  button.addEventListener("pointerenter", () => turnTo(index));
  button.addEventListener("click", () => turnTo(index));
  return element("li", button);
}

function row(frame) {
  const numbers = [frame.asked, frame.probability, frame.surrogate_probability].map(orNothing);
  const figures = [frame.index ?? "–", signed(frame.lambda), ...numbers];
  const made = element("tr", ...[...figures, marks(frame).join(", ")].map((figure) => element("td", figure)));
  made.classList.toggle("flip", marks(frame).includes("flip"));
  return made;
}

const orNothing = (p) => (p === null ? "–" : said(shown.job.report, p));

function turnTo(index) {
  const { job, frames } = shown;
  const frame = shown.steps[index];
  const { report } = job;
  const number = said(report, frame.probability);
  const told = marks(frame);
  at("frame").src = frames[index];
  at("frame").alt = `Frame ${index}: the classifier gives it ${number}`;
  at("mark").textContent = told.join(", ");
  at("mark").parentElement.classList.toggle("flip", told.includes("flip"));
  at("probability").textContent = number;
  at("probability").classList.toggle("yes", frame.probability >= report.threshold);
  at("fill").style.setProperty("--p", `${100 * frame.probability}%`);
  at("lambda").textContent = signed(frame.lambda);
  at("asked").textContent = frame.asked === null ? `nothing: the ${frame.index === null ? "flip" : "start"}` : said(report, frame.asked);
  at("surrogate").textContent = orNothing(frame.surrogate_probability);
  at("decision").textContent = decides(report, frame.probability);
  at("scrub").value = index;
  at("scrub").setAttribute("aria-valuetext", `${index}, ${number}${told.length ? `, ${told.join(", ")}` : ""}`);
  at("film").querySelectorAll("button").forEach((button, n) => button.setAttribute("aria-current", n === index));
}

// --- Wiring ---------------------------------------------------------------------------------------------------------

at("ask").addEventListener("submit", explain);
at("image").addEventListener("change", showChoice);
at("preview").addEventListener("load", () => (at("preview").hidden = false));
at("scrub").addEventListener("input", () => turnTo(Number(at("scrub").value)));

at("keys").addEventListener("cancel", (event) => event.preventDefault()); // nothing can be done without

at("drop").addEventListener("dragover", (event) => {
  event.preventDefault();
  at("drop").classList.add("over");
});
at("drop").addEventListener("dragleave", () => at("drop").classList.remove("over"));
at("drop").addEventListener("drop", (event) => {
  event.preventDefault();
  at("drop").classList.remove("over");
  at("image").files = event.dataTransfer.files;
  showChoice();
});

listClassifiers().catch(showProblem);
const [, id] = location.hash.match(/^#job=([0-9a-f-]+)$/) ?? [];
if (id) follow(() => ask(`/jobs/${id}`));
