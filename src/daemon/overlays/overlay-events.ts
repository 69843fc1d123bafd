/** The events that the datapath reports about one overlay: each goes to the part that it is for. */
import type { OverlayListener } from '../../datapath/contract.js';
import type { OverlayLinks } from './overlay-links.js';
import type { OverlayPlugin } from './overlay-plugin.js';
import type { OverlayPorts } from './overlay-ports.js';
import type { PathWatch } from './path-watch.js';
import type { SourceWatch } from './source-watch.js';

export interface OverlayParts extends Pick<OverlayListener, 'leased'> {
  readonly plugin: OverlayPlugin;
  readonly ports: OverlayPorts;
  readonly links: OverlayLinks;
  readonly paths: PathWatch;
  readonly sources: SourceWatch;
}

export function listenerOf({ plugin, ports, links, paths, sources, leased }: OverlayParts): OverlayListener {
  return {
    lookups: plugin.lookups,
    leased,
    portFault: (port, code) => {
      ports.failed(port, code);
    },
    peers: (added, removed) => {
      links.peersChanged(added, removed);
    },
    pathLearned: (to, mtuBytes) => {
      paths.learned(to, mtuBytes);
    },
    noticed: (notices) => {
      for (const notice of notices)
        if (notice.kind === 'narrowPath') paths.heard(notice);
        else sources.heard(notice, ports.withMac(notice.mac));
    },
  };
}
