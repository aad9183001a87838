// What the operator tells a job type: texts under keys, the same for all jobs.

/** The text under a key, if the operator tells one. Pure while a host runs; another host may tell something else. */
export function get(key: string): string | undefined;
export function get(key: string, otherwise: string): string;
/** All texts by their keys. */
export function all(): { [key: string]: string };

/** For tests: while `work` runs, the operator tells this. */
export function telling<Made>(texts: { [key: string]: string }, work: () => Made): Made;
