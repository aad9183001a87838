// The job type `{name}`.

import { defineJob, done, each, items } from "waymark";

export const lifecycle = defineJob({
  name: "{name}",
  version: "0.1.0",
  description: "Adds up numbers.",

  // What a caller sends. An input that does not fit is refused before a job is made.
  input: {
    type: "object",
    properties: { numbers: { type: "array", items: { type: "number" } } },
    required: ["numbers"],
    additionalProperties: false,
  },

  // What the job answers in the end.
  result: { type: "object", properties: { sum: { type: "number" } }, required: ["sum"] },

  // Makes the state, which is also the checkpoint: what is not in it does not outlive a step.
  start({ numbers }, context) {
    context.log("info", `${numbers.length} numbers to add up`);
    // Two a step, so that there is something to see. A real step takes 10 to 500 ms.
    return { numbers: items(numbers, 2), sum: 0 };
  },

  step(state, context) {
    const more = each(state.numbers, context, (number) => {
      state.sum += number;
      context.emit({ number, sum: state.sum });
    });
    return more ?? done({ sum: state.sum });
  },
});
