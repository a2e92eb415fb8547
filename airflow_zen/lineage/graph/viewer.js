"use strict";
(() => {
  const graph = JSON.parse(document.getElementById("graph").textContent);
  const canvas = document.getElementById("canvas");
  const view = document.getElementById("view");
  const about = document.getElementById("about");
  const all = view.querySelector(".zen");
  const nodes = [...view.querySelectorAll("[data-node]")];
  const edges = [...view.querySelectorAll("[data-edge]")];
  const before = graph.nodes.map(() => []);
  const after = graph.nodes.map(() => []);
  graph.edges.forEach(([source, target], edge) => {
    after[source].push([target, edge]);
    before[target].push([source, edge]);
  });
  let place = { x: 0, y: 0, scale: 1 };

  const show = () => view.setAttribute("transform", `translate(${place.x} ${place.y}) scale(${place.scale})`);

  const fit = () => {
    const room = canvas.getBoundingClientRect();
    const { width, height } = graph.size;
    const scale = Math.min((room.width - 48) / width, (room.height - 48) / height, 1.25);
    place = { scale, x: (room.width - width * scale) / 2, y: (room.height - height * scale) / 2 };
    if (scale < 0.35) {
      const first = graph.nodes.map((node) => node.box).reduce((a, b) => (b.x < a.x ? b : a));
      place = { scale: 0.7, x: 24, y: room.height / 2 - (first.y + first.height / 2) * 0.7 };
    }
    show();
  };

  const zoom = (factor, x, y) => {
    const scale = Math.min(Math.max(place.scale * factor, 0.04), 4);
    const by = scale / place.scale;
    place = { scale, x: x - (x - place.x) * by, y: y - (y - place.y) * by };
    show();
  };

  const centre = (number) => {
    const room = canvas.getBoundingClientRect();
    const { x, y, width, height } = graph.nodes[number].box;
    place.x = room.width / 2 - (x + width / 2) * place.scale;
    place.y = room.height / 2 - (y + height / 2) * place.scale;
    show();
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
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (className) made.className = className;
    return made;
  };

  const neighbours = (title, links) => {
    if (!links.length) return;
    const list = element("ul");
    for (const [other, edge] of links) {
      const label = graph.edges[edge][2];
      const button = element("button", (label ? label + " — " : "") + graph.nodes[other].label);
      button.type = "button";
      button.addEventListener("click", () => { choose(other); centre(other); });
      const item = element("li");
      item.append(button);
      list.append(item);
    }
    about.append(element("h3", title), list);
  };

  const tell = (number) => {
    const node = graph.nodes[number];
    about.replaceChildren(element("h2", node.label), element("p", node.detail, "sub"));
    const step = node.kind === "step";
    neighbours(step ? "Reads" : "Made by", before[number]);
    neighbours(step ? "Makes" : "Read by", after[number]);
    about.append(element("h3", "Facts"));
    const facts = element("dl");
    for (const [name, text] of Object.entries(node.facts)) facts.append(element("dt", name), element("dd", text));
    if (node.url) facts.append(element("dt", "MLflow"), element("dd", node.url));
    about.append(facts);
    about.hidden = false;
  };

  const choose = (number) => {
    const near = new Set([number]);
    const ways = new Set();
    walk(number, before, near, ways);
    walk(number, after, near, ways);
    all.classList.add("following");
    nodes.forEach((node) => {
      const its = Number(node.dataset.node);
      node.classList.toggle("near", near.has(its));
      node.classList.toggle("chosen", its === number);
    });
    edges.forEach((edge) => edge.classList.toggle("near", ways.has(Number(edge.dataset.edge))));
    tell(number);
  };

  const clear = () => {
    all.classList.remove("following");
    nodes.forEach((node) => node.classList.remove("near", "chosen"));
    about.hidden = true;
  };

  const find = (text) => {
    const wanted = text.trim().toLowerCase();
    const hits = [];
    nodes.forEach((node) => {
      const number = Number(node.dataset.node);
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
    const room = canvas.getBoundingClientRect();
    if (pointers.size === 1) {
      place.x += event.clientX - last.clientX;
      place.y += event.clientY - last.clientY;
      show();
    } else {
      const other = [...pointers.values()].find((each) => each.pointerId !== event.pointerId);
      const span = (a) => Math.hypot(a.clientX - other.clientX, a.clientY - other.clientY) || 1;
      zoom(span(event) / span(last), other.clientX - room.left, other.clientY - room.top);
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
    if (node) choose(Number(node.dataset.node));
    else clear();
  });
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const room = canvas.getBoundingClientRect();
    zoom(Math.exp(-event.deltaY / 400), event.clientX - room.left, event.clientY - room.top);
  }, { passive: false });

  nodes.forEach((node) => {
    node.setAttribute("tabindex", "0");
    node.addEventListener("keydown", (event) => {
      if (event.key === "Enter") choose(Number(node.dataset.node));
    });
  });
  const middle = (factor) => () => {
    const room = canvas.getBoundingClientRect();
    zoom(factor, room.width / 2, room.height / 2);
  };
  document.getElementById("in").addEventListener("click", middle(1.3));
  document.getElementById("out").addEventListener("click", middle(1 / 1.3));
  document.getElementById("fit").addEventListener("click", fit);
  const search = document.getElementById("search");
  search.addEventListener("input", () => find(search.value));
  search.addEventListener("keydown", (event) => {
    const hits = event.key === "Enter" ? find(search.value) : [];
    if (hits.length) { choose(hits[0]); centre(hits[0]); }
  });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") clear(); });
  window.addEventListener("resize", fit);
  fit();
})();
