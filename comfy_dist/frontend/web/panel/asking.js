// What the panel asks of the frontend, and how it is told no.

import { api } from "../../../scripts/api.js";

/** Longer than a frontend waits for a worker's answer. */
const SECONDS = 20;

/** A refusal; its message is the frontend's sentence. */
export class Refused extends Error {
  constructor(status, sentence) {
    super(sentence);
    this.status = status;
  }
}

/** The answer's JSON. Throws Refused, with status 0 where there is no answer. */
export async function ask(method, path, body) {
  const options = { method, signal: AbortSignal.timeout(1000 * SECONDS) };
  if (body !== undefined) {
    options.headers = { "Content-Type": "application/json" };
    options.body = JSON.stringify(body);
  }
  let answer;
  let text;
  try {
    answer = await api.fetchApi(path, options);
    text = await answer.text();
  } catch {
    throw new Refused(0, "The frontend does not answer; is it running, and is the network there?");
  }
  if (!answer.ok) throw new Refused(answer.status, sentenceOf(text) ?? `${answer.status} ${answer.statusText}`);
  try {
    return text ? JSON.parse(text) : {};
  } catch {
    throw new Refused(answer.status, `What ${path} answered is not understood.`);
  }
}

/** The same, but null where this frontend has no such thing, or not for this user. */
export async function askIfThere(path) {
  try {
    return await ask("GET", path);
  } catch (error) {
    if (error.status === 403 || error.status === 404) return null;
    throw error;
  }
}

function sentenceOf(text) {
  try {
    return JSON.parse(text).error.message;
  } catch {
    return null;
  }
}
