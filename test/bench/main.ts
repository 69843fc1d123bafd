// npm run bench [-- --help]
//
// Two hosts in network namespaces, joined in several ways, and measured. Everything measured goes to bench-results/.
import { skipUnlessNetns } from '../helpers/need.js';
import { compare } from './compare.js';
import { measureMapping } from './mapping.js';
import { readSettings } from './settings.js';

const settings = readSettings(process.argv.slice(2));
const missing = skipUnlessNetns(['iperf3']);
if (missing !== false) {
  console.error(`the bench ${missing}`);
  process.exit(1);
}
const { mappingEntries } = settings;
const isDone = mappingEntries === undefined ? await compare(settings) : await measureMapping(mappingEntries);
process.exitCode = isDone ? 0 : 1;
