// Programs that join a TAP to a UDP socket and do no more to the frames, as they are used here.
import { endOf, hosts, joinHosts, type Subject, unlessInstalled } from './tunnel.js';

/** Ethernet, IPv4 and UDP, and the few bytes that OpenVPN puts before a frame. */
const OVERHEAD_BYTES = 50;
const DEVICE = 'tap0';

const OPENVPN = ['openvpn'];
const OPENVPN_PORT = 1194;

export const openvpn: Subject = {
  name: 'openvpn',
  title: 'OpenVPN: Ethernet, without cipher and authentication',
  packages: OPENVPN,
  families: ['v4'],
  missing: () => unlessInstalled(OPENVPN, OPENVPN),
  async build(bed, terms) {
    const pair = await hosts(bed, terms);
    const mtuBytes = terms.mtuBytes - OVERHEAD_BYTES;
    return joinHosts(pair, mtuBytes, (host, peer) => {
      const ends = `--local ${host.underlay.v4} --remote ${peer.underlay.v4} --port ${OPENVPN_PORT}`;
      const bare = '--cipher none --auth none --disable-dco --fast-io';
      const device = `--dev ${DEVICE} --dev-type tap --tun-mtu ${mtuBytes} --mssfix 0`;
      return endOf(host, host.spawn(`openvpn ${device} --proto udp4 ${ends} ${bare} --verb 2`), DEVICE);
    });
  },
};

const SOCAT = ['socat'];
const SOCAT_PORT = 4790;

export const socat: Subject = {
  name: 'socat',
  title: 'socat: a TAP and a UDP socket, no header at all',
  packages: SOCAT,
  families: ['v4'],
  missing: () => unlessInstalled(SOCAT, SOCAT),
  async build(bed, terms) {
    const pair = await hosts(bed, terms);
    return joinHosts(pair, terms.mtuBytes - OVERHEAD_BYTES, (host, peer) => {
      const tap = `TUN:${host.overlay.v4}/24,tun-type=tap,tun-name=${DEVICE},iff-no-pi,iff-up`;
      const udp = `UDP4:${peer.underlay.v4}:${SOCAT_PORT},bind=${host.underlay.v4}:${SOCAT_PORT}`;
      return endOf(host, host.spawn(['socat', '-b', '65536', tap, udp]), DEVICE);
    });
  },
};
