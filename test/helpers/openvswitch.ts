// Open vSwitch's userland datapath, by hand: database, database server, switch daemon, no kernel module and no service.
import { existsSync } from 'node:fs';
import path from 'node:path';

import type { EncapsulationName } from '../../src/encap/index.js';
import { skipUnlessNetns } from './need.js';
import { type Bed, type Namespace, UNDERLAY_DEVICE } from './netns.js';
import { exec, waitUntil } from './process.js';

const SCHEMA = '/usr/share/openvswitch/vswitch.ovsschema';
/** Ethernet, VXLAN or Geneve, UDP and IPv6, so that tunnels of both families fit. */
const OVERHEAD_BYTES = 70;
const PROGRAMS = ['ovs-vsctl', 'ovs-ofctl', 'ovsdb-tool', 'ovsdb-server', 'ovs-vswitchd', 'ethtool'];

export const skipUnlessOpenVSwitch = (): false | string =>
  skipUnlessNetns(PROGRAMS) || (existsSync(SCHEMA) ? false : `needs the file ${SCHEMA}`);

export interface SwitchOptions {
  /** Of the underlay. */
  readonly mtuBytes?: number;
  /** Of the overlay. */
  readonly innerMtuBytes?: number;
  readonly v6?: boolean;
}

/** A switch on a host of its own; its bridge `br-int` is that host's device on the overlay. */
export class OpenVSwitch {
  readonly #directory: string;
  readonly #env: Readonly<Record<string, string>>;

  /** Of the process that forwards. */
  pid = 0;

  private constructor(
    bed: Bed,
    readonly host: Namespace,
  ) {
    this.#directory = bed.directory();
    this.#env = { OVS_RUNDIR: this.#directory, OVS_LOGDIR: this.#directory, OVS_DBDIR: this.#directory };
  }

  static async start(bed: Bed, host: Namespace, options: SwitchOptions = {}): Promise<OpenVSwitch> {
    const { mtuBytes = 1500, innerMtuBytes = mtuBytes - OVERHEAD_BYTES, v6 = true } = options;
    const ovs = new OpenVSwitch(bed, host);
    const file = (name: string): string => path.join(ovs.#directory, name);
    const env = ovs.#env;
    await exec(['ovsdb-tool', 'create', file('conf.db'), SCHEMA], { env });
    const sockets = [`--remote=punix:${file('db.sock')}`, `--unixctl=${file('ovsdb.ctl')}`];
    host.spawn(['ovsdb-server', file('conf.db'), ...sockets, '-vconsole:off'], { env });
    await waitUntil(() => existsSync(file('db.sock')), { what: 'ovsdb-server' });
    await ovs.configure('--no-wait init');
    const daemon = [`--unixctl=${file('vsw.ctl')}`, '--disable-system', '-vconsole:off'];
    ovs.pid = host.spawn(['ovs-vswitchd', `unix:${file('db.sock')}`, ...daemon], { env }).pid;
    await waitUntil(() => existsSync(file('vsw.ctl')), { what: 'ovs-vswitchd' });

    // The bridge that holds the underlay device also has its address and MAC: ARP for the tunnel goes through it.
    const bridge = 'datapath_type=netdev fail-mode=standalone';
    const mac = await host.macOf(UNDERLAY_DEVICE);
    await ovs.configure(
      `add-br br-phy -- set bridge br-phy ${bridge} other_config:hwaddr="${mac}"`,
      '-- br-set-external-id br-phy bridge-id br-phy',
      `-- add-port br-phy ${UNDERLAY_DEVICE} -- set interface br-phy mtu_request=${mtuBytes}`,
    );
    for (const [address, prefix] of [
      [host.underlay.v4, 24],
      ...(v6 ? ([[host.underlay.v6, 64]] as const) : []),
    ] as const) {
      await host.ip(`addr delete ${address}/${prefix} dev ${UNDERLAY_DEVICE}`);
      await host.ip(`addr add ${address}/${prefix} dev br-phy ${prefix === 64 ? 'nodad' : ''}`);
    }
    await host.ip('link set br-phy up');
    await ovs.configure(
      `add-br br-int -- set bridge br-int ${bridge} -- set interface br-int mtu_request=${innerMtuBytes}`,
    );
    await host.plumb('br-int', { mtuBytes: innerMtuBytes, v6 });
    return ovs;
  }

  async configure(...words: readonly string[]): Promise<void> {
    const database = `--db=unix:${path.join(this.#directory, 'db.sock')}`;
    await exec(`ovs-vsctl ${database} --timeout=10 ${words.join(' ')}`, { env: this.#env });
  }

  /** A command of ovs-ofctl(8) to br-int. */
  async openflow(command: string, ...words: readonly string[]): Promise<void> {
    await exec(['ovs-ofctl', command, 'br-int', ...words], { env: this.#env });
  }

  /** Replaces the tunnel, behind which other MACs live then. */
  async tunnel(
    local: string,
    remote: string,
    vnetid: number,
    type: EncapsulationName = 'vxlan',
  ): Promise<void> {
    const options = `options:local_ip=${local} options:remote_ip=${remote} options:key=${vnetid}`;
    await this.configure('--if-exists del-port br-int tunnel0');
    await this.configure(`add-port br-int tunnel0 -- set interface tunnel0 type=${type} ${options}`);
    await this.host.ip('neigh flush dev br-int');
  }
}
