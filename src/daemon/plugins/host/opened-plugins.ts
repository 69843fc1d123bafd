/**
 * The value that the instances of a plugin share (`LookupPlugin.open`): it is opened before the first instance is created, and
 * closed after the last one has stopped. When it cannot be opened, the start that needs it fails, and the next start
 * tries again.
 */
import type { LookupPlugin } from '../../../plugin/contract.js';

interface Opened {
  users: number;
  readonly shared: Promise<unknown>;
}

const opened = new Map<LookupPlugin, Opened>();
/** Plugins that are being closed. They are opened again only afterwards. */
const closing = new Map<LookupPlugin, Promise<void>>();

/** Resolves to what the instances share. Rejects as `open` does. Each user that it resolves for calls `leave`. */
export async function enter(plugin: LookupPlugin, open: () => Promise<unknown>): Promise<unknown> {
  let found = opened.get(plugin);
  if (found === undefined) {
    const before = closing.get(plugin) ?? Promise.resolve();
    found = { users: 0, shared: before.then(open) };
    opened.set(plugin, found);
  }
  found.users++;
  try {
    return await found.shared;
  } catch (error) {
    if (opened.get(plugin) === found) opened.delete(plugin);
    throw error;
  }
}

/** Closes what is shared when no user is left. Never rejects: `close` reports its own failure. */
export async function leave(plugin: LookupPlugin, close: (shared: unknown) => Promise<void>): Promise<void> {
  const found = opened.get(plugin);
  if (found === undefined || --found.users > 0) return;
  opened.delete(plugin);
  const closed = found.shared.then(close).finally(() => closing.delete(plugin));
  closing.set(plugin, closed);
  await closed;
}
