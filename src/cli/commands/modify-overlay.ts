/** modify-overlay: changes to the target table that last until the next one, a flush or the overlay's end. */
import type { Call } from '../../control/client.js';
import { formatEndpoint, parseEndpoint } from '../../wire/ip.js';
import {
  type Arguments,
  attempt,
  defineCommand,
  failureError,
  reasonOf,
  UsageError,
  ValueError,
} from '../command.js';
import { requireMac } from '../values.js';

export const command = defineCommand({
  synopsis: 'modify-overlay -d mac | -f | -s mac=ip:port overlay',
  about:
    'Changes the target table of a dynamic overlay: which MAC address is reached at which underlay ' +
    'address. An IPv6 destination is written mac=[ip]:port; mac=drop discards the frames to that MAC. ' +
    'A change lasts until it is flushed, or varpd ends or restarts; then the plugin is asked again.',
  options: [
    { name: 'delete-entry', short: 'd', value: 'mac', about: 'forget one MAC: the next frame asks again' },
    { name: 'flush-table', short: 'f', about: 'forget all' },
    { name: 'set-entry', short: 's', value: 'mac=ip:port', about: 'set where one MAC is reached' },
  ],
  examples: [
    'modify-overlay -s de:ad:be:ef:00:00=10.88.88.69:4789 overlay0',
    'modify-overlay -s de:ad:be:ef:00:01=[2001:db8::1]:4789 overlay0',
    'modify-overlay -s de:ad:be:ef:00:02=drop overlay0',
    'modify-overlay -d de:ad:be:ef:00:00 overlay0',
  ],

  async run(args, { call }) {
    const toDelete = args.value('delete-entry');
    const toSet = args.value('set-entry');
    const deletion = toDelete === undefined ? undefined : { typed: toDelete, mac: requireMac(toDelete) };
    const setting = toSet === undefined ? undefined : parseEntry(toSet);
    const actions = (['delete-entry', 'flush-table', 'set-entry'] as const).filter((option) =>
      args.has(option),
    );
    if (actions.length === 0) throw new UsageError('need to specify one of -d, -f, or -s');
    if (actions.length > 1) throw new UsageError('only one of -d, -f, or -s may be used');
    const name = requireOverlay(args);
    await checkIsThere(name, call);

    if (deletion !== undefined) {
      const { typed, mac } = deletion;
      const what = `failed to flush target ${typed} from overlay target cache ${name}`;
      await attempt(what, call('overlay.deleteTarget', { name, mac }));
    } else if (setting !== undefined) {
      const { typed, mac, destination } = setting;
      const what = `failed to set target ${typed} for overlay target cache ${name}`;
      const canonical = requireDestination(destination, what);
      await attempt(what, call('overlay.setTarget', { name, mac, destination: canonical }));
    } else {
      const what = `failed to flush target cache for overlay ${name}`;
      await attempt(what, call('overlay.flushTargets', { name }));
    }
  },
});

interface Entry {
  readonly typed: string;
  readonly mac: string;
  readonly destination: string;
}

function parseEntry(text: string): Entry {
  const equals = text.indexOf('=');
  if (equals === -1) throw new ValueError(`malformed value, expected mac=dest, got: ${text}`);
  const typed = text.slice(0, equals);
  return { typed, mac: requireMac(typed), destination: text.slice(equals + 1) };
}

function requireDestination(text: string, what: string): string {
  if (text.toLowerCase() === 'drop') return 'drop';
  const endpoint = parseEndpoint(text);
  if (endpoint !== undefined) return formatEndpoint(endpoint);
  throw new ValueError(`${what}: invalid argument`, [
    `'${text}' is no destination: expected ip:port, [ipv6]:port or drop, the port from 1 to 65535`,
  ]);
}

function requireOverlay({ operands }: Arguments<never>): string {
  if (operands.length === 0) throw new UsageError('missing required overlay device');
  if (operands.length > 1) throw new UsageError('only one overlay device may be specified');
  return operands[0];
}

/** Checks the overlay first, so that a later `object not found` is about the MAC. */
async function checkIsThere(name: string, call: Call): Promise<void> {
  const what = `failed to find overlay ${name}`;
  const { missing } = await attempt(what, call('overlay.list', { names: [name] }));
  for (const failure of missing) throw failureError(`${what}: ${reasonOf(failure)}`, failure, 'NOT_FOUND');
}
