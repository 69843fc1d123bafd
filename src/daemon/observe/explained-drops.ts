/** The steps of an explanation (explained-steps.ts) where frames are dropped, and what to do about a drop. */
import { DROP_GROUPS, type DropReason } from '../../model/drops.js';

export const STEPS = {
  address: 'an IP address that was typed becomes a MAC',
  vni: 'the VNI picks the overlay',
  peer: 'the sender of the datagram',
  frame: 'the frame itself',
  source: 'the inner source',
  port: 'the port that sends it, or that gets it',
  vlan: 'tags, and the VLAN of an access port',
  protection: 'link protection',
  size: 'its size, and the `mtu` of the overlay',
  local: 'ports of this host that get it',
  table: 'the target table, or the one destination of the plugin',
  plugin: 'a question to the plugin, for this explanation alone, and its answer',
  flow: 'the hash of the flow, and the UDP source port',
  mtu: 'the sum of the headers, the path and the route',
  route: 'the route to the VTEP',
  threads: 'whether all datapath threads say the same',
} as const;

export type Step = keyof typeof STEPS;

const STEP_OF: Readonly<Partial<Record<DropReason, Step>>> = {
  tx_runt: 'frame',
  tx_vlan: 'vlan',
  tx_too_big: 'size',
  tx_malformed: 'size',
  tx_hairpin: 'local',
  proxy_local: 'local',
  tx_path_mtu: 'mtu',
  tx_unreachable: 'route',
  tx_loop: 'route',
  rx_unknown_vni: 'vni',
  rx_unknown_peer: 'peer',
  rx_runt: 'frame',
  rx_bad_source: 'source',
  rx_source_mismatch: 'source',
  rx_source_unknown: 'source',
  rx_vlan: 'vlan',
  rx_too_big: 'size',
  rx_no_port: 'port',
  port_down: 'port',
};

/** `isAsked`: the plugin was asked about the frame. */
export function stepOf(reason: DropReason, isAsked: boolean): Step {
  if (reason in DROP_GROUPS.protection) return 'protection';
  return STEP_OF[reason] ?? (isAsked ? 'plugin' : 'table');
}

/** Advice, for the reasons that operators meet. */
export const ADVICE: Readonly<Partial<Record<DropReason, string>>> = {
  tx_vlan: 'send it without a tag, or create the VNIC with the right -v (0 is every VLAN)',
  tx_too_big: 'lower the MTU of the sender to the mtu of the overlay (ip link set DEV mtu N)',
  tx_hairpin: 'nothing: the sender has the destination itself',
  lookup_drop: 'add the MAC to the mapping, with the VTEP of its host (dladm check-mapping)',
  lookup_failed: "look at the plugin's trouble: dladm show-overlay -f",
  lookup_timeout: "look at the plugin's trouble: dladm show-overlay -f",
  lookup_busy: 'send again in a second, or find out what the port scans',
  pending_full: 'send again once the plugin has answered',
  tx_path_mtu:
    'send smaller packets, or give the underlay its MTU back; dladm restart sets mtu from the route',
  tx_unreachable: 'ip route get the VTEP, and mend the route',
  tx_loop: 'give the VTEP a route that does not lead into the overlay',
  tx_group: 'nothing, unless the plugin should flood it: see its mapping',
  proxy_unknown: 'add the address to the mapping (arp, ndp), on every host',
  proxy_own: 'nothing: no answer means that the address is free',
  arp_ignored: 'nothing: the plugin is the authority, not announcements',
  ndp_ignored: 'nothing: the plugin is the authority, not announcements',
  mac_spoofed: 'send from the MAC of the VNIC, or turn protection off: dladm set-linkprop',
  ip_spoofed: 'add the address to allowed-ips of the VNIC: dladm set-linkprop',
  dhcp_spoofed: 'add the client id to allowed-dhcp-cids of the VNIC: dladm set-linkprop',
  restricted: 'nothing, or turn protection=restricted off: dladm set-linkprop',
  rx_unknown_vni: 'give one of the overlays the vnetid of the other: dladm set-overlayprop',
  rx_unknown_peer: 'add the VTEP to the mapping, or mend the destination of the overlay',
  rx_bad_source: 'look for a loop, or for a second station with that MAC',
  rx_source_mismatch: 'mend the VTEP of that MAC in the mapping',
  rx_source_unknown: 'nothing: the plugin is asked, and the sender tries again',
  rx_vlan: 'send it without a tag, or create the overlay with vlan=keep',
  rx_too_big: 'lower the MTU at the sender to the mtu of the overlay',
  rx_no_port: 'create a VNIC with that MAC and VLAN, or mend the mapping',
  port_down: 'ip link set DEV up',
};
