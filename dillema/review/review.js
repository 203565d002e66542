"use strict";
{
  const { review, embedded, masks, items } = JSON.parse(document.getElementById("data").textContent);
  const AHEAD = 8; // images that are loaded before they are shown
  const RETRY = 1000; // milliseconds
  const QUESTIONS = [
    { name: "real", title: "How real does it look?", choices: [["1", 1, "artificial"], ["2", 2, ""],
      ["3", 3, ""], ["4", 4, ""], ["5", 5, "real"]] },
    { name: "label", title: "Label", choices: [["D", "yes", "yes"], ["F", "no", "no"],
      ["G", "cannot tell", "cannot tell"]] },
    { name: "edit", title: "Change", choices: [["J", "yes", "yes"], ["K", "no", "no"],
      ["L", "cannot tell", "cannot tell"]] },
  ];
  const byId = id => document.getElementById(id);
  const answers = new Map(); // by number of the item
  const loaded = new Map(); // promises of the two images, by number of the item
  let rater = "", current = 0, draft = {}, shownAt = 0, ready = false, withMask = false;
  let sending = false, problem = "";

  // texts are inserted as text, never as HTML: models wrote them
  function element(tag, properties, ...children) {
    const created = Object.assign(document.createElement(tag), properties);
    created.append(...children);
    return created;
  }

  // ---- answers: kept in the browser until the server has them on its disk

  const storage = (() => {
    try {
      localStorage.setItem("dillema", "1");
      return localStorage;
    } catch { // switched off
      const values = new Map();
      return {
        getItem: key => values.get(key) ?? null,
        setItem: (key, value) => values.set(key, value),
        removeItem: key => values.delete(key),
        key: i => [...values.keys()][i] ?? null,
        get length() { return values.size; },
      };
    }
  })();
  const prefix = () => `dillema/${review}/${rater}/`; // no name of a rater has a slash
  const keys = () => Array.from({ length: storage.length }, (_, i) => storage.key(i))
    .filter(key => key?.startsWith(prefix()));

  function keep(answer) {
    answers.set(answer.item, answer);
    try {
      storage.setItem(prefix() + answer.item, JSON.stringify(answer));
    } catch (error) {
      problem = `this browser does not keep the answers (${error.message}): save them now`;
    }
    if (!embedded) send();
  }

  async function sendOne(key) {
    const text = storage.getItem(key);
    try {
      const headers = { "Content-Type": "application/json" };
      const reply = await fetch("answer", { method: "POST", headers, body: text });
      if (!reply.ok) throw new Error(await reply.text());
      if (storage.getItem(key) === text) storage.removeItem(key);
      return "";
    } catch (error) {
      return error instanceof TypeError ? "the server does not answer" : error.message;
    }
  }

  async function send() {
    if (sending) return;
    sending = true;
    while (keys().length) {
      const failures = [];
      for (const key of keys()) failures.push(await sendOne(key));
      const [failure] = failures.filter(Boolean);
      problem = failure ? `${failure}; the answers are kept in this browser and sent again` : "";
      showStatus();
      if (failure) await new Promise(done => setTimeout(done, RETRY));
    }
    sending = false;
  }

  async function restore() {
    answers.clear();
    while (!embedded) {
      try {
        const reply = await fetch(`state?rater=${encodeURIComponent(rater)}`);
        if (!reply.ok) throw new Error(await reply.text());
        for (const answer of await reply.json()) answers.set(answer.item, answer);
        break;
      } catch (error) {
        byId("status").textContent = `The server does not answer (${error.message}).`;
        await new Promise(done => setTimeout(done, RETRY));
      }
    }
    for (const key of keys()) {
      const answer = JSON.parse(storage.getItem(key));
      answers.set(answer.item, answer);
    }
    if (!embedded) send();
  }

  function saveCsv() {
    const quote = value => (/[",\n]/.test(value) ? `"${String(value).replaceAll('"', '""')}"` : value);
    const columns = ["review", "rater", "item", "real", "label", "edit", "seconds", "given"];
    const rows = [...answers.values()].sort((a, b) => a.item - b.item)
      .map(answer => columns.map(column => quote(column === "review" ? review : answer[column])).join(","));
    const content = [columns.join(","), ...rows, ""].join("\n");
    const address = URL.createObjectURL(new Blob([content], { type: "text/csv" }));
    element("a", { href: address, download: `review-${review}-${rater}.csv` }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10_000);
  }

  // ---- images

  async function loadImage(address) {
    for (;;) {
      const image = element("img", { alt: "", src: address, draggable: false });
      try {
        await image.decode();
        return image;
      } catch {
        problem ||= "an image does not load; it is tried again";
        showStatus();
        await new Promise(done => setTimeout(done, RETRY));
      }
    }
  }

  function load(number) {
    if (!loaded.has(number)) {
      const addresses = items[number].files ?? [`image/${number}/original`, `image/${number}/shown`];
      const pair = Promise.all(addresses.map(loadImage));
      pair.then(() => { if (problem.startsWith("an image")) problem = ""; showStatus(); });
      loaded.set(number, pair);
    }
    return loaded.get(number);
  }

  async function label(number) {
    items[number].label ??= await (await fetch(`label/${number}`)).json();
    return items[number].label;
  }

  async function showMask() {
    document.querySelectorAll(".mask").forEach(image => image.remove());
    byId("legend").replaceChildren();
    if (!withMask) return;
    const number = current;
    const { picture, legend } = await label(number).catch(() => ({}));
    if (number !== current || !withMask || !picture) return;
    for (const side of ["original", "shown"]) {
      byId(side).append(element("img", { className: "mask", alt: "mask", src: picture }));
    }
    for (const [name, colour] of legend) {
      const patch = element("i", {});
      patch.style.background = colour;
      byId("legend").append(element("span", {}, patch, name), " ");
    }
  }

  // ---- the page

  function showStatus() {
    if (!rater) return;
    const waiting = embedded ? 0 : keys().length;
    const saved = waiting ? `${waiting} not saved yet` : embedded ? "kept in this browser" : "all saved";
    const rest = problem && (waiting || embedded || problem.startsWith("an image")) ? `: ${problem}` : "";
    const place = current < items.length ? `Image ${current + 1}. ` : "All images are judged. Thank you. ";
    const count = `${answers.size} of ${items.length} judged`;
    byId("status").textContent = `${place}${rater}: ${count}, ${saved}${rest}`;
    byId("status").className = rest ? "note" : "";
  }

  function showAnswers() {
    for (const button of document.querySelectorAll("#questions button")) {
      button.setAttribute("aria-pressed", String(draft[button.name]) === button.value);
    }
  }

  async function show(number) {
    current = Math.max(0, Math.min(number, items.length));
    ready = false;
    const isEnd = current === items.length;
    byId("pair").hidden = byId("questions").hidden = byId("text").hidden = isEnd;
    document.body.dataset.item = "";
    byId("legend").replaceChildren();
    showStatus();
    if (isEnd) {
      document.body.dataset.item = current;
      return;
    }
    const { text, edits, question } = items[current];
    draft = { ...answers.get(current) };
    const words = text.map(([piece, isNew]) => (isNew ? element("mark", {}, piece) : piece));
    byId("text").replaceChildren(element("span", { className: "soft" }, "Asked for: "), ...words);
    const changes = edits.map(([attribute, from, to]) => `${attribute}: ${from || "nothing"} → ${to}`);
    byId("question-label").textContent = question;
    byId("question-edit").textContent = `Is this there? ${changes.join("; ") || "no change was asked for"}`;
    showAnswers();
    for (let next = current; next < Math.min(current + AHEAD, items.length); next++) load(next);
    for (const old of loaded.keys()) if (Math.abs(old - current) > 2 * AHEAD) loaded.delete(old);
    const pair = await load(current);
    if (number !== current) return; // another image was asked for meanwhile
    ["original", "shown"].forEach((side, i) => byId(side).replaceChildren(pair[i]));
    shownAt = performance.now();
    ready = true;
    document.body.dataset.item = current;
    if (withMask) showMask();
  }

  function choose(name, value) {
    if (!ready) return; // nobody judges what is not shown
    draft[name] = value;
    showAnswers();
    if (!QUESTIONS.every(question => draft[question.name] !== undefined)) return;
    const seconds = Math.round(performance.now() - shownAt) / 1000;
    const { real, label, edit } = draft;
    keep({ rater, item: current, real, label, edit, seconds, given: Date.now() });
    show(current + 1);
  }

  function press(event) {
    if (!rater || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
    const key = event.code.startsWith("Digit") ? event.code.slice(5) : event.key.toUpperCase();
    for (const { name, choices } of QUESTIONS) {
      const choice = choices.find(([wanted]) => wanted === key);
      if (choice) choose(name, choice[1]);
    }
    if (key === "ARROWLEFT") show(current - 1);
    // forward over what is judged, and to the first image that is not
    if (key === "ARROWRIGHT" && answers.has(current)) show(current + 1);
    if (key === "BACKSPACE") { draft = {}; showAnswers(); }
    if (key === "M" && masks) { withMask = !withMask; showMask(); }
    if (["BACKSPACE", "ARROWLEFT", "ARROWRIGHT"].includes(key)) event.preventDefault();
  }

  async function start(name) {
    rater = name;
    sessionStorage.setItem("rater", rater); // of this tab: it survives a reload
    byId("start").hidden = true;
    byId("judge").hidden = false;
    await restore();
    const open = items.findIndex((_, number) => !answers.has(number));
    show(open < 0 ? items.length : open);
  }

  for (const { name, title, choices } of QUESTIONS) {
    const buttons = choices.map(([key, value, word]) => {
      const button = element("button", { type: "button", name, value: String(value), tabIndex: -1 },
        element("kbd", {}, key), word && ` ${word}`);
      button.addEventListener("click", () => { choose(name, value); button.blur(); });
      return button;
    });
    const question = element("p", { id: `question-${name}` });
    byId("questions").append(element("fieldset", {}, element("legend", {}, title), question, ...buttons));
  }
  byId("mask-help").hidden = !masks;
  byId("question-real").textContent = "The image to judge, from 1 (artificial) to 5 (real).";
  byId("start").addEventListener("submit", event => {
    event.preventDefault();
    start(byId("rater").value.trim());
  });
  byId("save").addEventListener("click", event => { event.preventDefault(); saveCsv(); });
  document.addEventListener("keydown", press);
  if (sessionStorage.getItem("rater")) start(sessionStorage.getItem("rater"));
}
