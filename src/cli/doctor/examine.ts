/** Looks at everything, and collects the findings in the order of the table of checks. */
import { about, CHECKS, type Code, type Finding, type Plain, skip } from './finding.js';
import { checkChecksums, readChecksums } from './checksums.js';
import { checkFirewall, readRulesets, type Rulesets } from './firewall.js';
import { checkKernel, readKernel } from './kernel.js';
import { checkMapping } from './mapping.js';
import { checkObserver, isSameNetwork, readObserver } from './observer.js';
import { checkHealth, checkOverlay, readOverlay } from './overlays.js';
import { checkPeers, readPeers } from './peers.js';
import { checkRoutes, readRoutes, type RoutesFacts } from './routes.js';
import { checkStored, readStored } from './stored.js';
import { type OverlaySubject, readSubject, runs, type Subject, type SubjectOptions } from './subject.js';
import { checkPort, type PortQuestion, readPort } from './udp-ports.js';
import { checkWire, readWire, type WireFacts, withLower } from './wire.js';
import { encapsulation, ENCAPSULATION_NAMES } from '../../encap/index.js';

export interface Examination {
  readonly findings: readonly Finding[];
  /** User and process that have looked, and the varpd that has answered. */
  readonly observer: { readonly uid: number; readonly pid: number; readonly varpdPid: number | null };
}

export interface ExaminationOptions extends SubjectOptions {
  /** Version of dladm. */
  readonly version: string;
  /** Whether peers are asked for an answer. */
  readonly probes: boolean;
}

/** Undefined when there is no overlay of the name that was given. */
export async function examine(options: ExaminationOptions): Promise<Examination | undefined> {
  const subject = await readSubject(options);
  const { dladm, varpd, overlays, broken } = subject;
  if (options.overlay !== undefined && overlays.length + broken.length === 0) return undefined;
  const findings = [
    ...about(null, checkObserver(readObserver(subject, options.version))),
    ...about(null, checkStored(readStored(subject))),
    ...about(null, checkKernel(readKernel(subject))),
    ...(isSameNetwork(subject) ? await ofNetwork(subject) : []),
    ...broken.flatMap(({ name, health }) => about(name, [checkHealth(health)])),
    ...overlays.flatMap((overlay) => about(overlay.name, checkMapping(overlay))),
    ...(options.probes ? await ofPeers(subject) : about(null, [UNASKED])),
  ];
  return {
    // A sort keeps the order of equal ones, so overlays stay as varpd has them.
    findings: findings.sort((a, b) => ORDER.get(a.code)! - ORDER.get(b.code)!),
    observer: { uid: dladm.uid, pid: dladm.pid, varpdPid: runs(varpd) ? varpd.status.pid : null },
  };
}

const ORDER: ReadonlyMap<Code, number> = new Map(
  (Object.keys(CHECKS) as Code[]).map((code, index) => [code, index]),
);

const UNASKED: Plain = skip(
  'PEER-ANSWERS',
  'doctor sends nothing to peers unless told to',
  'dladm doctor --probe',
);

/** All overlays at once: a peer that does not answer takes time. */
async function ofPeers(subject: Subject): Promise<Finding[]> {
  const facts = await Promise.all(subject.overlays.map((overlay) => readPeers(overlay, subject)));
  return subject.overlays.flatMap(({ name }, index) => about(name, [checkPeers(facts[index])]));
}

async function ofNetwork(subject: Subject): Promise<Finding[]> {
  const { overlays, ports: names } = subject;
  const ports = new Set([
    ...names,
    ...overlays.flatMap(({ name, vnics }) => [name, ...vnics.map((vnic) => vnic.name)]),
  ]);
  const holder = holderOf(subject);
  if (overlays.length === 0) return defaultPorts(holder);
  const rulesets = await readRulesets();
  const routes = overlays.map((overlay) => readRoutes(overlay, ports));
  const [wires, checksums] = await Promise.all([
    Promise.all(linksOf(routes, ports).map(readWire)),
    Promise.all(overlays.map((overlay) => readChecksums(overlay, subject))),
  ]);
  return [
    ...overlays.flatMap((overlay, index) => ofOverlay(overlay, routes[index], rulesets, holder)),
    ...overlays.flatMap(({ name }, index) =>
      about(name, [checkChecksums({ ...checksums[index], wires: wiresOf(routes[index], wires) })]),
    ),
    ...wires.flatMap((wire) => about(wire.name, checkWire(wire))),
  ];
}

/** The varpd that may have the UDP ports: one that answers, or that this user may not ask. */
function holderOf({ varpd, user }: Subject): PortQuestion['varpd'] {
  if (runs(varpd)) return { pid: varpd.status.pid, uid: varpd.process?.uid };
  return varpd.isDenied && user !== undefined && 'uid' in user
    ? { pid: undefined, uid: user.uid }
    : undefined;
}

function ofOverlay(
  overlay: OverlaySubject,
  routes: RoutesFacts,
  rulesets: Rulesets,
  varpd: PortQuestion['varpd'],
): Finding[] {
  const { name, listenIp, listenPort: port, running, destinations } = overlay;
  const isOnline = running !== undefined && running.health.status !== 'OFFLINE';
  const links = new Map(routes.routes.map(({ to, link }) => [to, link]));
  return about(name, [
    ...checkOverlay(readOverlay(overlay)),
    ...checkPort(readPort({ listenIp, port, varpd, isOnline })),
    ...checkRoutes(routes),
    ...checkFirewall({
      ...rulesets,
      listenIp,
      listenPort: port,
      destinations,
      linkTo: (ip) => links.get(ip),
      home: routes.home,
    }),
  ]);
}

/** Without an overlay, the ports that one would have. */
function defaultPorts(varpd: PortQuestion['varpd']): Finding[] {
  return ENCAPSULATION_NAMES.flatMap((name) =>
    about(
      null,
      checkPort(
        readPort({ listenIp: undefined, port: encapsulation(name).defaultPort, varpd, isOnline: false }),
      ),
    ),
  );
}

/** The links below the one with the listen address, down to those that packets come in by. */
function wiresOf({ home, isHomeOnWire }: RoutesFacts, wires: readonly WireFacts[]): WireFacts[] {
  const names = home === undefined || !isHomeOnWire ? [] : withLower(home);
  return wires.filter(({ name }) => names.includes(name) && withLower(name).length === 1);
}

/** Links that the underlay uses, each once. Ports of overlays are looked at elsewhere. */
function linksOf(routes: readonly RoutesFacts[], ports: ReadonlySet<string>): string[] {
  const named = routes.flatMap(({ home, isHomeOnWire, routes: all }) => [
    ...(isHomeOnWire ? [home] : []),
    ...all.map(({ link }) => link),
  ]);
  const known = named.filter((name) => name !== undefined && name !== 'lo' && !ports.has(name));
  return [...new Set(known.flatMap((name) => withLower(name!)))];
}
