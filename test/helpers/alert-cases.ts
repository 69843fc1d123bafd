// For each alert a trouble that it is for, and something like it that is none: series in the notation of `promtool test rules`.

/** Series, and a value for each minute: `0x30` is 31 zeros, `0+60x30` grows by 60 a minute. */
type Series = Readonly<Record<string, string>>;

interface Case {
  readonly fires: Series;
  readonly silent: Series;
  /** Labels of the alert, without its name, its severity and those of the target. */
  readonly labels?: Readonly<Record<string, string>>;
}

export const MINUTES = 45;
const still = (value: number): string => `${value}x${MINUTES}`;
/** Grows by so much in a minute. */
const grows = (by: number): string => `0+${by}x${MINUTES}`;

const overlay = { overlay: 'overlay0' };
const drops = (reason: string, kind = 'trouble'): string =>
  `varpd_overlay_drops_total{overlay="overlay0",reason="${reason}",kind="${kind}"}`;
const ofSocket = (reason: string): string =>
  `varpd_socket_drops_total{listen="10.0.0.1:4789",reason="${reason}"}`;
const ofPort = (reason: string, kind = 'trouble'): string =>
  `varpd_port_drops_total{overlay="overlay0",port="foo0",reason="${reason}",kind="${kind}"}`;
const underlay = (state: string): string =>
  `varpd_overlay_underlay_state{overlay="overlay0",state="${state}"}`;
const peers = (state: string): string =>
  `varpd_overlay_peers_in_trouble{overlay="overlay0",state="${state}"}`;
const troubles = (source: string): string => `varpd_overlay_troubles{overlay="overlay0",source="${source}"}`;
const within = (le: string): string =>
  `varpd_overlay_lookup_duration_seconds_bucket{overlay="overlay0",le="${le}"}`;
const entries = 'varpd_overlay_mapping_entries{overlay="overlay0"}';
const [stale, sent] = ['tx_stale', 'tx_frames'].map(
  (name) => `varpd_overlay_${name}_total{overlay="overlay0"}`,
);

export const CASES: Readonly<Record<string, Case>> = {
  VarpdDown: {
    fires: { up: still(0) },
    // A scrape that fails now and then.
    silent: { up: '1 0 1 1 0 1x40' },
  },
  VarpdRestarting: {
    fires: { process_start_time_seconds: '0x15 100x5 200x5 300x5 400x15' },
    // An upgrade, and the way back.
    silent: { process_start_time_seconds: '0x15 100x10 200x20' },
  },
  VarpdThreadHangs: {
    fires: { varpd_datapath_answer_seconds: still(1) },
    silent: { varpd_datapath_answer_seconds: still(0.2) },
  },
  VarpdControlSlow: {
    fires: { nodejs_eventloop_lag_p99_seconds: still(0.8) },
    silent: { nodejs_eventloop_lag_p99_seconds: '0.01x20 0.8x2 0.01x20' },
  },
  VarpdDescriptors: {
    fires: { process_open_fds: still(900), process_max_fds: still(1024) },
    silent: { process_open_fds: still(90), process_max_fds: still(1024) },
  },
  VarpdOverlayOffline: {
    fires: { 'varpd_overlays{state="offline"}': still(2), 'varpd_overlays{state="running"}': still(1) },
    silent: { 'varpd_overlays{state="offline"}': still(0), 'varpd_overlays{state="running"}': still(3) },
    labels: { state: 'offline' },
  },
  VarpdVnicOffline: {
    fires: { 'varpd_vnics{state="offline"}': still(1) },
    silent: { 'varpd_vnics{state="running"}': still(1), 'varpd_vnics{state="offline"}': still(0) },
    labels: { state: 'offline' },
  },
  VarpdUnderlayDown: {
    fires: { [underlay('down')]: still(1), [underlay('up')]: still(0) },
    silent: { [underlay('down')]: still(0), [underlay('up')]: still(1) },
    labels: { ...overlay, state: 'down' },
  },
  VarpdUnderlayPartly: {
    fires: { [underlay('partly')]: still(1), [underlay('up')]: still(0) },
    silent: { [underlay('partly')]: still(0), [underlay('up')]: still(1) },
    labels: { ...overlay, state: 'partly' },
  },
  VarpdUnderlayFlaps: {
    fires: { 'varpd_overlay_underlay_losses_total{overlay="overlay0"}': '0x20 1x4 2x4 3x4 4x4 5x9' },
    silent: { 'varpd_overlay_underlay_losses_total{overlay="overlay0"}': '0x20 1x10 2x15' },
    labels: overlay,
  },
  VarpdOverlayDegraded: {
    fires: { [troubles('port')]: still(1) },
    silent: { [troubles('port')]: still(0) },
    labels: { ...overlay, source: 'port' },
  },
  VarpdPluginDegraded: {
    fires: { [troubles('plugin')]: still(1) },
    // A file that is being written.
    silent: { [troubles('plugin')]: '0x20 1 0x24', [troubles('lookup')]: still(0) },
    labels: { ...overlay, source: 'plugin' },
  },
  VarpdPluginRestarting: {
    fires: { 'varpd_overlay_plugin_exits_total{overlay="overlay0"}': '0x20 1x4 2x4 3x4 4x14' },
    silent: { 'varpd_overlay_plugin_exits_total{overlay="overlay0"}': '0x20 1x25' },
    labels: overlay,
  },
  VarpdLookupsSlow: {
    fires: { [within('0.25')]: grows(50), [within('1')]: grows(60), [within('+Inf')]: grows(60) },
    silent: { [within('0.25')]: grows(59), [within('1')]: grows(60), [within('+Inf')]: grows(60) },
    labels: overlay,
  },
  VarpdLookupsFailing: {
    fires: { [drops('lookup_timeout')]: grows(60) },
    silent: { [drops('lookup_timeout')]: still(7), [drops('lookup_failed')]: '0x20 3x25' },
    labels: { ...overlay, reason: 'lookup_timeout' },
  },
  VarpdTargetsStale: {
    fires: { [stale]: grows(30), [sent]: grows(60) },
    silent: { [stale]: grows(1), [sent]: grows(60) },
    labels: overlay,
  },
  VarpdMappingShrunk: {
    fires: { [entries]: '1000x30 3x15' },
    silent: { [entries]: '1000x30 990x15' },
    labels: overlay,
  },
  VarpdDrops: {
    fires: { [drops('tx_firewall')]: grows(60), [drops('rx_no_port')]: still(0) },
    // What a healthy network drops; a few frames to a station that has gone; and frames that another alert is for.
    silent: { [drops('tx_group', 'by_design')]: grows(60), [drops('lookup_drop')]: '0x20 9x25' },
    labels: { ...overlay, reason: 'tx_firewall' },
  },
  VarpdGuestSpoofs: {
    fires: { [ofPort('mac_spoofed')]: grows(60), [drops('mac_spoofed')]: grows(60) },
    silent: { [ofPort('restricted', 'by_design')]: grows(60), [ofPort('ip_spoofed')]: '0x20 2x25' },
    labels: { ...overlay, port: 'foo0', reason: 'mac_spoofed' },
  },
  VarpdReceiveLosses: {
    fires: { [ofSocket('rx_queue_full')]: grows(60) },
    silent: { [ofSocket('rx_queue_full')]: '0x20 12x25' },
    labels: { listen: '10.0.0.1:4789', reason: 'rx_queue_full' },
  },
  VarpdForeignDatagrams: {
    fires: { [ofSocket('rx_unknown_vni')]: grows(60) },
    silent: { [ofSocket('rx_unknown_vni')]: '0x20 20x25' },
    labels: { listen: '10.0.0.1:4789', reason: 'rx_unknown_vni' },
  },
  VarpdPeersUnreachable: {
    fires: { [peers('unreachable')]: still(2) },
    // A host that restarts.
    silent: { [peers('unreachable')]: '0x20 1x1 0x23' },
    labels: { ...overlay, state: 'unreachable' },
  },
  VarpdPeersSilent: {
    fires: { [peers('silent')]: still(2) },
    silent: { [peers('silent')]: '0x20 1x5 0x20' },
    labels: { ...overlay, state: 'silent' },
  },
};
