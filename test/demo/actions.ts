// What both halves of the demo do on their hosts, each with its check.
import { Daemon } from '../helpers/daemon.js';
import type { Bed, Namespace } from '../helpers/netns.js';
import { transferTcp } from '../helpers/traffic.js';
import { check } from './checks.js';
import { Terminal } from './terminal.js';

const PINGS = 3;
const TRANSFER_BYTES = 10 << 20;

export interface Side {
  readonly terminal: Terminal;
  readonly daemon: Daemon;
}

export type Sides = Side[];

/** A shell and a daemon, not yet running, on each of the named hosts. */
export function openSides(bed: Bed, sides: Sides, hosts: Readonly<Record<string, Namespace>>): void {
  for (const [name, host] of Object.entries(hosts)) {
    const daemon = new Daemon(bed, host);
    sides.push({ daemon, terminal: new Terminal(bed, host, name, daemon.socket) });
  }
}

export async function startDaemons(sides: readonly Side[]): Promise<void> {
  for (const { daemon, terminal } of sides) {
    terminal.show('varpd --config varpd.yaml --socket varpd.sock --foreground &');
    await daemon.start();
  }
}

export async function stopDaemons(sides: readonly Side[]): Promise<void> {
  for (const { daemon, terminal } of sides) {
    terminal.show(`kill ${daemon.pid}   # varpd`);
    const exit = await daemon.stop();
    check(`${terminal.hostName}: varpd ends cleanly`, exit?.code === 0);
    const left = await terminal.host.ip('-brief link show type tun');
    check(`${terminal.hostName}: no device of ours is left`, left === '');
  }
}

export async function succeeds(terminal: Terminal, what: string, command: string): Promise<void> {
  check(`${terminal.hostName}: ${what}`, (await terminal.type(command)).code === 0);
}

/** ifconfig of the article, in the words of this system. */
export async function plumb(terminal: Terminal, device: string, address: string): Promise<void> {
  terminal.show(`# here for "ifconfig ${device} plumb up ${address}":`);
  await succeeds(
    terminal,
    `${device} is up with ${address}`,
    `ip addr add ${address} dev ${device} && ip link set ${device} up`,
  );
}

export async function pingFrom(terminal: Terminal, target: string, peer: string): Promise<void> {
  const { stdout } = await terminal.type(`ping -c ${PINGS} -i 0.2 -W 2 ${target}`);
  check(`${terminal.hostName} pings ${peer}, ${PINGS} of ${PINGS}`, stdout.includes(` ${PINGS} received`));
}

export async function transfer(from: Terminal, to: Terminal, peer: string): Promise<void> {
  const text = `${TRANSFER_BYTES >> 20} MiB by TCP from ${from.hostName} to ${peer} arrive byte for byte`;
  from.show(`# ${text}:`);
  const ok = await transferTcp(from.host, to.host, { bytes: TRANSFER_BYTES, timeoutMs: 20_000 }).then(
    ({ exact, seconds }) => {
      console.log(`${exact ? 'equal' : 'different'} SHA-256, ${seconds.toFixed(2)} s`);
      return exact;
    },
    (error: unknown) => {
      console.log((error as Error).message);
      return false;
    },
  );
  check(text, ok);
}
