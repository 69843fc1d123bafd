// Bulk TCP through a tunnel, by iperf3.
//
// With CUBIC, Linux's default, whatever this machine's is: BBR sends by a clock of its own, and what is measured then is
// how well its timers run on a busy machine, more than what the tunnel carries.
import type { Tunnel } from '../subjects/tunnel.js';
import { cpuOf } from './usage.js';

const PORT = 5301;
const CONGESTION_CONTROL = 'cubic';
/** For connecting, and for what iperf3 does at the end. */
const GRACE_SECONDS = 15;

export interface TcpOptions {
  readonly seconds: number;
  readonly streams?: number;
  /** b -> a instead of a -> b. */
  readonly backward?: boolean;
}

export interface TcpRun {
  readonly gbps: number;
  readonly gib: number;
  /** Of the forwarding processes meanwhile. */
  readonly cpuSeconds: number;
}

interface IperfReport {
  readonly error?: string;
  readonly end: { readonly sum_received: { readonly bits_per_second: number; readonly bytes: number } };
}

export async function tcp(tunnel: Tunnel, options: TcpOptions): Promise<TcpRun> {
  const { a, b, target } = tunnel;
  const { seconds, streams = 1, backward = false } = options;
  const server = b.spawn(`iperf3 -s -1 --forceflush -p ${PORT}`);
  await server.waitForOutput(/Server listening/);
  try {
    const cpuBefore = cpuOf(tunnel);
    const shape = `-t ${seconds} -P ${streams} -C ${CONGESTION_CONTROL} ${backward ? '-R' : ''}`;
    const command = `iperf3 -c ${target} -p ${PORT} -J ${shape}`;
    const { stdout } = await a.run(command, { timeoutMs: (seconds + GRACE_SECONDS) * 1000 });
    const cpuSeconds = cpuOf(tunnel) - cpuBefore;
    if (stdout === '') throw new Error('iperf3 did not end in time');
    const report = JSON.parse(stdout) as IperfReport;
    if (report.error !== undefined) throw new Error(`iperf3: ${report.error}`);
    const { bits_per_second, bytes } = report.end.sum_received;
    return { gbps: bits_per_second / 1e9, gib: bytes / 2 ** 30, cpuSeconds };
  } finally {
    await server.stop('SIGKILL');
  }
}
