// Asks a served model what it takes, sends what a person types, and shows the answer.
//
// What comes from the model or from the person is put in as text, never as HTML. Offsets count
// Unicode code points, JavaScript's strings UTF-16 units: texts are cut as arrays of characters.

// What a person sees of each input, in the order in which they are shown. The exports of
// bert_keras take some of these and no others.
const INPUTS = {
  text: { title: "Text" },
  text_a: { title: "First text" },
  text_b: { title: "Second text" },
  question: { title: "Question", rows: 1 },
  context: { title: "Context", rows: 6 },
  endings: {
    title: "Endings, one a line",
    read: (text) => text.split("\n").filter((line) => line.trim()),
  },
};

// The outputs that tell which answer it is, and what shows it; the first that fits.
const VIEWS = [
  [["entity", "type", "start", "end", "score", "count"], showEntities],
  [["answer", "start", "end", "score", "no_answer_probability"], showSpan],
  [["choice", "probabilities"], showChoice],
  [["label", "probabilities"], showLabels],
  [["count", "token", "probability"], showMasks],
  [["score"], showScore],
  [["embedding"], showVector],
];

const MOST_BARS = 10;
const COLOURS = 6; // of types, in page.css

const part = (id) => document.getElementById(id);

// { url, inputs: [name], outputs: [name] } of the served model, once it is known.
let model;

async function start() {
  const { name } = await call("page/model.json");
  const url = new URL(`v1/models/${encodeURIComponent(name)}`, document.baseURI).href;
  const { metadata, model_spec: spec } = await call(`${url}/metadata`);
  const signature = metadata.signature_def.signature_def.serving_default;
  if (!signature) throw new Error("The model has no signature serving_default.");
  const inputs = Object.keys(INPUTS).filter((input) => input in signature.inputs);
  const strange = Object.keys(signature.inputs).filter((input) => !(input in INPUTS));
  if (strange.length) throw new Error(`The model takes ${strange.join(", ")}, not text.`);
  model = { url, inputs, outputs: Object.keys(signature.outputs) };
  document.title = name;
  part("name").replaceChildren(name, element("small", {}, ` version ${spec.version}`));
  part("fields").replaceChildren(...inputs.map(field));
  part("ask").disabled = false;
  part(inputs[0]).focus();
}

function field(name) {
  const { title, rows = 3 } = INPUTS[name];
  const area = element("textarea", { id: name, rows, spellcheck: false });
  area.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      part("form").requestSubmit();
    }
  });
  return element("p", {}, element("label", { htmlFor: name }, title), area);
}

async function ask() {
  const example = {};
  for (const name of model.inputs) {
    // Half of a surrogate pair is no character: it has no UTF-8, and the server takes none.
    const text = part(name).value.replace(/\p{Surrogate}/gu, "\ufffd");
    example[name] = (INPUTS[name].read ?? String)(text);
  }
  const body = JSON.stringify({ instances: [example] });
  showRequest(body);
  const begun = performance.now();
  const { predictions } = await call(`${model.url}:predict`, body);
  const milliseconds = performance.now() - begun;
  let outputs = predictions[0];
  if (model.outputs.length === 1) outputs = { [model.outputs[0]]: outputs }; // comes bare
  const view = VIEWS.find(([names]) => names.every((name) => name in outputs));
  const shown = view ? await view[1](outputs, example) : [];
  if (!view) throw new Error(`The model answers with ${Object.keys(outputs).join(", ")}.`);
  const took = milliseconds < 9.5 ? milliseconds.toFixed(1) : milliseconds.toFixed(0);
  part("answer").replaceChildren(
    ...shown,
    element("p", { className: "quiet", id: "latency" }, `Answered in ${took} ms`),
  );
}

// --- the answers, as lists of elements ------------------------------------------------------------

async function showLabels({ label, probabilities }) {
  const index = probabilities.map((_, place) => place);
  const body = JSON.stringify({ signature_name: "labels", inputs: { index } });
  const names = (await call(`${model.url}:predict`, body)).outputs;
  const several = Array.isArray(label); // "" where a label does not hold
  const chosen = several ? label.filter((name) => name) : [label];
  const title = chosen.length ? chosen.join(", ") : "no label";
  return [
    headline(title),
    bars(names, probabilities, (place) => chosen.includes(names[place])),
  ];
}

function showChoice({ choice, probabilities }, { endings }) {
  return [
    headline(endings[choice] ?? ""),
    bars(endings, probabilities, (place) => place === choice),
  ];
}

function showScore({ score }) {
  return [headline(score.toPrecision(4))];
}

function showSpan({ answer, start, end, score, no_answer_probability: none }, { context }) {
  const spans = answer === "" ? [] : [{ start, end, colour: 0 }];
  return [
    headline(answer || "No answer in this context"),
    highlighted(context, spans),
    element("p", { className: "quiet" }, `Score ${score.toFixed(2)}, `, `no answer ${percent(none)}`),
  ];
}

function showEntities({ count, entity, type, start, end, score }, { text }) {
  const kinds = [...new Set(type.slice(0, count))];
  const spans = Array.from({ length: count }, (_, place) => ({
    start: start[place],
    end: end[place],
    type: type[place],
    colour: kinds.indexOf(type[place]) % COLOURS,
    title: `${entity[place]}: ${type[place]}, ${percent(score[place])}`,
  }));
  const found = count === 1 ? "1 entity" : `${count || "No"} entities`;
  return [headline(found), highlighted(text, spans)];
}

// For each [MASK] of the text, the likeliest words.
function showMasks({ count, token, probability }) {
  const found = count === 1 ? "1 mask" : `${count || "No"} masks`;
  const first = (place) => place === 0;
  const tables = token.slice(0, count).map((words, mask) => bars(words, probability[mask], first));
  return [headline(found), ...tables];
}

function showVector({ embedding }) {
  const shown = embedding.slice(0, 8).map((number) => number.toFixed(3));
  const text = `${shown.join(", ")} ... (${embedding.length} numbers)`;
  return [element("p", { className: "text", id: "text-read" }, text)];
}

function headline(text) {
  return element("p", { className: "best", id: "best" }, text);
}

function bars(names, probabilities, isChosen) {
  const places = names.map((_, place) => place);
  places.sort((one, other) => probabilities[other] - probabilities[one]);
  const rows = places.slice(0, MOST_BARS).map((place) => {
    const bar = element("span", { className: "bar", ariaHidden: "true" });
    bar.style.width = `${100 * probabilities[place]}%`;
    return element(
      "tr",
      { className: isChosen(place) ? "chosen" : "" },
      element("th", { scope: "row" }, names[place]),
      element("td", { className: "track" }, bar),
      element("td", { className: "number" }, percent(probabilities[place])),
    );
  });
  const rest = places.length - rows.length;
  if (rest > 0) rows.push(element("tr", {}, element("th", { scope: "row" }, `${rest} more`)));
  return element("table", { ariaLabel: "Probabilities" }, element("tbody", {}, ...rows));
}

// The text with its spans marked; a span has start, end, a colour, and maybe a type and a title.
function highlighted(text, spans) {
  const characters = Array.from(text);
  const paragraph = element("p", { className: "text", id: "text-read" });
  let place = 0;
  for (const span of spans) {
    if (span.start < place) continue; // overlaps the one before, which an export's never do
    const mark = element("mark", { className: `colour-${span.colour}`, title: span.title ?? "" });
    mark.append(characters.slice(span.start, span.end).join(""));
    if (span.type) mark.append(" ", element("span", { className: "type" }, span.type));
    paragraph.append(characters.slice(place, span.start).join(""), mark);
    place = span.end;
  }
  paragraph.append(characters.slice(place).join(""));
  return paragraph;
}

// --- the request, to copy -------------------------------------------------------------------------

function showRequest(body) {
  const quoted = `'${body.replaceAll("'", "'\\''")}'`; // a shell's way to a quote in quotes
  part("curl").textContent = `curl '${model.url}:predict' -d ${quoted}`;
  part("copied").textContent = "";
  part("request").hidden = false;
}

async function copyRequest() {
  const line = part("curl");
  getSelection().selectAllChildren(line);
  const clipboard = navigator.clipboard?.writeText(line.textContent); // none over plain HTTP
  const done = await clipboard?.then(() => true, () => false) ?? document.execCommand("copy");
  part("copied").textContent = done ? "Copied" : "Selected: press Ctrl+C";
}

// --- small tools ----------------------------------------------------------------------------------

async function call(url, body) {
  const options = body && { method: "POST", body, headers: { "Content-Type": "application/json" } };
  const response = await fetch(url, options).catch(() => null);
  if (!response) throw new Error("The server does not answer; is it still running?");
  const answer = await response.json().catch(() => null);
  if (!answer) throw new Error(`The server answers ${response.status}, and not with JSON.`);
  if (!response.ok) throw new Error(answer.error ?? `The server answers ${response.status}.`);
  return answer;
}

function element(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

const percent = (share) => `${(100 * share).toFixed(1)} %`;

// Runs a part of the page; its error becomes one line.
async function run(action) {
  part("error").textContent = "";
  try {
    await action();
  } catch (error) {
    part("answer").replaceChildren();
    part("error").textContent = error.message.replace(/\s+/g, " ");
  }
}

part("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = part("form");
  if (!model || form.ariaBusy === "true") return;
  form.ariaBusy = "true"; // a button that is disabled would lose the keyboard's focus
  await run(ask);
  form.ariaBusy = "false";
});
part("copy").addEventListener("click", () => run(copyRequest));
run(start);
