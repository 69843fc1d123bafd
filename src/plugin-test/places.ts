/** Places in the source of a plugin: file, line and column of a call, for messages about it. */
import { fileURLToPath } from 'node:url';

/** `    at name (file:///dir/x.js:3:5)`, `    at async file:///dir/x.js:3:5`, `    at node:internal/timers:600:3` */
const FRAME = /^\s*at (?:.*\()?(?:async )?((?:file:|node:|\/).*?:\d+:\d+)\)?$/;

/**
 * The place of the call of `callee`, without `file://`: `/dir/x.js:3:5`, or `node:...` if Node itself has called it.
 * Undefined if no frame of the stack has a file.
 */
export function placeOf(callee: (...args: never[]) => unknown): string | undefined {
  const at: { stack?: string } = {};
  Error.captureStackTrace(at, callee);
  return placesIn(at.stack)[0];
}

/** The places in the stack of an error, the innermost first. */
export function placesIn(stack: string | undefined): readonly string[] {
  return (stack ?? '').split('\n').flatMap((line) => {
    const place = FRAME.exec(line)?.[1];
    return place === undefined ? [] : [readable(place)];
  });
}

function readable(place: string): string {
  if (!place.startsWith('file:')) return place;
  const [, url, rest] = /^(.*?)(:\d+:\d+)$/.exec(place) ?? [];
  try {
    return `${fileURLToPath(url)}${rest}`;
  } catch {
    return place;
  }
}
