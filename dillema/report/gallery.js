"use strict";
{
  // cards created at a time: 5,000 at once would take seconds; as many are printed, on fewer than ten pages
  const CARDS_PER_STEP = 40;
  const { images, rows } = JSON.parse(document.getElementById("gallery").textContent);
  const form = document.getElementById("filters");
  const cards = document.getElementById("cards");
  const more = document.getElementById("more");
  const dialog = document.getElementById("large");
  const toggles = document.querySelectorAll("[aria-pressed]");
  let matching = [];
  let enlarged = 0; // index of the row in the dialog

  // texts are inserted as text, never as HTML: models wrote them
  function element(tag, properties, ...children) {
    const created = Object.assign(document.createElement(tag), properties);
    created.append(...children);
    return created;
  }

  function figure(loading, number, alt, errors, ...caption) {
    const image = element("img", { loading, alt, src: images[number] });
    image.onerror = () => {
      const message = `${images[number]} is missing: the folder report/ belongs beside this page.`;
      image.replaceWith(element("p", { className: "soft" }, message));
    };
    const layers = element("div", { className: "layers" }, image);
    if (errors !== null) {
      layers.append(element("img", { loading, className: "errors", alt: "", src: images[errors] }));
    }
    return element("figure", {}, layers, element("figcaption", {}, ...caption));
  }

  const small = text => element("small", {}, text);
  const markedText = pieces =>
    element("p", {}, ...pieces.map(([text, edited]) => (edited ? element("mark", {}, text) : text)));

  function describeValidity(row) {
    if (!row.checked) return form.elements.validity ? "not judged" : "";
    return row.valid ? "valid" : "rejected";
  }

  function cardTitle(row, name) {
    const several = row.answers.length > 1;
    const title = element("h3", {}, name);
    if (row.classes.length === 1) title.append(`, class: ${row.classes[0]}`);
    const validity = describeValidity(row);
    if (validity) {
      const className = { valid: "good", rejected: "bad" }[validity] ?? "";
      title.append(", ", element("span", { className }, validity));
    }
    for (const { model, outcome } of row.answers) {
      const className = ["flipped", "worse"].includes(outcome) ? "bad" : "";
      title.append(several ? `, ${model} ` : ", ", element("span", { className }, outcome));
    }
    return title;
  }

  function card(row, loading, name, isLarge) {
    const several = row.answers.length > 1;
    const chosen = row.answers.find(answer => answer.model === form.elements.model?.value) ?? row.answers[0];
    const errors = chosen?.errors ?? [null, null];
    const answers = side => row.answers.map(answer =>
      element("p", {}, (several ? `${answer.model}: ` : "") + answer.texts[side]));
    const edits = row.edits.map(([attribute, from, to]) =>
      element("small", { className: "edit" }, `${attribute}: ${from || "not mentioned"} → ${to}`));
    const reasons = row.reasons.map(reason => element("p", { className: "bad" }, reason));
    const text = row.text.map(([piece]) => piece).join("");
    const figures = [
      figure(loading, row.original, `original image of ${row.source}`, errors[0],
        small("original"), ...answers(0), markedText(row.caption),
        ...(row.uncorrected ? [small(`the captioner wrote: ${row.uncorrected}`)] : [])),
      figure(loading, row.image, text, errors[1],
        small("counterfactual"), ...answers(1), markedText(row.text), ...edits, ...reasons,
        ...row.scores.map(small)),
      ...row.controls.map(([control, number]) =>
        figure(loading, number, `control image (${control}) of ${row.source}`, null,
          small(`control image (${control.replaceAll("_", " ")}): the generator follows it`))),
    ];
    if (isLarge && row.placebo !== null) {
      const caption = small("nothing changed: painted from the caption of the original");
      const alt = `image of ${row.source} painted with nothing changed`;
      figures.push(figure(loading, row.placebo, alt, null, caption));
    }
    return element("article", {}, cardTitle(row, name), element("div", { className: "images" }, ...figures));
  }

  function enlarge(index) {
    if (!matching[index]) return;
    enlarged = index;
    const { id, file: address } = matching[index];
    const file = element("a", { href: address }, id);
    dialog.querySelector("article").replaceWith(card(matching[index], "eager", file, true));
    if (!dialog.open) dialog.showModal();
  }

  function addCards() {
    const start = cards.childElementCount;
    // those that may be printed are loaded at once: paper does not wait
    const loading = start ? "lazy" : "eager";
    const button = row => element("button", { type: "button", title: "enlarge" }, row.id);
    const added = matching.slice(start, start + CARDS_PER_STEP);
    cards.append(...added.map(row => card(row, loading, button(row), false)));
    more.hidden = cards.childElementCount >= matching.length;
  }

  function matches(row, wanted) {
    const answers = row.answers.filter(answer => !wanted.model || answer.model === wanted.model);
    return (
      (!wanted.edit || row.edits.some(([attribute, , to]) =>
        wanted.edit === attribute || wanted.edit === `${attribute} → ${to}`)) &&
      (!wanted.validity || describeValidity(row) === wanted.validity) &&
      (!wanted.class || row.classes.includes(wanted.class)) &&
      (!wanted.outcome || answers.some(answer => answer.outcome === wanted.outcome))
    );
  }

  function describeChoice() {
    const chosen = [...form.querySelectorAll("select")].filter(select => select.value);
    const label = select => select.parentElement.firstChild.textContent.trim();
    const names = chosen.map(select => `${label(select)}: ${select.value}`).join("; ");
    const printed = matching.length > CARDS_PER_STEP
      ? `; these are the ${CARDS_PER_STEP} with the largest loss of confidence, and the page shows the rest`
      : "";
    const count = `${matching.length} of ${rows.length} images${names && ` (${names})`}`;
    return `Chosen: ${count}${printed}. Control images are left out.`;
  }

  function update() {
    const wanted = Object.fromEntries(new FormData(form));
    const loss = row => row.answers
      .filter(answer => !wanted.model || answer.model === wanted.model)
      .reduce((sum, answer) => sum + answer.loss, 0);
    matching = rows.filter(row => matches(row, wanted)).sort((a, b) => loss(b) - loss(a));
    form.querySelector("output").value = `${matching.length} of ${rows.length} images`;
    document.getElementById("printed").textContent = describeChoice();
    cards.replaceChildren();
    if (!matching.length) {
      cards.append(element("p", {}, "No image matches this choice. Choose “any” somewhere, or reset it."));
    }
    addCards();
  }

  form.addEventListener("change", update);
  form.addEventListener("reset", () => setTimeout(update)); // the values change after the event
  more.addEventListener("click", addCards);
  for (const button of toggles) {
    button.addEventListener("click", () => {
      const shown = document.body.classList.toggle("show-errors");
      toggles.forEach(each => each.setAttribute("aria-pressed", shown));
    });
  }
  cards.addEventListener("click", ({ target }) => {
    if (target.closest("button, img")) enlarge([...cards.children].indexOf(target.closest("article")));
  });
  // a click beside the dialog is one on the dialog itself
  dialog.addEventListener("click", ({ target: { dataset, tagName } }) => {
    if (dataset.step) enlarge(enlarged + Number(dataset.step));
    else if (tagName === "DIALOG" || "close" in dataset) dialog.close();
  });
  document.addEventListener("keydown", ({ key }) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[key];
    if (dialog.open && step) enlarge(enlarged + step);
  });
  const addWhenNear = ([entry]) => entry.isIntersecting && addCards();
  new IntersectionObserver(addWhenNear, { rootMargin: "600px" }).observe(more);

  // an edit in a table leads to its images that count
  for (const link of document.querySelectorAll("a[data-edit]")) {
    link.addEventListener("click", () => {
      const { edit, validity } = form.elements;
      form.reset();
      if (![...edit.options].some(option => option.value === link.dataset.edit)) {
        edit.add(new Option(link.dataset.edit));
      }
      edit.value = link.dataset.edit;
      if (validity && rows.every(row => row.checked)) validity.value = "valid";
    });
  }
  if (rows.length) update();
}
