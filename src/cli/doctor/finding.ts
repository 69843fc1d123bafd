/**
 * The checks of `dladm doctor`: the one table of their codes, and what a check says.
 *
 * A code is stable: scripts and monitoring look for it. docs/doctor.md is made of this table (`npm run docs`).
 * Each group of checks has a file: a collector that reads the system, and a pure function from what was read
 * to findings.
 */

export interface Check {
  /** Sentence for the documentation. */
  readonly about: string;
  /** Needs of the check beside dladm itself; without it the line is `skip`. */
  readonly needs?: string;
}

const VARPD = 'varpd';
const AN_OVERLAY = 'an overlay';
const ETHTOOL = 'an overlay, `ethtool`';
const MAPPING = 'an overlay with `-s files`, and the right to read its file';

/** In the order in which the lines are printed. */
export const CHECKS = {
  OBSERVER: { about: 'Says as which user dladm looks. Without root some of the checks see less.' },
  VARPD: { about: 'varpd answers on its socket.' },
  'VARPD-VERSION': { about: 'varpd runs in the version that is installed.', needs: VARPD },
  NAMESPACE: {
    about:
      'dladm is in the network namespace of varpd. Otherwise nothing about links, routes and firewalls is looked at.',
    needs: 'varpd, root',
  },
  RIGHTS: { about: 'varpd has CAP_NET_ADMIN, or can get it.' },
  CLOCK: {
    about:
      'The real time of this host has gone as fast as its monotonic time since varpd started. Logs and leases have real time.',
    needs: VARPD,
  },

  CONFIGURATION: { about: 'The configuration file of varpd is valid.' },
  USER: { about: 'The user that varpd runs as exists.' },
  'STATE-DIRECTORY': {
    about: 'The state directory belongs to the user of varpd, who alone may write to it.',
  },
  'STATE-SET-ASIDE': { about: 'No state file of an overlay was set aside as `NAME.bad-N`.' },
  'LEFTOVER-FILE': { about: 'The state directory has no half-written file from a crash.' },
  'LEFTOVER-TAP': {
    about: 'No persistent TAP of the user of varpd is left that neither an overlay nor a VNIC has.',
  },
  'LEFTOVER-SOCKET': { about: 'Where varpd does not run, its control socket is gone too.' },

  'TUN-DEVICE': { about: '/dev/net/tun is there, and is the device of the kernel.' },
  'TUN-ACCESS': { about: 'The user of varpd may open /dev/net/tun.' },
  KERNEL: { about: 'The kernel is new enough to say of a TAP what varpd has to know.' },
  'OFFLOAD-CHECKSUM': { about: 'The kernel leaves checksums to a TAP.', needs: 'varpd, or CAP_NET_ADMIN' },
  'OFFLOAD-TSO': { about: 'The kernel hands over superframes of TCP.', needs: 'varpd, or CAP_NET_ADMIN' },
  'OFFLOAD-NESTED': {
    about: 'The kernel hands over superframes inside a UDP tunnel (Linux 6.17).',
    needs: 'varpd, or CAP_NET_ADMIN',
  },
  'OFFLOAD-USO': {
    about: 'The kernel hands over superframes of UDP (Linux 6.2).',
    needs: 'varpd, or CAP_NET_ADMIN',
  },
  'OFFLOAD-TRAIN': {
    about: 'The kernel sends many datagrams as one message (Linux 4.18).',
    needs: 'varpd, or CAP_NET_ADMIN',
  },
  'OFFLOAD-COALESCE': {
    about: 'The kernel receives many datagrams as one message (Linux 5.0).',
    needs: 'varpd, or CAP_NET_ADMIN',
  },
  'TAP-CARRIER': {
    about: 'varpd can take the carrier from a TAP, for `link-state=follow` (Linux 5.0).',
    needs: 'varpd, or CAP_NET_ADMIN',
  },
  'SOCKET-BUFFERS': {
    about: 'A socket of varpd gets the buffers that it asks for (`net.core.rmem_max`, `net.core.wmem_max`).',
  },

  OVERLAY: { about: 'The overlay is ONLINE.', needs: VARPD },
  VNIC: { about: 'Each VNIC of the overlay is up.', needs: VARPD },
  'PORT-OFFLOADS': {
    about: 'No offload of an interface of the overlay was switched off (`ethtool -K`).',
    needs: VARPD,
  },
  'RECEIVE-QUEUE': { about: 'The receive queue of the sockets has not overflowed.', needs: VARPD },
  'UDP-PORT': { about: 'The UDP port of the overlay is free, or varpd has it.' },
  'KERNEL-TUNNEL': { about: "No `vxlan` or `geneve` link of the kernel has the overlay's UDP port." },
  'LISTEN-ADDRESS': {
    about: 'The listen address is an address of this host, and in use.',
    needs: AN_OVERLAY,
  },
  ROUTE: { about: 'There is a route from the listen address to each destination.', needs: AN_OVERLAY },
  'ROUTE-LOOP': { about: 'No route to a destination leads into the overlay itself.', needs: AN_OVERLAY },
  'ROUTE-MTU': {
    about: 'The routes carry a packet as large as the MTU of the overlay, with the headers of the tunnel.',
    needs: 'an overlay, varpd',
  },
  'RP-FILTER': {
    about:
      'The reverse path filter of the link with the listen address lets in what comes from each destination (IPv4).',
    needs: AN_OVERLAY,
  },
  NFTABLES: {
    about: 'No rule of nftables drops UDP from or to a destination of the overlay.',
    needs: 'an overlay, root, `nft`',
  },
  IPTABLES: {
    about: 'No rule of iptables, or of iptables-legacy, drops UDP from or to a destination of the overlay.',
    needs: 'an overlay, root, `iptables-save`',
  },

  LINK: { about: 'Each link that the underlay uses is up and has a carrier.', needs: AN_OVERLAY },
  SPEED: { about: 'The link has negotiated at least 1 Gbit/s.', needs: AN_OVERLAY },
  DUPLEX: { about: 'The link is full duplex.', needs: AN_OVERLAY },
  'UDP-TRAINS': {
    about: 'The link takes UDP trains whole (`tx-udp-segmentation`), or cannot at all.',
    needs: ETHTOOL,
  },
  'TUNNEL-SEGMENTATION': {
    about:
      "Says whether the link takes tunnel frames of the kernel's own tunnels whole (`tx-udp_tnl-segmentation`). varpd does not use it.",
    needs: ETHTOOL,
  },
  'RECEIVE-COALESCING': {
    about: 'A network card puts together what arrives cut (`generic-receive-offload`).',
    needs: ETHTOOL,
  },
  TRANSCEIVER: {
    about: 'The optical module of the link has no alarm and no warning (`ethtool -m`).',
    needs: 'an overlay, root, `ethtool`, a driver that tells',
  },

  'MAPPING-FILE': { about: 'The mapping of the files plugin is valid.', needs: MAPPING },
  'MAPPING-HOST': {
    about: 'The mapping has an entry that lives at the listen address of this host.',
    needs: MAPPING,
  },
  'MAPPING-VNIC': { about: 'The mapping has the MAC of each VNIC.', needs: MAPPING },
  'MAPPING-PLACE': { about: 'The mapping has each VNIC at the listen address of this host.', needs: MAPPING },

  'PEER-ANSWERS': {
    about: 'A station of each peer, out of the target table, answers `dladm probe`. Only with `--probe`.',
    needs: 'varpd, root or `group`',
  },
  'PEER-CHECKSUMS': {
    about:
      'No peer seems to send zero UDP checksums, which keep the kernel from putting its datagrams together. Inferred from full-size datagrams that waited side by side.',
    needs: 'varpd, an overlay with traffic, `ethtool`',
  },
} as const satisfies Readonly<Record<string, Check>>;

export type Code = keyof typeof CHECKS;

/** `skip`: it could not be looked at, and the sentence says why. */
export type Status = 'ok' | 'warn' | 'fail' | 'skip';

export interface Finding {
  readonly status: Status;
  readonly code: Code;
  /** The overlay or link that it is about; null = this host, or varpd. */
  readonly about: string | null;
  readonly sentence: string;
  /** Advice; null where nothing is to be done. */
  readonly advice: string | null;
}

/** A finding about this host, without an overlay or link. */
export type Plain = Omit<Finding, 'about'>;

export const ok = (code: Code, sentence: string): Plain => ({ status: 'ok', code, sentence, advice: null });

export const warn = (code: Code, sentence: string, advice: string): Plain => ({
  status: 'warn',
  code,
  sentence,
  advice,
});

export const fail = (code: Code, sentence: string, advice: string): Plain => ({
  status: 'fail',
  code,
  sentence,
  advice,
});

export const skip = (code: Code, sentence: string, advice: string | null = null): Plain => ({
  status: 'skip',
  code,
  sentence,
  advice,
});

/** Findings about one overlay or link, or with null about the host. */
export const about = (what: string | null, findings: readonly Plain[]): Finding[] =>
  findings.map((finding) => ({ ...finding, about: what }));

/** `a`, `a and 1 more`, `a and 49 more` */
export function firstOf(names: readonly string[]): string {
  return names.length === 1 ? names[0] : `${names[0]} and ${names.length - 1} more`;
}
