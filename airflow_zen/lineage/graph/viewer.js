"use strict";
(() => {
  const graph = JSON.parse(document.getElementById("graph").textContent);
  const canvas = document.getElementById("canvas");
  const view = document.getElementById("view");
  const details = document.getElementById("about");
  const shapes = view.querySelector(".zen");
  const nodes = [...view.querySelectorAll("[data-node]")];
  const edges = [...view.querySelectorAll("[data-edge]")];
  const before = graph.nodes.map(() => []);
  const after = graph.nodes.map(() => []);
  graph.edges.forEach(([source, target], edge) => {
    after[source].push([target, edge]);
    before[target].push([source, edge]);
  });
  let position = { x: 0, y: 0, scale: 1 };

  const applyPosition = () => view.setAttribute("transform", `translate(${position.x} ${position.y}) scale(${position.scale})`);

  const fit = () => {
    const bounds = canvas.getBoundingClientRect();
    const { width, height } = graph.size;
    const scale = Math.min((bounds.width - 48) / width, (bounds.height - 48) / height, 1.25);
    position = { scale, x: (bounds.width - width * scale) / 2, y: (bounds.height - height * scale) / 2 };
    if (scale < 0.35) {
      const first = graph.nodes.map((node) => node.box).reduce((a, b) => (b.x < a.x ? b : a));
      position = { scale: 0.7, x: 24, y: bounds.height / 2 - (first.y + first.height / 2) * 0.7 };
    }
    applyPosition();
  };

  const zoom = (factor, x, y) => {
    const scale = Math.min(Math.max(position.scale * factor, 0.04), 4);
    const by = scale / position.scale;
    position = { scale, x: x - (x - position.x) * by, y: y - (y - position.y) * by };
    applyPosition();
  };

  const center = (number) => {
    const bounds = canvas.getBoundingClientRect();
    const { x, y, width, height } = graph.nodes[number].box;
    position.x = bounds.width / 2 - (x + width / 2) * position.scale;
    position.y = bounds.height / 2 - (y + height / 2) * position.scale;
    applyPosition();
  };

  const walk = (start, next, seenNodes, seenEdges) => {
    const todo = [start];
    const done = new Set(todo);
    while (todo.length) {
      for (const [other, edge] of next[todo.pop()]) {
        seenEdges.add(edge);
        seenNodes.add(other);
        if (!done.has(other)) {
          done.add(other);
          todo.push(other);
        }
      }
    }
  };

  const element = (tag, text, className) => {
    const created = document.createElement(tag);
    if (text !== undefined) created.textContent = text;
    if (className) created.className = className;
    return created;
  };

  const appendNeighbors = (title, links) => {
    if (!links.length) return;
    const list = element("ul");
    for (const [other, edge] of links) {
      const label = graph.edges[edge][2];
      const button = element("button", (label ? label + " — " : "") + graph.nodes[other].label);
      button.type = "button";
      button.addEventListener("click", () => { select(other); center(other); });
      const item = element("li");
      item.append(button);
      list.append(item);
    }
    details.append(element("h3", title), list);
  };

  const showDetails = (number) => {
    const node = graph.nodes[number];
    details.replaceChildren(element("h2", node.label), element("p", node.detail, "sub"));
    const step = node.kind === "step";
    appendNeighbors(step ? "Reads" : "Made by", before[number]);
    appendNeighbors(step ? "Makes" : "Read by", after[number]);
    details.append(element("h3", "Facts"));
    const facts = element("dl");
    for (const [name, text] of Object.entries(node.facts)) facts.append(element("dt", name), element("dd", text));
    if (node.url) facts.append(element("dt", "MLflow"), element("dd", node.url));
    details.append(facts);
    details.hidden = false;
  };

  const select = (number) => {
    const near = new Set([number]);
    const nearEdges = new Set();
    walk(number, before, near, nearEdges);
    walk(number, after, near, nearEdges);
    shapes.classList.add("following");
    nodes.forEach((node, its) => {
      node.classList.toggle("near", near.has(its));
      node.classList.toggle("chosen", its === number);
    });
    edges.forEach((edge, its) => edge.classList.toggle("near", nearEdges.has(its)));
    showDetails(number);
  };

  const clear = () => {
    shapes.classList.remove("following");
    nodes.forEach((node) => node.classList.remove("near", "chosen"));
    details.hidden = true;
  };

  const find = (text) => {
    const wanted = text.trim().toLowerCase();
    const hits = [];
    nodes.forEach((node, number) => {
      const { label, facts } = graph.nodes[number];
      const hit = wanted !== "" && [label, ...Object.values(facts)].some((each) => each.toLowerCase().includes(wanted));
      node.classList.toggle("found", hit);
      if (hit) hits.push(number);
    });
    return hits;
  };

  const pointers = new Map();
  let moved = 0;
  canvas.addEventListener("pointerdown", (event) => {
    pointers.set(event.pointerId, event);
    moved = 0;
  });
  window.addEventListener("pointermove", (event) => {
    const last = pointers.get(event.pointerId);
    if (!last) return;
    const bounds = canvas.getBoundingClientRect();
    if (pointers.size === 1) {
      position.x += event.clientX - last.clientX;
      position.y += event.clientY - last.clientY;
      applyPosition();
    } else {
      const other = [...pointers.values()].find((each) => each.pointerId !== event.pointerId);
      const span = (a) => Math.hypot(a.clientX - other.clientX, a.clientY - other.clientY) || 1;
      zoom(span(event) / span(last), other.clientX - bounds.left, other.clientY - bounds.top);
    }
    moved += Math.abs(event.clientX - last.clientX) + Math.abs(event.clientY - last.clientY);
    if (moved > 4) canvas.classList.add("moving");
    pointers.set(event.pointerId, event);
  });
  const release = (event) => {
    pointers.delete(event.pointerId);
    canvas.classList.remove("moving");
  };
  window.addEventListener("pointerup", release);
  window.addEventListener("pointercancel", release);
  canvas.addEventListener("click", (event) => {
    if (moved > 4) return;
    const node = event.target.closest("[data-node]");
    if (node) select(Number(node.dataset.node));
    else clear();
  });
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const bounds = canvas.getBoundingClientRect();
    zoom(Math.exp(-event.deltaY / 400), event.clientX - bounds.left, event.clientY - bounds.top);
  }, { passive: false });

  nodes.forEach((node, number) => {
    node.setAttribute("tabindex", "0");
    node.addEventListener("keydown", (event) => { if (event.key === "Enter") select(number); });
  });
  const zoomAtCenter = (factor) => () => {
    const bounds = canvas.getBoundingClientRect();
    zoom(factor, bounds.width / 2, bounds.height / 2);
  };
  document.getElementById("in").addEventListener("click", zoomAtCenter(1.3));
  document.getElementById("out").addEventListener("click", zoomAtCenter(1 / 1.3));
  document.getElementById("fit").addEventListener("click", fit);
  const search = document.getElementById("search");
  search.addEventListener("input", () => find(search.value));
  search.addEventListener("keydown", (event) => {
    const hits = event.key === "Enter" ? find(search.value) : [];
    if (hits.length) { select(hits[0]); center(hits[0]); }
  });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") clear(); });
  window.addEventListener("resize", fit);
  fit();
})();
