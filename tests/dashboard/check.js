// Looks at every page of the dashboard in a real browser and does what a person does. `dashboard.rs` prepares the host and
// says in a JSON file which jobs to look at; whatever is not as it should be is thrown.
"use strict";

const assert = require("node:assert/strict");
const fs = require("node:fs");
const { chromium } = require("playwright-core");
const axe = fs.readFileSync(require.resolve("axe-core"), "utf8");

const [url, browserPath, factsPath, shots] = process.argv.slice(2);
const facts = JSON.parse(fs.readFileSync(factsPath, "utf8"));
const WIDE = { width: 1280, height: 800 };
const PHONE = { width: 390, height: 800 };
const FLAGS = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync",
];

/** What a page must never do; asked after every page. */
const wrongs = [];

async function open(browser, viewport, colorScheme) {
  const context = await browser.newContext({ viewport, colorScheme, reducedMotion: "reduce" });
  await context.addInitScript(() => {
    document.addEventListener("securitypolicyviolation", (event) => console.error(`CSP: ${event.violatedDirective}`));
  });
  const page = await context.newPage();
  page.setDefaultTimeout(15_000);
  page.on("console", (message) => message.type() === "error" && wrongs.push(`${page.url()}: ${message.text()}`));
  page.on("pageerror", (error) => wrongs.push(`${page.url()}: ${error.message}`));
  page.on("request", (request) => request.url().startsWith(`${url}/`) || wrongs.push(`foreign request: ${request.url()}`));
  page.on("dialog", (dialog) => dialog.accept());
  return page;
}

async function api(method, path) {
  const answer = await fetch(`${url}/api/v1${path}`, { method });
  return answer.json();
}

async function reaches(id, state) {
  for (let tries = 0; tries < 150; tries += 1) {
    const job = await api("GET", `/jobs/${id}`);
    if (job.status === state) return job;
    await new Promise((done) => setTimeout(done, 100));
  }
  throw new Error(`job ${id} does not become ${state}`);
}

async function look(page, path, heading) {
  const answer = await page.goto(url + path);
  assert.equal(answer.status(), 200, path);
  assert.match(await page.locator("h1").innerText(), heading, path);
}

async function judge(page, path, name) {
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  if (wide > 0) wrongs.push(`${path} is ${wide} pixels too wide at ${page.viewportSize().width}`);
  await page.evaluate(axe);
  const found = await page.evaluate(() => axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"] }));
  const serious = found.violations.filter((one) => ["serious", "critical"].includes(one.impact));
  for (const { id, nodes } of serious) wrongs.push(`axe at ${path}: ${id}: ${nodes[0].html} ${nodes[0].failureSummary}`);
  if (shots) await page.screenshot({ path: `${shots}/${name}.png`, fullPage: true });
}

async function everyPage(browser) {
  const wide = await open(browser, WIDE, "light");
  const dark = await open(browser, PHONE, "dark");
  for (const [path, heading] of facts.pages) {
    for (const [page, name] of [[wide, "light"], [dark, "dark"]]) {
      await look(page, path, new RegExp(heading));
      await judge(page, path, `${path.replaceAll(/[^a-z]+/gi, "-")}-${name}`);
    }
  }
  await dark.context().close();
  return wide;
}

/** Markup in what guests and callers say is text everywhere. */
async function markup(page) {
  for (const path of facts.markup) {
    await page.goto(url + path);
    assert.equal(await page.locator("main img, main script, main b").count(), 0, path);
    assert.ok((await page.locator("main").innerText()).includes("<img src=x"), path);
  }
}

async function controls(page) {
  const id = facts.long;
  await look(page, `/jobs/${id}`, new RegExp(id));
  // Live: the page that stays changes by itself.
  await page.evaluate(() => (window.stays = true));
  const step = await page.locator("#standing .facts dd").first().innerText();
  await page.waitForFunction((before) => document.querySelector("#standing .facts dd").innerText !== before, step);
  const lines = await page.locator("#log li").count();
  await page.waitForFunction((before) => document.querySelectorAll("#log li").length > before, lines);
  assert.equal(await page.evaluate(() => window.stays), true);
  await page.getByRole("button", { name: "Pause" }).click();
  await page.waitForSelector("#standing .state.paused");
  assert.equal((await reaches(id, "paused")).status, "paused");
  await page.getByRole("button", { name: "Resume" }).click();
  await page.waitForSelector("#standing .state.running");
  await page.getByRole("button", { name: "Cancel" }).click();
  await page.waitForSelector("#standing .state.cancelled");
  assert.equal((await reaches(id, "cancelled")).status, "cancelled");
}

async function restore(page) {
  const id = facts.paused;
  const { checkpoints } = await api("GET", `/jobs/${id}/checkpoints`);
  const { step } = checkpoints.at(-1);
  await look(page, `/jobs/${id}/checkpoints?a=${step}&b=${checkpoints[0].step}`, /Checkpoints/);
  assert.ok((await page.locator("table.diff tr.gone").count()) > 0, "the two states differ");
  await page.goto(`${url}/jobs/${id}`);
  await page.getByRole("button", { name: `Restore step ${step}` }).click();
  await page.waitForSelector("#standing .state.running");
  const job = await reaches(id, "running");
  assert.equal(job.run, 2);
  assert.ok(job.step >= step);
}

async function replay(page) {
  await page.goto(`${url}/jobs/${facts.done}`);
  await page.getByRole("link", { name: "Replay…" }).click();
  await page.getByLabel("Input (JSON)").fill('{"steps": 7}');
  await page.getByRole("button", { name: "Replay" }).click();
  await page.waitForURL((at) => /\/jobs\/[0-9A-Z]{26}$/.test(at.pathname) && !at.pathname.endsWith(facts.done));
  const id = page.url().split("/").pop();
  const job = await reaches(id, "succeeded");
  assert.deepEqual([job.replay_of, job.input.steps, job.result.sum], [facts.done, 7, 28]);
}

async function bulk(page) {
  await page.goto(`${url}/jobs?queue=held`);
  await page.locator("form.bulk select").selectOption("cancel");
  await page.getByRole("button", { name: "Count first…" }).click();
  assert.match(await page.locator("h1").innerText(), new RegExp(`to ${facts.held} jobs`));
  const held = async (status) => (await api("GET", `/jobs?queue=held&status=${status}&limit=100`)).jobs.length;
  assert.equal(await held("queued"), facts.held, "a count changes nothing");
  await page.getByRole("button", { name: "cancel" }).click();
  await page.getByText(`${facts.held} of ${facts.held} jobs did as asked`).waitFor();
  assert.equal(await held("cancelled"), facts.held);
}

async function switches(page) {
  await page.goto(`${url}/queues`);
  await page.locator("tr", { hasText: "held" }).getByRole("button", { name: "Resume" }).click();
  await page.locator("tr", { hasText: "held" }).getByText("active").waitFor();
  await page.goto(`${url}/schedules/nightly`);
  await page.getByRole("button", { name: "Run now" }).click();
  await page.locator("#history table").or(page.locator("#standing a.id")).first().waitFor();
  await page.getByRole("button", { name: "Pause" }).click();
  await page.waitForSelector("#standing .state.paused");
  await page.goto(`${url}/hosts`);
  await page.getByRole("button", { name: "Pause" }).click();
  await page.waitForSelector("#hosts .state.paused");
  await page.getByRole("button", { name: "Resume" }).click();
  await page.waitForSelector("#hosts .state.ready");
  await page.goto(`${url}/errors`);
  await page.locator("tbody a").first().click();
  await page.getByRole("button", { name: "Forget" }).click();
  await page.waitForURL(`${url}/errors`);
  await page.goto(`${url}/`);
  await page.getByRole("button", { name: /Theme/ }).click();
  await page.waitForSelector('html[data-theme="dark"]');
  await page.goto(`${url}/jobs`);
  assert.equal(await page.locator("html").getAttribute("data-theme"), "dark", "the choice is kept");
}

async function keyboard(page) {
  await page.goto(`${url}/`);
  const focused = () => page.evaluate(() => {
    const { outlineStyle, outlineWidth } = getComputedStyle(document.activeElement);
    return { text: document.activeElement.innerText.trim(), ring: outlineStyle !== "none" && outlineWidth !== "0px" };
  });
  await page.keyboard.press("Tab");
  assert.equal((await focused()).text, "Skip to the content");
  const seen = [];
  for (let presses = 0; presses < 14; presses += 1) {
    await page.keyboard.press("Tab");
    const { text, ring } = await focused();
    assert.ok(ring, `${text} shows that it has the focus`);
    seen.push(text);
  }
  for (const name of ["Overview", "Jobs", "Workflows", "Schedules", "Queues", "Plugins", "Hosts", "Errors"]) {
    assert.ok(seen.includes(name), `${name} is reached: ${seen}`);
  }
  await page.goto(`${url}/`);
  for (let presses = 0; presses < 4; presses += 1) await page.keyboard.press("Tab");
  assert.equal((await focused()).text, "Jobs");
  await page.keyboard.press("Enter");
  await page.waitForURL(`${url}/jobs`);
}

(async () => {
  const browser = await chromium.launch({ executablePath: browserPath, args: FLAGS });
  try {
    const page = await everyPage(browser);
    for (const part of [markup, controls, restore, replay, bulk, switches, keyboard]) {
      const began = Date.now();
      await part(page);
      console.log(`${part.name}: ${Date.now() - began} ms`);
    }
    assert.deepEqual(wrongs, []);
  } finally {
    await browser.close();
  }
})().catch((error) => {
  console.error(error, wrongs);
  process.exit(1);
});
