// Every fault, in the order in which they are shown.
import type { Row } from '../row.js';
import { abuseRows, socketAbuseShortly } from './abuse.js';
import { crashRows, killedCreating } from './crash.js';
import { endingRows, manyEnd } from './ending.js';
import { icmpRows } from './icmp.js';
import { listRows } from './lists.js';
import { loadRows } from './load.js';
import { mappingRows } from './mapping.js';
import { networkRows } from './network.js';
import { pluginRows } from './plugins.js';
import { processRows, stoppedShortly } from './process.js';
import { readerRows, readerShortly } from './reader.js';
import { renameRows, renamingAsServiceShortly, renamingShortly } from './rename.js';
import { fewComeAndGo, resourceRows } from './resources.js';
import { cutShortly, restartRows } from './restart.js';

const numberOf = ({ name }: Row): number => (name.startsWith('F') ? Number(name.slice(1)) : Infinity);

export const rows: readonly Row[] = [
  ...[crashRows, listRows, mappingRows, networkRows, processRows, loadRows, pluginRows, renameRows]
    .flat()
    .sort((a, b) => numberOf(a) - numberOf(b)),
  ...resourceRows,
  ...restartRows,
  ...endingRows,
  ...abuseRows,
  ...readerRows,
  ...icmpRows,
];

/** What of them the tests have. `npm test` has the bad plugins beside these. */
export const quickRows: readonly Row[] = [
  ...rows.filter(({ quick }) => quick === true),
  killedCreating,
  stoppedShortly,
  fewComeAndGo,
  cutShortly,
  manyEnd,
  socketAbuseShortly,
  readerShortly,
  renamingShortly,
  renamingAsServiceShortly,
];
