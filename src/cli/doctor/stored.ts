/** Looks at what varpd keeps on the disk and in the kernel: configuration, user, state directory, leftovers. */
import { readdirSync } from 'node:fs';
import { counted } from '../../model/sentences.js';
import { fail, firstOf, ok, type Plain, skip, warn } from './finding.js';
import { runs, type Subject } from './subject.js';
import { textOf, userText } from './system.js';

/** A TUN or TAP of this network namespace. */
export interface TapFacts {
  readonly name: string;
  /** Undefined: it belongs to no user. */
  readonly ownerUid: number | undefined;
  readonly isPersistent: boolean;
  /** A program has it open, as far as its carrier tells. */
  readonly isInUse: boolean;
}

export interface StoredFacts extends Pick<Subject, 'configuration' | 'user' | 'state'> {
  readonly isRunning: boolean;
  readonly taps: readonly TapFacts[];
  /** Names of overlays and VNICs, those that do not run included; undefined = they are not all known. */
  readonly wanted: readonly string[] | undefined;
}

/** A state file is written within a moment. */
const WRITING_MS = 60_000;
const SHARED_WRITE = 0o022;
/** linux/if_tun.h */
const IFF_PERSIST = 0x0800;

export function readStored({ configuration, user, state, varpd, ports }: Subject): StoredFacts {
  const stored = (state?.overlays ?? []).flatMap(({ name, vnics }) => [
    name,
    ...vnics.map((vnic) => vnic.name),
  ]);
  const isRunning = runs(varpd);
  const areKnown = isRunning || state?.names !== undefined || state?.found === undefined;
  return {
    configuration,
    user,
    state,
    isRunning,
    taps: readTaps(),
    wanted: areKnown ? [...stored, ...ports] : undefined,
  };
}

function readTaps(): TapFacts[] {
  return readdirSync('/sys/class/net').flatMap((name) => {
    const read = (file: string): string | undefined => textOf(`/sys/class/net/${name}/${file}`)?.trim();
    const flags = read('tun_flags');
    if (flags === undefined) return [];
    const owner = Number(read('owner') ?? -1);
    return [
      {
        name,
        ownerUid: owner < 0 ? undefined : owner,
        isPersistent: (Number(flags) & IFF_PERSIST) !== 0,
        // The kernel says nothing of the carrier of a link that is down: EINVAL.
        isInUse: read('carrier') === '1',
      },
    ];
  });
}

export function checkStored(facts: StoredFacts): Plain[] {
  return [configuration(facts), userFinding(facts), ...stateFindings(facts), leftoverTaps(facts)];
}

const NO_CONFIGURATION = 'the configuration was not read';

function configuration({ configuration: { file, isThere, isClosed, errors } }: StoredFacts): Plain {
  if (isClosed) return skip('CONFIGURATION', `${file} is not open to this user`, 'run it as root');
  if (errors.length > 0)
    return fail('CONFIGURATION', errors.join('; '), 'mend the file: varpd does not start with it');
  return ok(
    'CONFIGURATION',
    isThere ? `${file} is valid` : `there is no ${file}, so every key has its default`,
  );
}

function userFinding({ user, configuration: { config } }: StoredFacts): Plain {
  if (user === undefined)
    return config === undefined
      ? skip('USER', NO_CONFIGURATION)
      : ok('USER', 'varpd stays the user that starts it');
  return 'problem' in user
    ? fail('USER', user.problem, 'make the user, or set `user` in the configuration')
    : ok('USER', `varpd runs as ${userText(user.uid)}`);
}

function stateFindings({ state, user, isRunning }: StoredFacts): Plain[] {
  const codes = ['STATE-DIRECTORY', 'STATE-SET-ASIDE', 'LEFTOVER-FILE'] as const;
  if (state === undefined) return codes.map((code) => skip(code, NO_CONFIGURATION));
  const { directory, found, names, untrusted, temporary } = state;
  if (found === undefined) return codes.map((code) => ok(code, `${directory} is not there yet`));
  const own = user !== undefined && 'uid' in user ? user.uid : undefined;
  const first = directoryFinding(directory, found, own) ?? wayFinding(directory, untrusted);
  if (names === undefined)
    return [
      first,
      ...codes.slice(1).map((code) => skip(code, `${directory} is not open to this user`, 'run it as root')),
    ];
  const aside = names.filter((name) => /\.bad-\d+$/.test(name)).map((name) => `${directory}/${name}`);
  const old = temporary.filter(({ ageMs }) => !isRunning || ageMs > WRITING_MS).map(({ name }) => name);
  return [
    first,
    aside.length === 0
      ? ok('STATE-SET-ASIDE', 'every state file is good')
      : warn(
          'STATE-SET-ASIDE',
          `${firstOf(aside)} could not be used`,
          'mend it and rename it to NAME.json, or remove it',
        ),
    old.length === 0
      ? ok('LEFTOVER-FILE', `${directory} has no half-written file`)
      : warn(
          'LEFTOVER-FILE',
          `${directory} has ${counted(old.length, 'half-written file')}: ${firstOf(old)}`,
          'the next start of varpd removes it',
        ),
  ];
}

function directoryFinding(
  directory: string,
  { isDirectory, uid, mode }: NonNullable<NonNullable<Subject['state']>['found']>,
  own: number | undefined,
): Plain | undefined {
  if (!isDirectory)
    return fail(
      'STATE-DIRECTORY',
      `${directory} is not a directory`,
      'name another `stateDir`, or remove the file',
    );
  if (own !== undefined && uid !== own)
    return fail(
      'STATE-DIRECTORY',
      `${directory} belongs to ${userText(uid)}, and varpd runs as ${userText(own)}`,
      `chown -R ${own} ${directory}`,
    );
  return (mode & SHARED_WRITE) === 0
    ? undefined
    : fail(
        'STATE-DIRECTORY',
        `${directory} can be written by group or others (mode ${mode.toString(8)})`,
        `chmod 700 ${directory}`,
      );
}

function wayFinding(directory: string, untrusted: string | undefined): Plain {
  return untrusted === undefined
    ? ok('STATE-DIRECTORY', `${directory} belongs to varpd alone`)
    : fail(
        'STATE-DIRECTORY',
        `${directory}: ${untrusted}`,
        'only root and the user of varpd may write there',
      );
}

function leftoverTaps({ taps, wanted, user }: StoredFacts): Plain {
  const own = user !== undefined && 'uid' in user ? user.uid : undefined;
  if (own === undefined) return skip('LEFTOVER-TAP', 'the user of varpd is not known');
  if (wanted === undefined) return skip('LEFTOVER-TAP', 'only root knows which are stored', 'run it as root');
  const left = taps
    .filter(
      ({ name, ownerUid, isPersistent, isInUse }) =>
        ownerUid === own && isPersistent && !isInUse && !wanted.includes(name),
    )
    .map(({ name }) => name);
  return left.length === 0
    ? ok('LEFTOVER-TAP', 'no persistent TAP is left')
    : warn(
        'LEFTOVER-TAP',
        `${counted(left.length, 'persistent TAP')} of varpd that nothing uses, and no overlay or VNIC has: ${left.join(', ')}`,
        left.map((name) => `ip link del ${name}`).join('; '),
      );
}
