"use strict";
{
  const CHUNK = 40; // cards made at a time: 5,000 at once would take seconds; the style prints as many, on fewer than ten pages
  const { images, pairs } = JSON.parse(document.getElementById("gallery").textContent);
  const form = document.getElementById("filters");
  const cards = document.getElementById("cards");
  const more = document.getElementById("more");
  const dialog = document.getElementById("large");
  let matching = [];
  let large = 0; // place of the pair in the dialog

  // texts come as text, never as HTML: models wrote them
  function element(tag, properties, ...children) {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  }

  function figure(loading, address, alt, mistakes, ...caption) {
    const image = element("img", { loading, alt, src: address });
    image.onerror = () => image.replaceWith(element("p", { className: "soft" }, `${address} is missing: the folder report/ belongs beside this page.`));
    const layers = element("div", { className: "layers" }, image);
    if (mistakes !== null) layers.append(element("img", { loading, className: "mistakes", alt: "", src: images[mistakes] }));
    return element("figure", {}, layers, element("figcaption", {}, ...caption));
  }

  function card(pair, loading, name) {
    const several = pair.said.length > 1;
    const { mistakes } = pair.said.find(answer => answer.model === form.elements.model?.value) ?? pair.said[0] ?? { mistakes: [null, null] };
    const marked = pieces => element("p", {}, ...pieces.map(([text, edited]) => (edited ? element("mark", {}, text) : text)));
    const said = side => pair.said.map(answer => element("p", {}, (several ? `${answer.model}: ` : "") + answer[side]));
    const title = element("h3", {}, name, cards.dataset.task === "classification" ? ` truly ${pair.classes[0]}, ` : " ");
    title.append(element("span", { className: pair.valid ? "good" : "bad" }, pair.valid ? "valid" : "not valid"));
    for (const { model, outcome } of pair.said) {
      title.append(several ? `, ${model} ` : ", ", element("span", { className: ["flipped", "worse"].includes(outcome) ? "bad" : "" }, outcome));
    }
    const edits = pair.edits.map(([attribute, from, to]) => element("small", { className: "edit" }, `${attribute}: ${from} → ${to}`));
    const scores = pair.scores.map(score => element("small", {}, score));
    return element("article", {}, title, element("div", { className: "images" },
      figure(loading, images[pair.original], `original image of ${pair.source}`, mistakes[0], element("small", {}, "original"), ...said("original"), marked(pair.before)),
      figure(loading, images[pair.image], pair.after.map(([text]) => text).join(""), mistakes[1], element("small", {}, "counterfactual"), ...said("counterfactual"), marked(pair.after), ...edits, ...scores),
      ...pair.controls.map(([control, place]) => figure(loading, images[place], `control image (${control}) of ${pair.source}`, null, element("small", {}, `control image: ${control.replaceAll("_", " ")}`)))));
  }

  function enlarge(place) {
    if (!matching[place]) return;
    large = place;
    const { id } = matching[place];
    const file = element("a", { href: `generated/images/${encodeURIComponent(id)}.png` }, id);
    dialog.querySelector("article").replaceWith(card(matching[place], "eager", file));
    if (!dialog.open) dialog.showModal();
  }

  function extend() {
    const start = cards.childElementCount;
    // those that may be printed are loaded at once: paper does not wait
    cards.append(...matching.slice(start, start + CHUNK).map(pair => card(pair, start ? "lazy" : "eager", element("button", { type: "button", title: "enlarge" }, pair.id))));
    more.hidden = cards.childElementCount >= matching.length;
  }

  function update() {
    const wanted = Object.fromEntries(new FormData(form));
    const said = pair => pair.said.filter(answer => !wanted.model || answer.model === wanted.model);
    const harm = pair => said(pair).reduce((sum, answer) => sum + answer.harm, 0);
    matching = pairs.filter(pair =>
      (!wanted.edit || pair.edits.some(([attribute, , to]) => wanted.edit === attribute || wanted.edit === `${attribute} → ${to}`)) &&
      (!wanted.verdict || pair.valid === (wanted.verdict === "valid")) &&
      (!wanted.class || pair.classes.includes(wanted.class)) &&
      (!wanted.outcome || said(pair).some(answer => answer.outcome === wanted.outcome)));
    matching.sort((a, b) => harm(b) - harm(a));
    form.querySelector("output").value = `${matching.length} of ${pairs.length} images`;
    const chosen = [...form.querySelectorAll("select")].filter(select => select.value);
    const names = chosen.map(select => `${select.parentElement.firstChild.textContent.trim()}: ${select.value}`).join("; ");
    document.getElementById("printed").textContent =
      `Chosen: ${matching.length} of ${pairs.length} images${names && ` (${names})`}${matching.length > CHUNK ? `; these are the ${CHUNK} most harmful of them, and the page shows the rest` : ""}. Control images are left out.`;
    cards.replaceChildren();
    extend();
  }

  form.addEventListener("change", update);
  form.addEventListener("reset", () => setTimeout(update)); // the values change after the event
  more.addEventListener("click", extend);
  for (const button of document.querySelectorAll("[aria-pressed]")) {
    button.addEventListener("click", () => {
      const painted = document.body.classList.toggle("painted");
      document.querySelectorAll("[aria-pressed]").forEach(each => each.setAttribute("aria-pressed", painted));
    });
  }
  cards.addEventListener("click", ({ target }) => {
    if (target.closest("button, img")) enlarge([...cards.children].indexOf(target.closest("article")));
  });
  // a click beside the dialog is one on the dialog itself
  dialog.addEventListener("click", ({ target: { dataset, tagName } }) => dataset.step ? enlarge(large + +dataset.step) : (tagName === "DIALOG" || "close" in dataset) && dialog.close());
  document.addEventListener("keydown", ({ key }) => dialog.open && enlarge(large + ({ ArrowLeft: -1, ArrowRight: 1 }[key] ?? NaN)));
  new IntersectionObserver(([entry]) => entry.isIntersecting && extend(), { rootMargin: "600px" }).observe(more);

  // an edit in a table leads to its valid images
  for (const link of document.querySelectorAll("a[data-edit]")) {
    link.addEventListener("click", () => {
      const { edit, verdict } = form.elements;
      form.reset();
      if (![...edit.options].some(option => option.value === link.dataset.edit)) edit.add(new Option(link.dataset.edit));
      edit.value = link.dataset.edit;
      verdict.value = "valid";
    });
  }
  update();
}
