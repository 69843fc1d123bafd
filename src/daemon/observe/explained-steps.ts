/**
 * Tells a dry run in sentences: the rules that the frame came to, in the order of transmit.ts and receive.ts,
 * each with what it read; and the end. A step decides nothing: a drop is told by the step of its reason
 * (STEP_OF), and the steps after it are left out unless some copy of the frame went on.
 */
import type { Explanation } from '../../control/explain-messages.js';
import { durationText } from '../../control/drop-text.js';
import type { DryFacts, Explained, PathFacts, PortFacts } from '../../core/dry-run/dry-facts.js';
import type { DrySend } from '../../core/dry-run/dry-outputs.js';
import type { DryFrame } from '../../core/dry-run/dry-run.js';
import * as flow from '../../core/flow.js';
import type { LookupAnswer, LookupRequest } from '../../datapath/contract.js';
import { DROPS } from '../../model/drops.js';
import { describe } from '../../wire/describe.js';
import * as ethernet from '../../wire/ethernet.js';
import { type Endpoint, family, formatEndpoint } from '../../wire/ip.js';
import { formatMac } from '../../wire/mac.js';
import * as udp from '../../wire/udp.js';
import * as vlan from '../../wire/vlan.js';
import { ADVICE, type Step, stepOf } from './explained-drops.js';

export interface Answered {
  readonly question: LookupRequest;
  readonly answer: LookupAnswer;
}

export interface Told {
  readonly overlay: string;
  readonly encap: string;
  readonly frame: Uint8Array;
  readonly from: DryFrame['from'];
  /** How an address that was typed became a MAC. */
  readonly resolved: string | undefined;
  readonly answers: readonly Answered[];
  readonly threads: readonly Explained[];
  readonly sourcePorts: readonly number[];
}

/** A rule, and the facts that it read; undefined = the frame does not come to it. */
type Rule = readonly [step: Step, read: string | undefined, rule: string];

type Result = Omit<Explanation, 'overlay' | 'port' | 'questions'>;

/** `run` is that of the first thread. */
export function tell(told: Told, run: Explained): Result {
  const { frame, from } = told;
  const isInbound = 'peer' in from;
  const sends = run.sends.map((send) => sendOf(told, run, send));
  const mine = (port: string): boolean => !isInbound && port === from.port;
  const deliveries = run.deliveries.map(({ port }) => port).filter((port) => !mine(port));
  const answers = run.deliveries.filter(({ port }) => mine(port)).map(({ bytes }) => describe(bytes));
  const isAnswered = (run.counters.proxy_arp ?? 0) + (run.counters.proxy_ndp ?? 0) > 0;
  const isPass = sends.length + deliveries.length > 0 || isAnswered;
  const drops = run.drops.map((reason) => ({
    reason,
    kind: DROPS[reason].kind,
    about: DROPS[reason].about,
    advice: ADVICE[reason] ?? 'docs/troubleshooting.md leads from symptoms to cures',
  }));
  const result = { sends, deliveries, answers, drops };
  return {
    from: isInbound ? formatEndpoint(from.peer) : null,
    frame: describe(frame),
    frameBytes: frame.length,
    steps: stepsOf(told, run, isPass),
    outcome: isPass ? 'pass' : 'drop',
    sentence: sentenceOf(result, isPass, run.question !== undefined),
    ...result,
  };
}

function sendOf(
  { sourcePorts }: Told,
  { facts }: Explained,
  { to, socket, bytes }: DrySend,
): Result['sends'][number] {
  const { listen } = facts.settings;
  return {
    from: formatEndpoint({ ip: listen.ip, port: sourcePorts[socket] ?? listen.port }),
    to: formatEndpoint(to),
    bytes: bytes.length,
    packetBytes: bytes.length + udp.overheadBytes(family(to.ip)),
  };
}

/** `would send 106 bytes to 10.88.88.70:4789`, or `would drop: tx_too_big: ... -> ...`. */
function sentenceOf(
  { sends, deliveries, answers, drops }: Pick<Result, 'sends' | 'deliveries' | 'answers' | 'drops'>,
  isPass: boolean,
  isWaiting: boolean,
): string {
  const lost = drops.map(({ reason, about, advice }) => `${reason}: ${about} -> ${advice}`).join('; ');
  const answered = answers.map((answer) => `would answer: ${answer}`);
  if (!isPass) return [`would ${isWaiting ? 'wait' : `drop: ${lost}`}`, ...answered].join('; ');
  const parts = [
    ...sends.map(({ bytes, to }) => `would send ${bytes} bytes to ${to}`),
    ...(deliveries.length > 0 ? [`would deliver to ${deliveries.join(', ')}`] : []),
    ...answered,
    // A broadcast that its ports have got, and that nothing floods, is as it should be.
    ...drops.map(({ reason, about }) => `would drop a copy: ${reason}: ${about}`),
  ];
  return parts.join('; ');
}

function stepsOf(told: Told, run: Explained, isPass: boolean): Result['steps'] {
  const dropped = run.drops.map((reason) => stepOf(reason, told.answers.length > 0));
  const steps: Result['steps'][number][] = [];
  for (const [step, read, rule] of 'peer' in told.from ? inbound(told, run) : outbound(told, run)) {
    const isDrop = dropped.includes(step);
    if (read === undefined && !isDrop) continue;
    steps.push({ step, verdict: isDrop ? 'drop' : 'pass', read: read ?? '', rule });
    if (isDrop && !isPass) break;
  }
  return [...steps, ...threadsOf(told.threads)];
}

// -- A frame of a port

function outbound(told: Told, run: Explained): readonly Rule[] {
  const { frame, resolved, encap, answers } = told;
  const { facts, sends } = run;
  const { settings, port } = facts;
  const header = vlan.headerLength(frame, 0, frame.length);
  const tag = tagText(frame, header);
  const isGroup = frame.length > 0 && ethernet.isGroup(frame, 0);
  const isAccess = port !== undefined && port.vid !== 0;
  const path = facts.paths.at(0);
  return [
    ['address', resolved, 'addresses of the overlay are known to the plugin alone, which proxies ask too'],
    ['frame', `${frame.length} bytes`, 'a frame has an Ethernet header and at most four tags'],
    ['port', port && portText(port), 'the port that sends it'],
    isAccess
      ? ['vlan', tag, `an access port: frames without a tag are in VLAN ${port.vid}, others are refused`]
      : ['vlan', header > ethernet.HEADER_BYTES ? tag : undefined, tagRule(encap, settings.carryTags)],
    [
      'protection',
      port !== undefined && port.protection.length > 0 ? port.protection.join(', ') : undefined,
      'link protection of the port',
    ],
    [
      'size',
      `${Math.max(0, frame.length - header)} bytes behind the Ethernet header`,
      `at most the mtu, ${settings.mtuBytes}`,
    ],
    isGroup
      ? ['local', takersOf(run, port?.name), 'a group frame goes to each other port of its VLAN as well']
      : ['local', localText(facts), 'a station behind a port of this host gets its frames there'],
    facts.point === undefined
      ? ['table', tableText(frame, facts, isGroup), 'the target table says where a MAC lives']
      : ['table', formatEndpoint(facts.point), 'the plugin gives one destination for all frames'],
    ...answers.map(plugin),
    ['flow', sends.length > 0 ? flowText(told, sends[0]) : undefined, 'the flow chooses the source port'],
    ['mtu', path && mtuText(frame, run, path), 'a datagram is never fragmented'],
    ['route', path && routeText(path), 'the route to the VTEP carries the datagram'],
    [
      'port',
      run.drops.some((reason) => reason.startsWith('port_')) ? 'it is down' : undefined,
      'an interface that is down takes nothing',
    ],
  ];
}

function plugin({ question, answer }: Answered): Rule {
  const isGroup = question.frame !== undefined;
  const about = isGroup ? 'this broadcast or multicast' : formatMac(question.destinationMac);
  return [
    'plugin',
    `asked about ${about}, by explain: ${answerText(answer, isGroup)}`,
    'the frame waits for the answer of the plugin',
  ];
}

function answerText(answer: LookupAnswer, isGroup: boolean): string {
  switch (answer.kind) {
    case 'target':
      return `at ${answer.to.map(formatEndpoint).join(', ')}`;
    case 'drop':
      // As the datapath counts it.
      return `drop (${isGroup && answer.reason === 'lookup_drop' ? 'tx_group' : answer.reason})`;
    case 'reply':
      return `the proxy replies: ${describe(answer.frame)}`;
    case 'redirect':
      return `to ${formatMac(answer.to)} alone`;
  }
}

function portText({ name, mac, vid, isDown }: PortFacts): string {
  const place = vid === 0 ? 'every VLAN' : `VLAN ${vid}`;
  return `${name}, ${formatMac(mac)}, ${place}${isDown ? ', its interface is down' : ''}`;
}

function tagText(frame: Uint8Array, header: number): string {
  if (header <= ethernet.HEADER_BYTES) return 'no tag';
  return `VLAN ${vlan.vlanId(frame, ethernet.HEADER_BYTES)}`;
}

function tagRule(encap: string, carriesTags: boolean): string {
  return carriesTags
    ? `${encap}/vlan=keep: tags stay`
    : `${encap}/vlan=drop: tagged frames stay on this host`;
}

/** The ports that get a group frame, of a port or out of the tunnel. */
function takersOf({ deliveries }: Explained, from?: string): string {
  const takers = deliveries.map(({ port }) => port).filter((port) => port !== from);
  return takers.length === 0 ? 'no port' : takers.join(', ');
}

function localText({ holder, isStation }: DryFacts): string | undefined {
  if (isStation) return 'a station behind the own interface of the overlay';
  if (holder === undefined) return undefined;
  const presence = holder.isDown
    ? 'its interface is down'
    : holder.isElsewhere
      ? 'frames from its MAC come from another host'
      : holder.isAlive
        ? 'it has just sent'
        : 'it has been silent';
  return `${holder.name} has the MAC, and ${presence}`;
}

function tableText(frame: Uint8Array, { target }: DryFacts, isGroup: boolean): string {
  const mac = frame.length < ethernet.HEADER_BYTES ? '' : formatMac(ethernet.destination(frame, 0));
  if (target === undefined)
    return `no entry for ${mac}: the plugin is asked${isGroup ? ' about this frame' : ''}`;
  const { state, to, facts } = target;
  const place = { pending: 'waits for an answer', drop: 'lives nowhere', valid: `at ${endpoints(to)}` }[
    state
  ];
  const { origin, ageMs, idleMs, ttlMs, isStale } = facts ?? {};
  const times = [
    origin === undefined ? '' : `origin ${origin}`,
    ageMs === undefined ? '' : `since ${durationText(ageMs)}`,
    idleMs === undefined ? '' : `last used ${durationText(idleMs)} ago`,
    isStale === true
      ? 'stale: in use until the plugin has answered again'
      : ttlMs === undefined
        ? ''
        : `fresh for ${durationText(ttlMs)}`,
  ];
  return [`${mac} ${place}`, ...times.filter(Boolean)].join(', ');
}

const endpoints = (to: readonly Endpoint[]): string => to.map(formatEndpoint).join(', ');

function flowText({ sourcePorts }: Told, { bytes, socket }: DrySend): string {
  const frame = bytes.length - innerOf(bytes).length;
  const header = vlan.headerLength(bytes, frame, bytes.length - frame);
  const hash = flow.inspect(bytes, frame, frame + header, bytes.length) >>> 8;
  return `hash 0x${hash.toString(16)}, UDP port ${sourcePorts[socket] ?? '?'}, ${socket + 1} of ${sourcePorts.length}`;
}

/** Both headers of a tunnel have 8 bytes as varpd writes them (RFC 7348 5, RFC 8926 3.4). */
const TUNNEL_BYTES = 8;
const innerOf = (datagram: Uint8Array): Uint8Array => datagram.subarray(TUNNEL_BYTES);

function mtuText(
  frame: Uint8Array,
  { sends, facts }: Explained,
  { to, pathMtuBytes, routeMtuBytes }: PathFacts,
): string {
  const inserted =
    facts.port !== undefined && facts.port.vid !== 0 && frame.length > 0 ? vlan.HEADER_BYTES : 0;
  const frameBytes = sends.length > 0 ? innerOf(sends[0].bytes).length : frame.length + inserted;
  const overhead = udp.overheadBytes(family(to.ip));
  const sum = `${frameBytes} frame + ${TUNNEL_BYTES} tunnel + ${overhead} UDP and IP = ${frameBytes + TUNNEL_BYTES + overhead} bytes`;
  const path = pathMtuBytes === Infinity ? [] : [`the path carries ${pathMtuBytes}`];
  const route = routeMtuBytes < 0 ? [] : [`the route ${routeMtuBytes}`];
  return [sum, ...path, ...route].join(', ');
}

function routeText({ to, routeMtuBytes, isLoop }: PathFacts): string {
  if (isLoop) return `the route to ${to.ip} leads back into the overlay`;
  return routeMtuBytes < 0 ? `no route to ${to.ip}` : `${to.ip} has a route`;
}

// -- A frame out of the tunnel

function inbound({ frame, from, encap }: Told, run: Explained): readonly Rule[] {
  if (!('peer' in from)) return [];
  const { facts, deliveries } = run;
  const { settings, target, holder } = facts;
  const header = vlan.headerLength(frame, 0, frame.length);
  const isWhole = frame.length >= ethernet.HEADER_BYTES;
  const isGroup = frame.length > 0 && ethernet.isGroup(frame, 0);
  const source = isWhole ? formatMac(ethernet.source(frame, 0)) : '';
  const place =
    target === undefined
      ? 'is not in the table'
      : target.state === 'valid'
        ? `at ${endpoints(target.to)}`
        : target.state;
  const strict = settings.strictSource;
  return [
    ['vni', `${from.vnetid} on ${formatEndpoint(settings.listen)}`, 'the VNI picks the overlay'],
    [
      'peer',
      `${from.peer.ip} is ${facts.isPeer ? 'a peer' : 'no peer'}`,
      settings.acceptAny ? `${encap}/accept=any` : 'frames come from peers and destinations only',
    ],
    ['frame', `${frame.length} bytes`, 'a frame has an Ethernet header and at most four tags'],
    [
      'source',
      strict ? `${source} ${place}` : source,
      strict
        ? `${encap}/strict-source=on: it lives at its sender`
        : 'a station, and no port of this host that has just sent',
    ],
    [
      'vlan',
      header > ethernet.HEADER_BYTES ? tagText(frame, header) : undefined,
      tagRule(encap, settings.carryTags),
    ],
    [
      'size',
      `${Math.max(0, frame.length - header)} bytes behind the Ethernet header`,
      `at most the mtu, ${settings.mtuBytes}`,
    ],
    [
      'port',
      isGroup ? takersOf(run) : holder === undefined ? 'no port has its MAC' : portText(holder),
      isGroup
        ? 'a group frame goes to each port of its VLAN'
        : 'the port with its MAC, else the own interface of the overlay',
    ],
    [
      'local',
      deliveries.length > 0 ? deliveries.map(({ port }) => port).join(', ') : undefined,
      'ports that get it',
    ],
  ];
}

// -- Threads

/** Threads may differ for a moment: an answer that one of them got is on its way to the others. */
function threadsOf(threads: readonly Explained[]): Result['steps'] {
  const [first, ...others] = threads.map(({ sends, deliveries, drops, question }) =>
    JSON.stringify([
      sends.map(({ to, socket }) => [to, socket]),
      deliveries.map(({ port }) => port),
      drops,
      question?.destinationMac,
    ]),
  );
  if (others.length === 0) return [];
  const different = others.flatMap((one, index) => (one === first ? [] : [index + 1]));
  const read =
    different.length === 0
      ? `all ${threads.length} say the same`
      : `thread 0 is told; differently: ${different.map((index) => `thread ${index}: ${threads[index].drops.join(', ') || 'passes'}`).join('; ')}`;
  return [
    {
      step: 'threads',
      verdict: 'pass',
      read,
      rule: 'the kernel gives each flow to one thread, and each has tables of its own',
    },
  ];
}
