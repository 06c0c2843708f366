"use strict";
(() => {
  addEventListener("error", (event) => { document.body.dataset.error = event.message; });
  const $ = (id) => document.getElementById(id);
  const data = JSON.parse($("data").textContent);
  const { duration, labels, captions, segments } = data;
  const audio = $("audio"), plots = $("plots"), head = $("head"), hover = $("hover"), tip = $("tip"), here = $("here");
  const frame = plots.querySelector(".row .plot");
  const mood = $("mood"), play = $("play");
  const centre = segments.map((s) => (s[0] + s[1]) / 2);
  let now = 0, dragging = false, wanted = null;

  const clamp = (t) => Math.min(Math.max(t, 0), duration);
  const clock = (t, tenths) => {
    const ticks = tenths ? Math.round(t * 10) / 10 : Math.floor(t);
    const hours = Math.floor(ticks / 3600), minutes = Math.floor(ticks / 60) % 60, seconds = ticks % 60;
    const tail = tenths ? seconds.toFixed(1).padStart(4, "0") : String(seconds).padStart(2, "0");
    return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${tail}` : `${minutes}:${tail}`;
  };
  const signed = (v) => (v < 0 ? "−" : "+") + Math.abs(v).toFixed(2);

  // The segment whose middle is nearest, the later one where two are: with overlapping segments that one speaks for
  // the time, and at a border the label is that of the stretch that begins there.
  const nearest = (t) => {
    let low = 0, high = centre.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (centre[middle] < t) low = middle + 1; else high = middle;
    }
    return low > 0 && t - centre[low - 1] < centre[low] - t ? low - 1 : low;
  };

  const show = (t) => {
    now = clamp(t);
    const segment = segments[nearest(now)];
    head.style.setProperty("--at", now / duration);
    $("now").textContent = clock(now);
    mood.className = "c" + segment[2];
    mood.lastElementChild.textContent = captions[segment[2]];
    plots.setAttribute("aria-valuenow", now.toFixed(1));
    plots.setAttribute("aria-valuetext", `${clock(now)}, ${captions[segment[2]]}`);
    if (here) {
      here.style.visibility = segment[4] === null || segment[5] === null ? "hidden" : "visible";
      here.setAttribute("cx", 170 + 140 * segment[4]);
      here.setAttribute("cy", 170 - 140 * segment[5]);
    }
  };

  const seek = (t) => {
    show(t);
    if (!audio) return;
    if (audio.readyState > 0) audio.currentTime = now; else wanted = now;
  };

  const timeAt = (event) => {
    const box = frame.getBoundingClientRect();
    return clamp((event.clientX - box.left) / box.width * duration);
  };

  const line = (left, right, name) => {
    const row = document.createElement("div"), a = document.createElement("span"), b = document.createElement("span");
    if (name) {
      row.className = name;
      a.append(Object.assign(document.createElement("i"), { className: name.split(" ")[0] }));
    }
    a.append(left);
    b.textContent = right;
    row.append(a, b);
    return row;
  };

  const tell = (event) => {
    const t = timeAt(event), segment = segments[nearest(t)];
    const title = document.createElement("p");
    title.textContent = `${clock(t, true)} · segment ${clock(segment[0], true)}–${clock(segment[1], true)}`;
    const order = segment[3].map((p, i) => [p, i]).sort((a, b) => b[0] - a[0]).slice(0, 6);
    tip.replaceChildren(title, ...order.map(([p, i]) =>
      line(captions[i], (100 * p).toFixed(0) + "%", `c${i}${i === segment[2] ? " top" : ""}`)));
    const axes = [["valence", segment[4]], ["arousal", segment[5]]].filter((axis) => axis[1] !== null);
    if (axes.length) tip.append(document.createElement("hr"), ...axes.map(([name, v]) => line(name, signed(v))));
    hover.style.setProperty("--at", t / duration);
    tip.hidden = hover.hidden = false;
    const width = tip.offsetWidth, height = tip.offsetHeight, gap = 16;
    const x = event.clientX + gap + width > innerWidth - 8 ? event.clientX - gap - width : event.clientX + gap;
    const y = Math.min(event.clientY + gap, innerHeight - height - 8);
    tip.style.transform = `translate(${Math.max(8, x)}px, ${Math.max(8, y)}px)`;
  };

  plots.addEventListener("pointermove", (event) => { tell(event); if (dragging) seek(timeAt(event)); });
  plots.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    dragging = true;
    plots.setPointerCapture(event.pointerId);
    seek(timeAt(event));
    tell(event);
  });
  for (const name of ["pointerup", "pointercancel"]) plots.addEventListener(name, () => { dragging = false; });
  plots.addEventListener("pointerleave", () => { tip.hidden = hover.hidden = true; });

  const toggle = () => {
    if (!audio) return;
    if (!audio.paused) audio.pause();
    else audio.play().catch((error) => { mood.lastElementChild.textContent = `cannot play: ${error.message}`; });
  };

  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const { key, target } = event;
    // A focused button keeps its own Space; Home and End scroll the page unless the charts have the focus.
    if (key === " " && (!audio || target.closest("button, summary, a, audio"))) return;
    if ((key === "Home" || key === "End") && target !== plots) return;
    const step = event.shiftKey ? 1 : 5;
    const actions = {
      " ": toggle, ArrowLeft: () => seek(now - step), ArrowRight: () => seek(now + step),
      Home: () => seek(0), End: () => seek(duration),
    };
    if (!(key in actions)) return;
    event.preventDefault();
    actions[key]();
  });

  for (const link of document.querySelectorAll("[data-t]")) {
    link.addEventListener("click", (event) => {
      event.preventDefault();
      seek(Number(link.dataset.t));
      plots.scrollIntoView({ block: "nearest", behavior: "smooth" });
    });
  }

  if (audio) {
    const follow = () => { show(audio.currentTime); if (!audio.paused) requestAnimationFrame(follow); };
    const state = () => {
      document.body.classList.toggle("playing", !audio.paused);
      play.setAttribute("aria-label", audio.paused ? "Play" : "Pause");
      follow();
    };
    for (const name of ["play", "pause", "ended"]) audio.addEventListener(name, state);
    audio.addEventListener("loadedmetadata", () => {
      if (wanted !== null) audio.currentTime = wanted;
      wanted = null;
      document.body.dataset.audio = audio.duration.toFixed(1);
    });
    audio.addEventListener("seeked", () => { if (!dragging) show(audio.currentTime); });
    audio.addEventListener("error", () => { mood.lastElementChild.textContent = "the recording cannot be played"; });
    play.addEventListener("click", toggle);
    play.hidden = false;
  }

  document.body.classList.add("live");
  for (const element of document.querySelectorAll(".clock, #mood, .hint, #head")) element.hidden = false;
  if (!audio) document.querySelector(".hint").textContent = "Click or drag to move; arrow keys move by 5 seconds.";
  show(0);
  document.body.dataset.segments = segments.length;
  document.body.dataset.labels = labels.length;
  document.body.dataset.ready = "1";
})();
