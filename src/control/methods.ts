/**
 * The table of methods: everything that dladm may ask of varpd.
 *
 * A method is declared here and nowhere else: its sentence, its parameters with their bounds, the type of its
 * result, and whether it changes something. Four things follow from its row: the typed call of client.ts, the
 * type of its handler, the check of each request (`daemon/control`), and its row in docs/control.md. The
 * handler itself is in `daemon/handlers.ts`.
 *
 * Kinds are plain data, so that the command line loads no validator. MACs, addresses and endpoints travel as
 * text in their canonical form; the code that uses one reports what is wrong with it.
 */
import { VNI_MAX } from '../wire/vxlan.js';
import {
  type CaptureInfo,
  type CreationInfo,
  type Failure,
  type LinkPropertyRow,
  MAX_ATTACHMENT_CHARACTERS,
  MAX_PROPERTY_CHARACTERS,
  MAX_REQUEST_BYTES,
  MAX_SNAP_BYTES,
  MAX_TARGET_ROWS,
  type OverlayInfo,
  type OverlayStatistics,
  MAX_PROBE_BYTES,
  MAX_PROBES,
  MIN_PROBE_BYTES,
  type PageResult,
  type PluginInfo,
  type ProbeInfo,
  type RestartInfo,
  type TargetPage,
  type VnicInfo,
} from './messages.js';
import type { DaemonStatus } from './daemon-messages.js';
import type { DeclaredOverlay } from './declared-messages.js';
import { type Explanation, MAX_EXPLAINED_BYTES } from './explain-messages.js';
import type { Kind, Param } from './kinds.js';
import type { PeerRow } from './peer-messages.js';
import type { WatchInfo } from './watch-messages.js';

/** A type as a member of a row. It has no value at run time. */
interface Shape<T> {
  readonly type?: T;
}

export interface Method {
  /** Sentence for the documentation. */
  readonly about: string;
  /** `look`: open to every client that reaches the socket. `change`: for root and the configured group. */
  readonly access: 'look' | 'change';
  /** A method with `after` is a list that comes in pages, and its result has `next`. */
  readonly params: Readonly<Record<string, Param>>;
  readonly returns: Shape<unknown>;
  /** The stream that follows the line of the answer, to the end of the connection. Such a request is sent alone. */
  readonly streams?: string;
}

const text = { is: 'text' } as const;
const flag = { is: 'flag' } as const;
const list = <const K extends Kind>(of: K) => ({ is: 'list', of }) as const;
const pair = <const A extends Kind, const B extends Kind>(first: A, second: B) =>
  ({ is: 'pair', first, second }) as const;
const optional = <const K extends Kind>(kind: K) => ({ ...kind, isOptional: true }) as const;

const names = optional(list(text));
/** `next` of the page before, with the same other parameters. */
const after = optional(text);
const overlayProperties = list(pair(text, { is: 'text', max: MAX_PROPERTY_CHARACTERS }));
const linkProperties = list(pair(text, list(text)));

const shape = <T>(): Shape<T> => ({});
/** The result says only that the work is done. */
const done = shape<null>();

export const METHODS = {
  'overlay.create': {
    about:
      'Creates an overlay and its interface, or fails and leaves nothing behind. `properties` are in the order given; one given twice is an error. `isIfMissing`: nothing is done if the overlay is there as it is asked for; EXISTS with each difference if it is there otherwise.',
    access: 'change',
    params: {
      name: text,
      encap: text,
      search: text,
      vnetid: { is: 'whole', min: 0, max: VNI_MAX },
      temporary: flag,
      properties: overlayProperties,
      isIfMissing: optional(flag),
    },
    returns: shape<CreationInfo>(),
  },
  'overlay.delete': {
    about: 'Deletes an overlay that has no VNICs. `temporary`: its state file stays.',
    access: 'change',
    params: { name: text, temporary: flag },
    returns: done,
  },
  'overlay.up': {
    about:
      'Starts persistent overlays that are not running: the one named, or all. `failures` has the others.',
    access: 'change',
    params: { name: optional(text) },
    returns: shape<{ failures: Failure[] }>(),
  },
  'overlay.list': {
    about:
      'Says all that is known of overlays, offline ones too: those named, or all. A name that does not exist is in `missing`, and fails nothing else.',
    access: 'look',
    params: { names, after },
    returns: shape<{ overlays: OverlayInfo[]; missing: Failure[] }>(),
  },
  'overlay.statistics': {
    about:
      'Reads what overlays that run have counted, with rates: traffic, lookups, drops with the last frame of each reason, ports; and their health. `missing` has the others.',
    access: 'look',
    params: { names, after },
    returns: shape<{ overlays: OverlayStatistics[]; missing: Failure[] }>(),
  },
  'overlay.targets': {
    about: 'Reads the target table of an overlay.',
    access: 'look',
    params: { name: text, after, limit: optional({ is: 'whole', min: 1, max: MAX_TARGET_ROWS }) },
    returns: shape<TargetPage>(),
  },
  'overlay.peers': {
    about:
      'Reads the peers of an overlay: what lives there, the frames each way, when it was last heard, what ICMP says of it, and the path of its frames.',
    access: 'look',
    params: { name: text, after },
    returns: shape<{ rows: PeerRow[] }>(),
  },
  'overlay.setTarget': {
    about: 'Sets the destination of one MAC: an endpoint, or `drop`.',
    access: 'change',
    params: { name: text, mac: text, destination: text },
    returns: done,
  },
  'overlay.deleteTarget': {
    about: 'Forgets the destination of one MAC.',
    access: 'change',
    params: { name: text, mac: text },
    returns: done,
  },
  'overlay.flushTargets': {
    about: 'Forgets all destinations of an overlay.',
    access: 'change',
    params: { name: text },
    returns: done,
  },
  'overlay.export': {
    about: 'Reads what is stored of overlays and their VNICs, as `overlay.apply` takes it.',
    access: 'look',
    params: { names, after },
    returns: shape<{ overlays: DeclaredOverlay[]; missing: Failure[] }>(),
  },
  'overlay.apply': {
    about:
      'Makes one overlay, with its VNICs and their link properties, as declared: all or nothing. A setting of a VNIC is `mac`, `vid` or a link property, with its values. `changes` has a line for each difference; `failures` says what does not run. `prune`: VNICs that are not declared are deleted. `dryRun`: nothing is changed, and `networks` and `gone` say what will have been changed before: overlays with the `network` of their answers, and names of overlays and VNICs that are deleted.',
    access: 'change',
    params: {
      name: text,
      encap: text,
      search: text,
      vnetid: { is: 'whole', min: 0, max: VNI_MAX },
      properties: overlayProperties,
      vnics: list(pair(text, linkProperties)),
      prune: flag,
      dryRun: flag,
      networks: optional(list(pair(text, text))),
      gone: optional(list(text)),
    },
    returns: shape<{ changes: string[]; failures: Failure[]; network: string | null }>(),
  },
  'overlay.prune': {
    about: 'Deletes a persistent overlay with its VNICs: all or nothing. `dryRun`: nothing is changed.',
    access: 'change',
    params: { name: text, dryRun: flag },
    returns: shape<{ changes: string[] }>(),
  },
  'vnic.create': {
    about:
      'Creates a VNIC over an overlay, or fails and leaves nothing behind. `properties` are link properties. `isIfMissing` as for overlays; without `mac` any one is as it was asked for. `attachment`: the purpose of a VNIC that the asker moves into another network namespace. Such a VNIC is persistent, but not declared, and its interface is never made again: when it has ended, varpd forgets the VNIC at its next start.',
    access: 'change',
    params: {
      name: text,
      over: text,
      mac: optional(text),
      vid: optional({ is: 'whole' }),
      properties: optional(linkProperties),
      temporary: flag,
      attachment: optional({ is: 'text', max: MAX_ATTACHMENT_CHARACTERS }),
      isIfMissing: optional(flag),
    },
    returns: shape<CreationInfo>(),
  },
  'vnic.delete': {
    about: 'Deletes a VNIC. `temporary`: what is stored of it stays.',
    access: 'change',
    params: { name: text, temporary: flag },
    returns: done,
  },
  'link.rename': {
    about: 'Renames an overlay or a VNIC, and its interface. Traffic goes on.',
    access: 'change',
    params: { name: text, to: text },
    returns: done,
  },
  'vnic.list': {
    about: 'Says all that is known of VNICs: those named, those over one overlay, or all.',
    access: 'look',
    params: { names, over: optional(text), after },
    returns: shape<{ vnics: VnicInfo[]; missing: Failure[] }>(),
  },
  'overlayprop.set': {
    about:
      'Sets properties of an overlay, all or none, and in force at once: flows go on. `temporary`: until varpd starts again.',
    access: 'change',
    params: { name: text, temporary: flag, properties: overlayProperties },
    returns: done,
  },
  'overlayprop.reset': {
    about: 'Sets properties of an overlay back to their defaults: those named, or all that can change.',
    access: 'change',
    params: { name: text, temporary: flag, properties: optional(list(text)) },
    returns: done,
  },
  'linkprop.set': {
    about:
      'Sets link properties of a VNIC, all or none of them; they are in force with the next frames. `temporary`: until varpd starts again.',
    access: 'change',
    params: { name: text, temporary: flag, properties: linkProperties },
    returns: done,
  },
  'linkprop.reset': {
    about: 'Sets link properties of a VNIC back to their defaults: those named, or all.',
    access: 'change',
    params: { name: text, temporary: flag, properties: names },
    returns: done,
  },
  'linkprop.list': {
    about:
      'Says the link properties of VNICs: those named, or all. `persistent`: what the next start will find, whether the VNIC runs or not.',
    access: 'look',
    params: { names, properties: names, persistent: flag, after },
    returns: shape<{ rows: LinkPropertyRow[]; missing: Failure[] }>(),
  },
  'overlay.explain': {
    about:
      "Says what the datapath would do with a frame now, and why. Nothing is sent, changed or counted; the plugin may be asked, and its answer is not kept. The frame is `frame`, or made of `destination` and others; `port` sends it, by default the overlay's own. With `from` it comes out of the tunnel from there, in `vnetid`.",
    access: 'change',
    params: {
      name: text,
      port: optional(text),
      // As long as a request may be: explanations.ts says what is too long for a frame.
      frame: optional({ is: 'text', max: MAX_REQUEST_BYTES }),
      destination: optional(text),
      source: optional(text),
      etherType: optional({ is: 'whole', min: 0, max: 0xffff }),
      vlan: optional({ is: 'whole', min: 0, max: 4094 }),
      bytes: optional({ is: 'whole', min: 0, max: MAX_EXPLAINED_BYTES }),
      from: optional(text),
      vnetid: optional({ is: 'whole', min: 0, max: VNI_MAX }),
    },
    returns: shape<Explanation>(),
  },
  'capture.start': {
    about:
      'Captures the frames of an overlay or a VNIC that match all the given rules. The capture ends after `count` packets, and when the client ends its side of the connection.',
    access: 'change',
    params: {
      name: text,
      snapBytes: optional({ is: 'whole', min: 1, max: MAX_SNAP_BYTES }),
      count: optional({ is: 'whole', min: 1 }),
      isDropsOnly: flag,
      reason: optional(text),
      isOuter: flag,
      isCut: flag,
      mac: optional(text),
      ip: optional(text),
      etherType: optional({ is: 'whole', min: 0, max: 0xffff }),
      vlan: optional({ is: 'whole', min: 0, max: 4094 }),
      peer: optional(text),
    },
    returns: shape<CaptureInfo>(),
    streams: 'pcapng; without statistics of its interfaces at the end it was cut off',
  },
  'overlay.probe': {
    about:
      'Sends loopback messages to a MAC or an IP address of an overlay, through the tunnel, and says what came back. A station that does not answer them is asked by ARP or neighbour solicitation. `packetBytes` as `mtu` counts them; `vlan`: the tag, on a port without a VLAN of its own. `isMtuSought`: the largest packet that arrives. `isEachPath`: each source port by itself.',
    access: 'change',
    params: {
      name: text,
      target: text,
      port: optional(text),
      vlan: optional({ is: 'whole', min: 1, max: 4094 }),
      packetBytes: optional({ is: 'whole', min: MIN_PROBE_BYTES, max: MAX_PROBE_BYTES }),
      count: optional({ is: 'whole', min: 1, max: MAX_PROBES }),
      isMtuSought: flag,
      isEachPath: flag,
    },
    returns: shape<ProbeInfo>(),
  },
  'plugin.list': {
    about: 'Says which lookup plugins overlays may use, and the properties of each.',
    access: 'look',
    params: {},
    returns: shape<{ plugins: PluginInfo[] }>(),
  },
  'watch.start': {
    about:
      'Says what changes: `kinds` out of `state`, `targets`, `counters` and `log`, by default all that the client may have; of `overlays`, or of all. `log` is for those that may change things. A client that reads too slowly is told how many lines it has missed. The watch ends when the client ends its side of the connection.',
    access: 'look',
    params: { kinds: names, overlays: names },
    returns: shape<WatchInfo>(),
    streams: 'lines of JSON, a WatchEvent each; an empty line is a sign of life',
  },
  'daemon.reloadPlugin': {
    about:
      'Loads the code of a lookup plugin again, in a new process beside the one in use. Its overlays change over when all have started with the new code; otherwise nothing has changed.',
    access: 'change',
    params: { name: text },
    returns: done,
  },
  'daemon.reload': {
    about:
      'Has the configuration and the files of plugins read again, as SIGHUP does. `failures` has what was not valid.',
    access: 'change',
    params: {},
    returns: shape<{ failures: Failure[] }>(),
  },
  'daemon.restart': {
    about:
      'Restarts varpd, which ends all connections. Refused, with every reason, when varpd would not come back.',
    access: 'change',
    params: {},
    returns: shape<RestartInfo>(),
  },
  'daemon.stop': {
    about: 'Ends varpd, as SIGTERM does. It ends after this answer.',
    access: 'change',
    params: {},
    returns: done,
  },
  'daemon.status': {
    about:
      'Says the version, the process, its user and configuration, the number of overlays and VNICs that run, and features of the kernel.',
    access: 'look',
    params: {},
    returns: shape<DaemonStatus>(),
  },
} as const satisfies Readonly<Record<string, Method>>;

export type MethodName = keyof typeof METHODS;

export const METHOD_NAMES = Object.keys(METHODS) as readonly MethodName[];

type ValueOf<K> = K extends { is: 'text' }
  ? string
  : K extends { is: 'flag' }
    ? boolean
    : K extends { is: 'whole' }
      ? number
      : K extends { is: 'list'; of: infer Item }
        ? ValueOf<Item>[]
        : K extends { is: 'pair'; first: infer First; second: infer Second }
          ? [ValueOf<First>, ValueOf<Second>]
          : never;

type OptionalOf<P> = { [N in keyof P]: P[N] extends { isOptional: true } ? N : never }[keyof P];

type ParamsOf<P> = keyof P extends never
  ? Record<string, never>
  : { -readonly [N in Exclude<keyof P, OptionalOf<P>>]: ValueOf<P[N]> } & {
      -readonly [N in OptionalOf<P>]?: ValueOf<P[N]>;
    };

type ResultOf<S> = S extends Shape<infer T> ? T : never;

/** Methods that answer with a stream. */
export type StreamingMethod = {
  [M in MethodName]: (typeof METHODS)[M] extends { streams: string } ? M : never;
}[MethodName];

/** Methods that are lists in pages. */
export type PagedMethod = {
  [M in MethodName]: (typeof METHODS)[M]['params'] extends { after: Param } ? M : never;
}[MethodName];

/** Method name -> parameters and result. */
export type Methods = {
  readonly [M in MethodName]: {
    params: ParamsOf<(typeof METHODS)[M]['params']>;
    result: ResultOf<(typeof METHODS)[M]['returns']> & (M extends PagedMethod ? PageResult : unknown);
  };
};
