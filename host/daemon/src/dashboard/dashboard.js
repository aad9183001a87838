// Keeps pages fresh. Every page is whole without this file: it asks for the page again and takes over what changed in the
// parts marked `data-live`, tells when to ask from the events of a job or of all jobs, appends log lines, asks before what cannot be
// undone, and copies text.
"use strict";

document.documentElement.classList.add("scripted");

/** Makes `old` like `fresh`, touching only what differs, so that focus, selection and open parts stay. */
function morph(old, fresh) {
  if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName) {
    old.replaceWith(fresh.cloneNode(true));
    return;
  }
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  if (old.nodeType !== Node.ELEMENT_NODE) return;
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && !(name === "open" && old.nodeName === "DETAILS")) old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value && !(name === "open" && old.nodeName === "DETAILS")) old.setAttribute(name, value);
  }
  const theirs = [...fresh.childNodes];
  const ours = [...old.childNodes];
  theirs.forEach((child, at) => (at < ours.length ? morph(ours[at], child) : old.append(child.cloneNode(true))));
  ours.slice(theirs.length).forEach((child) => child.remove());
}

const REFRESH_MIN_MS = 700;
let busy = false;
let again = false;
let asked = 0;

/** Asks for this page again and takes over its live parts. */
async function refresh() {
  if (busy) {
    again = true;
    return;
  }
  busy = true;
  const wait = asked + REFRESH_MIN_MS - Date.now();
  if (wait > 0) await new Promise((done) => setTimeout(done, wait));
  asked = Date.now();
  let fresh = false;
  try {
    const answer = await fetch(location.href, { headers: { accept: "text/html" }, credentials: "same-origin" });
    if (answer.ok) {
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      for (const part of document.querySelectorAll("[data-live]")) {
        const other = page.getElementById(part.id);
        if (other) morph(part, other);
      }
      fresh = true;
    }
  } catch {
    // The host does not answer; the line below says so.
  }
  document.getElementById("stale").hidden = fresh;
  busy = false;
  if (again) {
    again = false;
    refresh();
  }
}

function poll(everyMs) {
  setInterval(() => {
    if (!document.hidden && !busy) refresh();
  }, everyMs);
}

const LOG_LINES_MAX = 1000;

function appendLog(data) {
  const log = document.getElementById("log");
  if (!log) return;
  const line = JSON.parse(data);
  const row = document.createElement("li");
  row.className = line.level;
  const time = document.createElement("time");
  time.dateTime = line.at;
  time.textContent = line.at.slice(11, 19);
  const level = document.createElement("span");
  level.className = "level";
  level.textContent = line.level;
  const text = document.createElement("span");
  text.className = "text";
  text.textContent = line.message;
  if (line.fields) {
    const fields = document.createElement("span");
    fields.className = "hint";
    fields.textContent = JSON.stringify(line.fields);
    text.append(" ", fields);
  }
  row.append(time, level, text);
  const follows = log.scrollTop + log.clientHeight >= log.scrollHeight - 8;
  log.append(row);
  while (log.childElementCount > LOG_LINES_MAX) log.firstElementChild.remove();
  if (follows) log.scrollTop = log.scrollHeight;
  document.getElementById("log-empty").hidden = true;
}

function follow(path) {
  const events = new EventSource(path);
  for (const name of ["state", "progress", "output", "reset"]) events.addEventListener(name, refresh);
  events.addEventListener("log", (event) => appendLog(event.data));
  events.addEventListener("state", (event) => {
    if (["succeeded", "failed", "cancelled"].includes(JSON.parse(event.data).status)) events.close();
  });
  events.addEventListener("error", () => {
    if (events.readyState === EventSource.CLOSED) poll(2000);
  });
}

const LIST_MIN_MS = 1000;

/** Refreshes a list when jobs change, while it is in view. */
function live(path) {
  let events = null;
  let due = null;
  const later = () => {
    if (due) return;
    due = setTimeout(() => {
      due = null;
      if (!document.hidden) refresh();
    }, Math.max(0, asked + LIST_MIN_MS - Date.now()));
  };
  const open = () => {
    events = new EventSource(path);
    for (const name of ["job", "gap"]) events.addEventListener(name, later);
    events.addEventListener("error", () => {
      if (events.readyState !== EventSource.CLOSED) return;
      document.removeEventListener("visibilitychange", turn);
      poll(2000);
    });
  };
  // A browser has few connections to one host: pages out of view keep none.
  const turn = () => {
    events.close();
    if (document.hidden) return;
    open();
    later();
  };
  document.addEventListener("visibilitychange", turn);
  open();
}

document.addEventListener("submit", (event) => {
  const question = event.submitter?.dataset.ask ?? event.target.dataset.ask;
  if (question && !window.confirm(question)) event.preventDefault();
});

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const text = document.getElementById(button.dataset.copy).textContent;
  const label = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Not allowed here";
  }
  setTimeout(() => (button.textContent = label), 1500);
});

document.addEventListener("submit", async (event) => {
  const form = event.target.closest("[data-upload]");
  if (!form) return;
  event.preventDefault();
  const says = form.querySelector("[role=status]");
  says.textContent = "Uploading and compiling…";
  const path = `/api/v1/plugins/${encodeURIComponent(form.elements.name.value)}`;
  const answer = await fetch(path, { method: "PUT", headers: { "content-type": "application/wasm" }, body: form.elements.file.files[0] });
  const plugin = await answer.json();
  says.textContent = answer.ok ? `Version ${plugin.version} is in service.` : plugin.detail;
  if (answer.ok) refresh();
});

const log = document.getElementById("log");
if (log) log.scrollTop = log.scrollHeight;
const { poll: everyMs, events: path, changes } = document.body.dataset;
if (everyMs) poll(Number(everyMs));
if (path) follow(path);
if (changes) live(changes);
document.querySelector("form[data-auto]")?.submit();
