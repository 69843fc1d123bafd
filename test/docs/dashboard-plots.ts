// The plots of the dashboard for Grafana, and the questions to Prometheus that each shows.

/** Labels that every question selects by. */
const HOST = 'job="varpd",instance=~"$instance"';
const OVERLAY = `${HOST},overlay=~"$overlay"`;

/** A curve for each series, or a number for each. `legend` names them by their labels. */
export interface Plot {
  readonly title: string;
  readonly about: string;
  readonly unit: string;
  readonly queries: readonly (readonly [expr: string, legend: string])[];
  /** `number`: the present value alone, red from 1 on. `stack`: curves on top of each other. */
  readonly as?: 'number' | 'stack';
}

const rate = (metric: string, labels = OVERLAY): string => `rate(${metric}{${labels}}[$__rate_interval])`;
const bits = (metric: string): string => `8 * ${rate(metric)}`;
/** Drops by reason, those alone that there are. */
const dropRate = (kind: string): string =>
  `sum by (instance, overlay, reason) (${rate('varpd_overlay_drops_total', `${OVERLAY},kind="${kind}"`)}) > 0`;
const lookupTime = (share: number): string =>
  `histogram_quantile(${share}, sum by (instance, overlay, le) (${rate('varpd_overlay_lookup_duration_seconds_bucket')}))`;
const EACH = '{{instance}} {{overlay}}';

export const ROWS: readonly { readonly title: string; readonly plots: readonly Plot[] }[] = [
  {
    title: 'Trouble',
    plots: [
      {
        title: 'Hosts without varpd',
        about:
          'Targets of the job varpd that do not answer. `dladm status` on the host says whether it runs.',
        unit: 'none',
        as: 'number',
        queries: [[`count(up{${HOST}} == 0) or vector(0)`, '']],
      },
      {
        title: 'Offline overlays',
        about: 'Stored and not running. `dladm show-overlay -f` has the reasons.',
        unit: 'none',
        as: 'number',
        queries: [[`sum(varpd_overlays{${HOST},state="offline"})`, '']],
      },
      {
        title: 'Offline VNICs',
        about: 'Stored and not running. `dladm show-vnic` has the reasons.',
        unit: 'none',
        as: 'number',
        queries: [[`sum(varpd_vnics{${HOST},state="offline"})`, '']],
      },
      {
        title: 'Degraded overlays',
        about: 'They work on what they have. `dladm show-overlay -f` has the reasons.',
        unit: 'none',
        as: 'number',
        queries: [[`count(varpd_overlay_online{${OVERLAY}} == 0) or vector(0)`, '']],
      },
      {
        title: 'Peers in trouble',
        about: 'Unreachable, or silent. `dladm show-peers` names them.',
        unit: 'none',
        as: 'number',
        queries: [[`sum(varpd_overlay_peers_in_trouble{${OVERLAY}})`, '']],
      },
      {
        title: 'Alerts',
        about: 'Alerts of config/prometheus/varpd.rules.yaml that fire.',
        unit: 'none',
        as: 'number',
        queries: [['count(ALERTS{alertname=~"Varpd.*",alertstate="firing"}) or vector(0)', '']],
      },
    ],
  },
  {
    title: 'Overlays',
    plots: [
      {
        title: 'Traffic',
        about: 'Inner frames. What goes to the underlay is above zero, and what comes from it below.',
        unit: 'bps',
        queries: [
          [bits('varpd_overlay_tx_bytes_total'), `${EACH} to the underlay`],
          [`-${bits('varpd_overlay_rx_bytes_total')}`, `${EACH} from the underlay`],
        ],
      },
      {
        title: 'Frames',
        about: 'Frames from port to port of one host do not enter the tunnel.',
        unit: 'pps',
        queries: [
          [rate('varpd_overlay_tx_frames_total'), `${EACH} to the underlay`],
          [`-${rate('varpd_overlay_rx_frames_total')}`, `${EACH} from the underlay`],
          [rate('varpd_overlay_local_frames_total'), `${EACH} from port to port`],
        ],
      },
      {
        title: 'Troubles by source',
        about: 'Why an overlay is degraded. `dladm show-overlay -f` has the sentence.',
        unit: 'none',
        as: 'stack',
        queries: [
          [`sum by (instance, overlay, source) (varpd_overlay_troubles{${OVERLAY}})`, `${EACH} {{source}}`],
        ],
      },
      {
        title: 'Underlay',
        about: '1 while all peers can be reached, 0.5 for some, 0 for none.',
        unit: 'none',
        queries: [
          [
            `varpd_overlay_underlay_state{${OVERLAY},state="up"} + on (instance, overlay) 0.5 * varpd_overlay_underlay_state{${OVERLAY},state="partly"}`,
            EACH,
          ],
        ],
      },
      {
        title: 'Answers of proxies',
        about:
          'ARP and neighbour discovery answered in place of other hosts, and DHCP messages brought to their station.',
        unit: 'pps',
        as: 'stack',
        queries: [
          [rate('varpd_overlay_proxy_arp_total'), `${EACH} ARP`],
          [rate('varpd_overlay_proxy_ndp_total'), `${EACH} NDP`],
          [rate('varpd_overlay_proxy_dhcp_total'), `${EACH} DHCP`],
        ],
      },
      {
        title: 'Path MTU',
        about: 'Answers to packets that did not fit, and ICMP messages about the size of a path.',
        unit: 'pps',
        queries: [
          [rate('varpd_overlay_too_big_answers_total'), `${EACH} answers`],
          [rate('varpd_overlay_path_mtu_learned_total'), `${EACH} believed`],
          [rate('varpd_overlay_path_mtu_refused_total'), `${EACH} not believed`],
        ],
      },
    ],
  },
  {
    title: 'Drops',
    plots: [
      {
        title: 'Trouble, by reason',
        about: 'docs/drops.md explains each reason, and `dladm show-overlay -s` has the last frame of each.',
        unit: 'pps',
        as: 'stack',
        queries: [[dropRate('trouble'), `${EACH} {{reason}}`]],
      },
      {
        title: 'By design, by reason',
        about: 'A healthy network drops such frames all the time.',
        unit: 'pps',
        as: 'stack',
        queries: [[dropRate('by_design'), `${EACH} {{reason}}`]],
      },
      {
        title: 'Before the overlay is known',
        about:
          'Counted for the socket. rx_queue_full: varpd was too slow. The others come from a peer that is set up otherwise.',
        unit: 'pps',
        as: 'stack',
        queries: [[`${rate('varpd_socket_drops_total', HOST)} > 0`, '{{instance}} {{listen}} {{reason}}']],
      },
      {
        title: 'Link protection',
        about: 'Frames that a guest may not send. `dladm show-linkprop` has the rules.',
        unit: 'pps',
        as: 'stack',
        queries: [[`${rate('varpd_port_drops_total')} > 0`, '{{instance}} {{port}} {{reason}}']],
      },
    ],
  },
  {
    title: 'Ports',
    plots: [
      {
        title: 'Traffic of ports',
        about: 'What a port sends is above zero, and what it gets below. The 20 busiest of each.',
        unit: 'bps',
        queries: [
          [`topk(20, ${bits('varpd_port_tx_bytes_total')})`, '{{instance}} {{port}} sends'],
          [`-topk(20, ${bits('varpd_port_rx_bytes_total')})`, '{{instance}} {{port}} gets'],
        ],
      },
      {
        title: 'Frames of ports',
        about: 'What a port sends is above zero, and what it gets below. The 20 busiest of each.',
        unit: 'pps',
        queries: [
          [`topk(20, ${rate('varpd_port_tx_frames_total')})`, '{{instance}} {{port}} sends'],
          [`-topk(20, ${rate('varpd_port_rx_frames_total')})`, '{{instance}} {{port}} gets'],
        ],
      },
      {
        title: 'Ports that are not up',
        about: 'The device is gone, is down, or has another name or MAC. `dladm show-vnic` says which.',
        unit: 'none',
        as: 'stack',
        queries: [[`count by (instance, overlay) (varpd_port_up{${OVERLAY}} == 0)`, EACH]],
      },
    ],
  },
  {
    title: 'Lookups',
    plots: [
      {
        title: 'Time of an answer',
        about: 'The first frame to a new MAC waits for it.',
        unit: 's',
        queries: [
          [lookupTime(0.5), `${EACH} half`],
          [lookupTime(0.95), `${EACH} 95 of 100`],
          [lookupTime(0.99), `${EACH} 99 of 100`],
        ],
      },
      {
        title: 'Lookups',
        about:
          'Questions of the datapath, and answers of the plugin. A mapping in memory answers without a question to its plugin.',
        unit: 'reqps',
        queries: [
          [rate('varpd_overlay_lookups_total'), `${EACH} questions`],
          [rate('varpd_overlay_lookup_duration_seconds_count'), `${EACH} answers`],
        ],
      },
      {
        title: 'Open lookups',
        about: 'Questions that the plugin has not answered yet.',
        unit: 'none',
        queries: [[`varpd_overlay_lookups_open{${OVERLAY}}`, EACH]],
      },
      {
        title: 'Targets and entries of the mapping',
        about: '`dladm show-overlay -t` has the targets.',
        unit: 'none',
        queries: [
          [`varpd_overlay_targets{${OVERLAY}}`, `${EACH} targets`],
          [`varpd_overlay_mapping_entries{${OVERLAY}}`, `${EACH} entries`],
        ],
      },
      {
        title: 'Age of the mapping',
        about: 'Since its last change.',
        unit: 's',
        queries: [[`time() - varpd_overlay_mapping_timestamp_seconds{${OVERLAY}}`, EACH]],
      },
      {
        title: 'Stale targets, ends of plugins',
        about: 'Frames to a target that is past its time, and ends of the process of the plugin.',
        unit: 'none',
        queries: [
          [rate('varpd_overlay_tx_stale_total'), `${EACH} stale frames a second`],
          [`increase(varpd_overlay_plugin_exits_total{${OVERLAY}}[1h])`, `${EACH} ends in an hour`],
        ],
      },
    ],
  },
  {
    title: 'Peers',
    plots: [
      {
        title: 'Peers in trouble',
        about: '`dladm show-peers` names them.',
        unit: 'none',
        as: 'stack',
        queries: [[`varpd_overlay_peers_in_trouble{${OVERLAY}}`, `${EACH} {{state}}`]],
      },
      {
        title: 'Destinations',
        about: 'Underlay addresses that frames go to.',
        unit: 'none',
        queries: [[`varpd_overlay_destinations{${OVERLAY}}`, EACH]],
      },
      {
        title: 'Losses of the underlay',
        about: 'How often it stopped being up in an hour.',
        unit: 'none',
        queries: [[`increase(varpd_overlay_underlay_losses_total{${OVERLAY}}[1h])`, EACH]],
      },
    ],
  },
  {
    title: 'Process',
    plots: [
      {
        title: 'Processor',
        about: 'Cores in use, all threads together.',
        unit: 'none',
        queries: [[rate('process_cpu_seconds_total', HOST), '{{instance}}']],
      },
      {
        title: 'Memory',
        about: 'Resident memory.',
        unit: 'bytes',
        queries: [[`process_resident_memory_bytes{${HOST}}`, '{{instance}}']],
      },
      {
        title: 'Delay of the threads',
        about:
          'How late the control thread is, 99 of 100 times; and how long the datapath threads took to answer.',
        unit: 's',
        queries: [
          [`nodejs_eventloop_lag_p99_seconds{${HOST}}`, '{{instance}} control'],
          [`varpd_datapath_answer_seconds{${HOST}}`, '{{instance}} datapath'],
        ],
      },
      {
        title: 'Descriptors',
        about: 'Open descriptors, of those that it may have.',
        unit: 'percentunit',
        queries: [[`process_open_fds{${HOST}} / process_max_fds{${HOST}}`, '{{instance}}']],
      },
      {
        title: 'Running since',
        about: 'A restart begins from zero.',
        unit: 's',
        queries: [[`time() - process_start_time_seconds{${HOST}}`, '{{instance}}']],
      },
      {
        title: 'Versions',
        about: 'Hosts with each version of varpd.',
        unit: 'none',
        as: 'stack',
        queries: [[`count by (version) (varpd_build_info{${HOST}})`, '{{version}}']],
      },
    ],
  },
];
