// Virtual private networks that first have to know each other: keys or certificates for both hosts, then a daemon on each.
// Where a cipher can be left out it is: what is compared is the way of the frames.
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';

import type { Namespace } from '../../helpers/netns.js';
import { exec } from '../../helpers/process.js';
import { endOf, hosts, joinHosts, type Subject, unlessInstalled } from './tunnel.js';

/** What each takes of the underlay's MTU, rounded up to what its manual, or its default, sets aside. */
const OVERHEAD_BYTES = { wireguard: 80, others: 100 };
const DEVICE = 'tap0';

/** A directory of its own for each host of a pair. */
function directories(root: string, pair: readonly Namespace[]): string[] {
  return pair.map(({ index }) => {
    const directory = path.join(root, `host${index}`);
    mkdirSync(directory, { mode: 0o700 });
    return directory;
  });
}

const WIREGUARD = { programs: ['wireguard-go', 'wg'], packages: ['wireguard-go', 'wireguard-tools'] };
const WIREGUARD_PORT = 51_820;

export const wireguard: Subject = {
  name: 'wireguard-go',
  title: 'wireguard-go: IP alone, encrypted',
  packages: WIREGUARD.packages,
  families: ['v4'],
  missing: () => unlessInstalled(WIREGUARD.programs, WIREGUARD.packages),
  async build(bed, terms) {
    const pair = await hosts(bed, terms);
    const places = directories(bed.directory(), pair);
    const keys = await Promise.all(pair.map(async () => (await exec('wg genkey')).trim()));
    const publicKeys = await Promise.all(
      keys.map(async (key) => (await exec('wg pubkey', { input: key })).trim()),
    );
    return joinHosts(pair, terms.mtuBytes - OVERHEAD_BYTES.wireguard, async (host, peer) => {
      // The control socket is the whole machine's, whatever the namespace.
      const device = `wg${process.pid}${'ab'[host.index]}`;
      const child = host.spawn(`wireguard-go -f ${device}`, { env: { WG_PROCESS_FOREGROUND: '1' } });
      const end = await endOf(host, child, device);
      const keyFile = path.join(places[host.index], 'key');
      writeFileSync(keyFile, keys[host.index], { mode: 0o600 });
      const [own, other] = [
        `private-key ${keyFile} listen-port ${WIREGUARD_PORT}`,
        `peer ${publicKeys[peer.index]} endpoint ${peer.underlay.v4}:${WIREGUARD_PORT}`,
      ];
      await host.exec(`wg set ${device} ${own} ${other} allowed-ips 0.0.0.0/0`);
      return end;
    });
  },
};

const TINC = { programs: ['tincd'], packages: ['tinc'] };

export const tinc: Subject = {
  name: 'tinc',
  title: 'tinc: Ethernet, without cipher and digest',
  packages: TINC.packages,
  families: ['v4'],
  missing: () => unlessInstalled(TINC.programs, TINC.packages),
  async build(bed, terms) {
    const pair = await hosts(bed, terms);
    const places = directories(bed.directory(), pair);
    const nameOf = ({ index }: Namespace): string => `host${index}`;
    for (const [index, host] of pair.entries()) {
      const settings = [
        `Name = ${nameOf(host)}`,
        'Mode = switch',
        'DeviceType = tap',
        'Device = /dev/net/tun',
        `Interface = ${DEVICE}`,
        'AddressFamily = ipv4',
        `BindToAddress = ${host.underlay.v4}`,
        // The second one to start.
        ...(index === 1 ? [`ConnectTo = ${nameOf(pair[0])}`] : []),
      ];
      writeFileSync(path.join(places[index], 'tinc.conf'), `${settings.join('\n')}\n`);
      mkdirSync(path.join(places[index], 'hosts'));
    }
    const publicKeys = await Promise.all(
      places.map(async (place, index) => {
        const file = path.join(place, 'hosts', nameOf(pair[index]));
        await exec(`tincd -c ${place} -K 2048`);
        return exec(['cat', file]);
      }),
    );
    for (const place of places) {
      for (const [index, host] of pair.entries()) {
        const about = `Address = ${host.underlay.v4}\nCipher = none\nDigest = none\nCompression = 0\n`;
        writeFileSync(path.join(place, 'hosts', nameOf(host)), `${about}${publicKeys[index]}`);
      }
    }
    return joinHosts(pair, terms.mtuBytes - OVERHEAD_BYTES.others, (host) => {
      const place = places[host.index];
      const child = host.spawn(`tincd -c ${place} -D -d1 --pidfile=${path.join(place, 'pid')}`);
      return endOf(host, child, DEVICE);
    });
  },
};

const FASTD = { programs: ['fastd'], packages: ['fastd'] };
const FASTD_PORT = 10_000;

export const fastd: Subject = {
  name: 'fastd',
  title: 'fastd: Ethernet, method "null"',
  packages: FASTD.packages,
  families: ['v4'],
  missing: () => unlessInstalled(FASTD.programs, FASTD.packages),
  async build(bed, terms) {
    const pair = await hosts(bed, terms);
    const places = directories(bed.directory(), pair);
    const publicKeys: string[] = [];
    for (const place of places) {
      const secret = (await exec('fastd --generate-key --machine-readable')).trim();
      const file = path.join(place, 'secret.conf');
      writeFileSync(file, `secret "${secret}";\n`, { mode: 0o600 });
      publicKeys.push((await exec(`fastd -c ${file} --show-key --machine-readable`)).trim());
    }
    const mtuBytes = terms.mtuBytes - OVERHEAD_BYTES.others;
    return joinHosts(pair, mtuBytes, (host, peer) => {
      const place = places[host.index];
      const file = path.join(place, 'fastd.conf');
      const settings = [
        `interface "${DEVICE}"`,
        'mode tap',
        'method "null"',
        `mtu ${mtuBytes}`,
        `bind ${host.underlay.v4}:${FASTD_PORT}`,
        `include "${path.join(place, 'secret.conf')}"`,
        `peer "peer" { key "${publicKeys[peer.index]}"; remote ${peer.underlay.v4}:${FASTD_PORT}; }`,
      ];
      writeFileSync(file, settings.map((line) => `${line}${line.endsWith('}') ? '' : ';'}\n`).join(''));
      return endOf(host, host.spawn(`fastd -c ${file}`), DEVICE);
    });
  },
};

const NEBULA = { programs: ['nebula', 'nebula-cert'], packages: ['nebula'] };
const NEBULA_PORT = 4242;

export const nebula: Subject = {
  name: 'nebula',
  title: 'nebula: IP alone, encrypted',
  packages: NEBULA.packages,
  families: ['v4'],
  missing: () => unlessInstalled(NEBULA.programs, NEBULA.packages),
  async build(bed, terms) {
    const pair = await hosts(bed, terms);
    const cwd = bed.directory();
    await exec('nebula-cert ca -name bench', { cwd });
    for (const { index, overlay } of pair)
      await exec(`nebula-cert sign -name host${index} -ip ${overlay.v4}/24`, { cwd });
    const mtuBytes = terms.mtuBytes - OVERHEAD_BYTES.others;
    return joinHosts(pair, mtuBytes, (host, peer) => {
      const own = `host${host.index}`;
      const anything = [{ port: 'any', proto: 'any', host: 'any' }];
      const isFirst = host.index === 0;
      // JSON is YAML.
      const settings = {
        pki: { ca: 'ca.crt', cert: `${own}.crt`, key: `${own}.key` },
        static_host_map: { [peer.overlay.v4]: [`${peer.underlay.v4}:${NEBULA_PORT}`] },
        lighthouse: { am_lighthouse: isFirst, interval: 60, hosts: isFirst ? [] : [peer.overlay.v4] },
        listen: { host: host.underlay.v4, port: NEBULA_PORT },
        punchy: { punch: false },
        tun: { disabled: false, dev: DEVICE, mtu: mtuBytes },
        logging: { level: 'warning', format: 'text' },
        firewall: { outbound: anything, inbound: anything },
      };
      const file = path.join(cwd, `${own}.yml`);
      writeFileSync(file, JSON.stringify(settings));
      return endOf(host, host.spawn(`nebula -config ${file}`, { cwd }), DEVICE);
    });
  },
};
