// Whether a cell of the restart table is true: what is wrong with an overlay, in words; nothing when all is as it says.
import type { Namespace } from '../../helpers/netns.js';
import { pause } from '../../helpers/pause.js';
import { waitUntil } from '../../helpers/process.js';
import { type Picture, pictures, type Place } from './places.js';
import type { Word } from './table.js';
import type { DaemonTrouble, Site, Trouble, Variant } from './troubles.js';
import type { Outcome, Way } from './ways.js';

/** A retry comes within this time of the moment when its cause has gone. */
const BACK_MS = 120_000;
const SHOWN_MS = 60_000;

export interface Case extends Site {
  readonly trouble: Trouble;
  readonly variant: Variant;
  readonly label: string;
  /** An interface of somebody else that has the name of the VNIC. */
  foreign?: Picture | undefined;
  /** What the restart has to leave alone. */
  before: { readonly own: Picture | undefined; readonly vnic: Picture | undefined } | undefined;
}

type Pictures = (host: Namespace) => ReadonlyMap<string, Picture>;

/** All links of these hosts, or those of one overlay, as they are now. */
export async function lookAt(hosts: readonly Namespace[], place?: Place): Promise<Pictures> {
  const seen = new Map<Namespace, ReadonlyMap<string, Picture>>();
  const names = place === undefined ? undefined : [place.at.own, place.at.vnic];
  for (const host of hosts) seen.set(host, await pictures(host, names));
  return (host) => seen.get(host) ?? new Map<string, Picture>();
}

export function pictureOf({ at, hosts }: Place, seen: Pictures): NonNullable<Case['before']> {
  return { own: seen(hosts.a).get(at.own), vnic: seen(at.vnicHost).get(at.vnic) };
}

/** systemd does not wait for all of it. */
export async function whenSettled(way: Way): Promise<void> {
  const isSettled = async (): Promise<boolean> => (await way.call('daemon.status', {})).isSettled;
  await waitUntil(isSettled, { what: 'varpd to know what is up' });
}

export interface Health {
  readonly status: string;
  readonly details: string;
}

/** Of an overlay, or of a VNIC (`up`, or its trouble), whether it runs or not. */
export async function healthOf(way: Way, name: string, what: 'overlay' | 'vnic'): Promise<Health> {
  const names = [name];
  if (what === 'overlay') {
    const { overlays, missing } = await way.call('overlay.list', { names });
    const health = overlays.at(0)?.health;
    return { status: health?.status ?? 'MISSING', details: health?.details ?? missing.at(0)?.message ?? '' };
  }
  const { vnics, missing } = await way.call('vnic.list', { names });
  const state = vnics.at(0)?.state ?? `MISSING ${missing.at(0)?.message}`;
  return { status: state.split(/[ :]/)[0], details: state };
}

/** Two pictures of one link: what has changed. */
function changes(name: string, before: Picture | undefined, now: Picture | undefined): string[] {
  if (before === undefined || now === undefined)
    return before === now ? [] : [`${name}: ${now === undefined ? 'is gone' : 'was not there'}`];
  return Object.keys(before)
    .filter((what) => JSON.stringify(before[what]) !== JSON.stringify(now[what]))
    .map((what) => `${name}: ${what} was ${JSON.stringify(before[what])}, is ${JSON.stringify(now[what])}`);
}

/** A link that is made again is as varpd makes it, under another number. */
function renewed(
  name: string,
  fresh: Picture | undefined,
  before: Picture | undefined,
  now: Picture | undefined,
): string[] {
  if (now === undefined) return [`${name}: is not there`];
  const problems = changes(name, { ...fresh, ifindex: 0 }, { ...now, ifindex: 0 });
  if (before !== undefined && before['ifindex'] === now['ifindex'])
    problems.push(`${name}: is the same link as before`);
  return problems;
}

/** Waits for it; what was seen last when it does not come. */
async function expects(
  what: string,
  timeoutMs: number,
  { way }: Case,
  look: () => Promise<Health>,
  isIt: (health: Health) => boolean,
): Promise<string[]> {
  let last: Health | undefined;
  // A varpd that has ended tells nothing.
  const found = async (): Promise<boolean> => way.isRunning && isIt((last = await look()));
  return waitUntil(found, { timeoutMs: way.isRunning ? timeoutMs : 0, stepMs: 100, what }).then(
    () => [],
    () => [`${what}: expected, seen: ${last?.status} ${last?.details}`],
  );
}

const isMadeAnew = (word: Word): { own: boolean; vnic: boolean } => ({
  own: word === 'made again' || word === 'own link made again',
  vnic: word === 'made again' || word === 'VNIC made again',
});

/** After the restart, before anything is mended. */
export async function judge(one: Case, word: Word, seen: Pictures): Promise<string[]> {
  const { place, way, trouble, before } = one;
  const isKill = way.column === 'kill -9 and start';
  const isNew = isMadeAnew(word);
  const isOffline = word === 'OFFLINE, made again';
  const isVnicOffline = word === 'VNIC OFFLINE, made again';
  const isForgotten = word === 'VNIC forgotten';
  const lacksVnic = isVnicOffline || isForgotten;
  // Whatever is made again has its own name, in varpd's namespace.
  if (isNew.vnic || isOffline || lacksVnic) atHome(place, 'vnic');
  if (isNew.own || isOffline) atHome(place, 'own');
  const now = pictureOf(place, seen);
  const problems =
    one.foreign === undefined
      ? []
      : changes('the other interface', one.foreign, seen(place.hosts.a).get(place.vnic));
  if (isOffline) {
    for (const [name, picture] of Object.entries(now))
      if (picture !== undefined) problems.push(`${name}: is there`);
  } else {
    problems.push(
      ...(isNew.own || (lacksVnic && isKill)
        ? renewed('own link', place.fresh?.own, before?.own, now.own)
        : changes('own link', before?.own, now.own)),
    );
    if (isNew.vnic) problems.push(...renewed('VNIC', place.fresh?.vnic, before?.vnic, now.vnic));
    else if (!isVnicOffline)
      problems.push(...changes('VNIC', isForgotten ? undefined : before?.vnic, now.vnic));
  }
  const status = /OFFLINE|DEGRADED/.exec(word)?.[0] ?? 'ONLINE';
  const reason = trouble.reason?.(one) ?? /^/;
  const overlay = (): Promise<Health> => healthOf(way, place.overlay, 'overlay');
  const vnic = (): Promise<Health> => healthOf(way, place.vnic, 'vnic');
  if (isVnicOffline)
    problems.push(
      ...(await expects(
        `VNIC OFFLINE, ${reason}`,
        SHOWN_MS,
        one,
        vnic,
        (health) => health.status === 'OFFLINE' && reason.test(health.details),
      )),
    );
  else
    problems.push(
      ...(await expects(
        `${status}, ${reason}`,
        SHOWN_MS,
        one,
        overlay,
        (health) => health.status === status && (status === 'ONLINE' || reason.test(health.details)),
      )),
    );
  const state = isForgotten ? 'MISSING' : isNew.vnic ? 'up' : (trouble.vnicState ?? 'up');
  if (status !== 'OFFLINE' && !isVnicOffline)
    problems.push(
      ...(await expects(`VNIC ${state}`, SHOWN_MS, one, vnic, ({ details }) => details.startsWith(state))),
    );
  if (isNew.own || isNew.vnic || (lacksVnic && isKill)) await replumb(place, lacksVnic);
  const hasNoTarget = trouble.byTargets === true && way.column === 'crash of the service';
  if (status !== 'OFFLINE' && !hasNoTarget) problems.push(...(await frames(one, word, lacksVnic)));
  return problems;
}

async function frames({ place, trouble, way }: Case, word: Word, lacksVnic: boolean): Promise<string[]> {
  const isWhole = word === 'made again' || way.column === 'kill -9 and start';
  const which = lacksVnic ? (['own'] as const) : isWhole ? undefined : trouble.reachable;
  const reached = await place.reaches(which);
  return (which ?? ['own', 'vnic'])
    .filter((name) => !reached.includes(name))
    .map((name) => `no frames by the ${name}`);
}

/** When its trouble is mended: what was not well comes back by itself. */
export async function judgeMended(one: Case, word: Word): Promise<string[]> {
  const { place, way, trouble } = one;
  const look = (): Promise<Health> => healthOf(way, place.overlay, 'overlay');
  const vnic = (): Promise<Health> => healthOf(way, place.vnic, 'vnic');
  const isOnline = expects('ONLINE again', BACK_MS, one, look, ({ status }) => status === 'ONLINE');
  if (word === 'VNIC forgotten') return isOnline;
  const found = await Promise.all([
    isOnline,
    expects('VNIC up again', BACK_MS, one, vnic, ({ status }) => status === 'up'),
  ]);
  const problems = found.flat();
  if (problems.length > 0) return problems;
  const now = pictureOf(place, await lookAt([place.hosts.a, place.hosts.inside], place));
  if (word === 'OFFLINE, made again')
    problems.push(
      ...renewed('own link', place.fresh?.own, one.before?.own, now.own),
      ...renewed('VNIC', place.fresh?.vnic, one.before?.vnic, now.vnic),
    );
  else if (word === 'VNIC OFFLINE, made again')
    problems.push(...renewed('VNIC', place.fresh?.vnic, one.before?.vnic, now.vnic));
  // Who sets a link up or renames it changes it himself.
  else if (trouble.mend !== undefined && one.before !== undefined && !/renamed|set down/.test(trouble.row))
    problems.push(
      ...changes('own link', one.before.own, now.own),
      ...changes('VNIC', one.before.vnic, now.vnic),
    );
  await replumb(place, false);
  const reached = await place.reaches();
  for (const name of ['vnic', 'own'] as const)
    if (!reached.includes(name)) problems.push(`no frames by the ${name}`);
  return problems;
}

/** With what keeps varpd itself from running: its restart is refused, or its start fails, and all reasons are said. */
export async function judgeDaemon(
  { place, way }: Case,
  trouble: DaemonTrouble,
  word: Word,
): Promise<string[]> {
  const { a } = place.hosts;
  const { config = {}, text, reasons } = trouble;
  // What the row before has ended is not this row's fault.
  if (!way.isRunning) {
    await way.startAgain();
    await place.plumb();
  }
  const before = pictureOf(place, await lookAt([a], place));
  const problems: string[] = [];
  const sameAs = async (when: string): Promise<void> => {
    const now = pictureOf(place, await lookAt([a], place));
    problems.push(
      ...changes(`${when}: own link`, before.own, now.own),
      ...changes(`${when}: VNIC`, before.vnic, now.vnic),
    );
  };
  const startedAt = async (): Promise<string> => (await way.call('daemon.status', {})).startedAt;
  const startedBefore = await startedAt();
  way.configure(config, text);
  let outcome: Outcome = { code: 0, text: '' };
  const restart = async (): Promise<void> => {
    outcome = await way.restart();
  };
  if (word === 'refused') {
    const { lost } = await pause(a, `10.60.${place.number}.2`, restart);
    if (lost > 0) problems.push(`${lost} frames lost`);
  } else await restart();
  if (outcome.code === 0) problems.push('exit status 0');
  for (const reason of reasons)
    if (!reason.test(outcome.text)) problems.push(`not said: ${reason}; said: ${outcome.text}`);
  if (word !== 'start fails, made again') await sameAs('at once');
  way.configure({});
  if (word === 'refused') {
    if ((await startedAt()) !== startedBefore) problems.push('it has restarted');
  } else {
    const again = await way.startAgain();
    if (again.code !== 0) problems.push(`the start after it is mended: ${again.code} ${again.text}`);
    const isOnline = async (): Promise<boolean> =>
      way.isRunning &&
      (await healthOf(way, place.overlay, 'overlay').catch(() => undefined))?.status === 'ONLINE';
    await waitUntil(isOnline, { timeoutMs: BACK_MS, what: `${place.overlay} to be ONLINE` });
    if (word === 'start fails, stays') await sameAs('after the start');
    else await replumb(place, false);
  }
  if ((await place.reaches()).length < 2) problems.push('frames do not arrive');
  return problems;
}

export function atHome(place: Place, which: 'own' | 'vnic'): void {
  if (which === 'own') place.at.own = place.overlay;
  else {
    place.at.vnic = place.vnic;
    place.at.vnicHost = place.hosts.a;
  }
}

/** What is made again has no addresses, and is in no bridge. */
async function replumb(place: Place, lacksVnic: boolean): Promise<void> {
  const { a } = place.hosts;
  if (
    place.bridge !== undefined &&
    !(await a.ip(`link show master ${place.bridge}`)).includes(place.at.vnic)
  ) {
    await a.ip(`link del ${place.bridge}`);
    place.bridge = undefined;
  }
  await place.plumb(lacksVnic ? ['own'] : undefined);
}
