// What the operator tells a job type: `wasi:config`.

import { during } from "./capability.js";

let store;
let told;

export function connect(interfaces) {
  store = interfaces["wasi:config/store@0.2.0-rc.1"];
}

export const telling = (texts, work) =>
  during(
    (value) => {
      told = value;
    },
    texts,
    told,
    work,
  );

export const all = () => (store === undefined ? { ...told } : Object.fromEntries(store.getAll()));
export const get = (key, otherwise) => all()[key] ?? otherwise;
