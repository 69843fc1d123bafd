/**
 * The log line of each change: the user that has asked for it, the command that an operator would type for it, and the result.
 *
 * Secrets are left out: the value of a property with such a name, and a password in a URL.
 */
import { NETNS_ATTACHMENT } from '../../control/messages.js';
import { type MethodName, METHODS, type Methods } from '../../control/methods.js';
import { printable } from '../../model/properties.js';

/** One change, for the log. */
export interface Change {
  /** Undefined for a signal: the kernel does not say who has sent it. */
  readonly asker: { readonly uid: number; readonly pid: number | undefined } | undefined;
  /** As it would be typed, or the name of a signal. */
  readonly command: string;
  /** `done`, `failed`, or the reason of an error, as `BUSY`. */
  readonly result: string;
  /** Sentence about a result other than `done`. */
  readonly message?: string;
}

export const DONE = 'done';
/** Result of a change that was done in part. */
export const FAILED = 'failed';

type Typed = { readonly [M in MethodName]?: (params: Methods[M]['params']) => readonly string[] };

const flag = (name: string, isSet: boolean | undefined): string[] => (isSet === true ? [name] : []);
const option = (name: string, value: string | number | undefined): string[] =>
  value === undefined ? [] : [name, String(value)];
const properties = (list: readonly (readonly [string, string | readonly string[]])[] = []): string[] =>
  list.flatMap(([name, value]) => ['-p', `${name}=${withoutSecret(name, [value].flat().join(','))}`]);

const purpose = (attachment: string | undefined): string[] =>
  attachment?.startsWith(NETNS_ATTACHMENT) === true
    ? ['--netns', attachment.slice(NETNS_ATTACHMENT.length)]
    : option('--attachment', attachment);

/** Method -> the words of the command line. */
export const TYPED: Typed = {
  'overlay.create': ({ name, encap, search, vnetid, temporary, properties: list, isIfMissing }) => [
    'create-overlay',
    ...flag('-t', temporary),
    ...flag('--if-missing', isIfMissing),
    ...['-e', encap, '-s', search, '-v', String(vnetid)],
    ...properties(list),
    name,
  ],
  'overlay.delete': ({ name, temporary }) => ['delete-overlay', ...flag('-t', temporary), name],
  'overlay.up': ({ name }) => ['up-overlay', ...(name === undefined ? [] : [name])],
  'overlay.apply': ({ name, prune, dryRun }) => [
    'apply',
    ...flag('--dry-run', dryRun),
    ...flag('--prune', prune),
    name,
  ],
  'overlay.prune': ({ name, dryRun }) => ['apply', ...flag('--dry-run', dryRun), '--prune', name],
  'overlay.setTarget': ({ name, mac, destination }) => [
    'modify-overlay',
    '-s',
    `${mac}=${destination}`,
    name,
  ],
  'overlay.deleteTarget': ({ name, mac }) => ['modify-overlay', '-d', mac, name],
  'overlay.flushTargets': ({ name }) => ['modify-overlay', '-f', name],
  'vnic.create': ({ name, over, mac, vid, properties: list, temporary, attachment, isIfMissing }) => [
    'create-vnic',
    ...flag('-t', temporary),
    ...flag('--if-missing', isIfMissing),
    ...purpose(attachment),
    ...option('-l', over),
    ...option('-m', mac),
    ...option('-v', vid),
    ...properties(list),
    name,
  ],
  'vnic.delete': ({ name, temporary }) => ['delete-vnic', ...flag('-t', temporary), name],
  'link.rename': ({ name, to }) => ['rename-link', name, to],
  'overlayprop.set': ({ name, temporary, properties: list }) => [
    'set-overlayprop',
    ...flag('-t', temporary),
    ...properties(list),
    name,
  ],
  'overlayprop.reset': ({ name, temporary, properties: names }) => [
    'reset-overlayprop',
    ...flag('-t', temporary),
    ...option('-p', names?.join(',')),
    name,
  ],
  'linkprop.set': ({ name, temporary, properties: list }) => [
    'set-linkprop',
    ...flag('-t', temporary),
    ...properties(list),
    name,
  ],
  'linkprop.reset': ({ name, temporary, properties: names }) => [
    'reset-linkprop',
    ...flag('-t', temporary),
    ...option('-p', names?.join(',')),
    name,
  ],
  'capture.start': (params) => [
    'capture',
    ...option('-s', params.snapBytes),
    ...option('-c', params.count),
    ...flag(params.reason === undefined ? '--drops' : `--drops=${params.reason}`, params.isDropsOnly),
    ...flag('--outer', params.isOuter),
    ...flag('--segments', params.isCut),
    ...option('--mac', params.mac),
    ...option('--ip', params.ip),
    ...option('--type', params.etherType),
    ...option('--vlan', params.vlan),
    ...option('--peer', params.peer),
    params.name,
  ],
  'overlay.explain': (params) => [
    'explain',
    ...option('-i', params.port),
    ...option('--frame', params.frame),
    ...option('--dst', params.destination),
    ...option('--src', params.source),
    ...option('--type', params.etherType),
    ...option('--vlan', params.vlan),
    ...option('--size', params.bytes),
    ...(params.from === undefined ? [] : ['--inbound', '--from', params.from]),
    ...option('--vni', params.vnetid),
    params.name,
  ],
  'overlay.probe': (params) => [
    'probe',
    ...option('-i', params.port),
    ...option('--vlan', params.vlan),
    ...option('-s', params.packetBytes),
    ...option('-c', params.count),
    ...flag('--mtu', params.isMtuSought),
    ...flag('--paths', params.isEachPath),
    params.name,
    params.target,
  ],
  'daemon.reloadPlugin': ({ name }) => ['reload-plugin', name],
  'daemon.reload': () => ['reload'],
  'daemon.restart': () => ['restart'],
  'daemon.stop': () => ['stop'],
};

export const isChange = (method: MethodName): boolean => METHODS[method].access === 'change';

/** `params` undefined: they are not valid, and are left out. */
export function commandText<M extends MethodName>(
  method: M,
  params: Methods[M]['params'] | undefined,
): string {
  const typed = TYPED[method] as ((params: Methods[M]['params']) => readonly string[]) | undefined;
  return params === undefined || typed === undefined ? method : typed(params).map(quoted).join(' ');
}

/** A sentence about a request, which may quote its values. `params` as above. */
export function sentenceText(params: Methods[MethodName]['params'] | undefined, sentence: string): string {
  const given = params !== undefined && 'properties' in params ? (params.properties ?? []) : [];
  const secrets = given.flatMap((one) => (typeof one !== 'string' && SECRET_NAME.test(one[0]) ? one[1] : []));
  return secrets.reduce(
    (text, secret) => text.replaceAll(`'${printable(secret)}'`, `'${LEFT_OUT}'`),
    withoutPasswords(sentence),
  );
}

const SECRET_NAME = /passw|secret|token|credential|private|(?:^|[/_-])key$/i;
const LEFT_OUT = '***';

function withoutSecret(name: string, value: string): string {
  return SECRET_NAME.test(name) ? LEFT_OUT : withoutPasswords(value);
}

/** Those of URLs. One with an @ in it ends with the last one (RFC 3986 3.2.1 wants that one alone). */
function withoutPasswords(text: string): string {
  return text.replace(/(?<=:\/\/[^/\s:@]*:)[^/\s]*(?=@)/g, LEFT_OUT);
}

/** A word as sh(1) takes it. */
function quoted(word: string): string {
  return /^[\w./:=,*@%+[\]-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}
