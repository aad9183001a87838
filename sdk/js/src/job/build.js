#!/usr/bin/env node
// waymark-build SOURCE WIT-FOLDER COMPONENT.wasm: makes a component from a job type in JavaScript or TypeScript.

import { componentize } from "@bytecodealliance/componentize-js";
import { build } from "esbuild";
import { cp, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const [source, witPath, output] = process.argv.slice(2);
if (output === undefined) {
  console.error("usage: waymark-build SOURCE WIT-FOLDER COMPONENT.wasm");
  process.exit(2);
}
const own = (file) => fileURLToPath(new URL(file, import.meta.url));

// What each module of a capability imports. One that is imported must be granted, so what a job type does not use is not.
const CAPABILITIES = {
  config: ["wasi:config/store@0.2.0-rc.1"],
  http: ["wasi:http/types@0.2.1", "wasi:http/outgoing-handler@0.2.1"],
  kv: ["wasi:keyvalue/store@0.2.0-draft", "wasi:keyvalue/atomics@0.2.0-draft"],
  llm: ["waymark:llm/chat@0.1.0"],
  sql: ["waymark:sql/query@0.1.0"],
};
const alias = Object.fromEntries(Object.keys(CAPABILITIES).map((name) => [`waymark/${name}`, own(`${name}.js`)]));

const bundle = (contents, outfile) =>
  build({
    stdin: { contents, resolveDir: process.cwd() },
    alias: { ...alias, waymark: own("index.js") },
    bundle: true,
    format: "esm",
    target: "es2022",
    // What the host gives is imported as it is.
    external: ["waymark:*", "wasi:*"],
    outfile,
    metafile: true,
    logLevel: "error",
  });

const lifecycle = `export { lifecycle } from ${JSON.stringify(resolve(source))};`;
const folder = await mkdtemp(join(tmpdir(), "waymark-build-"));
try {
  const sourcePath = join(folder, "job.js");
  const { metafile } = await bundle(lifecycle, sourcePath);
  const bundled = new Set(Object.keys(metafile.inputs).map((input) => resolve(input)));
  const used = Object.keys(CAPABILITIES).filter((name) => bundled.has(own(`${name}.js`)));

  const interfaces = used.flatMap((name) => CAPABILITIES[name]);
  const entry = [
    `import * as job from "waymark:task/job@0.1.0";`,
    ...interfaces.map((name, index) => `import * as interface${index} from ${JSON.stringify(name)};`),
    `import { setHost } from "waymark";`,
    ...used.map((name) => `import { connect as ${name} } from "waymark/${name}";`),
    `setHost(job);`,
    `const interfaces = {${interfaces.map((name, index) => `${JSON.stringify(name)}: interface${index}`).join()}};`,
    ...used.map((name) => `${name}(interfaces);`),
    lifecycle,
  ];
  await bundle(entry.join("\n"), sourcePath);

  const wit = join(folder, "wit");
  await cp(resolve(witPath), wit, { recursive: true });
  const imports = interfaces.map((name) => `import ${name};`).join(" ");
  await writeFile(join(wit, "world.wit"), `package waymark:task@0.1.0;\nworld plugin { include task; ${imports} }\n`);
  const { component } = await componentize({
    sourcePath,
    witPath: wit,
    worldName: "plugin",
    // Otherwise the component would import wasi:http for fetch, which no operator granted.
    disableFeatures: used.includes("http") ? ["fetch-event"] : ["http", "fetch-event"],
  });
  await writeFile(output, component);
} finally {
  await rm(folder, { recursive: true });
}
